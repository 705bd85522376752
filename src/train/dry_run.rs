//! What a run would take: its memory by plan, and its time by a few steps.

use std::sync::Arc;
use std::time::Instant;

use super::batches::{Batches, Feed};
use super::init::Init;
use super::job::Job;
use super::objective::{At, Objective, Setup};
use super::options::Options;
use super::plan::{Planner, rehearsal};
use super::pretrain::{MOVING_AVERAGE, OPTIMIZER, Pretrain};
use super::start::{initial_state, loader_options};
use crate::config::Config;
use crate::cx::Cx;
use crate::data::{Dataset, LoaderOptions, steps_per_epoch};
use crate::device::host;
use crate::device::peaks::Peaks;
use crate::error::Result;
use crate::progress::human_bytes;
use crate::ssl::Begin;
use crate::tensor::DType;

/// Most seconds that steps are timed for, where one does not take longer.
const TIMING_S: f64 = 20.0;

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
/// As those of a run: [`crate::error::Kind::Memory`] where it does not fit, before anything is computed.
pub fn dry_run(cx: &Cx, options: &Options) -> Result<Plan> {
    let dataset = Arc::new(Dataset::open(&options.data)?);
    let (options, followed) = options.follow(Some(&dataset), None)?;
    followed.iter().for_each(|line| tracing::info!("{line}"));
    let config = options.config();
    let space = config.space()?;
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
                init.fill(cx, &mut objective, None)?
                    .iter()
                    .for_each(|line| tracing::info!("{line}"));
            }
            Some(time_steps(cx, config, &mut objective, &dataset, (first, batches))?)
        }
    };
    let steps_per_epoch = steps_per_epoch(dataset.len(), batch) as u64;
    let steps =
        initial_state(config, &Job::pretraining(), dataset.len() as u64, steps_per_epoch).steps;
    let end = options.max_steps.map_or(steps, |most| most.min(steps));
    let step_ms = timed.as_ref().map(|timed| timed.step_ms);
    let macs_per_step = objective.macs_per_image() * config.rows() as u64;
    let least_step_ms = timed.is_none().then(|| least_ms(cx, macs_per_step)).flatten();
    let of_run = |ms: f64| end as f64 * ms / 1e3;
    Ok(Plan {
        preset: config.preset.name.clone(),
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
