//! `bench kernels`: every op at every shape that training a preset's nets brings, timed beside
//! the least time that it can take, or, on the emulator, counted beside the least bytes.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::filter::Filter;
use super::peaks::PeakArgs;
use super::shapes::{self, Used, Wanted};
use super::{baseline, counted, limits, machine, timed};
use crate::config::{Config, Precision};
use crate::cx::Cx;
use crate::device::emulator::Emulator;
use crate::device::{self, Backend, DeviceChoice};
use crate::error::{Error, Result};
use crate::program::output::print;
use crate::space::{Arch, Space};
use crate::tensor::DType;

crate::choice! {
    /// Numbers that values are kept in.
    pub enum Kept("precision") {
        /// bf16, with f32 sums.
        Bf16 = "bf16",
        /// f32.
        Fp32 = "fp32",
        /// One after the other.
        Both = "both",
    }
}

/// Flags of `bench kernels`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct KernelsArgs {
    /// What runs the work: a GPU or the CPU, which are timed, or the emulator, which counts.
    #[arg(long, value_name = "auto|cpu|cuda[:N]|emulator", default_value = "auto")]
    device: DeviceChoice,
    /// Threads of the host; 0 = all cores.
    #[arg(long, value_name = "N", default_value = "0")]
    #[arg(value_parser = clap::value_parser!(u16).range(..=1024))]
    threads: u16,
    /// Search space whose nets are trained [default: data on cuda, else tiny].
    #[arg(long)]
    preset: Option<String>,
    /// Nets, comma-separated: max, min, r50, random (drawn with seed 0), or architectures
    /// [default: max,min,r50,random; without r50 where the preset has it not].
    #[arg(long, value_delimiter = ',')]
    archs: Vec<String>,
    /// Images of a batch [default: the preset's on cuda, 16 on the CPU, 8 on the emulator].
    #[arg(long)]
    batch: Option<usize>,
    /// Numbers that values are kept in, on the CPU those that operands of products are rounded to
    /// [default: both; fp32 on the CPU].
    #[arg(long, value_name = "bf16|fp32|both")]
    precision: Option<Kept>,
    /// Times a product of N x N matrices besides, in which nothing but the main loop counts.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    product: Option<u16>,
    #[command(flatten)]
    filter: Filter,
    /// On the emulator: a row for each kernel, beside one for the whole pass.
    #[arg(long)]
    verbose: bool,
    /// Most samples of a row that is timed.
    #[arg(long, default_value_t = 20)]
    samples: usize,
    /// Seconds after which a row that is timed has samples enough.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    #[command(flatten)]
    peaks: PeakArgs,
    /// Tells a profiler when the measured part of each row begins and ends (`nsys profile
    /// --capture-range=cudaProfilerApi`).
    #[arg(long)]
    profile: bool,
    /// Limits of what is counted; exit 7 where one is broken.
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    #[command(flatten)]
    baseline: baseline::BaselineArgs,
}

const EXAMPLES: &str = "\
Examples:
  bench kernels --device emulator --archs min --limits benches/limits.toml
  bench kernels --device cpu --archs max --filter conv2d
  bench kernels --device cuda --batch 256 \\
    --json new.json --baseline old.json --fail-over 5%
  bench report old.json new.json";

/// What is run, where.
struct Setting {
    config: Config,
    space: Space,
    archs: Vec<Arch>,
    dtypes: Vec<DType>,
}

impl Setting {
    fn new(args: &KernelsArgs, backend: &Backend) -> Result<Self> {
        let emulated = args.device == DeviceChoice::Emulator;
        let timed_on_gpu = matches!(backend, Backend::Driver(_)) && !emulated;
        let preset = args.preset.as_deref().unwrap_or(if timed_on_gpu { "data" } else { "tiny" });
        let (mut config, space) = (Config::for_preset(preset)?, Space::preset(preset)?);
        let small = if emulated { 8 } else { 16 };
        let batch = if timed_on_gpu { config.train.batch } else { small };
        config.train.batch = args.batch.unwrap_or(batch);
        config.validate()?;
        let archs = if args.archs.is_empty() {
            shapes::usual(&space)?.into_iter().map(|(_, arch)| arch).collect()
        } else {
            shapes::archs(&space, &args.archs)?
        };
        let dtypes = match (args.precision, backend) {
            (Some(Kept::Fp32), _) | (None, Backend::Cpu) => vec![DType::F32],
            (Some(Kept::Bf16), _) => vec![DType::BF16],
            (Some(Kept::Both) | None, _) => vec![DType::F32, DType::BF16],
        };
        Ok(Self { config, space, archs, dtypes })
    }

    fn wanted<'a>(&'a self, args: &'a KernelsArgs) -> Wanted<'a> {
        let Self { config, space, archs, .. } = self;
        let (product, filter) = (args.product.map(usize::from), &args.filter);
        Wanted { config, space, archs, product, filter }
    }

    /// Everything in the result but the rows.
    fn json(&self, cx: &Cx) -> Value {
        let precision: Vec<&str> = self.dtypes.iter().map(|d| Precision::of(*d).as_str()).collect();
        machine::about(
            cx,
            json!({
                "preset": self.space.name,
                "batch": self.config.train.batch,
                "precision": precision.join(","),
                "archs": self.archs,
            }),
        )
    }
}

/// Runs all work, prints a table, and compares it with what was asked for.
pub fn run(args: &KernelsArgs) -> Result<()> {
    let limits = args.limits.as_deref().map(limits::Limits::read).transpose()?;
    let threads = usize::from(args.threads);
    let (cx, emulator) = open(args.device, threads)?;
    let setting = Setting::new(args, cx.backend())?;
    let mut result = setting.json(&cx);
    let old = args.baseline.read(&result, false)?;
    let work = setting.wanted(args).work(&cx, &setting.dtypes)?;
    let mut breaches = limits::Breaches::default();
    let (rows, text): (Vec<Value>, String) = match emulator {
        Some(emulator) => {
            let counted = counted::all(&emulator, work)?;
            if let Some(limits) = &limits {
                breaches = limits.breaches(&counted);
            }
            let rows = counted.iter().map(counted::Counted::json).collect();
            (rows, counted::text(&counted, args.verbose))
        }
        None if limits.is_some() => {
            return Err(Error::usage(
                "--limits are limits of what is counted: expected --device emulator",
            ));
        }
        None => time(args, &cx, work, &setting.archs)?,
    };
    result["benchmarks"] = Value::Array(rows);
    args.baseline.keep(&result)?;
    print(&text)?;
    breaches.expect_none()?;
    args.baseline.compare(old, &result)
}

/// The device; and the emulator itself, where it is that.
fn open(device: DeviceChoice, threads: usize) -> Result<(Cx, Option<Arc<Emulator>>)> {
    if device == DeviceChoice::Emulator {
        let emulator = Arc::new(Emulator::new(threads)?);
        return Ok((Cx::device(emulator.clone(), threads)?, Some(emulator)));
    }
    let chosen = device::choose(device, threads)?;
    let cx = Cx::new(chosen.backend, threads)?;
    tracing::info!("device: {}, {} threads ({})", cx.name(), cx.threads(), chosen.why);
    Ok((cx, None))
}

fn time(
    args: &KernelsArgs,
    cx: &Cx,
    work: Vec<(Cx, Vec<Used>)>,
    archs: &[Arch],
) -> Result<(Vec<Value>, String)> {
    let how = timed::How {
        samples: args.samples,
        seconds: args.seconds,
        profile: args.profile,
        peaks: args.peaks.of(cx),
    };
    let mut timed = Vec::new();
    for (cx, all) in work {
        timed.extend(timed::all(&cx, all, &how)?);
    }
    Ok((timed.iter().map(timed::Timed::json).collect(), timed::text(&timed, archs)))
}
