//! `engine export`: a subnet at its true size, with proof.

use std::path::PathBuf;

use clap::Args;

use super::Globals;
use crate::config::{Precision, Task};
use crate::error::{Error, Result};
use crate::export::parity::Comparison;
use crate::export::{self, Form, Layout};
use crate::finetune::export as dense;
use crate::finetune::tuned_net::TunedNet;
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
    override_usage = "engine export --ckpt RUN --arch ARCH --bn-data PATH --out DIR [OPTIONS]\n       \
                      engine export --ckpt RUN --out DIR [OPTIONS]"
)]
pub struct ExportArgs {
    /// A run's folder (its newest checkpoint) or a checkpoint's
    #[arg(long, value_name = "RUN|CKPT")]
    pub ckpt: PathBuf,
    /// The subnet: an ID, max or min (of the run's space), r50, or winner (of the run's search)
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<Named>,
    /// Images that batch norms' statistics are computed from, and parity is shown on. Of segmentation
    /// and detection parity alone, by default on the run's examples
    #[arg(long, value_name = "PATH", num_args = 1..)]
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
    /// What other libraries load; torchvision's names are always there
    #[arg(long, value_name = "LAYOUT,...", value_delimiter = ',', default_value = "torchvision")]
    pub layout: Vec<Layout>,
    /// model.onnx takes images in 0..1 and normalises them itself
    #[arg(long)]
    pub onnx_normalise: bool,
    /// Replace an earlier export
    #[arg(long)]
    pub overwrite: bool,
}

const EXAMPLES: &str = "\
Examples:
  engine export --ckpt runs/a --arch winner --bn-data images/ --out exported/
  engine export --ckpt runs/a --arch winner --bn-data images/ --out exported/ --layout onnx
  engine export --ckpt runs/det --out exported/ --layout torchvision,detectron2
Beyond tolerance between supernet and export: exit 7, and nothing is left in --out.";

/// Exports: recalibrates, writes the folder, proves it, and says what came of it.
pub fn run(args: &ExportArgs, globals: &Globals) -> Result<()> {
    if !(args.tolerance >= 0.0 && args.tolerance.is_finite()) {
        return Err(Error::usage(format!(
            "--tolerance {}: expected a number of at least 0, such as 1e-4",
            args.tolerance
        )));
    }
    if args.onnx_normalise && !args.layout.contains(&Layout::Onnx) {
        return Err(Error::usage(
            "--onnx-normalise says how model.onnx takes images: expected --layout onnx with it",
        ));
    }
    if globals.device.precision == Some(Precision::Bf16) {
        return Err(Error::usage(
            "an export is made and proved in fp32, as its users will run it: expected --precision \
             fp32, or none",
        ));
    }
    let checkpoint = Checkpoint::open(&args.ckpt)?;
    if let Some(task) = TunedNet::task_of(&checkpoint) {
        return run_dense(args, globals, task);
    }
    let named = args.arch.ok_or_else(|| {
        Error::usage("expected --arch with the ID of a subnet, or max, min, r50 or winner")
    })?;
    if args.bn_data.is_empty() {
        return Err(Error::usage(
            "expected --bn-data with images that batch norms' statistics are computed from",
        ));
    }
    let arch = match named {
        Named::Id(arch) => arch,
        named => find_arch(named, &checkpoint)?,
    };
    let cx = open_device_in(&globals.device, Precision::Fp32)?;
    let options = export::Options {
        ckpt: args.ckpt.clone(),
        arch,
        bn_data: args.bn_data.clone(),
        bn_images: args.bn_images,
        out: args.out.clone(),
        overwrite: args.overwrite,
        form: Form {
            layouts: args.layout.iter().copied().collect(),
            onnx_normalises: args.onnx_normalise,
            tolerance: args.tolerance,
        },
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
    let nets = [("read back", &parity.reloaded), ("folded", &parity.folded)];
    let layouts = parity.layouts.iter().map(|(layout, found)| (layout.as_str(), found));
    let nets: Vec<_> = nets.into_iter().chain(layouts).collect();
    let mut head = vec!["feature".to_owned()];
    head.extend(nets.iter().map(|(name, _)| (*name).to_owned()));
    let rows = parity.reloaded.features.keys().map(|feature| {
        let rel = |(_, found): &(_, &Comparison)| match found.features.get(feature) {
            Some(difference) => format!("{:.1e}", difference.max_rel),
            None => "-".to_owned(),
        };
        [vec![feature.clone()], nets.iter().map(rel).collect()].concat()
    });
    let rows: Vec<Vec<String>> = rows.collect();
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

/// Exports a net for segmentation or detection, which has an architecture and statistics already.
fn run_dense(args: &ExportArgs, globals: &Globals, task: Task) -> Result<()> {
    let cx = open_device_in(&globals.device, Precision::Fp32)?;
    let options = dense::Options {
        ckpt: args.ckpt.clone(),
        images: args.bn_data.clone(),
        out: args.out.clone(),
        overwrite: args.overwrite,
        layouts: args.layout.iter().copied().collect(),
    };
    let (net, proof) = cx.install(|| dense::export(&cx, &options))?;
    if globals.json {
        return print_json(&serde_json::json!({
            "out": args.out,
            "task": task,
            "arch": net.arch,
            "classes": net.classes,
            "parity": proof,
        }));
    }
    let head = ["layout", "tensors with the run's bits"].map(str::to_owned).to_vec();
    let rows = proof.tensors.iter().map(|(layout, n)| vec![layout.to_string(), n.to_string()]);
    let answers = if task == Task::Seg { "classes of pixels" } else { "objects" };
    print(&format!(
        "{}: {} for {task}, {} classes\n{}\nread back, it gives the run's answers on {} images: {} \
         {answers}\n",
        args.out.display(),
        net.arch,
        net.classes.len(),
        table(&[vec![head], rows.collect()].concat()),
        proof.images,
        proof.answers,
    ))
}
