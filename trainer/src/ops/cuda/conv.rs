//! Convolution as matrix products: patches become rows, cuBLAS multiplies, gradients go the same way back.
//!
//! In come spans of NHWC images `[N, H, W, Ci]` and weights `[kh, kw, Ci, Co]`, out go `[N, Ho, Wo, Co]` and gradients
//! into spans that the caller allocated. A 1x1 convolution of every pixel needs no patches. Others are done for a few
//! images at a time, so that their patches stay in the second-level cache between being written and being read.

use candle_core::Result;

use super::engine::{Arg, Engine, Factor, Kernel, Matrix, Product, Span, count, kernels};
use crate::ops::Precision;
use crate::ops::conv::Geometry;

/// Patches that are in memory at a time: about what the second-level cache of a large GPU holds.
const COLUMN_BYTES: usize = 32 << 20;

/// The sizes of one convolution and how it is multiplied.
pub(crate) struct Plan<'a> {
    g: &'a Geometry,
    factor: Factor,
    column_bytes: usize,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(g: &'a Geometry, precision: Precision) -> Self {
        let factor = match precision {
            Precision::F32 => Factor::F32,
            Precision::Tf32 => Factor::Tf32,
            Precision::Bf16 => Factor::Bf16,
        };
        Self {
            g,
            factor,
            column_bytes: COLUMN_BYTES,
        }
    }

    /// The same with another bound on the patches.
    #[cfg(test)]
    pub(crate) fn with_column_bytes(mut self, bytes: usize) -> Self {
        self.column_bytes = bytes;
        self
    }

    pub(crate) fn factor(&self) -> Factor {
        self.factor
    }

    /// Values in a patch.
    fn depth(&self) -> usize {
        self.g.kernel_h * self.g.kernel_w * self.g.inputs
    }

    /// Values from one patch to the next: rows start where sixteen bytes divide their address, as tensor cores like it.
    fn pitch(&self) -> usize {
        self.depth().next_multiple_of(8)
    }

    /// Result pixels of one image.
    fn pixels(&self) -> usize {
        self.g.out_h * self.g.out_w
    }

    /// Whether the images themselves are the patches.
    fn images_are_patches(&self) -> bool {
        self.g.is_pointwise() && self.factor != Factor::Bf16
    }

    /// Runs of images whose patches fit: (first image, images).
    fn runs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let images = self.g.images;
        let per_run = if self.images_are_patches() {
            images
        } else {
            let image_bytes = self.pixels() * self.pitch() * self.factor.bytes();
            (self.column_bytes / image_bytes).clamp(1, images)
        };
        (0..images)
            .step_by(per_run)
            .map(move |first| (first, per_run.min(images - first)))
    }

    /// Images of the longest run.
    fn longest_run(&self) -> usize {
        self.runs().map(|(_, images)| images).max().unwrap_or(0)
    }

    fn shape(&self) -> Result<[Arg<'static>; 9]> {
        let g = self.g;
        Ok([
            count(g.height)?,
            count(g.width)?,
            count(g.inputs)?,
            count(g.out_h)?,
            count(g.out_w)?,
            count(g.kernel_h)?,
            count(g.kernel_w)?,
            count(g.stride)?,
            count(g.padding)?,
        ])
    }

    /// Memory for the patches of a run, where they are not the images themselves.
    fn column_buffer<E: Engine>(&self, engine: &E) -> Result<Option<E::Buffer>> {
        if self.images_are_patches() {
            return Ok(None);
        }
        let values = self.longest_run() * self.pixels() * self.pitch();
        let words = (values * self.factor.bytes()).div_ceil(4);
        engine.allocate(words).map(Some)
    }

    /// The patches of `images` images from `first` on.
    fn patches<'s, E: Engine>(
        &self,
        engine: &E,
        x: Span<'s>,
        columns: &'s Option<E::Buffer>,
        (first, images): (usize, usize),
    ) -> Result<Matrix<'s>> {
        let g = self.g;
        let x = x.words(first * g.image_len(), images * g.image_len())?;
        let Some(columns) = columns else {
            return Ok(Matrix {
                memory: x,
                pitch: g.inputs,
                transposed: false,
            });
        };
        let (rows, pitch) = (images * self.pixels(), self.pitch());
        let memory = engine
            .span(columns)
            .part(0, rows * pitch * self.factor.bytes())?;
        let fours = g.inputs.is_multiple_of(4) && x.is_aligned();
        let kernel = match (self.factor, fours) {
            (Factor::F32 | Factor::Tf32, false) => kernels::IM2COL_F32_1,
            (Factor::F32 | Factor::Tf32, true) => kernels::IM2COL_F32_4,
            (Factor::Bf16, false) => kernels::IM2COL_BF16_1,
            (Factor::Bf16, true) => kernels::IM2COL_BF16_4,
        };
        let mut arguments = vec![
            Arg::Memory(x),
            Arg::Memory(memory),
            count(rows)?,
            count(pitch)?,
        ];
        arguments.extend(self.shape()?);
        let threads = rows * pitch / if fours { 4 } else { 1 };
        engine.launch_each(kernel, threads, &arguments)?;
        Ok(Matrix {
            memory,
            pitch,
            transposed: false,
        })
    }

    /// Writes the convolution of `x` with `w` to `y`.
    pub(crate) fn forward<E: Engine>(
        &self,
        engine: &E,
        x: Span<'_>,
        w: Span<'_>,
        y: Span<'_>,
    ) -> Result<()> {
        let g = self.g;
        let rounded = self.rounded(engine, w, g.weight_len())?;
        let w = rounded.as_ref().map_or(w, |w| engine.span(w));
        let columns = self.column_buffer(engine)?;
        for run in self.runs() {
            let (first, images) = run;
            engine.multiply(&Product {
                rows: images * self.pixels(),
                columns: g.outputs,
                depth: self.depth(),
                factor: self.factor,
                a: self.patches(engine, x, &columns, run)?,
                b: Matrix {
                    memory: w,
                    pitch: g.outputs,
                    transposed: false,
                },
                c: y.words(first * g.out_len(), images * g.out_len())?,
                accumulate: false,
            })?;
        }
        Ok(())
    }

    /// `values` rounded to bf16, where that is the factor.
    pub(crate) fn rounded<E: Engine>(
        &self,
        engine: &E,
        values: Span<'_>,
        len: usize,
    ) -> Result<Option<E::Buffer>> {
        if self.factor != Factor::Bf16 {
            return Ok(None);
        }
        let rounded = engine.allocate(len.div_ceil(2))?;
        let arguments = [
            Arg::Memory(values),
            Arg::Memory(engine.span(&rounded)),
            count(len)?,
        ];
        engine.launch_each(kernels::ROUND_TO_BF16, len, &arguments)?;
        Ok(Some(rounded))
    }

    /// Writes the gradients of images and weights, each only where there is memory for it. `out_gradient` is made of
    /// this plan's factors.
    pub(crate) fn backward<E: Engine>(
        &self,
        engine: &E,
        x: Span<'_>,
        w: Span<'_>,
        out_gradient: Span<'_>,
        x_gradient: Option<Span<'_>>,
        w_gradient: Option<Span<'_>>,
    ) -> Result<()> {
        let g = self.g;
        let gradient = |(first, images): (usize, usize)| -> Result<Matrix<'_>> {
            let bytes = g.out_len() * self.factor.bytes();
            Ok(Matrix {
                memory: out_gradient.part(first * bytes, images * bytes)?,
                pitch: g.outputs,
                transposed: false,
            })
        };
        if let Some(w_gradient) = w_gradient {
            let columns = self.column_buffer(engine)?;
            for run in self.runs() {
                let patches = self.patches(engine, x, &columns, run)?;
                engine.multiply(&Product {
                    rows: self.depth(),
                    columns: g.outputs,
                    depth: run.1 * self.pixels(),
                    factor: self.factor,
                    a: Matrix {
                        transposed: true,
                        ..patches
                    },
                    b: gradient(run)?,
                    c: w_gradient.words(0, g.weight_len())?,
                    accumulate: run.0 > 0,
                })?;
            }
        }
        if let Some(x_gradient) = x_gradient {
            let rounded = self.rounded(engine, w, g.weight_len())?;
            let w = rounded.as_ref().map_or(w, |w| engine.span(w));
            let columns = if g.is_pointwise() {
                None
            } else {
                let values = self.longest_run() * self.pixels() * self.depth();
                Some(engine.allocate(values)?)
            };
            for run in self.runs() {
                let (first, images) = run;
                let x_gradient = x_gradient.words(first * g.image_len(), images * g.image_len())?;
                let rows = images * self.pixels();
                let target = match &columns {
                    Some(columns) => engine.span(columns).words(0, rows * self.depth())?,
                    None => x_gradient,
                };
                engine.multiply(&Product {
                    rows,
                    columns: self.depth(),
                    depth: g.outputs,
                    factor: self.factor,
                    a: gradient(run)?,
                    b: Matrix {
                        memory: w,
                        pitch: g.outputs,
                        transposed: true,
                    },
                    c: target,
                    accumulate: false,
                })?;
                if columns.is_some() {
                    let fours = g.inputs.is_multiple_of(4) && x_gradient.is_aligned();
                    let (kernel, lanes): (Kernel, usize) = if fours {
                        (kernels::COL2IM_4, 4)
                    } else {
                        (kernels::COL2IM_1, 1)
                    };
                    let pixels = images * g.height * g.width;
                    let mut arguments =
                        vec![Arg::Memory(target), Arg::Memory(x_gradient), count(pixels)?];
                    arguments.extend(self.shape()?);
                    engine.launch_each(kernel, pixels * g.inputs / lanes, &arguments)?;
                }
            }
        }
        Ok(())
    }
}
