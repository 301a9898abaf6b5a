//! The optimiser and the weights' moving average, where the weights are.
//!
//! In: the gradients of a step. Out: moved variables and a moved average. On the processor both are [`AdamW`] and
//! [`Snapshot`] themselves; on a GPU the same arithmetic runs there, and no weight crosses the bus until a checkpoint or
//! a validation asks for it.
//!
//! ```
//! use candle_core::Device;
//! use roadhound_trainer::descent::Descent;
//! use roadhound_trainer::optim::{AdamW, OptimConfig};
//! use roadhound_trainer::params::{Init, ParamBuilder};
//! let mut builder = ParamBuilder::new(1, &Device::Cpu);
//! let x = builder.var("x", &[2], Init::Constant(3.0))?;
//! let params = builder.finish();
//! let mut descent = Descent::new(&params, AdamW::default(), params.snapshot()?)?;
//! let gradients = x.sqr()?.sum_all()?.backward()?;
//! let norm = descent.step(&params, &gradients, 0.1, &OptimConfig::default())?;
//! descent.average_towards(&params, 0.5)?;
//! assert!(norm > 8.0 && descent.average()?.values["x"][0] < 3.0);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::Result;
use candle_core::backprop::GradStore;

use crate::optim::{AdamW, OptimConfig};
use crate::params::{Params, Snapshot};

/// The optimiser's memory and the moving average; see the module head.
pub struct Descent(Place);

enum Place {
    Host {
        adam: AdamW,
        average: Snapshot,
    },
    #[cfg(feature = "cuda")]
    Gpu(Box<crate::ops::GpuDescent>),
}

impl Descent {
    /// Goes on from `adam` and `average`, on the device that holds the variables of `params`.
    ///
    /// # Errors
    /// If the device has no room.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(unused_variables, reason = "tells where the weights are")
    )]
    pub fn new(params: &Params, adam: AdamW, average: Snapshot) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if let Some(candle_core::Device::Cuda(gpu)) =
            params.vars.values().next().map(|var| var.device())
        {
            let descent = crate::ops::GpuDescent::new(gpu, &adam, &average)?;
            return Ok(Self(Place::Gpu(Box::new(descent))));
        }
        Ok(Self(Place::Host { adam, average }))
    }

    /// Moves every variable that has a gradient, as [`AdamW::step`] does.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn step(
        &mut self,
        params: &Params,
        gradients: &GradStore,
        rate: f64,
        config: &OptimConfig,
    ) -> Result<f64> {
        match &mut self.0 {
            Place::Host { adam, .. } => adam.step(params, gradients, rate, config),
            #[cfg(feature = "cuda")]
            Place::Gpu(descent) => descent.step(params, gradients, rate, config),
        }
    }

    /// Moves the average towards the weights by `1 - keep`.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn average_towards(&mut self, params: &Params, keep: f32) -> Result<()> {
        match &mut self.0 {
            Place::Host { average, .. } => average.blend_towards(&params.snapshot()?, keep),
            #[cfg(feature = "cuda")]
            Place::Gpu(descent) => descent.blend(params, keep)?,
        }
        Ok(())
    }

    /// A copy of the optimiser's memory.
    ///
    /// # Errors
    /// If a device does not give it back.
    pub fn adam(&self) -> Result<AdamW> {
        match &self.0 {
            Place::Host { adam, .. } => Ok(adam.clone()),
            #[cfg(feature = "cuda")]
            Place::Gpu(descent) => descent.adam(),
        }
    }

    /// A copy of the average.
    ///
    /// # Errors
    /// If a device does not give it back.
    pub fn average(&self) -> Result<Snapshot> {
        match &self.0 {
            Place::Host { average, .. } => Ok(average.clone()),
            #[cfg(feature = "cuda")]
            Place::Gpu(descent) => descent.average(),
        }
    }
}
