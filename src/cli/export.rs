//! `engine export`: a subnet at its true size, with proof.

use std::path::PathBuf;

use clap::Args;

use super::Globals;
use crate::config::Precision;
use crate::error::{Error, Result};
use crate::export;
use crate::program::args::at_least_two;
use crate::program::device::open_device_in;
use crate::program::output::table;
use crate::program::{print, print_json};
use crate::search::winners::find_arch;
use crate::space::Named;
use crate::space::budget::{macs, si};
use crate::train::Checkpoint;

/// Arguments of `engine export`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
#[command(
    override_usage = "engine export --ckpt RUN --arch ARCH --bn-data PATH --out DIR [OPTIONS]"
)]
pub struct ExportArgs {
    /// A run's folder (its newest checkpoint) or a checkpoint's
    #[arg(long, value_name = "RUN|CKPT")]
    pub ckpt: PathBuf,
    /// The subnet: an ID, max or min (of the run's space), r50, or winner (of the run's search)
    #[arg(long, value_name = "ARCH")]
    pub arch: Named,
    /// Images that batch norms' statistics are computed from, and parity is shown on
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    pub bn_data: Vec<String>,
    /// How many of them
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = at_least_two)]
    pub bn_images: usize,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Largest difference from the supernet that passes, relative to a feature's largest value
    #[arg(long, value_name = "X", default_value_t = export::parity::TOLERANCE)]
    pub tolerance: f64,
    /// Names and layouts of the weights
    #[arg(long, value_name = "LAYOUT", value_parser = ["torchvision"], default_value = "torchvision")]
    pub layout: String,
    /// Replace an earlier export
    #[arg(long)]
    pub overwrite: bool,
}

const EXAMPLES: &str = "\
Example:
  engine export --ckpt runs/a --arch winner --bn-data images/ --out exported/
Beyond tolerance between supernet and export: exit 7, and nothing is left in --out.";

/// Exports: recalibrates, writes the folder, proves it, and says what came of it.
pub fn run(args: &ExportArgs, globals: &Globals) -> Result<()> {
    if !(args.tolerance >= 0.0 && args.tolerance.is_finite()) {
        return Err(Error::usage(format!(
            "--tolerance {}: expected a number of at least 0, such as 1e-4",
            args.tolerance
        )));
    }
    if globals.device.precision == Some(Precision::Bf16) {
        return Err(Error::usage(
            "an export is made and proved in fp32, as its users will run it: expected --precision \
             fp32, or none",
        ));
    }
    let arch = match args.arch {
        Named::Id(arch) => arch,
        named => find_arch(named, &Checkpoint::open(&args.ckpt)?)?,
    };
    let cx = open_device_in(&globals.device, Precision::Fp32)?;
    let options = export::Options {
        ckpt: args.ckpt.clone(),
        arch,
        bn_data: args.bn_data.clone(),
        bn_images: args.bn_images,
        out: args.out.clone(),
        overwrite: args.overwrite,
        tolerance: args.tolerance,
        seed: globals.seed,
        workers: cx.threads(),
    };
    let (config, parity) = cx.install(|| export::export(&cx, &options))?;
    if globals.json {
        return print_json(&serde_json::json!({
            "out": args.out,
            "arch": config.arch,
            "macs": config.macs,
            "params": config.params,
            "bn_images": config.origin.bn_images,
            "parity": parity,
        }));
    }
    let rows: Vec<Vec<String>> = parity
        .reloaded
        .features
        .iter()
        .zip(parity.folded.features.values())
        .map(|((name, r), f)| {
            vec![name.clone(), format!("{:.1e}", r.max_rel), format!("{:.1e}", f.max_rel)]
        })
        .collect();
    let head = ["feature", "read back", "folded"].map(String::from).to_vec();
    print(&format!(
        "{}: {} ({}, {} parameters)\n\
         largest difference from the subnet inside the supernet, relative to the largest value \
         ({} images read back, {} folded; at most {:.0e} passes):\n{}",
        args.out.display(),
        config.arch,
        macs(config.macs),
        si(config.params),
        parity.reloaded.images,
        parity.folded.images,
        parity.tolerance,
        table(&[vec![head], rows].concat()),
    ))
}
