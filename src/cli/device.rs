//! Which device computes.

use clap::Args;

use crate::config::Precision;
use crate::device::{self, Backend, Chosen, Cx, DeviceChoice};
use crate::error::{Error, Result};

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

/// Opens the device and says on the log which one and why. Exit 5 where it is not usable, 2
/// for a precision that it does not have.
pub fn open_device(args: &DeviceArgs) -> Result<Cx> {
    check_precision(args.precision.unwrap_or(Precision::Auto))?;
    let threads = usize::from(args.threads);
    let Chosen { backend, why } = device::choose(args.device, threads)?;
    let cx = match backend {
        Backend::Driver(driver) => Cx::device(driver, threads)?,
        Backend::Cpu | Backend::Plan => Cx::cpu(threads)?,
    };
    let threads = cx.threads();
    let s = if threads == 1 { "" } else { "s" };
    tracing::info!("device: {}, {threads} thread{s}, fp32 ({why})", cx.name());
    Ok(cx)
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
