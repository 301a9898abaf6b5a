//! The engine on an NVIDIA GPU, through candle's stream and cuBLAS handle, and the way from tensors to spans and back.
//!
//! Everything is asked for on one stream, candle's, from the thread that trains: memory that is freed while kernels still
//! use it is given away after them, because freeing takes its turn as well.

use std::sync::Arc;

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cuda_backend::cudarc::cublas::{result as cublas, sys as cublas_sys};
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtr, LaunchConfig, PushKernelArg, result as driver,
    sys as driver_sys,
};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Device, Layout, Result, Shape, Storage, Tensor, bail,
};

use super::conv::Plan;
use super::descent::{Descent, Variable};
use super::engine::{Arg, Engine, Factor, File, Kernel, Product, Span, THREADS};
use super::gemm::Gemm;
use super::layer::{Gradients, Layer, Saved};
use super::norm::{Mask, Rows, Statistics};
use super::{pixels, pool};
use crate::ops::conv::Geometry;
use crate::ops::{BnStats, Precision, RunningStats};
use crate::optim::{AdamW, OptimConfig};
use crate::params::{Params, Snapshot};

/// Name and text of a module, as build.rs compiled it.
pub(super) fn ptx(file: File) -> (&'static str, &'static str) {
    macro_rules! ptx {
        ($name:literal) => {
            (
                concat!("roadhound-", $name),
                include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")),
            )
        };
    }
    match file {
        File::Conv => ptx!("conv"),
        File::Descent => ptx!("descent"),
        File::Norm => ptx!("norm"),
        File::Pixels => ptx!("pixels"),
        File::Pool => ptx!("pool"),
    }
}

/// Opens a GPU and prepares it for training.
///
/// # Errors
/// If there is no such GPU, or no driver.
#[expect(
    unsafe_code,
    reason = "settings that cudarc and the driver hand out as they are"
)]
pub(crate) fn open(ordinal: usize) -> Result<Device> {
    let device = CudaDevice::new(ordinal)?;
    let context = device.cuda_stream().context().clone();
    // SAFETY: all work is on the one stream of this device, so nothing has to wait for an event of another.
    unsafe { device.disable_event_tracking() };
    // Freed memory stays with the program. By default the driver takes it back whenever the host waits for the device,
    // several times a step.
    // SAFETY: the device is open, and the attribute is a 64-bit number that is read during the call.
    unsafe {
        // A GPU without pools has nothing to set.
        if let Ok(pool) = driver::device::get_default_mem_pool(context.cu_device()) {
            let mut threshold = u64::MAX;
            driver::mem_pool::set_attribute(
                pool,
                driver_sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
                (&raw mut threshold).cast(),
            )
            .w()?;
        }
    }
    Ok(Device::Cuda(device))
}

/// The engine.
#[derive(Clone)]
pub(crate) struct Gpu(CudaDevice);

impl Gpu {
    fn stream(&self) -> Arc<CudaStream> {
        self.0.cuda_stream()
    }

    /// Memory as a tensor without history.
    fn tensor(&self, memory: CudaSlice<f32>, shape: impl Into<Shape>) -> Tensor {
        Tensor::from_storage(
            Storage::Cuda(self.storage(memory)),
            shape,
            BackpropOp::none(),
            false,
        )
    }

    fn storage(&self, memory: CudaSlice<f32>) -> CudaStorage {
        CudaStorage::wrap_cuda_slice(memory, self.0.clone())
    }
}

#[expect(unsafe_code, reason = "kernels and cuBLAS take addresses")]
impl Engine for Gpu {
    type Buffer = CudaSlice<f32>;

    fn allocate(&self, words: usize) -> Result<Self::Buffer> {
        // SAFETY: whoever allocates writes before it reads; the tests fill fresh memory with NaN to show that.
        unsafe { self.0.alloc::<f32>(words.max(1)) }
    }

    fn upload(&self, values: &[f32]) -> Result<Self::Buffer> {
        self.0.clone_htod(values)
    }

    fn download(&self, buffer: &Self::Buffer, count: usize) -> Result<Vec<f32>> {
        match buffer.try_slice(..count) {
            Some(part) => self.0.clone_dtoh(&part),
            None => bail!("cuda: {count} values of a memory of {}", buffer.len()),
        }
    }

    fn span<'a>(&self, buffer: &'a Self::Buffer) -> Span<'a> {
        let stream = self.stream();
        let (address, _guard) = buffer.device_ptr(&stream);
        Span::new(address, buffer.num_bytes())
    }

    fn launch(&self, kernel: Kernel, grid: [u32; 2], arguments: &[Arg<'_>]) -> Result<()> {
        const NULL: u64 = 0;
        let (module, ptx) = ptx(kernel.file);
        let function = self.0.get_or_load_custom_func(kernel.name, module, ptx)?;
        let addresses: Vec<u64> = arguments
            .iter()
            .map(|argument| match argument {
                Arg::Memory(span) => span.address(),
                _ => NULL,
            })
            .collect();
        let mut builder = function.builder();
        for (argument, address) in arguments.iter().zip(&addresses) {
            match argument {
                Arg::U32(value) => builder.arg(value),
                Arg::F32(value) => builder.arg(value),
                Arg::F64(value) => builder.arg(value),
                Arg::Memory(_) | Arg::Null => builder.arg(address),
            };
        }
        let config = LaunchConfig {
            grid_dim: (grid[0], grid[1], 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the tests run the same steps against the same kernels, with argument kinds and bounds checked.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }

    fn multiply(&self, product: &Product<'_>) -> Result<()> {
        let gemm = Gemm::new(product)?;
        let operation = |transposed: bool| {
            if transposed {
                cublas_sys::cublasOperation_t::CUBLAS_OP_T
            } else {
                cublas_sys::cublasOperation_t::CUBLAS_OP_N
            }
        };
        let (factor, compute) = match product.factor {
            Factor::F32 => (
                cublas_sys::cudaDataType_t::CUDA_R_32F,
                cublas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            ),
            Factor::Tf32 => (
                cublas_sys::cudaDataType_t::CUDA_R_32F,
                cublas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            ),
            Factor::Bf16 => (
                cublas_sys::cudaDataType_t::CUDA_R_16BF,
                cublas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            ),
        };
        let (one, beta) = (1f32, f32::from(product.accumulate));
        // SAFETY: the addresses are of memory that lives until the product is done (see the module head); sizes and
        // pitches are those that the tests' engine checks against the spans.
        unsafe {
            cublas::gemm_ex(
                *self.0.cublas_handle().handle(),
                operation(gemm.a_transposed),
                operation(gemm.b_transposed),
                gemm.m,
                gemm.n,
                gemm.k,
                (&raw const one).cast(),
                gemm.a.address() as *const _,
                factor,
                gemm.lda,
                gemm.b.address() as *const _,
                factor,
                gemm.ldb,
                (&raw const beta).cast(),
                gemm.c.address() as *mut _,
                cublas_sys::cudaDataType_t::CUDA_R_32F,
                gemm.ldc,
                compute,
                cublas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .w()
    }
}

/// The values of a contiguous `f32` storage.
fn storage_span<'a>(storage: &'a CudaStorage, layout: &Layout) -> Result<Span<'a>> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!(
            "expected a contiguous tensor, found strides {:?}",
            layout.stride()
        )
    };
    let stream = storage.device().cuda_stream();
    let values = storage.as_cuda_slice::<f32>()?;
    let (address, _guard) = values.device_ptr(&stream);
    Span::new(address, values.num_bytes()).words(start, end - start)
}

/// The values of a contiguous `f32` tensor on a GPU. Its memory lives, and stays where it is, as long as the tensor.
fn span(tensor: &Tensor) -> Result<Span<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => {
            let span = storage_span(storage, layout)?;
            Ok(Span::new(span.address(), 4 * layout.shape().elem_count()))
        }
        _ => bail!(
            "expected a tensor on a gpu, found one on {:?}",
            tensor.device()
        ),
    }
}

/// The GPU of a tensor.
fn gpu_of(tensor: &Tensor) -> Result<Gpu> {
    Ok(Gpu(tensor.device().as_cuda_device()?.clone()))
}

// ---- statistics ----------------------------------------------------------------------------------------------------

/// Running mean and variance on a GPU, `[2, C]`; newer than those of the host when training moved them.
#[derive(Debug)]
pub(crate) struct DeviceStats {
    memory: CudaSlice<f32>,
    device: CudaDevice,
}

impl DeviceStats {
    fn new(gpu: &Gpu, host: &RunningStats) -> Result<Self> {
        Ok(Self {
            memory: gpu.upload(&[&host.mean[..], &host.variance].concat())?,
            device: gpu.0.clone(),
        })
    }

    /// Copies the statistics to the host.
    pub(crate) fn copy_to(&self, host: &mut RunningStats) -> Result<()> {
        let channels = host.mean.len();
        let values = Gpu(self.device.clone()).download(&self.memory, 2 * channels)?;
        host.mean.copy_from_slice(&values[..channels]);
        host.variance.copy_from_slice(&values[channels..]);
        Ok(())
    }
}

/// Runs `f` with the statistics on the GPU.
fn with_statistics<T>(
    gpu: &Gpu,
    stats: &BnStats,
    channels: usize,
    rows: usize,
    f: impl FnOnce(Statistics<'_>) -> Result<T>,
) -> Result<T> {
    let running = stats.running();
    running.on_device(
        |host| {
            let (found, other) = (host.mean.len(), host.variance.len());
            if found != channels || other != channels {
                bail!(
                    "batch_norm: running statistics have {found} channels, the input has {channels}"
                )
            }
            DeviceStats::new(gpu, host)
        },
        |device| {
            let running = gpu.span(&device.memory);
            match stats {
                BnStats::Training { .. } if rows < 2 => {
                    bail!("batch_norm: a batch of {rows} value per channel has no variance")
                }
                BnStats::Training { momentum, .. } => f(Statistics::Batch {
                    running,
                    momentum: *momentum,
                }),
                BnStats::Frozen { .. } => f(Statistics::Frozen { running }),
            }
        },
    )
}

// ---- operators -----------------------------------------------------------------------------------------------------

/// [`crate::ops::conv2d`].
pub(crate) fn conv2d(
    g: &Geometry,
    precision: Precision,
    (x, x_layout): (&CudaStorage, &Layout),
    (w, w_layout): (&CudaStorage, &Layout),
) -> Result<(CudaStorage, Shape)> {
    let gpu = Gpu(x.device().clone());
    let y = gpu.allocate(g.images * g.out_len())?;
    let (x, w) = (storage_span(x, x_layout)?, storage_span(w, w_layout)?);
    Plan::new(g, precision).forward(&gpu, x, w, gpu.span(&y))?;
    Ok((gpu.storage(y), g.out_shape()))
}

/// Its gradients, each where something behind the tensor wants it.
pub(crate) fn conv2d_backward(
    g: &Geometry,
    precision: Precision,
    x: &Tensor,
    w: &Tensor,
    y_grad: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let gpu = gpu_of(x)?;
    let wanted = |tensor: &Tensor| {
        let memory = tensor.track_op().then(|| gpu.allocate(tensor.elem_count()));
        memory.transpose()
    };
    let (x_grad, w_grad) = (wanted(x)?, wanted(w)?);
    let plan = Plan::new(g, precision);
    let y_grad = span(y_grad)?;
    let rounded = plan.rounded(&gpu, y_grad, g.images * g.out_len())?;
    plan.backward(
        &gpu,
        span(x)?,
        span(w)?,
        rounded.as_ref().map_or(y_grad, |r| gpu.span(r)),
        x_grad.as_ref().map(|m| gpu.span(m)),
        w_grad.as_ref().map(|m| gpu.span(m)),
    )?;
    Ok((
        x_grad.map(|memory| gpu.tensor(memory, x.shape())),
        w_grad.map(|memory| gpu.tensor(memory, w.shape())),
    ))
}

/// What [`batch_norm`] leaves for [`batch_norm_backward`].
pub(crate) struct NormSaved(CudaSlice<f32>);

/// [`crate::ops::batch_norm`]; `affine` is `[2, C]`.
pub(crate) fn batch_norm(
    stats: &BnStats,
    relu: bool,
    (x, x_layout): (&CudaStorage, &Layout),
    (affine, affine_layout): (&CudaStorage, &Layout),
    residual: Option<(&CudaStorage, &Layout)>,
) -> Result<(CudaStorage, NormSaved)> {
    let gpu = Gpu(x.device().clone());
    let (len, channels) = (x_layout.shape().elem_count(), affine_layout.dims()[1]);
    let rows = Rows {
        rows: len / channels,
        channels,
    };
    let (x, affine) = (
        storage_span(x, x_layout)?,
        storage_span(affine, affine_layout)?,
    );
    let residual = residual
        .map(|(storage, layout)| storage_span(storage, layout))
        .transpose()?;
    let y = gpu.allocate(len)?;
    let coefficients = with_statistics(&gpu, stats, channels, rows.rows, |statistics| {
        rows.forward(
            &gpu,
            statistics,
            x,
            affine.words(0, channels)?,
            affine.words(channels, channels)?,
            residual,
            relu,
            gpu.span(&y),
        )
    })?;
    Ok((gpu.storage(y), NormSaved(coefficients)))
}

/// Gradients of x, affine and residual.
#[expect(clippy::too_many_arguments, reason = "they are those of the operator")]
pub(crate) fn batch_norm_backward(
    saved: &NormSaved,
    training: bool,
    relu: bool,
    x: &Tensor,
    affine: &Tensor,
    y: &Tensor,
    y_grad: &Tensor,
    want_residual: bool,
) -> Result<[Option<Tensor>; 3]> {
    let gpu = gpu_of(x)?;
    let channels = affine.dim(1)?;
    let rows = Rows {
        rows: x.elem_count() / channels,
        channels,
    };
    let mask = if relu {
        Mask::Result(span(y)?)
    } else {
        Mask::All
    };
    let affine_grad = gpu.allocate(2 * channels)?;
    let (u, g) = (span(x)?, span(y_grad)?);
    let gamma = span(affine)?.words(0, channels)?;
    let input = rows.affine_gradient(
        &gpu,
        training,
        u,
        g,
        mask,
        gamma,
        &saved.0,
        gpu.span(&affine_grad),
    )?;
    let wanted = |wanted: bool| wanted.then(|| gpu.allocate(x.elem_count())).transpose();
    let (x_grad, masked) = (wanted(x.track_op())?, wanted(want_residual && relu)?);
    if x_grad.is_some() || masked.is_some() {
        rows.input_gradient(
            &gpu,
            u,
            g,
            mask,
            &saved.0,
            &input,
            Factor::F32,
            x_grad.as_ref().map(|m| gpu.span(m)),
            masked.as_ref().map(|m| gpu.span(m)),
        )?;
    }
    let residual = match masked {
        Some(memory) => Some(gpu.tensor(memory, x.shape())),
        // Without a ReLU in between, the residual's gradient is the result's.
        None => want_residual.then(|| y_grad.clone()),
    };
    Ok([
        x_grad.map(|memory| gpu.tensor(memory, x.shape())),
        Some(gpu.tensor(affine_grad, affine.shape())),
        residual,
    ])
}

/// What [`conv_bn`] leaves for [`conv_bn_backward`].
pub(crate) struct LayerSaved(Saved<CudaSlice<f32>>);

/// [`crate::ops::ConvBn`].
pub(crate) fn conv_bn(
    g: &Geometry,
    precision: Precision,
    relu: bool,
    stats: &BnStats,
    (x, x_layout): (&CudaStorage, &Layout),
    (parameters, parameters_layout): (&CudaStorage, &Layout),
    residual: Option<(&CudaStorage, &Layout)>,
) -> Result<(CudaStorage, LayerSaved)> {
    let gpu = Gpu(x.device().clone());
    let y = gpu.allocate(g.images * g.out_len())?;
    let residual = residual
        .map(|(storage, layout)| storage_span(storage, layout))
        .transpose()?;
    let (x, parameters) = (
        storage_span(x, x_layout)?,
        storage_span(parameters, parameters_layout)?,
    );
    let rows = g.images * g.out_h * g.out_w;
    let saved = with_statistics(&gpu, stats, g.outputs, rows, |statistics| {
        let layer = Layer::new(g, precision, relu);
        layer.forward(&gpu, statistics, x, parameters, residual, gpu.span(&y))
    })?;
    Ok((gpu.storage(y), LayerSaved(saved)))
}

/// What a layer is besides its tensors.
pub(crate) struct LayerKind<'a> {
    pub g: &'a Geometry,
    pub precision: Precision,
    pub relu: bool,
    pub training: bool,
}

/// Gradients of x, parameters and residual.
pub(crate) fn conv_bn_backward(
    kind: &LayerKind<'_>,
    saved: &LayerSaved,
    x: &Tensor,
    parameters: &Tensor,
    residual: Option<&Tensor>,
    y: &Tensor,
    y_grad: &Tensor,
) -> Result<[Option<Tensor>; 3]> {
    let gpu = gpu_of(x)?;
    let want_residual = residual.is_some_and(Tensor::track_op);
    let allocate =
        |wanted: bool, like: &Tensor| wanted.then(|| gpu.allocate(like.elem_count())).transpose();
    let x_grad = allocate(x.track_op(), x)?;
    let masked = allocate(want_residual && kind.relu, y)?;
    let parameter_grad = gpu.allocate(parameters.elem_count())?;
    Layer::new(kind.g, kind.precision, kind.relu).backward(
        &gpu,
        &saved.0,
        kind.training,
        span(x)?,
        span(parameters)?,
        residual.is_some(),
        span(y)?,
        span(y_grad)?,
        &Gradients {
            x: x_grad.as_ref().map(|m| gpu.span(m)),
            parameters: gpu.span(&parameter_grad),
            residual: masked.as_ref().map(|m| gpu.span(m)),
        },
    )?;
    let residual_grad = match masked {
        Some(memory) => Some(gpu.tensor(memory, y.shape())),
        // Without a ReLU in between, the residual's gradient is the result's.
        None => want_residual.then(|| y_grad.clone()),
    };
    Ok([
        x_grad.map(|memory| gpu.tensor(memory, x.shape())),
        Some(gpu.tensor(parameter_grad, parameters.shape())),
        residual_grad,
    ])
}

/// [`crate::ops::global_max_pool`] of `f32` maps on a GPU.
pub(crate) fn global_max_pool(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(MaxPool::default())
}

#[derive(Default)]
struct MaxPool {
    /// Where the maxima are; set by the forward pass.
    position: std::sync::OnceLock<CudaSlice<f32>>,
}

fn maps(dims: &[usize]) -> Result<pool::Maps> {
    match *dims {
        [images, h, w, channels] if h * w > 0 => Ok(pool::Maps {
            images,
            positions: h * w,
            channels,
        }),
        _ => bail!("global_max_pool: expected [N, H, W, C] with positions, found {dims:?}"),
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "roadhound-global-max-pool"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("global_max_pool: this operator is that of the gpu")
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let maps = maps(layout.dims())?;
        let gpu = Gpu(x.device().clone());
        let y = gpu.allocate(maps.images * maps.channels)?;
        let position = maps.forward(&gpu, storage_span(x, layout)?, gpu.span(&y))?;
        // A second forward pass of the same operator does not happen; if it did, the first one's would stay.
        let _ = self.position.set(position);
        Ok((gpu.storage(y), (maps.images, maps.channels).into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, y_grad: &Tensor) -> Result<Option<Tensor>> {
        let Some(position) = self.position.get() else {
            bail!("global_max_pool: backward before forward")
        };
        let gpu = gpu_of(x)?;
        let y_grad = y_grad.contiguous()?;
        let x_grad = gpu.allocate(x.elem_count())?;
        maps(x.dims())?.backward(&gpu, span(&y_grad)?, position, gpu.span(&x_grad))?;
        Ok(Some(gpu.tensor(x_grad, x.shape())))
    }
}

/// [`crate::ops::images_from_bytes`] on a GPU: bytes cross the bus, and become values there.
pub(crate) fn images_from_bytes(
    bytes: &[u8],
    shape: (usize, usize, usize, usize),
    mean: f32,
    scale: f32,
    device: &CudaDevice,
) -> Result<Tensor> {
    let gpu = Gpu(device.clone());
    let memory = device.clone_htod(bytes)?;
    let values = gpu.allocate(bytes.len())?;
    let stream = gpu.stream();
    let (address, _guard) = memory.device_ptr(&stream);
    let source = Span::new(address, bytes.len());
    pixels::normalise(&gpu, source, bytes.len(), mean, scale, gpu.span(&values))?;
    Ok(gpu.tensor(values, shape))
}

// ---- descent -------------------------------------------------------------------------------------------------------

/// The optimiser's memory and the weights' average on a GPU.
pub(crate) struct GpuDescent {
    gpu: Gpu,
    descent: Descent<Gpu>,
}

impl GpuDescent {
    /// Goes on from a state of the host.
    pub(crate) fn new(device: &CudaDevice, adam: &AdamW, average: &Snapshot) -> Result<Self> {
        let gpu = Gpu(device.clone());
        let mut descent = Descent::new(adam.updates);
        for (name, first) in &adam.first.values {
            let Some(second) = adam.second.values.get(name) else {
                bail!("the optimiser has a first moment of {name} and no second one")
            };
            descent.set_moments(&gpu, name, first, second)?;
        }
        for (name, values) in &average.values {
            descent.set_average(&gpu, name, values)?;
        }
        Ok(Self { gpu, descent })
    }

    /// [`AdamW::step`].
    pub(crate) fn step(
        &mut self,
        params: &Params,
        gradients: &candle_core::backprop::GradStore,
        rate: f64,
        config: &OptimConfig,
    ) -> Result<f64> {
        let mut moved = Vec::new();
        for (name, var) in &params.vars {
            if let Some(gradient) = gradients.get(var) {
                moved.push((name, var, gradient.contiguous()?));
            }
        }
        let variables = moved
            .iter()
            .map(|(name, var, gradient)| {
                Ok(Variable {
                    name: name.as_str(),
                    len: var.elem_count(),
                    values: span(var.as_tensor())?,
                    gradient: span(gradient)?,
                    decays: var.rank() > 1,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        self.descent.step(&self.gpu, &variables, rate, config)
    }

    /// [`Snapshot::blend_towards`] the weights of `params` and their statistics.
    pub(crate) fn blend(&self, params: &Params, keep: f32) -> Result<()> {
        for (name, var) in &params.vars {
            let values = span(var.as_tensor())?;
            self.descent.blend(&self.gpu, name, values, keep)?;
        }
        for (name, stats) in &params.stats {
            stats.on_device(
                |host| DeviceStats::new(&self.gpu, host),
                |device| {
                    let both = self.gpu.span(&device.memory);
                    let channels = device.memory.len() / 2;
                    let (mean, variance) =
                        (both.words(0, channels)?, both.words(channels, channels)?);
                    let blend = |part: &str, values: Span<'_>| {
                        let name = format!("{name}.{part}");
                        self.descent.blend(&self.gpu, &name, values, keep)
                    };
                    blend("running_mean", mean)?;
                    blend("running_var", variance)
                },
            )?;
        }
        Ok(())
    }

    /// The optimiser's memory, on the host.
    pub(crate) fn adam(&self) -> Result<AdamW> {
        let [first, second] = self.descent.moments(&self.gpu)?;
        Ok(AdamW {
            first: Snapshot { values: first },
            second: Snapshot { values: second },
            updates: self.descent.updates,
        })
    }

    /// The average, on the host.
    pub(crate) fn average(&self) -> Result<Snapshot> {
        let values = self.descent.average(&self.gpu)?;
        Ok(Snapshot { values })
    }
}

/// Whether a tensor is what the operators of this module take.
pub(crate) fn is_f32_on_gpu(tensor: &Tensor) -> bool {
    tensor.device().is_cuda() && tensor.dtype() == DType::F32
}
