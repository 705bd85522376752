//! Before a run: does it fit into memory, and how long will it take?

use std::sync::Arc;
use std::time::Instant;

use super::feed::Feed;
use super::init::Init;
use super::iteration::{Iteration, Step};
use super::run::Options;
use super::start::{initial_state, loader_options};
use crate::config::Config;
use crate::data::Dataset;
use crate::device::{Cx, Layout};
use crate::error::{Error, Kind, Result};
use crate::progress::human_bytes;
use crate::space::{Arch, Sampler, Space};
use crate::tensor::{Meta, Shape};

/// Memory of a run: the buffers that an iteration of its largest student takes beside so many
/// bytes of decoded pictures, found by running it on a context that only counts.
fn plan_memory(
    cx: &Cx,
    config: &Config,
    space: &Space,
    largest: &Arch,
    pictures_bytes: usize,
) -> Result<Layout> {
    let cx = cx.planning()?;
    let _pictures = (pictures_bytes > 0).then(|| cx.landing(pictures_bytes)).transpose()?;
    let mut iteration = Iteration::new(&cx, config, space)?;
    iterate(&cx, &mut iteration, 0, &[*largest], config.rows())?;
    Ok(cx.layout())
}

/// An iteration on pictures without values.
fn iterate(cx: &Cx, iteration: &mut Iteration, step: u64, archs: &[Arch], n: usize) -> Result<()> {
    let side = iteration.net.space().resolution;
    let view = || cx.alloc(Meta::new(Shape::nhwc(n, side, side, 3), cx.dtype()));
    let (student_view, teacher_view) = (&view()?, &view()?);
    let step = Step { step, steps: 1, lr: 0.0, archs, student_view, teacher_view };
    iteration.run(cx, &step, None, || {}).map(drop)
}

/// Fails where the plan of a run's memory does not fit, before anything is done.
///
/// # Errors
/// [`Kind::Memory`], with the largest batch that fits.
pub(super) fn check_memory(cx: &Cx, config: &Config, space: &Space) -> Result<()> {
    fit(cx, config, space, &space.max(), 0, |_| Ok(())).map(drop)
}

/// Plans the memory of a run and takes what of it is not taken yet. No student may have more of
/// anything than `largest`; `pictures_bytes` are those of decoded pictures on the device. Gives
/// the planned bytes.
///
/// # Errors
/// [`Kind::Memory`], with the largest batch that fits, where they do not.
pub fn reserve_memory(
    cx: &Cx,
    config: &Config,
    space: &Space,
    largest: &Arch,
    pictures_bytes: usize,
) -> Result<usize> {
    fit(cx, config, space, largest, pictures_bytes, |layout| cx.reserve(layout))
}

fn fit(
    cx: &Cx,
    config: &Config,
    space: &Space,
    largest: &Arch,
    pictures_bytes: usize,
    take: impl FnOnce(&Layout) -> Result<()>,
) -> Result<usize> {
    let taken = cx.memory().reserved_bytes;
    let available = cx.available_bytes()?.map(|bytes| bytes + taken);
    let planned = || -> Result<usize> {
        let layout = plan_memory(cx, config, space, largest, pictures_bytes)?;
        match available {
            Some(available) if layout.bytes() > available => Err(Error::memory(format!(
                "out of memory: {} are needed, {} are available on {}",
                human_bytes(layout.bytes()),
                human_bytes(available),
                cx.name()
            ))),
            _ => take(&layout).map(|()| layout.bytes()),
        }
    };
    planned().map_err(|e| match e.kind() {
        Kind::Memory => {
            let available = available.unwrap_or(usize::MAX);
            let advice = largest_batch(cx, config, space, largest, pictures_bytes, available);
            Error::memory(format!("train.batch={}: {e}; {advice}", config.train.batch))
        }
        _ => e,
    })
}

/// Says which batch is the largest that fits into what is available.
fn largest_batch(
    cx: &Cx,
    config: &Config,
    space: &Space,
    largest: &Arch,
    pictures_bytes: usize,
    available: usize,
) -> String {
    let fits = |batch: usize| {
        let share = batch as f64 / config.train.batch as f64;
        let pictures_bytes = (pictures_bytes as f64 * share) as usize;
        let mut smaller = config.clone();
        smaller.train.batch = batch;
        plan_memory(cx, &smaller, space, largest, pictures_bytes)
            .is_ok_and(|layout| layout.bytes() <= available)
    };
    let (mut low, mut high) = (0, config.train.batch);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    match low {
        0 => "no batch fits: use a smaller preset".to_owned(),
        batch => format!("the largest that fits is train.batch={batch}; or raise train.accum"),
    }
}

/// What a dry run found.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Plan {
    /// Name of the search space.
    pub preset: String,
    /// Pictures in the data set.
    pub pictures: usize,
    /// Steps of the whole run.
    pub steps: u64,
    /// Bytes that tensors take, by plan.
    pub planned_bytes: usize,
    /// Bytes that the device could give.
    pub available_bytes: Option<usize>,
    /// Milliseconds of the timed steps, median.
    pub step_ms: f64,
    /// Pictures per second.
    pub images_per_s: f64,
    /// Seconds that the whole run would take.
    pub eta_s: f64,
}

/// Plans the memory of a run, times a few of its steps and writes nothing.
pub fn dry_run(cx: &Cx, options: &Options) -> Result<Plan> {
    const TIMED: u64 = 3;
    let dataset = Arc::new(Dataset::open(&options.data)?);
    let (options, followed) = options.follow(&dataset, None)?;
    followed.iter().for_each(|line| tracing::info!("{line}"));
    let config = options.config();
    let space = Space::preset(&config.preset)?;
    check_memory(cx, config, &space)?;
    let mut feed = Feed::new(cx, dataset.clone(), loader_options(config, &space, 0))?;
    let state = initial_state(config, dataset.len() as u64, feed.steps_per_epoch() as u64);
    let available_bytes = cx.available_bytes()?;
    let mut iteration = Iteration::new(cx, config, &space)?;
    if let Some(path) = &options.init {
        let said = Init::open(path)?.fill(cx, &mut iteration)?;
        said.iter().for_each(|line| tracing::info!("{line}"));
    }
    feed.prefetch(cx);
    let planned_bytes = reserve_memory(cx, config, &space, &space.max(), feed.room_bytes())?;
    let sampler = Sampler::new(config.sampling.policy, &space, config.seed)?;
    let mut times = Vec::new();
    for step in 0..=TIMED {
        let began = Instant::now();
        let [student_view, teacher_view] = feed.next(cx)?.pair(cx, config.moco.symmetric)?;
        let archs = sampler.draw(step);
        let (student_view, teacher_view) = (&student_view, &teacher_view);
        let steps = state.steps;
        let inputs = Step { step, steps, lr: 0.0, archs: &archs, student_view, teacher_view };
        iteration.run(cx, &inputs, None, || {
            if step < TIMED {
                feed.prefetch(cx);
            }
        })?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    // The first step also takes memory from the system.
    let mut timed = times.split_off(1);
    timed.sort_by(f64::total_cmp);
    let step_ms = timed[timed.len() / 2];
    let end = options.max_steps.map_or(state.steps, |m| m.min(state.steps));
    Ok(Plan {
        preset: config.preset.clone(),
        pictures: dataset.len(),
        steps: state.steps,
        planned_bytes,
        available_bytes,
        step_ms,
        images_per_s: config.train.batch as f64 / step_ms * 1e3,
        eta_s: end as f64 * step_ms / 1e3,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::device::emulator::Emulator;
    use crate::tensor::DType;

    #[test]
    fn what_the_largest_net_takes_is_enough_for_all() {
        let emulator = Cx::device(Arc::new(Emulator::new(1).unwrap()), 1).unwrap();
        let devices = [Cx::for_tests(), emulator.computing_in(DType::BF16), emulator];
        for cx in &devices {
            for preset in ["tiny", "cifar", "data"] {
                let space = Space::preset(preset).unwrap();
                let config = Config::for_preset(preset).unwrap();
                let layout = plan_memory(cx, &config, &space, &space.max(), 0).unwrap();
                let cx = cx.planning().unwrap();
                cx.reserve(&layout).unwrap();
                let reserved = cx.memory();
                let mut iteration = Iteration::new(&cx, &config, &space).unwrap();
                let sampler = Sampler::new(config.sampling.policy, &space, 0).unwrap();
                for step in 0..100 {
                    let archs = sampler.draw(step);
                    iterate(&cx, &mut iteration, step, &archs, config.rows()).unwrap();
                }
                let after = cx.memory();
                assert_eq!(after.allocations, reserved.allocations, "{preset}, {}", cx.name());
                assert!(after.peak_bytes <= layout.bytes());
            }
        }
    }
}
