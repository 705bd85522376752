//! `bench step`: the training iteration on pictures that already lie on the device.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use crate::cli::{DeviceArgs, open_device};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files;
use crate::rng::{Philox, Purpose};
use crate::space::{Arch, Sampler, Space};
use crate::tensor::Shape;
use crate::train::iteration::{Iteration, Parts, Step};
use crate::train::progress::human_bytes;

/// Flags of `bench step`.
#[derive(clap::Args, Debug)]
pub struct StepArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Search space whose supernet is trained.
    #[arg(long, default_value = "tiny")]
    preset: String,
    /// Pictures of a batch (default: the preset's).
    #[arg(long)]
    batch: Option<usize>,
    /// Students, comma-separated (default: those that the paper's policy draws in step 0).
    #[arg(long, value_delimiter = ',')]
    archs: Vec<Arch>,
    /// Negatives in the queue (default: the preset's).
    #[arg(long)]
    queue: Option<usize>,
    /// Timed iterations.
    #[arg(long, default_value_t = 10)]
    iterations: usize,
    /// Iterations before the timed ones.
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// Writes the result here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Times the iteration and prints medians.
pub fn run(args: &StepArgs) -> Result<()> {
    if args.iterations == 0 {
        return Err(Error::usage("--iterations is 0, expected at least 1"));
    }
    let cx = open_device(&args.device)?;
    let mut config = Config::for_preset(&args.preset)?;
    config.train.batch = args.batch.unwrap_or(config.train.batch);
    config.moco.queue = args.queue.unwrap_or(config.moco.queue);
    config.validate()?;
    let space = Space::preset(&args.preset)?;
    let archs = if args.archs.is_empty() {
        Sampler::new(config.sampling.policy, &space, config.seed)?.draw(0)
    } else {
        args.archs.clone()
    };
    archs.iter().try_for_each(|a| space.check(a))?;
    let shape = Shape::nhwc(config.train.batch, space.resolution, space.resolution, 3);
    let timed = cx.install(|| -> Result<Vec<(f64, Parts)>> {
        let picture = |view: u16| {
            let mut rng = Philox::new(0, Purpose::Check, 0, view);
            let x: Vec<f32> = (0..shape.elems()).map(|_| rng.normal()).collect();
            cx.upload(shape, cx.dtype(), &x)
        };
        let (student_view, teacher_view) = (picture(0)?, picture(1)?);
        let mut iteration = Iteration::new(&cx, &config, &space)?;
        let mut timed = Vec::new();
        for i in 0..args.warmup + args.iterations {
            let began = Instant::now();
            let step = Step {
                step: i as u64,
                steps: 1_000_000,
                lr: config.train.lr,
                archs: &archs,
                student_view: &student_view,
                teacher_view: &teacher_view,
            };
            // With its parts' times the iteration's end is waited for.
            let parts = iteration.run(&cx, &step, None, || {})?.parts(&cx)?;
            timed.push((began.elapsed().as_secs_f64() * 1e3, parts));
        }
        Ok(timed.split_off(args.warmup))
    })?;
    let median = |f: &dyn Fn(&(f64, Parts)) -> f64| {
        let mut values: Vec<f64> = timed.iter().map(f).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let total_ms = median(&|t| t.0);
    let students: Vec<f64> = (0..archs.len()).map(|k| median(&|t| t.1.student_ms[k])).collect();
    let (teacher, optimizer) = (median(&|t| t.1.teacher_ms), median(&|t| t.1.optimizer_ms));
    let images_per_s = config.train.batch as f64 / total_ms * 1e3;
    let peak_bytes = cx.memory().peak_bytes;
    let fold = |f: fn(f64, f64) -> f64, start| timed.iter().fold(start, |m, t| f(m, t.0));
    let result = json!({
        "iteration_ms": total_ms,
        "iteration_ms_min": fold(f64::min, f64::INFINITY),
        "iteration_ms_max": fold(f64::max, 0.0),
        "parts": {"teacher": teacher, "student": students, "optimizer": optimizer},
        "images_per_s": images_per_s,
        "peak_bytes": peak_bytes,
        "device": cx.name(),
        "threads": cx.threads(),
        "preset": args.preset,
        "batch": config.train.batch,
        "queue": config.moco.queue,
        "archs": archs,
        "iterations": args.iterations,
    });
    println!("teacher    {teacher:>10.1} ms");
    for (arch, ms) in archs.iter().zip(&students) {
        println!("student    {ms:>10.1} ms   {arch}");
    }
    println!("optimizer  {optimizer:>10.1} ms");
    println!(
        "iteration  {total_ms:>10.1} ms   {images_per_s:.1} pictures/s, peak {}",
        human_bytes(peak_bytes)
    );
    match &args.json {
        Some(path) => files::write_json(path, &result),
        None => Ok(()),
    }
}
