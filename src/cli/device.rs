//! Which device computes.

use clap::Args;

use crate::config::Precision;
use crate::device::{self, Chosen, Cx, DeviceChoice};
use crate::error::{Error, Result};

/// Flags that choose the device.
#[derive(Args, Clone, Debug, Default)]
pub struct DeviceArgs {
    /// Where to compute: `auto` takes CUDA where it can, else the CPU.
    #[arg(long, global = true, value_name = "auto|cpu|cuda[:N]|emulator", default_value = "auto")]
    pub device: DeviceChoice,
    /// Numbers that activations are kept in: fp32 everywhere; bf16 is not there yet.
    #[arg(long, global = true, value_name = "bf16|fp32")]
    pub precision: Option<Precision>,
    /// Compute threads; 0 = all cores. Results do not depend on it.
    #[arg(long, global = true, value_name = "N", default_value = "0")]
    #[arg(value_parser = clap::value_parser!(u16).range(..=1024))]
    pub threads: u16,
}

/// Opens the device and says on the log which one and why. Exit 5 where it is not usable, 2
/// for a precision that is not there.
pub fn open_device(args: &DeviceArgs) -> Result<Cx> {
    check_precision(args.precision.unwrap_or(Precision::Auto))?;
    let threads = usize::from(args.threads);
    let Chosen { backend, why } = device::choose(args.device, threads)?;
    let cx = Cx::new(backend, threads)?;
    let threads = cx.threads();
    let s = if threads == 1 { "" } else { "s" };
    tracing::info!("device: {}, {threads} thread{s}, fp32 ({why})", cx.name());
    Ok(cx)
}

/// Exit 2 for a precision that nets cannot be computed in yet.
pub fn check_precision(precision: Precision) -> Result<()> {
    match precision {
        Precision::Auto | Precision::Fp32 => Ok(()),
        Precision::Bf16 => Err(Error::usage(
            "precision bf16 is not there yet: nets are computed in fp32 on every device; expected \
             auto or fp32 (--precision, or the setting train.precision)",
        )),
    }
}
