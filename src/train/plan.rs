//! Before a run: does it fit into memory, and how long will it take?

use std::sync::Arc;
use std::time::Instant;

use super::batches::Batches;
use super::init::Init;
use super::objective::{At, Make, Objective, Setup, StepBatch};
use super::pretrain::{MOVING_AVERAGE, OPTIMIZER, Pretrain};
use super::run::Options;
use super::start::{initial_state, loader_options};
use crate::config::Config;
use crate::cx::Cx;
use crate::data::{Batch, Dataset, LoaderOptions, Targets, steps_per_epoch};
use crate::device::Layout;
use crate::device::host::{self, Available};
use crate::device::peaks::Peaks;
use crate::error::{Error, Kind, Result};
use crate::progress::human_bytes;
use crate::space::Space;
use crate::ssl::Begin;
use crate::tensor::{DType, Meta, Shape};

/// Batches of views that the loader holds: two ready or in the making, one in use.
const LOADED_BATCHES: usize = 3;
/// Most seconds that steps are timed for, where one does not take longer.
const TIMING_S: f64 = 20.0;

/// What a run needs of memory.
struct Needs {
    /// Buffers of tensors, where nets compute.
    layout: Layout,
    /// Memory of the host beside them.
    host_bytes: usize,
}

/// What there is.
struct Room {
    /// Bytes for tensors, those included that are taken already; none where nobody tells.
    tensor_bytes: Option<usize>,
    /// What the host has.
    host: Option<Available>,
    /// Whether tensors lie in the host's memory too.
    is_shared: bool,
    device: String,
}

impl Room {
    fn of(cx: &Cx) -> Result<Self> {
        let taken = cx.memory().reserved_bytes;
        let (is_shared, host) = (!cx.is_device(), host::available());
        Ok(Self {
            tensor_bytes: cx.available_bytes()?.map(|bytes| bytes + taken),
            host: host.map(|a| match is_shared {
                true => Available { bytes: a.bytes + taken, ..a },
                false => a,
            }),
            is_shared,
            device: cx.name(),
        })
    }

    /// What does not fit, in words; none where all does.
    fn lacks(&self, needs: &Needs) -> Option<String> {
        let (tensors, host) = (needs.layout.bytes(), needs.host_bytes);
        let beside = format!("{} for images and checkpoints", human_bytes(host));
        let of_host = |needed: usize, what: String| {
            let room = self.host.as_ref().filter(|room| needed > room.bytes)?;
            let (found, bound) = (human_bytes(room.bytes), &room.bound);
            Some(format!("{what} are needed, {found} are available, bounded by {bound}"))
        };
        if self.is_shared {
            let needed = tensors.saturating_add(host);
            let what =
                format!("{} ({} for tensors, {beside})", human_bytes(needed), human_bytes(tensors));
            return of_host(needed, what);
        }
        match self.tensor_bytes {
            Some(room) if tensors > room => Some(format!(
                "{} are needed, {} are available on {}",
                human_bytes(tensors),
                human_bytes(room),
                self.device
            )),
            _ => of_host(host, beside),
        }
    }
}

/// Runs the step of a run that takes most memory, on a context that plans. Gives the objective's
/// numbers in a checkpoint and the images' side.
pub(super) fn rehearsal(cx: &Cx, setup: &Setup, make: &Make) -> Result<Rehearsed> {
    let mut objective = make(cx, setup)?;
    let batch = blank_batch(cx, objective.as_ref(), setup.config.train.batch)?;
    objective.rehearse(cx, batch)?;
    Ok(Rehearsed { state_elems: objective.state_elems(), side: objective.net().space().resolution })
}

/// What a rehearsal found beside the memory that it took.
pub struct Rehearsed {
    /// Numbers that a checkpoint holds.
    pub state_elems: usize,
    /// Height and width of an image.
    pub side: usize,
}

/// A batch of images without values.
pub fn blank_batch(cx: &Cx, objective: &dyn Objective, n: usize) -> Result<StepBatch> {
    let side = objective.net().space().resolution;
    let view = |_| cx.alloc(Meta::new(Shape::nhwc(n, side, side, 3), cx.dtype()));
    Ok(Batch {
        step: 0,
        epoch: 0,
        indices: (0..n).collect(),
        targets: objective.labels().then(|| Targets::Classes(vec![0; n])),
        views: objective.views().iter().map(view).collect::<Result<_>>()?,
        wait_ms: 0.0,
    })
}

/// Takes the memory of a run's largest step on a context that plans.
pub type Rehearse<'a> = dyn Fn(&Cx, &Config) -> Result<Rehearsed> + 'a;

/// Plans the memory of a run, and of smaller ones where it does not fit.
pub struct Planner<'a> {
    /// Where it is to run.
    pub cx: &'a Cx,
    /// Its settings.
    pub config: &'a Config,
    /// Its largest step.
    pub rehearse: &'a Rehearse<'a>,
}

/// What beside the step is planned.
#[derive(Clone, Copy)]
struct Beside {
    /// Bytes of decoded images on the device.
    decoded_bytes: usize,
    /// Whether the loader's memory is to be found, as it has not started.
    with_loader: bool,
}

impl Planner<'_> {
    /// Fails where the plan of a run's memory does not fit, before anything is done. Gives the
    /// planned bytes, of tensors and of the host beside them.
    ///
    /// # Errors
    /// [`Kind::Memory`], with the largest batch that fits.
    pub fn check(&self) -> Result<usize> {
        let needs = self.fit(Beside { decoded_bytes: 0, with_loader: true }, |_| Ok(()))?;
        Ok(needs.layout.bytes().saturating_add(needs.host_bytes))
    }

    /// Plans the memory of a run and takes what of it is not taken yet; `decoded_bytes` are those of
    /// decoded images on the device. Gives the planned bytes of tensors.
    ///
    /// # Errors
    /// [`Kind::Memory`], with the largest batch that fits, where they do not.
    pub fn reserve(&self, decoded_bytes: usize) -> Result<usize> {
        // The loader has started: what it holds is not available any more.
        let beside = Beside { decoded_bytes, with_loader: false };
        self.fit(beside, |layout| self.cx.reserve(layout)).map(|needs| needs.layout.bytes())
    }

    /// Plans the run and does with the plan what `take` says. Exit 5 with the largest batch that
    /// fits where either fails for want of memory.
    fn fit(&self, beside: Beside, take: impl FnOnce(&Layout) -> Result<()>) -> Result<Needs> {
        let mut room = Room::of(self.cx)?;
        let attempt = || -> Result<Needs> {
            let needs = self.plan(self.config.train.batch, beside)?;
            if let Some(lacking) = room.lacks(&needs) {
                return Err(Error::memory(format!("out of memory: {lacking}")));
            }
            take(&needs.layout).inspect_err(|_| {
                // What was said to be there is not to be had, in pieces of these sizes at least.
                let most = needs.layout.bytes() / 4 * 3;
                room.tensor_bytes = Some(most);
                room.host = room.host.take().map(|a| Available { bytes: a.bytes.min(most), ..a });
            })?;
            Ok(needs)
        };
        attempt().map_err(|e| match e.kind() {
            Kind::Memory => {
                let advice = self.largest_batch(&room, beside);
                Error::memory(format!("train.batch={}: {e}; {advice}", self.config.train.batch))
            }
            _ => e,
        })
    }

    /// What a run needs with another batch: the buffers that its largest step takes beside decoded
    /// images, found by running it on a context that only counts; and the host's memory for a
    /// checkpoint and for images that are made ahead.
    fn plan(&self, batch: usize, beside: Beside) -> Result<Needs> {
        let share = batch as f64 / self.config.train.batch as f64;
        let decoded_bytes = (beside.decoded_bytes as f64 * share) as usize;
        let mut config = self.config.clone();
        config.train.batch = batch;
        let plan = self.cx.planning();
        let _decoded = (decoded_bytes > 0).then(|| plan.staging_slot(decoded_bytes)).transpose()?;
        let Rehearsed { state_elems, side } = (self.rehearse)(&plan, &config)?;
        let view = batch * side.pow(2) * 3;
        let loader = match beside.with_loader && !self.cx.is_device() {
            true => LOADED_BATCHES * 2 * view,
            // For a device images are decoded alone, of sizes that nobody knows yet.
            false => 0,
        };
        // A checkpoint is copied before it is written.
        let host_bytes = state_elems.saturating_add(loader).saturating_mul(size_of::<f32>());
        Ok(Needs { layout: plan.layout(), host_bytes })
    }

    /// Says which batch is the largest that fits.
    fn largest_batch(&self, room: &Room, beside: Beside) -> String {
        let Config { train, moco, .. } = self.config;
        // A batch is cut into equal parts of two images or more.
        let parts = train.accum;
        let fits = |images: usize| {
            self.plan(images * parts, beside).is_ok_and(|needs| room.lacks(&needs).is_none())
        };
        let (mut low, mut high) = (1, train.batch / parts);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if fits(middle) { low = middle } else { high = middle }
        }
        match low {
            1 => format!(
                "no batch fits: use a smaller preset, or lower moco.queue ({}), moco.dim ({}) or \
                 train.accum ({parts})",
                moco.queue, moco.dim
            ),
            images => format!(
                "the largest that fits is train.batch={}; or raise train.accum",
                images * parts
            ),
        }
    }
}

/// What a dry run found.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Plan {
    /// Name of the search space.
    pub preset: String,
    /// Images in the data set.
    pub images: usize,
    /// Images of an optimizer step.
    pub batch: usize,
    /// Parts that a batch is worked off in.
    pub parts: usize,
    /// Passes over the data.
    pub epochs: f64,
    /// Epochs during which the learning rate rises.
    pub warmup_epochs: f64,
    /// Learning rate at the top of the cosine.
    pub lr: f64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Bytes that tensors take, by plan.
    pub planned_bytes: usize,
    /// Bytes that the device could give.
    pub available_bytes: Option<usize>,
    /// What bounds these, where they are the host's.
    pub limited_by: Option<String>,
    /// Multiply-accumulates of a step's convolutions, of all nets together, on average.
    pub macs_per_step: u64,
    /// Images of each timed step; null where nothing could be timed.
    pub timed_images: Option<usize>,
    /// How many steps were timed.
    pub timed_steps: usize,
    /// Milliseconds of a step of a whole batch, from the median of the timed ones.
    pub step_ms: Option<f64>,
    /// Where nothing could be timed, milliseconds that a step takes at least on the fastest GPU
    /// known here, [`FASTEST_GPU`]: its convolutions at the peak of the data sheet.
    pub least_step_ms: Option<f64>,
    /// Images per second.
    pub images_per_s: Option<f64>,
    /// Seconds that the whole run would take.
    pub eta_s: Option<f64>,
    /// Seconds that it takes at least, where nothing could be timed.
    pub least_s: Option<f64>,
}

/// The fastest GPU known here.
pub const FASTEST_GPU: &str = "NVIDIA H200";

/// Images of the first step that is timed.
const FIRST_TIMED: usize = 2;
/// How many times more images the next one has, while that is quick.
const TIMED_GROWTH: usize = 4;
/// Steps that are timed of as many images as are taken in the end, beside one to warm up.
const TIMED: usize = 3;

/// Steps that were timed.
struct Timed {
    images: usize,
    steps: usize,
    /// Of a step of a whole batch.
    step_ms: f64,
}

/// Plans a run's memory, times a few steps of few images and writes nothing. The log says what it
/// does. Where `cx` only plans, nothing is timed.
///
/// # Errors
/// As those of a run: [`Kind::Memory`] where it does not fit, before anything is computed.
pub fn dry_run(cx: &Cx, options: &Options) -> Result<Plan> {
    let dataset = Arc::new(Dataset::open(&options.data)?);
    let (options, followed) = options.follow(&dataset, None)?;
    followed.iter().for_each(|line| tracing::info!("{line}"));
    let config = options.config();
    let space = Space::preset(&config.preset)?;
    let classes = dataset.classes().len();
    let setup = Setup { config, space: &space, classes, begin: Begin::Blank };
    let rehearse =
        |cx: &Cx, config: &Config| rehearsal(cx, &Setup { config, ..setup }, &Pretrain::make);
    let planner = Planner { cx, config, rehearse: &rehearse };
    let needed = planner.check()?;
    let available_bytes = cx.available_bytes()?;
    let limited_by = host::available().filter(|_| !cx.is_device()).map(|a| a.bound.to_string());
    tracing::info!("planned: {} of memory fit", human_bytes(needed));
    // The parts of a batch are timed as batches of their own.
    let mut whole = config.clone();
    whole.train.accum = 1;
    let mut objective = Pretrain::new(cx, &Setup { config: &whole, ..setup })?;
    let (batch, parts) = (config.train.batch, config.train.accum);
    let first = FIRST_TIMED.min(batch / parts);
    let mut batches = few(cx, &dataset, config, &objective, first)?;
    batches.prefetch(cx);
    // Those few images tell how large decoded ones are.
    let decoded_bytes = (batches.room_bytes() as f64 * batch as f64 / first as f64) as usize;
    let planned_bytes = planner.reserve(decoded_bytes)?;
    let init = options.init.as_deref().map(Init::open).transpose()?;
    let timed = match cx.is_plan() {
        true => batches.next(cx).map(|_| None)?,
        false => {
            if let Some(init) = init {
                init.fill(cx, &mut objective)?.iter().for_each(|line| tracing::info!("{line}"));
            }
            Some(time_steps(cx, config, &mut objective, &dataset, (first, batches))?)
        }
    };
    let steps_per_epoch = steps_per_epoch(dataset.len(), batch) as u64;
    let steps = initial_state(config, dataset.len() as u64, steps_per_epoch).steps;
    let end = options.max_steps.map_or(steps, |most| most.min(steps));
    let step_ms = timed.as_ref().map(|timed| timed.step_ms);
    let macs_per_step = objective.macs_per_image() * config.rows() as u64;
    let least_step_ms = timed.is_none().then(|| least_ms(cx, macs_per_step)).flatten();
    let of_run = |ms: f64| end as f64 * ms / 1e3;
    Ok(Plan {
        preset: config.preset.clone(),
        images: dataset.len(),
        batch,
        parts,
        epochs: config.train.epochs,
        warmup_epochs: config.train.warmup_epochs,
        lr: config.train.lr,
        steps,
        planned_bytes,
        available_bytes,
        limited_by,
        macs_per_step,
        timed_images: timed.as_ref().map(|timed| timed.images),
        timed_steps: timed.as_ref().map_or(0, |timed| timed.steps),
        step_ms,
        least_step_ms,
        images_per_s: step_ms.map(|ms| batch as f64 / ms * 1e3),
        eta_s: step_ms.map(of_run),
        least_s: least_step_ms.map(of_run),
    })
}

/// Milliseconds that these multiply-accumulates take at least on [`FASTEST_GPU`].
fn least_ms(cx: &Cx, macs: u64) -> Option<f64> {
    let peaks = Peaks::of(Some(FASTEST_GPU));
    let bf16 = cx.compute_dtype() == DType::BF16;
    let tflops = if bf16 { peaks.tflops_bf16 } else { peaks.tflops_fp32 };
    tflops.map(|tflops| 2.0 * macs as f64 / (tflops * 1e9))
}

/// Loads batches of `images` images.
fn few(
    cx: &Cx,
    dataset: &Arc<Dataset>,
    config: &Config,
    objective: &dyn Objective,
    images: usize,
) -> Result<Batches> {
    let options = LoaderOptions { batch: images, ..loader_options(config, objective, 0) };
    Batches::new(cx, dataset.clone(), options)
}

/// Times steps of few images, then of more as long as that is quick, up to a part of a batch; and
/// scales the last ones to a whole batch: all but the teacher's moving average and the optimizer
/// grows with the images.
fn time_steps(
    cx: &Cx,
    config: &Config,
    objective: &mut dyn Objective,
    dataset: &Arc<Dataset>,
    (mut images, mut batches): (usize, Batches),
) -> Result<Timed> {
    let part = config.train.batch / config.train.accum;
    let (mut times, all) = (Vec::new(), Instant::now());
    tracing::info!("timing steps, for about {TIMING_S} s or, if it takes longer, one step");
    for step in 0.. {
        let began = Instant::now();
        let batch = batches.next(cx)?;
        let at = At { step, steps: 1, lr: 0.0 };
        let report = objective.step(cx, &at, batch, None, &mut || batches.prefetch(cx))?;
        let parts = report.parts(cx)?;
        let ms = began.elapsed().as_secs_f64() * 1e3;
        tracing::info!("a step of {images} images took {:.3} s", ms / 1e3);
        let is_once = |name: &str| name == MOVING_AVERAGE || name == OPTIMIZER;
        let once: f64 = parts.iter().filter(|(name, _)| is_once(name)).map(|(_, ms)| ms).sum();
        let once = once.min(ms);
        let scale = config.train.batch as f64 / images as f64;
        times.push((ms - once) * scale + once);
        let left_ms = 1e3 * TIMING_S - all.elapsed().as_secs_f64() * 1e3;
        let more = (images * TIMED_GROWTH).min(part);
        // Two steps at least of the new size, the first of which also takes memory.
        if more > images && 2.0 * ms * more as f64 / images as f64 <= left_ms {
            images = more;
            batches = few(cx, dataset, config, objective, images)?;
            times.clear();
        } else if times.len() > TIMED || ms > left_ms {
            break;
        }
    }
    // The first step also takes memory from the system.
    let mut timed = if times.len() > 1 { times.split_off(1) } else { times };
    timed.sort_by(f64::total_cmp);
    Ok(Timed { images, steps: timed.len(), step_ms: timed[timed.len() / 2] })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::device::emulator::Emulator;

    #[test]
    #[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
    fn what_the_largest_net_takes_is_enough_for_all() {
        let emulator = Cx::device(Arc::new(Emulator::new(1).unwrap()), 1).unwrap();
        let devices = [Cx::for_tests(), emulator.computing_in(DType::BF16), emulator];
        for cx in &devices {
            for preset in ["tiny", "cifar", "data"] {
                let space = Space::preset(preset).unwrap();
                let config = Config::for_preset(preset).unwrap();
                let setup =
                    Setup { config: &config, space: &space, classes: 0, begin: Begin::Blank };
                let rehearse = |cx: &Cx, config: &Config| {
                    rehearsal(cx, &Setup { config, ..setup }, &Pretrain::make)
                };
                let planner = Planner { cx, config: &config, rehearse: &rehearse };
                let beside = Beside { decoded_bytes: 0, with_loader: false };
                let layout = planner.plan(config.train.batch, beside).unwrap().layout;
                let cx = cx.planning();
                cx.reserve(&layout).unwrap();
                let reserved = cx.memory();
                let mut objective = Pretrain::make(&cx, &setup).unwrap();
                for step in 0..100 {
                    let batch = blank_batch(&cx, objective.as_ref(), config.train.batch).unwrap();
                    let at = At { step, steps: 100, lr: 0.0 };
                    objective.step(&cx, &at, batch, None, &mut || {}).unwrap();
                }
                let after = cx.memory();
                assert_eq!(after.allocations, reserved.allocations, "{preset}, {}", cx.name());
                assert!(after.peak_bytes <= layout.bytes());
            }
        }
    }
}
