//! Where training computes: the processor, or a GPU.
//!
//! In goes `compute.device` of the configuration, out comes candle's device, or one line that says why not.
//!
//! ```
//! use roadhound_trainer::ops::{DeviceChoice, open_device};
//! assert_eq!("cuda:1".parse(), Ok(DeviceChoice::Cuda(1)));
//! assert!(open_device(DeviceChoice::Cpu)?.is_cpu());
//! # Ok::<(), roadhound_trainer::ops::DeviceError>(())
//! ```

use std::fmt;
use std::str::FromStr;

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

/// A device by its name in the configuration: `cpu`, `cuda:0`, `cuda:1`, ...
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
}

/// A device that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Not the name of a device.
    #[error("device {0:?} is unknown, expected \"cpu\" or \"cuda:0\"")]
    Name(String),
    /// Built without GPUs in mind.
    #[error("device cuda:{0} needs a build with the feature cuda: see scripts/build-cuda.sh")]
    NoFeature(usize),
    /// The driver says no.
    #[error("device cuda:{ordinal} cannot be opened: {reason}")]
    Driver {
        /// Which GPU.
        ordinal: usize,
        /// The driver's words, in one line.
        reason: String,
    },
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(name: &str) -> std::result::Result<Self, DeviceError> {
        match name.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(ordinal)) => Ok(Self::Cuda(ordinal)),
            None if name == "cpu" => Ok(Self::Cpu),
            _ => Err(DeviceError::Name(name.to_owned())),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = DeviceError;

    fn try_from(name: String) -> std::result::Result<Self, DeviceError> {
        name.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

/// Opens the device.
///
/// # Errors
/// If this build knows no GPUs, or the driver does not give this one.
pub fn open_device(choice: DeviceChoice) -> std::result::Result<Device, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        #[cfg(not(feature = "cuda"))]
        DeviceChoice::Cuda(ordinal) => Err(DeviceError::NoFeature(ordinal)),
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda(ordinal) => {
            super::cuda::device::open(ordinal).map_err(|error| DeviceError::Driver {
                ordinal,
                // With RUST_BACKTRACE, candle's errors go on over many lines.
                reason: error
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            })
        }
    }
}

/// Interleaved bytes as the network's values `(byte - mean) * scale`, on `device`. A GPU is sent the bytes.
///
/// # Shapes
/// - returns `[N, H, W, C]`, which is `shape`
///
/// # Errors
/// If `shape` is not that of the bytes.
pub fn images_from_bytes(
    bytes: &[u8],
    shape: (usize, usize, usize, usize),
    mean: f32,
    scale: f32,
    device: &Device,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(gpu) = device {
        let (n, h, w, c) = shape;
        if bytes.len() != n * h * w * c {
            candle_core::bail!("{} bytes are no images of shape {shape:?}", bytes.len())
        }
        return super::cuda::device::images_from_bytes(bytes, shape, mean, scale, gpu);
    }
    let values: Vec<f32> = bytes
        .iter()
        .map(|value| (f32::from(*value) - mean) * scale)
        .collect();
    Tensor::from_vec(values, shape, device)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_devices_are_read_and_written() {
        for (name, choice) in [
            ("cpu", DeviceChoice::Cpu),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("cuda:12", DeviceChoice::Cuda(12)),
        ] {
            assert_eq!(name.parse(), Ok(choice));
            assert_eq!(choice.to_string(), name);
        }
        for name in ["", "cuda", "cuda:", "cuda:-1", "gpu", "CPU", "cuda:0 "] {
            assert_eq!(
                name.parse::<DeviceChoice>(),
                Err(DeviceError::Name(name.to_owned()))
            );
        }
    }

    #[test]
    fn a_configuration_with_an_unknown_device_names_the_line() {
        let text = "[compute]\ndevice = \"gpu\"\n";
        let error = <crate::config::TrackerRun as crate::config::SystemConfig>::parse(text)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("line 2") && error.contains("\"gpu\" is unknown"),
            "{error}"
        );
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_gpu_without_the_feature_is_refused_in_one_line() {
        let error = open_device(DeviceChoice::Cuda(3)).unwrap_err().to_string();
        assert!(
            error.contains("cuda:3") && error.contains("build-cuda.sh"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1);
    }

    #[test]
    fn bytes_become_normalised_values_and_wrong_shapes_are_refused() {
        let bytes = [114, 172, 0];
        let images = images_from_bytes(&bytes, (1, 1, 1, 3), 114., 1. / 58., &Device::Cpu).unwrap();
        let values = images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(values[0] == 0. && (values[1] - 1.).abs() < 1e-6 && values[2] < -1.9);
        assert!(images_from_bytes(&bytes, (1, 1, 1, 2), 114., 1., &Device::Cpu).is_err());
    }
}
