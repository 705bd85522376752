//! `bench step`: the training iteration on images that already lie on the device.

use std::time::Instant;

use serde_json::{Value, json};

use super::baseline::BaselineArgs;
use super::filter::Filter;
use super::floors::{self, Floors};
use super::peaks::PeakArgs;
use super::row::{self, Row, quantile};
use super::shapes::{self, Used};
use super::{machine, timed};
use crate::config::{Config, Method, Precision, TeacherArch};
use crate::cx::Cx;
use crate::device::{self, DeviceChoice, MemoryUse};
use crate::error::{Error, Result};
use crate::program::output::print;
use crate::program::{DeviceArgs, open_device};
use crate::progress::human_bytes;
use crate::rng::{Philox, Purpose};
use crate::space::{Arch, Sampler, Space};
use crate::ssl::Begin;
use crate::tensor::{Shape, Tensor};
use crate::train::objective::{At, Setup};
use crate::train::plan::{Planner, Rehearsed, blank_batch};
use crate::train::pretrain::{MOVING_AVERAGE, OPTIMIZER, STUDENTS, TEACHER};
use crate::train::{Objective, Pretrain, Step};

/// Seconds after which each pass of the loss has samples enough.
const LOSS_SECONDS: f64 = 0.5;

/// Flags of `bench step`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StepArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Search space whose supernet is trained.
    #[arg(long, default_value = "tiny")]
    preset: String,
    /// Self-supervised method.
    #[arg(long, default_value_t = Method::Moco)]
    method: Method,
    /// Images of a batch (default: the preset's).
    #[arg(long)]
    batch: Option<usize>,
    /// Students, comma-separated: max, min, r50, random, or architectures (default: those that
    /// the paper's policy draws in step 0).
    #[arg(long, value_delimiter = ',')]
    archs: Vec<String>,
    /// Negatives in the queue (default: the preset's).
    #[arg(long)]
    queue: Option<usize>,
    /// Times the largest net, the smallest, ResNet-50 and a random one besides, each alone:
    /// students of further iterations.
    #[arg(long)]
    parts: bool,
    /// Timed iterations.
    #[arg(long, default_value_t = 10)]
    iterations: usize,
    /// Iterations before the timed ones.
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    peaks: PeakArgs,
    /// Tells a profiler when the timed iterations begin and end (`nsys profile
    /// --capture-range=cudaProfilerApi`).
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    baseline: BaselineArgs,
}

const EXAMPLES: &str = "\
Examples:
  bench step --preset tiny --batch 128 --device cpu
  bench step --preset data --device cuda --parts \\
    --json new.json --baseline old.json
  bench step --preset data --device cuda --archs max,r50,min --profile
  bench step --preset tiny --device emulator --batch 2 \\
    --queue 64 --archs min --iterations 2
A row that is filtered out is neither printed nor written nor compared.";

/// What is trained, where.
struct Bench<'a> {
    cx: &'a Cx,
    config: &'a Config,
    space: &'a Space,
    views: Vec<Tensor>,
    pretrain: Pretrain,
    done: u64,
}

fn setup<'a>(config: &'a Config, space: &'a Space) -> Setup<'a> {
    Setup { config, space, classes: 0, begin: Begin::Seeded }
}

/// Milliseconds of the parts of an iteration, of the device's time.
#[derive(Clone, Debug, Default)]
struct Parts {
    /// Moving average and forward pass of the teacher.
    teacher_ms: f64,
    /// The moving average alone.
    ema_ms: f64,
    /// Forward and backward of each student.
    student_ms: Vec<f64>,
    /// Gradient norm, update, and push of the queue.
    optimizer_ms: f64,
}

impl Parts {
    fn of(parts: &[(&str, f64)]) -> Self {
        let mut found = Self::default();
        for (name, ms) in parts {
            match *name {
                MOVING_AVERAGE => (found.ema_ms, found.teacher_ms) = (*ms, *ms),
                TEACHER => found.teacher_ms += ms,
                STUDENTS => found.student_ms.push(*ms),
                OPTIMIZER => found.optimizer_ms = *ms,
                _ => {}
            }
        }
        found
    }
}

/// One iteration.
struct Timed {
    /// By the host's clock, until all is done.
    wall_ms: f64,
    parts: Parts,
    launches: u64,
}

/// Some iterations with the same students.
struct Run {
    timed: Vec<Timed>,
    /// Of the memory's plan.
    planned_bytes: usize,
    memory: MemoryUse,
    /// How often memory was taken while iterations were timed.
    allocations: usize,
}

/// Times the iteration and prints medians.
pub fn run(args: &StepArgs) -> Result<()> {
    if args.iterations == 0 {
        return Err(Error::usage("--iterations is 0, expected at least 1"));
    }
    if args.parts && !is_timed(args) {
        return Err(Error::usage(
            "--parts are timed, and the emulator's times mean nothing: expected another --device",
        ));
    }
    let cx = open_device(&args.device)?;
    let space = Space::preset(&args.preset)?;
    let mut config = Config::defaults(&space, args.method);
    config.train.batch = args.batch.unwrap_or(config.train.batch);
    match (args.queue, config.queue_mut()) {
        (Some(rows), Some(queue)) => *queue = rows,
        (Some(_), None) => {
            return Err(Error::usage(format!("--queue: {} has no queue", args.method)));
        }
        (None, _) => {}
    }
    config.validate()?;
    let archs = if args.archs.is_empty() {
        Sampler::new(config.sampling.policy, &space, config.seed)?.draw(0)
    } else {
        shapes::archs(&space, &args.archs)?
    };
    let settings = json!({
        "preset": args.preset,
        "batch": config.train.batch,
        "precision": Precision::of(cx.compute_dtype()),
        "method": config.method,
        "queue": config.queue(),
        "archs": archs,
        "iterations": args.iterations,
    });
    let mut result = machine::about(&cx, settings);
    let old = args.baseline.read(&result, true)?;
    let alone = if args.parts { shapes::usual(&space)? } else { Vec::new() };
    let (run, rows) = cx.install(|| -> Result<(Run, Vec<Row>)> {
        let mut bench = Bench::new(&cx, &config, &space)?;
        let run = bench.run(&archs, args)?;
        let rows = rows(args, &mut bench, &run, &archs, &alone)?;
        Ok((run, rows))
    })?;
    machine::extend(&mut result, run.json(args, config.train.batch, &rows));
    let rows = row::filtered(rows, &args.filter)?;
    result["benchmarks"] = rows.iter().map(Row::json).collect();
    args.baseline.keep(&result)?;
    print(&format!("{}{}", row::text(&rows, is_part), run.text(args)))?;
    args.baseline.compare(old, &result)
}

impl<'a> Bench<'a> {
    fn new(cx: &'a Cx, config: &'a Config, space: &'a Space) -> Result<Self> {
        let side = space.resolution;
        let shape = Shape::nhwc(config.train.batch, side, side, space.channels());
        let image = |view: u16| {
            let mut rng = Philox::new(0, Purpose::Check, 0, view);
            let x: Vec<f32> = (0..shape.elems()).map(|_| rng.normal()).collect();
            cx.upload(shape, cx.dtype(), &x)
        };
        let pretrain = Pretrain::new(cx, &setup(config, space))?;
        let views = (0..pretrain.views().len() as u16).map(image).collect::<Result<_>>()?;
        Ok(Self { cx, config, space, views, pretrain, done: 0 })
    }

    /// Takes memory as a run does, then iterates.
    fn run(&mut self, archs: &[Arch], args: &StepArgs) -> Result<Run> {
        let cx = self.cx;
        let (space, largest) = (self.space, hull(archs));
        let rehearse = |cx: &Cx, config: &Config| {
            let mut pretrain = Pretrain::new(cx, &setup(config, space))?;
            let views = blank_batch(cx, &pretrain, config.train.batch)?.views;
            let at = At { step: 0, steps: 1, lr: 0.0 };
            let step = Step { at, archs: &[largest], views: &views };
            pretrain.iterate(cx, &step, None, &mut || {})?;
            let view_elems = views.iter().map(|view| view.shape().elems()).sum();
            let (state_elems, channels) = (pretrain.state_elems(), space.channels());
            Ok(Rehearsed { state_elems, view_elems, channels })
        };
        let planner = Planner { cx, config: self.config, rehearse: &rehearse };
        let planned_bytes = planner.reserve(0)?;
        for _ in 0..args.warmup {
            self.iterate(archs)?;
        }
        let before = cx.memory().allocations;
        let timed = machine::profiled(cx, args.profile, || {
            (0..args.iterations).map(|_| self.iterate(archs)).collect::<Result<Vec<_>>>()
        })?;
        let memory = cx.memory();
        Ok(Run { timed, planned_bytes, memory, allocations: memory.allocations - before })
    }

    fn iterate(&mut self, archs: &[Arch]) -> Result<Timed> {
        let (began, before) = (Instant::now(), device::launches());
        let at = At { step: self.done, steps: 1_000_000, lr: self.config.train.lr };
        self.done += 1;
        let step = Step { at, archs, views: &self.views };
        // With its parts' times the iteration's end is waited for.
        let report = self.pretrain.iterate(self.cx, &step, None, &mut || {})?;
        let parts = Parts::of(&report.parts(self.cx)?);
        let launches = device::launches() - before;
        Ok(Timed { wall_ms: began.elapsed().as_secs_f64() * 1e3, parts, launches })
    }
}

/// The smallest net that has all of these nets in it.
fn hull(archs: &[Arch]) -> Arch {
    let larger = |a: [usize; 4], b: [usize; 4]| std::array::from_fn(|i| a[i].max(b[i]));
    let join = |a: Arch, b: &Arch| Arch {
        stem: a.stem.max(b.stem),
        widths: larger(a.widths, b.widths),
        depths: larger(a.depths, b.depths),
    };
    archs.iter().fold(archs[0], join)
}

/// The iteration, its parts, nets alone, and the loss apart; on the emulator the first alone.
fn rows(
    args: &StepArgs,
    bench: &mut Bench,
    run: &Run,
    archs: &[Arch],
    alone: &[(&str, Arch)],
) -> Result<Vec<Row>> {
    let (cx, batch) = (bench.cx, bench.config.train.batch);
    let launches = cx.is_device().then(|| run.launches(0.5));
    let iteration = Row { launches, ..Row::of_ms("iteration", run.ms(|t| t.wall_ms)) };
    if !is_timed(args) {
        return Ok(vec![Row { samples_ms: Vec::new(), ..iteration }]);
    }
    let nets: Vec<Arch> = alone.iter().map(|(_, arch)| *arch).collect();
    let mut all = [archs, &nets, &[bench.space.max()]].concat();
    all.sort_unstable();
    all.dedup();
    let work = shapes::all(bench.config, bench.space, &all, &[cx.dtype()])?;
    let floors = Floors { work: &work, peaks: args.peaks.of(cx) };
    let mut rows = vec![iteration.of_images(batch)];
    rows.extend(parts(bench, run, archs, &floors));
    let least: Option<f64> = rows.iter().filter(|row| is_part(row)).map(|row| row.floor_ms).sum();
    rows[0].floor_ms = least;
    if !nets.is_empty() {
        let run = bench.run(&nets, args)?;
        let names = alone.iter().map(|(name, arch)| format!("alone: {name} {arch}"));
        rows.extend(students(&run, names.zip(&nets), &floors, batch));
    }
    rows.extend(loss(args, cx, work, &archs[0])?);
    Ok(rows)
}

/// Teacher, students and optimizer.
fn parts(bench: &Bench, run: &Run, archs: &[Arch], floors: &Floors) -> Vec<Row> {
    let batch = bench.config.train.batch;
    let max = [bench.space.max()];
    let teachers = if bench.config.teacher.arch == TeacherArch::Max { &max[..] } else { archs };
    let forward: Option<f64> = teachers.iter().map(|arch| floors.teacher(arch)).sum();
    let teacher = forward.zip(floors.ema()).map(|(forward, ema)| forward + ema);
    let of_ms = |name: &str, ms: fn(&Timed) -> f64| Row::of_ms(name, run.ms(ms));
    let mut rows = vec![
        of_ms("teacher", |t| t.parts.teacher_ms).above(teacher).of_images(batch),
        of_ms("teacher: moving average", |t| t.parts.ema_ms).above(floors.ema()),
        of_ms("teacher: forward", |t| t.parts.teacher_ms - t.parts.ema_ms)
            .above(forward)
            .of_images(batch),
    ];
    let names = archs.iter().map(|arch| format!("student {arch}"));
    rows.extend(students(run, names.zip(archs), floors, batch));
    rows.push(of_ms("optimizer", |t| t.parts.optimizer_ms).above(floors.optimizer()));
    rows
}

/// Forward and backward pass of each student of a run, in order.
fn students<'a>(
    run: &Run,
    named: impl Iterator<Item = (String, &'a Arch)>,
    floors: &Floors,
    batch: usize,
) -> Vec<Row> {
    let one = |(k, (name, arch)): (usize, (String, &Arch))| {
        Row::of_ms(name, run.ms(|t| t.parts.student_ms[k]))
            .above(floors.student(arch))
            .of_images(batch)
    };
    named.enumerate().map(one).collect()
}

/// Whether the iteration consists of it and its like.
fn is_part(row: &Row) -> bool {
    ["teacher", "optimizer"].contains(&row.name.as_str()) || row.name.starts_with("student ")
}

/// The passes of one student's loss by themselves, as `bench kernels` times them.
fn loss(args: &StepArgs, cx: &Cx, work: Vec<Used>, arch: &Arch) -> Result<Vec<Row>> {
    let peaks = args.peaks.of(cx);
    let (samples, seconds) = (args.iterations, LOSS_SECONDS);
    let how = timed::How { samples, seconds, profile: false, peaks };
    let own = |u: &Used| floors::is_loss(&u.work) && u.uses.contains_key(arch);
    let timed = timed::all(cx, work.into_iter().filter(own).collect(), &how)?;
    let row = |t: timed::Timed| {
        let floor_ms = peaks.floor(&t.used.work).map(|floor| floor.ms);
        Row::of_ms(format!("apart: loss {}", floors::pass(&t.used.work)), t.samples_ms)
            .above(floor_ms)
    };
    Ok(timed.into_iter().map(row).collect())
}

/// Whether times mean something.
fn is_timed(args: &StepArgs) -> bool {
    args.device.device != DeviceChoice::Emulator
}

impl Run {
    fn ms(&self, ms: impl Fn(&Timed) -> f64) -> Vec<f64> {
        self.timed.iter().map(ms).collect()
    }

    fn median(&self, ms: impl Fn(&Timed) -> f64) -> f64 {
        quantile(&self.ms(ms), 0.5)
    }

    /// Kernels that an iteration queues; of all, the one of this rank from 0 to 1.
    fn launches(&self, rank: f64) -> u64 {
        quantile(&self.ms(|t| t.launches as f64), rank) as u64
    }

    /// Of an iteration, by the host's clock, what lies outside of its parts.
    fn gap_ms(&self) -> f64 {
        self.median(|t| {
            let Parts { teacher_ms, student_ms, optimizer_ms, .. } = &t.parts;
            t.wall_ms - teacher_ms - student_ms.iter().sum::<f64>() - optimizer_ms
        })
    }

    /// What the result has beside its rows.
    fn json(&self, args: &StepArgs, batch: usize, rows: &[Row]) -> Value {
        let wall = self.ms(|t| t.wall_ms);
        let students = self.timed[0].parts.student_ms.len();
        let students: Vec<f64> =
            (0..students).map(|k| self.median(|t| t.parts.student_ms[k])).collect();
        let loss = rows.iter().filter(|row| row.name.starts_with("apart: loss"));
        let loss: Vec<f64> = loss.filter_map(Row::median_ms).collect();
        let on_device = rows[0].launches.is_some();
        json!({
            "iteration_ms": quantile(&wall, 0.5),
            "iteration_ms_min": quantile(&wall, 0.0),
            "iteration_ms_max": quantile(&wall, 1.0),
            "parts": {
                "teacher": self.median(|t| t.parts.teacher_ms),
                "ema": self.median(|t| t.parts.ema_ms),
                "student": students,
                "optimizer": self.median(|t| t.parts.optimizer_ms),
                "loss": (!loss.is_empty()).then(|| loss.iter().sum::<f64>()),
            },
            "images_per_s": batch as f64 / quantile(&wall, 0.5) * 1e3,
            "floor_ms": rows[0].floor_ms,
            "floor_share": rows[0].share(),
            "gap_ms": (on_device && is_timed(args)).then(|| self.gap_ms()),
            "launches": on_device.then(|| self.launches(0.5)),
            "launches_min": on_device.then(|| self.launches(0.0)),
            "launches_max": on_device.then(|| self.launches(1.0)),
            "peak_bytes": self.memory.peak_bytes,
            "planned_bytes": self.planned_bytes,
            "reserved_bytes": self.memory.reserved_bytes,
            "allocations": self.allocations,
        })
    }

    /// What is said below the table.
    fn text(&self, args: &StepArgs) -> String {
        let [least, most] = [self.launches(0.0), self.launches(1.0)];
        let mut out = String::new();
        if most > 0 {
            let range = if least == most { String::new() } else { format!("{least} to ") };
            out += &format!("launches: {range}{most} kernels an iteration\n");
        }
        if !is_timed(args) {
            out += "times are left out: the emulator's times say nothing about a GPU\n";
        } else if most > 0 {
            let gap = self.gap_ms();
            out += &format!(
                "gaps: {gap:.3} ms of an iteration lie outside of its parts, on the host's clock\n"
            );
        }
        let MemoryUse { peak_bytes, reserved_bytes, .. } = self.memory;
        let share = 100.0 * peak_bytes as f64 / self.planned_bytes.max(1) as f64;
        out += &format!(
            "memory: {} planned, {} at the peak ({share:.1} % of the plan), {} taken\n",
            human_bytes(self.planned_bytes),
            human_bytes(peak_bytes),
            human_bytes(reserved_bytes)
        );
        out += &match self.allocations {
            0 => "no memory was taken during the timed iterations\n".to_owned(),
            n => format!(
                "! memory was taken {n} times during the timed iterations, where the plan should \
                 have been enough\n"
            ),
        };
        out
    }
}
