//! Global maximum pooling on a device: `[N, P, C]` to `[N, C]`.

use candle_core::Result;

use super::engine::{Arg, Engine, Span, count, kernels};

/// Images, positions of each, channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maps {
    pub images: usize,
    pub positions: usize,
    pub channels: usize,
}

impl Maps {
    /// Fills `y`; returns where the maxima are.
    pub(crate) fn forward<E: Engine>(
        self,
        engine: &E,
        x: Span<'_>,
        y: Span<'_>,
    ) -> Result<E::Buffer> {
        let len = self.images * self.channels;
        let position = engine.allocate(len)?;
        let arguments = [
            Arg::Memory(x.words(0, len * self.positions)?),
            Arg::Memory(y.words(0, len)?),
            Arg::Memory(engine.span(&position)),
            count(self.images)?,
            count(self.positions)?,
            count(self.channels)?,
        ];
        engine.launch_each(kernels::MAX_POOL, len, &arguments)?;
        Ok(position)
    }

    /// Fills `x_gradient`.
    pub(crate) fn backward<E: Engine>(
        self,
        engine: &E,
        y_gradient: Span<'_>,
        position: &E::Buffer,
        x_gradient: Span<'_>,
    ) -> Result<()> {
        let len = self.images * self.positions * self.channels;
        let arguments = [
            Arg::Memory(y_gradient.words(0, self.images * self.channels)?),
            Arg::Memory(engine.span(position)),
            Arg::Memory(x_gradient.words(0, len)?),
            count(len)?,
            count(self.positions)?,
            count(self.channels)?,
        ];
        engine.launch_each(kernels::MAX_POOL_GRADIENT, len, &arguments)
    }
}
