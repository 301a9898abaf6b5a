//! The program on a board, with a camera: an emulated one, or your own.
//!
//! `ROADHOUND_BOARD` names a TOML file (`emulated.toml` or one like `sample.toml`) and `ROADHOUND_FIRMWARE` the folder that
//! `scripts/build-board.sh` left; `scripts/board-test.sh` sets both. Without them the tests say so and pass over. What a
//! test does on the board is a shell script in a folder that travels there and back; what it left is judged here.
//!
//! - [`reach`]: boards, and how a script gets there;
//! - [`clip`]: what is played into a camera;
//! - [`loopback`]: the same boxes on the board as here;
//! - [`faults`]: unplugged cameras and failing drivers;
//! - [`webcam`]: the second backend;
//! - [`budget`]: how fast, how late, how large.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../edge/tests/common/mod.rs"]
mod common;

mod budget;
mod clip;
mod faults;
mod loopback;
mod reach;
mod webcam;
