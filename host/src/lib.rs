//! What both programs need of the machine they run on, and `shared` must not know of: panics, files, standard error.
//!
//! - [`apart`]: what a command writes is nothing that it reads, and no two of its files are one;
//! - [`guard`]: other people's decoders may panic on damaged files; that ends in one line, not in a crash;
//! - [`whole`]: a file is there as a whole or not at all;
//! - [`mod@line`]: an error with its causes as the one line that a program says.
//!
//! Nothing here knows what the programs are about. It depends on the standard library alone.

pub mod apart;
pub mod guard;
pub mod line;
pub mod whole;

/// Most pixels of a picture that is decoded: 8K. Guards memory against a few bytes of a hostile header.
pub const MAX_PIXELS: u64 = 7680 * 4320;
