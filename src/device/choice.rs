//! Which device computes, and why.

use std::str::FromStr;
use std::sync::Arc;

use super::Backend;
use super::cuda::Cuda;
use super::emulator::Emulator;
use super::gpu_code::GPU_CODE;
use super::kernels::kernels;
use crate::error::{Error, Result, nearest};

/// What was asked for: the value of `--device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA where a usable GPU, driver and built kernels exist, else the CPU.
    #[default]
    Auto,
    /// The host's cores.
    Cpu,
    /// The NVIDIA GPU with this index.
    Cuda(usize),
    /// The CUDA kernels, run on the host.
    Emulator,
}

impl FromStr for DeviceChoice {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let wrong = || {
            let names = ["auto", "cpu", "cuda", "emulator"];
            Error::usage(format!(
                "unknown device {s:?}{}: expected auto, cpu, cuda, cuda:N or emulator",
                nearest(s, names)
            ))
        };
        match s {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "emulator" => Ok(Self::Emulator),
            _ => {
                let index = s.strip_prefix("cuda:").and_then(|n| n.parse().ok());
                index.map(Self::Cuda).ok_or_else(wrong)
            }
        }
    }
}

/// What computes.
#[derive(Clone)]
pub struct Chosen {
    /// The device, open.
    pub backend: Backend,
    /// Why this one, in words.
    pub why: String,
}

/// Opens what was asked for; errors (exit 5) say why it cannot be. `auto` always finds
/// something. `threads` are the host's (0 = all cores), which the emulator runs on.
pub fn choose(wanted: DeviceChoice, threads: usize) -> Result<Chosen> {
    let asked = |backend| Chosen { backend, why: "as asked for".to_owned() };
    match wanted {
        DeviceChoice::Auto => Ok(auto()),
        DeviceChoice::Cpu => Ok(asked(Backend::Cpu)),
        DeviceChoice::Cuda(index) => match open_cuda(index) {
            Ok((backend, gpu)) => Ok(Chosen { backend, why: format!("as asked for; {gpu}") }),
            Err(e) => Err(Error::device(format!(
                "--device cuda:{index} cannot be used: {e}; or use --device cpu"
            ))),
        },
        DeviceChoice::Emulator => {
            let backend = Backend::Driver(Arc::new(Emulator::new(threads)?));
            let n = kernels().len();
            let why = format!("as asked for; {n} kernels run on the host, with checks: slowly");
            Ok(Chosen { backend, why })
        }
    }
}

fn auto() -> Chosen {
    match open_cuda(0) {
        Ok((backend, gpu)) => Chosen { backend, why: gpu },
        Err(e) => Chosen { backend: Backend::Cpu, why: e.to_string() },
    }
}

/// A GPU, and what it is in words; an error that says what is missing.
fn open_cuda(index: usize) -> Result<(Backend, String)> {
    // First what a driver would not help with.
    GPU_CODE.present()?;
    let cuda = Cuda::open(index)?;
    let gpu = cuda.gpu();
    let target = GPU_CODE.target_for(gpu.capability)?;
    let words =
        format!("{}, compute capability {}, kernels for {target}", gpu.name, gpu.capability);
    Ok((Backend::Driver(Arc::new(cuda)), words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let read = |s: &str| s.parse::<DeviceChoice>();
        assert_eq!(read("cuda").unwrap(), DeviceChoice::Cuda(0));
        assert_eq!(read("cuda:12").unwrap(), DeviceChoice::Cuda(12));
        for wrong in ["", "cuda:", "cuda:-1", "CUDA", "gpu", "cuda:99999999999999999999"] {
            assert_eq!(read(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn auto_always_finds_something_and_says_why() {
        assert!(!choose(DeviceChoice::Auto, 1).unwrap().why.is_empty());
    }
}
