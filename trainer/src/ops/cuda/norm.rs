//! Batch normalisation on a device: statistics, normalisation with residual and ReLU, and their gradients.
//!
//! In come spans of rows of channels `[rows, C]`; what the backward pass needs comes out as a buffer of coefficients.

use candle_core::Result;

use super::engine::{Arg, Engine, Factor, Kernel, Span, THREADS, count, kernels, size};
use crate::ops::BN_EPSILON;

/// Channels whose sums one block of the second pass adds up: `CHANNELS_PER_BLOCK` in `norm.cu`.
const CHANNELS_PER_BLOCK: usize = 32;
/// Blocks of the first pass: several for each processor of a large GPU.
const MOST_PIECES: usize = 512;

/// Rows and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    pub rows: usize,
    pub channels: usize,
}

/// Which statistics normalise; both hold mean and variance, `[2, C]`.
#[derive(Clone, Copy)]
pub(crate) enum Statistics<'a> {
    /// The batch's; the remembered ones move.
    Batch { running: Span<'a>, momentum: f32 },
    /// The remembered ones.
    Frozen { running: Span<'a> },
}

/// Where the gradient passes the ReLU: `MASK_*` in `norm.cu`.
#[derive(Clone, Copy)]
pub(crate) enum Mask<'a> {
    All,
    Affine,
    Result(Span<'a>),
}

impl<'a> Mask<'a> {
    fn arguments(self) -> (Arg<'a>, Arg<'a>) {
        match self {
            Self::All => (Arg::Null, Arg::U32(0)),
            Self::Affine => (Arg::Null, Arg::U32(1)),
            Self::Result(y) => (Arg::Memory(y), Arg::U32(2)),
        }
    }
}

/// What the gradient of the input needs.
pub(crate) struct InputGradient<B>(B);

impl Rows {
    fn len(self) -> usize {
        self.rows * self.channels
    }

    /// Rows per block of the first pass, and blocks. A function of the shape alone.
    fn pieces(self) -> (usize, usize) {
        let lanes = (THREADS as usize / self.channels).max(1);
        let rows = self.rows.div_ceil(MOST_PIECES).next_multiple_of(lanes);
        (rows, self.rows.div_ceil(rows))
    }

    /// Memory for the first pass's sums, two doubles a channel and piece.
    fn sums<E: Engine>(self, engine: &E) -> Result<E::Buffer> {
        engine.allocate(4 * self.pieces().1 * self.channels)
    }

    fn first_pass_grid(self) -> Result<[u32; 2]> {
        Ok([
            size(self.pieces().1)?,
            size(self.channels)?.div_ceil(THREADS),
        ])
    }

    fn second_pass_grid(self) -> Result<[u32; 2]> {
        Ok([size(self.channels.div_ceil(CHANNELS_PER_BLOCK))?, 1])
    }

    /// Whether kernels may move four channels at once.
    fn fours(self, spans: &[Option<Span<'_>>]) -> bool {
        self.channels.is_multiple_of(4) && spans.iter().flatten().all(|span| span.is_aligned())
    }

    /// Writes `relu?(normalised u + residual?)` to `y`, and returns the coefficients for the backward pass.
    #[expect(clippy::too_many_arguments, reason = "they are those of the layer")]
    pub(crate) fn forward<E: Engine>(
        self,
        engine: &E,
        statistics: Statistics<'_>,
        u: Span<'_>,
        gamma: Span<'_>,
        beta: Span<'_>,
        residual: Option<Span<'_>>,
        relu: bool,
        y: Span<'_>,
    ) -> Result<E::Buffer> {
        let u = u.words(0, self.len())?;
        let channels = count(self.channels)?;
        let coefficients = engine.allocate(4 * self.channels)?;
        let (gamma, beta) = (Arg::Memory(gamma), Arg::Memory(beta));
        let target = Arg::Memory(engine.span(&coefficients));
        match statistics {
            Statistics::Batch { running, momentum } => {
                let sums = self.sums(engine)?;
                let (rows_per_block, pieces) = self.pieces();
                let (rows, sums) = (count(self.rows)?, Arg::Memory(engine.span(&sums)));
                engine.launch(
                    kernels::BN_MOMENT_SUMS,
                    self.first_pass_grid()?,
                    &[Arg::Memory(u), rows, channels, count(rows_per_block)?, sums],
                )?;
                engine.launch(
                    kernels::BN_BATCH_COEFFICIENTS,
                    self.second_pass_grid()?,
                    &[
                        sums,
                        count(pieces)?,
                        rows,
                        channels,
                        Arg::F32(momentum),
                        Arg::F64(BN_EPSILON),
                        gamma,
                        beta,
                        Arg::Memory(running),
                        target,
                    ],
                )?;
            }
            Statistics::Frozen { running } => engine.launch_each(
                kernels::BN_FROZEN_COEFFICIENTS,
                self.channels,
                &[
                    channels,
                    Arg::F64(BN_EPSILON),
                    gamma,
                    beta,
                    Arg::Memory(running),
                    target,
                ],
            )?,
        }
        let (kernel, lanes) = if self.fours(&[Some(u), residual, Some(y)]) {
            (kernels::BN_APPLY_4, 4)
        } else {
            (kernels::BN_APPLY_1, 1)
        };
        let arguments = [
            Arg::Memory(u),
            target,
            residual.into(),
            Arg::U32(relu.into()),
            Arg::Memory(y.words(0, self.len())?),
            count(self.len())?,
            channels,
        ];
        engine.launch_each(kernel, self.len() / lanes, &arguments)?;
        Ok(coefficients)
    }

    /// Writes the gradients of gamma and beta, `[2, C]`, and returns what the input's needs.
    #[expect(clippy::too_many_arguments, reason = "they are those of the layer")]
    pub(crate) fn affine_gradient<E: Engine>(
        self,
        engine: &E,
        training: bool,
        u: Span<'_>,
        gradient: Span<'_>,
        mask: Mask<'_>,
        gamma: Span<'_>,
        coefficients: &E::Buffer,
        affine_gradient: Span<'_>,
    ) -> Result<InputGradient<E::Buffer>> {
        let sums = self.sums(engine)?;
        let input = engine.allocate(3 * self.channels)?;
        let (rows_per_block, pieces) = self.pieces();
        let (rows, channels) = (count(self.rows)?, count(self.channels)?);
        let (sums, coefficients) = (
            Arg::Memory(engine.span(&sums)),
            Arg::Memory(engine.span(coefficients)),
        );
        let (y, mask) = mask.arguments();
        engine.launch(
            kernels::BN_GRADIENT_SUMS,
            self.first_pass_grid()?,
            &[
                Arg::Memory(u.words(0, self.len())?),
                Arg::Memory(gradient.words(0, self.len())?),
                y,
                coefficients,
                mask,
                rows,
                channels,
                count(rows_per_block)?,
                sums,
            ],
        )?;
        engine.launch(
            kernels::BN_GRADIENT_COEFFICIENTS,
            self.second_pass_grid()?,
            &[
                sums,
                count(pieces)?,
                rows,
                channels,
                Arg::U32(training.into()),
                Arg::Memory(gamma),
                coefficients,
                Arg::Memory(affine_gradient.words(0, 2 * self.channels)?),
                Arg::Memory(engine.span(&input)),
            ],
        )?;
        Ok(InputGradient(input))
    }

    /// Writes the gradient of `u`, in the words of `factor`, and that behind the mask, each where there is memory for it.
    #[expect(clippy::too_many_arguments, reason = "they are those of the layer")]
    pub(crate) fn input_gradient<E: Engine>(
        self,
        engine: &E,
        u: Span<'_>,
        gradient: Span<'_>,
        mask: Mask<'_>,
        coefficients: &E::Buffer,
        input: &InputGradient<E::Buffer>,
        factor: Factor,
        u_gradient: Option<Span<'_>>,
        masked: Option<Span<'_>>,
    ) -> Result<()> {
        let result = match mask {
            Mask::Result(y) => Some(y),
            Mask::All | Mask::Affine => None,
        };
        let fours = self.fours(&[Some(u), Some(gradient), result, u_gradient, masked]);
        let (kernel, lanes): (Kernel, usize) = match (factor, fours) {
            (Factor::F32 | Factor::Tf32, false) => (kernels::BN_INPUT_GRADIENT_F32_1, 1),
            (Factor::F32 | Factor::Tf32, true) => (kernels::BN_INPUT_GRADIENT_F32_4, 4),
            (Factor::Bf16, false) => (kernels::BN_INPUT_GRADIENT_BF16_1, 1),
            (Factor::Bf16, true) => (kernels::BN_INPUT_GRADIENT_BF16_4, 4),
        };
        let (y, mask) = mask.arguments();
        let arguments = [
            Arg::Memory(u),
            Arg::Memory(gradient),
            y,
            Arg::Memory(engine.span(coefficients)),
            mask,
            Arg::Memory(engine.span(&input.0)),
            u_gradient.into(),
            masked.into(),
            count(self.len())?,
            count(self.channels)?,
        ];
        engine.launch_each(kernel, self.len() / lanes, &arguments)
    }
}
