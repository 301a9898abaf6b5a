//! Which instructions the kernels use. Enters: what the processor has. Leaves: one [`Path`].
//!
//! ```
//! use roadhound_edge::int8::Path;
//!
//! let path = Path::detect();
//! assert!(Path::available().any(|p| p == path));
//! assert_eq!("scalar".parse(), Ok(Path::Scalar));
//! ```

use std::fmt;
use std::str::FromStr;

/// A set of kernels. All give the same bytes; they differ in speed and in the processors that have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Portable, one number at a time: the reference for all others.
    Scalar,
    /// x86 with AVX2 and FMA: products of 16-bit pairs.
    Avx2,
    /// x86 with AVX-VNNI: 32 products an instruction.
    AvxVnni,
    /// The kernels of [`Path::AvxVnni`] in the encoding of AVX-512: for processors that should keep to 256 bits.
    Avx512Vnni256,
    /// x86 with AVX512-VNNI: 64 products an instruction.
    Avx512Vnni,
    /// Any ARMv8 (Cortex-A53, A72): SMULL and SMLAL.
    Neon,
    /// ARMv8.2 with dotprod (Cortex-A55, A76): SDOT.
    NeonDot,
    /// ARMv8.6 with i8mm: SMMLA.
    NeonI8mm,
}

/// Name of the environment variable by which the programs can be told to use another path than the fastest.
pub const PATH_VARIABLE: &str = "ROADHOUND_INT8_PATH";

/// Name of the environment variable that says `avx-vnni` where the processor has AVX-VNNI and a virtual machine does not
/// report it. Where it has not, the first inference ends the program: the instruction is an illegal one there.
pub const ASSUME_VARIABLE: &str = "ROADHOUND_INT8_ASSUME";

impl Path {
    /// All, slowest first.
    const ALL: [Self; 8] = [
        Self::Scalar,
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512Vnni256,
        Self::Avx512Vnni,
        Self::Neon,
        Self::NeonDot,
        Self::NeonI8mm,
    ];

    /// Does this processor have it? Of AVX-VNNI it is enough that [`ASSUME_VARIABLE`] says so.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            match self {
                Self::Scalar => true,
                Self::Avx2 => avx2,
                Self::AvxVnni => {
                    let assumed =
                        || std::env::var_os(ASSUME_VARIABLE).is_some_and(|v| v == self.name());
                    avx2 && (is_x86_feature_detected!("avxvnni") || assumed())
                }
                Self::Avx512Vnni256 | Self::Avx512Vnni => avx2 && avx512,
                Self::Neon | Self::NeonDot | Self::NeonI8mm => false,
            }
        }
        #[cfg(target_arch = "aarch64")]
        match self {
            Self::Scalar | Self::Neon => true,
            Self::NeonDot => std::arch::is_aarch64_feature_detected!("dotprod"),
            Self::NeonI8mm => {
                std::arch::is_aarch64_feature_detected!("dotprod")
                    && std::arch::is_aarch64_feature_detected!("i8mm")
            }
            _ => false,
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        matches!(self, Self::Scalar)
    }

    /// All that this processor has, slowest first.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        Self::ALL.into_iter().filter(|path| path.is_available())
    }

    /// The fastest that this processor has.
    pub fn detect() -> Self {
        Self::available().next_back().unwrap_or(Self::Scalar)
    }

    /// The one that [`PATH_VARIABLE`] names, or the fastest.
    ///
    /// # Errors
    /// An unknown name, or a path that this processor does not have.
    pub fn from_environment() -> Result<Self, UnknownPath> {
        let Some(name) = std::env::var_os(PATH_VARIABLE) else {
            return Ok(Self::detect());
        };
        let name = name.to_string_lossy().into_owned();
        let path: Self = name.parse()?;
        if path.is_available() {
            Ok(path)
        } else {
            Err(UnknownPath { name })
        }
    }

    /// What it is called in the environment, in logs and in measurements.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512Vnni256 => "avx512-vnni-256",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Neon => "neon",
            Self::NeonDot => "neon-dot",
            Self::NeonI8mm => "neon-i8mm",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of a path, or of one that this processor does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{PATH_VARIABLE}={name}: this processor has {}", names())]
pub struct UnknownPath {
    /// The name.
    pub name: String,
}

fn names() -> String {
    let names: Vec<&str> = Path::available().map(Path::name).collect();
    names.join(", ")
}

impl FromStr for Path {
    type Err = UnknownPath;

    fn from_str(name: &str) -> Result<Self, UnknownPath> {
        Self::ALL
            .into_iter()
            .find(|path| path.name() == name)
            .ok_or_else(|| UnknownPath {
                name: name.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_path_is_found_by_its_name_and_no_other_is() {
        for path in Path::ALL {
            assert_eq!(path.name().parse(), Ok(path));
        }
        let error = "sse".parse::<Path>().unwrap_err().to_string();
        assert!(
            error.starts_with("ROADHOUND_INT8_PATH=sse: this processor has scalar"),
            "{error}"
        );
    }
}
