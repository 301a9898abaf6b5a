//! Values of many pixels side by side. Loops over such arrays have no branches and a length that the compiler knows, so
//! that it makes vector instructions of them; every lane takes the same steps in the same order as it would alone, and
//! comes out the same on every processor.

/// Pixels that are shaded together.
pub(super) const LANES: usize = 64;

/// One value of each of them.
pub(super) type Lanes = [f32; LANES];

/// Red, green, blue of each.
pub(super) type RgbLanes = [Lanes; 3];

pub(super) const ZERO: Lanes = [0.0; LANES];
