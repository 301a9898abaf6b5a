//! Bytes of images to normalised values on a device.

use candle_core::Result;

use super::engine::{Arg, Engine, Span, count, kernels};

/// Fills `values` with `(byte - mean) * scale`.
pub(crate) fn normalise<E: Engine>(
    engine: &E,
    bytes: Span<'_>,
    len: usize,
    mean: f32,
    scale: f32,
    values: Span<'_>,
) -> Result<()> {
    let arguments = [
        Arg::Memory(bytes.part(0, len)?),
        Arg::Memory(values.words(0, len)?),
        count(len)?,
        Arg::F32(mean),
        Arg::F32(scale),
    ];
    engine.launch_each(kernels::NORMALISE_BYTES, len, &arguments)
}
