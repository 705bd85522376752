//! `bench kernels`: every op at every shape that training a preset's nets brings, timed beside
//! the least time that it can take, or, on the emulator, counted beside the least bytes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::filter::Filter;
use super::peaks::Peaks;
use super::shapes::{self, Used};
use super::{baseline, counted, limits, timed};
use crate::cli::output::print;
use crate::config::Config;
use crate::device::emulator::Emulator;
use crate::device::{self, Backend, Cx, DeviceChoice, Hardware};
use crate::error::{Error, Result};
use crate::files;
use crate::space::{Arch, Space};
use crate::tensor::DType;
use crate::train::folder::environment;

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
    /// Pictures of a batch [default: the preset's on cuda, 16 on the CPU, 8 on the emulator].
    #[arg(long)]
    batch: Option<usize>,
    /// Numbers that values are kept in [default: both; the CPU has fp32 alone].
    #[arg(long, value_name = "bf16|fp32|both")]
    precision: Option<Kept>,
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
    /// The device's bandwidth in GB/s, for the floors [default: the data sheet's of a known GPU].
    #[arg(long, value_name = "GB/s", value_parser = positive)]
    peak_gbs: Option<f64>,
    /// Its rate in TFLOP/s, for the floors [default: the data sheet's of a known GPU].
    #[arg(long, value_name = "TFLOP/s", value_parser = positive)]
    peak_tflops: Option<f64>,
    /// Tells a profiler when the measured part of each row begins and ends (`nsys profile
    /// --capture-range=cudaProfilerApi`).
    #[arg(long)]
    profile: bool,
    /// Limits of what is counted; exit 7 where one is broken.
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    /// What `--json` wrote before: exit 7 where something has become worse. Refuses to compare
    /// other hardware, drivers, clocks or settings.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// How much slower than the baseline a row may be; it must also be more than its noise.
    /// Counts may not grow at all.
    #[arg(long, value_name = "PERCENT", default_value = "5%")]
    fail_over: baseline::Percent,
    /// Writes the result here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A number above 0.
fn positive(s: &str) -> Result<f64> {
    let number = s.parse().ok().filter(|x: &f64| x.is_finite() && *x > 0.0);
    number.ok_or_else(|| Error::usage(format!("{s:?} is not a number above 0")))
}

const EXAMPLES: &str = "\
Examples:
  bench kernels --device emulator --archs min --limits benches/limits.toml
  bench kernels --device cpu --archs max --filter conv2d
  bench kernels --device cuda --batch 256 --json new.json --baseline old.json --fail-over 5%
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
            let names = ["max", "min", "r50", "random"].map(str::to_owned);
            let fits = |name: &&String| shapes::archs(&space, &[name.to_string()]).is_ok();
            let fitting: Vec<String> = names.iter().filter(fits).cloned().collect();
            shapes::archs(&space, &fitting)?
        } else {
            shapes::archs(&space, &args.archs)?
        };
        let dtypes = match (args.precision, backend) {
            (Some(Kept::Bf16 | Kept::Both), Backend::Cpu) => {
                return Err(Error::usage(
                    "the CPU computes in fp32 alone: expected --precision fp32, or another --device",
                ));
            }
            (Some(Kept::Fp32), _) | (None, Backend::Cpu) => vec![DType::F32],
            (Some(Kept::Bf16), _) => vec![DType::BF16],
            (Some(Kept::Both) | None, _) => vec![DType::F32, DType::BF16],
        };
        Ok(Self { config, space, archs, dtypes })
    }

    /// Everything in the result but the rows.
    fn json(&self, cx: &Cx) -> Value {
        let hardware = hardware(cx);
        let on_cpu = matches!(cx.backend(), Backend::Cpu);
        let name = if on_cpu { environment(cx)["cpu"].clone() } else { json!(hardware.name) };
        let precision: Vec<&str> =
            self.dtypes.iter().map(|d| if *d == DType::BF16 { "bf16" } else { "fp32" }).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        json!({
            "device": cx.name(),
            "hardware": name,
            "driver": hardware.driver,
            "clock_mhz": hardware.clock_mhz,
            "memory_clock_mhz": hardware.memory_clock_mhz,
            "threads": on_cpu.then(|| cx.threads()),
            "preset": self.space.name,
            "batch": self.config.train.batch,
            "precision": precision.join(","),
            "archs": self.archs,
            "engine": env!("CARGO_PKG_VERSION"),
            "unix_time_s": now.map_or(0, |t| t.as_secs()),
        })
    }
}

fn hardware(cx: &Cx) -> Hardware {
    match cx.backend() {
        Backend::Driver(driver) => driver.hardware(),
        _ => Hardware::default(),
    }
}

/// Runs all work, prints a table, and compares it with what was asked for.
pub fn run(args: &KernelsArgs) -> Result<()> {
    let old = args.baseline.as_deref().map(files::read_json::<Value>).transpose()?;
    let limits = args.limits.as_deref().map(limits::Limits::read).transpose()?;
    let threads = usize::from(args.threads);
    let (cx, emulator) = open(args.device, threads)?;
    let setting = Setting::new(args, cx.backend())?;
    let mut result = setting.json(&cx);
    if let Some(old) = &old {
        baseline::expect_alike(old, &result)?;
    }
    let Setting { config, space, archs, dtypes } = &setting;
    let all = shapes::all(config, space, archs, dtypes)?;
    let all = shapes::filtered(all, |name| args.filter.matches(name))?;
    let mut breaches = Vec::new();
    let (rows, text): (Vec<Value>, String) = match emulator {
        Some(emulator) => {
            let counted = counted::all(&cx, &emulator, all)?;
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
        None => time(args, &cx, all, archs)?,
    };
    result["benchmarks"] = Value::Array(rows);
    if let Some(path) = &args.json {
        files::write_json(path, &result)?;
    }
    print(&text)?;
    limits::expect_none(&breaches)?;
    old.map_or(Ok(()), |old| baseline::compare(&old, &result, args.fail_over))
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
    all: Vec<Used>,
    archs: &[Arch],
) -> Result<(Vec<Value>, String)> {
    let known = Peaks::of(hardware(cx).name.as_deref());
    let how = timed::How {
        samples: args.samples,
        seconds: args.seconds,
        profile: args.profile,
        peaks: Peaks {
            gbs: args.peak_gbs.or(known.gbs),
            tflops_bf16: args.peak_tflops.or(known.tflops_bf16),
            tflops_fp32: args.peak_tflops.or(known.tflops_fp32),
        },
    };
    let timed = timed::all(cx, all, &how)?;
    Ok((timed.iter().map(timed::Timed::json).collect(), timed::text(&timed, archs)))
}
