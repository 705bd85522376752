//! Which device computes, and why.

use std::fmt;
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

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Emulator => f.write_str("emulator"),
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

/// An open device, and what it is in words.
type Found = (Backend, String);

/// Opens what was asked for; errors (exit 5) say why it cannot be. `auto` always finds
/// something. `threads` are the host's (0 = all cores), which the emulator runs on.
pub fn choose(wanted: DeviceChoice, threads: usize) -> Result<Chosen> {
    decide(wanted, open_cuda, || open_emulator(threads))
}

/// The choice, given what opening a GPU and opening the emulator give. Opens nothing else.
fn decide(
    wanted: DeviceChoice,
    open_cuda: impl FnOnce(usize) -> Result<Found>,
    open_emulator: impl FnOnce() -> Result<Found>,
) -> Result<Chosen> {
    let asked = |(backend, words)| Chosen { backend, why: format!("as asked for; {words}") };
    match wanted {
        DeviceChoice::Auto => Ok(match open_cuda(0) {
            Ok((backend, why)) => Chosen { backend, why },
            Err(e) => Chosen { backend: Backend::Cpu, why: e.to_string() },
        }),
        DeviceChoice::Cpu => Ok(Chosen { backend: Backend::Cpu, why: "as asked for".to_owned() }),
        DeviceChoice::Cuda(index) => open_cuda(index).map(asked).map_err(|e| {
            Error::device(format!("--device cuda:{index} cannot be used: {e}; or use --device cpu"))
        }),
        DeviceChoice::Emulator => open_emulator().map(asked),
    }
}

/// The emulator, and what it does in words.
fn open_emulator(threads: usize) -> Result<Found> {
    let backend = Backend::Driver(Arc::new(Emulator::new(threads)?));
    let n = kernels().len();
    Ok((backend, format!("{n} kernels run on the host, with checks: slowly")))
}

/// A GPU, and what it is in words; an error that says what is missing.
fn open_cuda(index: usize) -> Result<Found> {
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

    /// A device that stands for a GPU.
    fn gpu() -> Result<Found> {
        Ok((Backend::Driver(Arc::new(Emulator::new(1)?)), "a GPU".to_owned()))
    }

    fn no_gpu() -> Result<Found> {
        Err(Error::device("there is no GPU"))
    }

    fn not_opened<T>() -> T {
        panic!("what nobody asked for was opened")
    }

    /// What is chosen, with a word on why, where GPU `index` alone may be opened.
    fn chosen(wanted: DeviceChoice, index: usize, found: fn() -> Result<Found>) -> Result<Chosen> {
        let open = |opened| {
            assert_eq!(opened, index);
            found()
        };
        decide(wanted, open, not_opened)
    }

    fn is_cpu(chosen: &Chosen) -> bool {
        matches!(chosen.backend, Backend::Cpu)
    }

    #[test]
    fn auto_takes_the_first_gpu_or_else_the_cpu_and_says_why() {
        let with = chosen(DeviceChoice::Auto, 0, gpu).unwrap();
        assert!(matches!(with.backend, Backend::Driver(_)));
        assert_eq!(with.why, "a GPU");
        let without = chosen(DeviceChoice::Auto, 0, no_gpu).unwrap();
        assert!(is_cpu(&without));
        assert_eq!(without.why, "there is no GPU");
    }

    #[test]
    fn a_gpu_that_is_asked_for_is_opened_or_the_error_says_what_to_do() {
        let with = chosen(DeviceChoice::Cuda(3), 3, gpu).unwrap();
        assert!(matches!(with.backend, Backend::Driver(_)));
        assert_eq!(with.why, "as asked for; a GPU");
        let e = chosen(DeviceChoice::Cuda(3), 3, no_gpu).err().unwrap();
        assert_eq!(e.exit_code(), 5);
        assert_eq!(
            e.to_string(),
            "--device cuda:3 cannot be used: there is no GPU; or use --device cpu"
        );
    }

    #[test]
    fn the_cpu_opens_nothing_and_the_emulator_no_gpu() {
        let cpu = decide(DeviceChoice::Cpu, |_| not_opened(), not_opened).unwrap();
        assert!(is_cpu(&cpu));
        assert_eq!(cpu.why, "as asked for");
        let open = || open_emulator(1);
        let emulator = decide(DeviceChoice::Emulator, |_| not_opened(), open).unwrap();
        assert_eq!(emulator.backend.name(), "emulator");
        let kernels = format!("as asked for; {} kernels run on the host", kernels().len());
        assert!(emulator.why.starts_with(&kernels), "{}", emulator.why);
    }
}
