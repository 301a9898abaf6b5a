//! The seam between what is computed and where: memory, kernels and matrix products.
//!
//! The operators' steps ([`super::conv`], [`super::norm`], ...) are written against [`Engine`]. On a GPU it is candle's
//! stream and cuBLAS handle; in the tests it is this processor, with the same kernels compiled as C++, so that shapes,
//! pitches, argument lists and the order of steps are checked where there is no GPU.

use std::marker::PhantomData;

use candle_core::{Result, bail};

/// Threads of every block: `THREADS` in `cuda_or_host.cuh`.
pub(crate) const THREADS: u32 = 256;

/// A kernel by name, and the file that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub file: File,
    pub name: &'static str,
}

/// The files of kernels; each becomes one PTX module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    Conv,
    Descent,
    Norm,
    Pixels,
    Pool,
}

/// Device memory that somebody owns, for as long as `'a`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    address: u64,
    bytes: usize,
    owner: PhantomData<&'a ()>,
}

impl<'a> Span<'a> {
    /// Memory from `address` on. The caller vouches that it stays allocated during `'a`.
    pub(crate) fn new(address: u64, bytes: usize) -> Self {
        Self {
            address,
            bytes,
            owner: PhantomData,
        }
    }

    pub(crate) fn address(self) -> u64 {
        self.address
    }

    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the tests' engine checks its bounds")
    )]
    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }

    /// `bytes` bytes from `start` on.
    pub(crate) fn part(self, start: usize, bytes: usize) -> Result<Self> {
        if start + bytes > self.bytes {
            bail!(
                "cuda: bytes {start} to {} of a memory of {}",
                start + bytes,
                self.bytes
            )
        }
        Ok(Self::new(self.address + start as u64, bytes))
    }

    /// `count` values of four bytes from value `start` on.
    pub(crate) fn words(self, start: usize, count: usize) -> Result<Self> {
        self.part(4 * start, 4 * count)
    }

    /// Whether four neighbouring `f32` may be moved at once.
    pub(crate) fn is_aligned(self) -> bool {
        self.address.is_multiple_of(16)
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg<'a> {
    U32(u32),
    F32(f32),
    F64(f64),
    Memory(Span<'a>),
    /// A pointer that the kernel checks before use.
    Null,
}

impl<'a> From<Option<Span<'a>>> for Arg<'a> {
    fn from(span: Option<Span<'a>>) -> Self {
        span.map_or(Self::Null, Self::Memory)
    }
}

/// A size as the kernels count: below 2^31, so that sums of two still fit their 32 bits.
pub(crate) fn size(value: usize) -> Result<u32> {
    match u32::try_from(value) {
        Ok(size) if size < 1 << 31 => Ok(size),
        _ => {
            bail!("cuda: a size of {value} is more than the kernels count to; use smaller batches")
        }
    }
}

/// [`size`] as an argument.
pub(crate) fn count<'a>(value: usize) -> Result<Arg<'a>> {
    Ok(Arg::U32(size(value)?))
}

/// What the factors of a product are made of; sums and results are `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factor {
    F32,
    /// `f32` in memory, of which the tensor cores use the leading 10 bits of the mantissa.
    Tf32,
    Bf16,
}

impl Factor {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::Tf32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// A factor, row by row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub memory: Span<'a>,
    /// Values from one stored row to the next.
    pub pitch: usize,
    /// Whether the product takes the transpose of what is stored.
    pub transposed: bool,
}

/// `c [rows, columns] = a [rows, depth] * b [depth, columns] (+ c)`, row by row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product<'a> {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    pub factor: Factor,
    pub a: Matrix<'a>,
    pub b: Matrix<'a>,
    pub c: Span<'a>,
    /// Whether the product is added to what `c` holds.
    pub accumulate: bool,
}

/// Where kernels run. Everything happens in the order of the calls.
pub(crate) trait Engine {
    /// Memory, freed when it is dropped, after what was asked for before.
    type Buffer: Send + Sync + 'static;

    /// Memory for `words` values of four bytes, not cleared.
    fn allocate(&self, words: usize) -> Result<Self::Buffer>;

    /// Memory with these values.
    fn upload(&self, values: &[f32]) -> Result<Self::Buffer>;

    /// The first `count` values of `buffer`, once everything before is done.
    fn download(&self, buffer: &Self::Buffer, count: usize) -> Result<Vec<f32>>;

    /// All of `buffer`.
    fn span<'a>(&self, buffer: &'a Self::Buffer) -> Span<'a>;

    /// Runs `grid` blocks of [`THREADS`] threads.
    fn launch(&self, kernel: Kernel, grid: [u32; 2], arguments: &[Arg<'_>]) -> Result<()>;

    /// Runs as many blocks as give each of `threads` its thread.
    fn launch_each(&self, kernel: Kernel, threads: usize, arguments: &[Arg<'_>]) -> Result<()> {
        self.launch(kernel, [size(threads)?.div_ceil(THREADS), 1], arguments)
    }

    /// Multiplies.
    fn multiply(&self, product: &Product<'_>) -> Result<()>;
}

/// The kernels, file by file.
pub(crate) mod kernels {
    use super::{File, Kernel};

    macro_rules! kernels {
        ($($file:ident: $($constant:ident = $name:literal),+;)+) => {
            $($(pub(crate) const $constant: Kernel = Kernel { file: File::$file, name: $name };)+)+

            /// Every kernel.
            #[cfg(test)]
            pub(crate) const ALL: &[Kernel] = &[$($($constant),+),+];
        };
    }

    kernels! {
        Conv: IM2COL_F32_1 = "im2col_f32_1", IM2COL_F32_4 = "im2col_f32_4", IM2COL_BF16_1 = "im2col_bf16_1",
            IM2COL_BF16_4 = "im2col_bf16_4", COL2IM_1 = "col2im_1", COL2IM_4 = "col2im_4",
            ROUND_TO_BF16 = "round_to_bf16";
        Norm: BN_MOMENT_SUMS = "bn_moment_sums", BN_BATCH_COEFFICIENTS = "bn_batch_coefficients",
            BN_FROZEN_COEFFICIENTS = "bn_frozen_coefficients", BN_APPLY_1 = "bn_apply_1", BN_APPLY_4 = "bn_apply_4",
            BN_GRADIENT_SUMS = "bn_gradient_sums", BN_GRADIENT_COEFFICIENTS = "bn_gradient_coefficients",
            BN_INPUT_GRADIENT_F32_1 = "bn_input_gradient_f32_1", BN_INPUT_GRADIENT_F32_4 = "bn_input_gradient_f32_4",
            BN_INPUT_GRADIENT_BF16_1 = "bn_input_gradient_bf16_1",
            BN_INPUT_GRADIENT_BF16_4 = "bn_input_gradient_bf16_4";
        Pool: MAX_POOL = "max_pool", MAX_POOL_GRADIENT = "max_pool_gradient";
        Descent: SUM_OF_SQUARES = "sum_of_squares", GRADIENT_NORM = "gradient_norm", ADAMW = "adamw",
            BLEND = "blend";
        Pixels: NORMALISE_BYTES = "normalise_bytes";
    }
}
