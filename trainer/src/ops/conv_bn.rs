//! A convolution followed by batch normalisation, optional residual addition and ReLU, as one operator.
//!
//! In comes `x` `[N, H, W, Ci]`, out goes `relu?(bn(conv2d(x, weight)) + residual?)`, as from
//! [`conv2d`](super::conv2d) followed by [`batch_norm`](super::batch_norm), but without gradients of what is
//! between them in memory.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use roadhound_trainer::ops::{BnStats, ConvBn, Precision, RunningStats};
//! let (one, zero) = (Tensor::ones(16, DType::F32, &Device::Cpu)?, Tensor::zeros(16, DType::F32, &Device::Cpu)?);
//! let layer = ConvBn {
//!     weight: &Tensor::ones((3, 3, 3, 16), DType::F32, &Device::Cpu)?,
//!     gamma: &one,
//!     beta: &zero,
//!     stats: &BnStats::Frozen { running: RunningStats::new(16).into_shared() },
//!     stride: 2,
//!     padding: 1,
//!     relu: true,
//!     precision: Precision::F32,
//! };
//! let images = Tensor::ones((2, 8, 8, 3), DType::F32, &Device::Cpu)?;
//! assert_eq!(layer.forward(&images, None)?.dims(), [2, 4, 4, 16]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::conv::{self, Geometry, OutGrad};
use super::norm::{self, Affine, BnStats, Mask, Moments, Sums};
use super::{Precision, contiguous_f32, kernels, with_f32};

/// The parameters of one layer, borrowed for a forward pass.
#[derive(Clone, Copy, Debug)]
pub struct ConvBn<'a> {
    /// `[kh, kw, Ci, Co]`.
    pub weight: &'a Tensor,
    /// Scale of the normalised values, `[Co]`.
    pub gamma: &'a Tensor,
    /// Shift of the normalised values, `[Co]`.
    pub beta: &'a Tensor,
    /// Statistics of the convolution's result, `[Co]`.
    pub stats: &'a BnStats,
    /// Step between output pixels, in input pixels.
    pub stride: usize,
    /// Zero border on each side, in input pixels.
    pub padding: usize,
    /// Whether negative results become zero.
    pub relu: bool,
    /// Of the convolution; normalisation is always `f32`.
    pub precision: Precision,
}

impl ConvBn<'_> {
    /// Runs the layer.
    ///
    /// # Shapes
    /// - `x`: `[N, H, W, Ci]`; `residual` and the result: `[N, Ho, Wo, Co]` as for [`conv2d`](super::conv2d)
    ///
    /// # Errors
    /// As [`conv2d`](super::conv2d) and [`batch_norm`](super::batch_norm).
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let &[kernel_h, kernel_w, inputs, outputs] = self.weight.dims() else {
            bail!(
                "conv_bn: expected weights [kh, kw, Ci, Co], found {:?}",
                self.weight.dims()
            )
        };
        for (name, tensor) in [("gamma", self.gamma), ("beta", self.beta)] {
            if tensor.dims() != [outputs] {
                bail!(
                    "conv_bn: {name} has shape {:?}, the weights have {outputs} outputs",
                    tensor.dims()
                )
            }
        }
        let op = Op {
            kernel: [kernel_h, kernel_w, inputs, outputs],
            stride: self.stride,
            padding: self.padding,
            relu: self.relu,
            precision: self.precision,
            stats: self.stats.clone(),
            saved: OnceLock::new(),
            #[cfg(feature = "cuda")]
            saved_on_gpu: OnceLock::new(),
        };
        // candle's operators have at most three arguments, so the parameters travel as one.
        let parameters = Tensor::cat(&[&self.weight.flatten_all()?, self.gamma, self.beta], 0)?;
        let x = x.contiguous()?;
        match residual {
            Some(residual) => x.apply_op3(&parameters, &residual.contiguous()?, op),
            None => x.apply_op2(&parameters, op),
        }
    }
}

/// What the backward pass needs of the forward pass.
struct Saved {
    /// The convolution's result.
    u: Vec<f32>,
    moments: Moments,
    affine: Affine,
}

struct Op {
    kernel: [usize; 4],
    stride: usize,
    padding: usize,
    relu: bool,
    precision: Precision,
    stats: BnStats,
    saved: OnceLock<Saved>,
    #[cfg(feature = "cuda")]
    saved_on_gpu: OnceLock<super::cuda::device::LayerSaved>,
}

/// Weights, gamma and beta.
fn split_parameters(parameters: &[f32], outputs: usize) -> (&[f32], &[f32], &[f32]) {
    let (weights, affine) = parameters.split_at(parameters.len() - 2 * outputs);
    let (gamma, beta) = affine.split_at(outputs);
    (weights, gamma, beta)
}

impl Op {
    #[expect(unsafe_code, reason = "results are not zeroed before they are written")]
    fn forward(
        &self,
        x_shape: &[usize],
        x: &[f32],
        parameters: &[f32],
        residual: Option<&[f32]>,
    ) -> Result<(Vec<f32>, Shape)> {
        let g = Geometry::new(x_shape, &self.kernel, self.stride, self.padding)?;
        let (weights, gamma, beta) = split_parameters(parameters, g.outputs);
        let training = matches!(self.stats, BnStats::Training { .. });
        let (u, sums) = conv::forward(&g, self.precision, x, weights, |u| {
            let mut sums = Sums::zero(if training { g.outputs } else { 0 });
            if training {
                norm::add_moments(&mut sums, u);
            }
            sums
        });
        let rows = g.images * g.out_h * g.out_w;
        let moments = norm::batch_moments(&self.stats, g.outputs, rows, || {
            Sums::total(g.outputs, &sums)
        })?;
        let affine = Affine::new(&moments, gamma, beta);
        let len = g.out_len();
        if residual.is_some_and(|residual| residual.len() != u.len()) {
            bail!(
                "conv_bn: the residual must have the result's shape {:?}",
                g.out_shape()
            )
        }
        // SAFETY: `apply` writes every value of each image.
        let y = unsafe {
            kernels::filled(u.len(), |y| {
                y.par_chunks_mut(len)
                    .zip(u.par_chunks(len))
                    .enumerate()
                    .for_each(|(i, (y, u))| {
                        norm::apply(
                            &affine,
                            u,
                            residual.map(|r| &r[i * len..][..len]),
                            self.relu,
                            y,
                        );
                    });
            })
        };
        // A second forward pass of the same operator does not happen; if it did, the first one's would stay.
        let _ = self.saved.set(Saved { u, moments, affine });
        Ok((y, g.out_shape()))
    }

    /// Gradients of x, parameters and residual.
    #[expect(unsafe_code, reason = "results are not zeroed before they are written")]
    fn backward(
        &self,
        x: &Tensor,
        parameters: &Tensor,
        residual: Option<&Tensor>,
        y: &Tensor,
        y_grad: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let g = Geometry::new(x.dims(), &self.kernel, self.stride, self.padding)?;
        let training = matches!(self.stats, BnStats::Training { .. });
        let y_grad = y_grad.contiguous()?;
        #[cfg(feature = "cuda")]
        if let Some(saved) = self.saved_on_gpu.get() {
            let kind = super::cuda::device::LayerKind {
                g: &g,
                precision: self.precision,
                relu: self.relu,
                training,
            };
            return super::cuda::device::conv_bn_backward(
                &kind, saved, x, parameters, residual, y, &y_grad,
            );
        }
        let Some(Saved { u, moments, affine }) = self.saved.get() else {
            bail!("conv_bn: backward before forward")
        };
        let want_residual = residual.is_some_and(Tensor::track_op);
        let len = g.out_len();
        let rows = g.images * g.out_h * g.out_w;
        let (x_grad, parameter_grad, residual_grad) = with_f32(
            [x, parameters, y, &y_grad],
            |[x_data, parameters, y, y_grad]| {
                let (weights, gamma, _) = split_parameters(parameters, g.outputs);
                let mask = match (self.relu, residual) {
                    (false, _) => Mask::All,
                    (true, None) => Mask::Affine(affine),
                    (true, Some(_)) => Mask::Result(y),
                };
                let image = |i: usize| i * len..(i + 1) * len;
                let sums_of = |i: usize, y_grad: &[f32], mask: Mask<'_>| {
                    let mut sums = Sums::zero(g.outputs);
                    norm::add_gradient_sums(&mut sums, &u[image(i)], y_grad, mask, &moments.mean);
                    sums
                };
                let mut sums: Vec<Sums> = Vec::new();
                // The residual's gradient is the masked one, which everything after it can then use.
                let masked = match mask {
                    Mask::Result(y) => {
                        // SAFETY: `apply_mask` writes every value of each image.
                        Some(unsafe {
                            kernels::filled(u.len(), |masked| {
                                sums = masked
                                    .par_chunks_mut(len)
                                    .enumerate()
                                    .map(|(i, masked)| {
                                        norm::apply_mask(&y_grad[image(i)], &y[image(i)], masked);
                                        sums_of(i, masked.assume_init_ref(), Mask::All)
                                    })
                                    .collect();
                            })
                        })
                    }
                    Mask::All | Mask::Affine(_) => {
                        sums = (0..g.images)
                            .into_par_iter()
                            .map(|i| sums_of(i, &y_grad[image(i)], mask))
                            .collect();
                        None
                    }
                };
                let (source, mask) = match &masked {
                    Some(masked) => (&masked[..], Mask::All),
                    None => (y_grad, mask),
                };
                let (affine_grad, u_grad) = norm::gradient_coefficients(
                    &Sums::total(g.outputs, &sums),
                    rows,
                    moments,
                    gamma,
                    training,
                );
                let fill = |i: usize, out: &mut [f32]| {
                    norm::apply_input_grad(
                        &u_grad,
                        &u[image(i)],
                        &source[image(i)],
                        mask,
                        kernels::as_uninit(out),
                    );
                };
                let (x_grad, w_grad) = conv::backward(
                    &g,
                    self.precision,
                    x_data,
                    weights,
                    &OutGrad::Computed(&fill),
                    x.track_op(),
                    true,
                );
                let mut parameter_grad = w_grad.unwrap_or_default();
                parameter_grad.extend(affine_grad);
                Ok((x_grad, parameter_grad, masked))
            },
        )?;
        let tensor =
            |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
        let residual_grad = match residual_grad {
            Some(values) if want_residual => Some(tensor(values, y)?),
            // Without a ReLU in between, the residual's gradient is the result's.
            None if want_residual => Some(y_grad.clone()),
            _ => None,
        };
        Ok([
            x_grad.map(|values| tensor(values, x)).transpose()?,
            Some(tensor(parameter_grad, parameters)?),
            residual_grad,
        ])
    }
}

#[cfg(feature = "cuda")]
impl Op {
    /// The forward pass on a GPU.
    fn forward_on_gpu(
        &self,
        x: (&candle_core::CudaStorage, &Layout),
        parameters: (&candle_core::CudaStorage, &Layout),
        residual: Option<(&candle_core::CudaStorage, &Layout)>,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let g = Geometry::new(x.1.dims(), &self.kernel, self.stride, self.padding)?;
        if residual.is_some_and(|(_, layout)| layout.dims() != g.out_shape().dims()) {
            bail!(
                "conv_bn: the residual must have the result's shape {:?}",
                g.out_shape()
            )
        }
        let (precision, relu) = (self.precision, self.relu);
        let (y, saved) = super::cuda::device::conv_bn(
            &g,
            precision,
            relu,
            &self.stats,
            x,
            parameters,
            residual,
        )?;
        let _ = self.saved_on_gpu.set(saved);
        Ok((y, g.out_shape()))
    }
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        "roadhound-conv-bn"
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        lx: &Layout,
        p: &candle_core::CudaStorage,
        lp: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        self.forward_on_gpu((x, lx), (p, lp), None)
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        p: &CpuStorage,
        lp: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (y, shape) = self.forward(
            lx.dims(),
            contiguous_f32(x, lx)?,
            contiguous_f32(p, lp)?,
            None,
        )?;
        Ok((CpuStorage::F32(y), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        p: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [x, p, _] = self.backward(x, p, None, y, g)?;
        Ok((x, p))
    }
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        "roadhound-conv-bn-residual"
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        lx: &Layout,
        p: &candle_core::CudaStorage,
        lp: &Layout,
        r: &candle_core::CudaStorage,
        lr: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        self.forward_on_gpu((x, lx), (p, lp), Some((r, lr)))
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        p: &CpuStorage,
        lp: &Layout,
        r: &CpuStorage,
        lr: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, p, r) = (
            contiguous_f32(x, lx)?,
            contiguous_f32(p, lp)?,
            contiguous_f32(r, lr)?,
        );
        let (y, shape) = self.forward(lx.dims(), x, p, Some(r))?;
        if shape.dims() != lr.dims() {
            bail!(
                "conv_bn: residual has shape {:?}, the result {shape:?}",
                lr.dims()
            )
        }
        Ok((CpuStorage::F32(y), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        p: &Tensor,
        r: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [x, p, r] = self.backward(x, p, Some(r), y, g)?;
        Ok((x, p, r))
    }
}
