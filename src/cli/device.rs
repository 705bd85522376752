//! Which device computes.

use std::path::Path;
use std::str::FromStr;

use clap::Args;

use crate::config::Precision;
use crate::device::Cx;
use crate::error::{Error, Result, nearest};

/// Value of `--device`.
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

/// Flags that choose the device.
#[derive(Args, Clone, Debug, Default)]
pub struct DeviceArgs {
    /// Where to compute: `auto` takes CUDA where it can, else the CPU.
    #[arg(long, global = true, value_name = "auto|cpu|cuda[:N]|emulator", default_value = "auto")]
    pub device: DeviceChoice,
    /// Numbers that activations are kept in (default: bf16 on CUDA, fp32 on the CPU).
    #[arg(long, global = true, value_name = "bf16|fp32")]
    pub precision: Option<Precision>,
    /// Compute threads; 0 = all cores. Results do not depend on it.
    #[arg(long, global = true, value_name = "N", default_value = "0")]
    #[arg(value_parser = clap::value_parser!(u16).range(..=1024))]
    pub threads: u16,
}

/// Why there is no CUDA here.
fn no_cuda() -> &'static str {
    if Path::new("/proc/driver/nvidia/version").exists() {
        "this build holds no CUDA kernels, though the machine has an NVIDIA driver"
    } else {
        "this build holds no CUDA kernels"
    }
}

/// Opens the device and says on the log which one and why. Exit 5 where it is not usable, 2
/// for a precision that it does not have.
pub fn open_device(args: &DeviceArgs) -> Result<Cx> {
    let why = choose(args)?;
    let cx = Cx::cpu(usize::from(args.threads))?;
    let threads = cx.threads();
    let s = if threads == 1 { "" } else { "s" };
    tracing::info!("device: cpu, {threads} thread{s}, fp32 ({why})");
    Ok(cx)
}

/// Why the CPU computes; the errors of [`open_device`] where it may not.
pub fn choose(args: &DeviceArgs) -> Result<String> {
    let why = match args.device {
        DeviceChoice::Cpu => "as asked for".to_owned(),
        DeviceChoice::Auto => no_cuda().to_owned(),
        DeviceChoice::Cuda(n) => {
            return Err(Error::device(format!(
                "--device cuda:{n} cannot be used: {}; use --device cpu or auto",
                no_cuda()
            )));
        }
        DeviceChoice::Emulator => {
            return Err(Error::device(
                "--device emulator cannot be used: this build holds no CUDA kernels to emulate; \
                 use --device cpu or auto",
            ));
        }
    };
    check_precision(args.precision.unwrap_or(Precision::Auto))?;
    Ok(why)
}

/// Exit 2 for a precision that the CPU does not have.
pub fn check_precision(precision: Precision) -> Result<()> {
    match precision {
        Precision::Auto | Precision::Fp32 => Ok(()),
        Precision::Bf16 => Err(Error::usage(
            "precision bf16 needs a CUDA device; the CPU computes in fp32: expected auto or fp32 \
             (--precision, or the setting train.precision)",
        )),
    }
}
