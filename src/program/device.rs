//! Which device computes, and in which precision.

use clap::Args;

use crate::config::Precision;
use crate::cx::Cx;
use crate::device::{self, Chosen, DeviceChoice, host};
use crate::error::Result;

/// Flags that choose the device.
#[derive(Args, Clone, Debug, Default)]
pub struct DeviceArgs {
    /// Where to compute: auto, cpu, cuda, cuda:N or emulator; auto takes CUDA if there is a GPU,
    /// else the CPU
    #[arg(long, global = true, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// Numbers that nets compute in: bf16 or fp32; on the CPU bf16 is of the operands of convolutions
    /// and linear layers alone [default: bf16 on cuda and emulator, fp32 on the CPU]
    #[arg(long, global = true, value_name = "TYPE", hide_possible_values = true)]
    pub precision: Option<Precision>,
    /// Compute threads, at most 4 a core, 0 = all cores; results do not depend on it
    #[arg(long, global = true, value_name = "N", default_value = "0")]
    #[arg(value_parser = clap::value_parser!(u16).range(..=1024))]
    pub threads: u16,
}

/// Opens the device and says on the log which one, in which precision, and why. Exit 5 where
/// it is not usable.
pub fn open_device(args: &DeviceArgs) -> Result<Cx> {
    open_device_in(args, args.precision.unwrap_or(Precision::Auto))
}

/// The same in a precision that comes from elsewhere than the flag: a setting, or the verb.
pub fn open_device_in(args: &DeviceArgs, precision: Precision) -> Result<Cx> {
    let threads = usize::from(args.threads);
    let Chosen { backend, why } = device::choose(args.device, threads)?;
    let dtype = precision.dtype(backend.runs_kernels());
    let cx = Cx::new(backend, threads)?.computing_in(dtype);
    let threads = cx.threads();
    if usize::from(args.threads) > threads {
        tracing::warn!(
            "--threads {}: more than 4 a core do not help; {threads} are used on {} core(s), with \
             the same results",
            args.threads,
            host::cores()
        );
    }
    let s = if threads == 1 { "" } else { "s" };
    let precision = Precision::of(dtype);
    tracing::info!("device: {}, {threads} thread{s}, {precision} ({why})", cx.name());
    Ok(cx)
}
