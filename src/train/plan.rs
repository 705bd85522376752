//! Before a run: does it fit into memory, and how long will it take?

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use super::feed::{Fed, Feed};
use super::iteration::{Iteration, Step, plan_bytes};
use super::progress::human_bytes;
use super::run::{Options, initial_state, loader_options};
use crate::config::Config;
use crate::data::Dataset;
use crate::device::Cx;
use crate::error::{Error, Result};
use crate::space::{Sampler, Space};
use crate::tensor::DType;

/// Memory that the system could give, in bytes.
fn available_bytes() -> Option<usize> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? * 1024)
}

/// Fails before the first step where the plan does not fit, with the largest batch that does.
pub(super) fn check_memory(config: &Config, space: &Space) -> Result<usize> {
    let planned = plan_bytes(config, space)?;
    let Some(available) = available_bytes().filter(|&a| planned > a) else { return Ok(planned) };
    let fits = |batch: usize| -> Result<bool> {
        let mut smaller = config.clone();
        smaller.train.batch = batch;
        Ok(plan_bytes(&smaller, space)? <= available)
    };
    let (mut low, mut high) = (0, config.train.batch);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle)? { low = middle } else { high = middle }
    }
    let advice = match low {
        0 => "no batch fits: use a smaller preset".to_owned(),
        batch => format!("the largest that fits is train.batch={batch}; or raise train.accum"),
    };
    Err(Error::device(format!(
        "out of memory: train.batch={} needs {}, {} are available; {advice}",
        config.train.batch,
        human_bytes(planned),
        human_bytes(available)
    )))
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
    /// Bytes of tensors at their peak, by plan.
    pub planned_bytes: usize,
    /// Bytes that the system could give.
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
    let config = &options.config;
    let space = Space::preset(&config.preset)?;
    let planned_bytes = check_memory(config, &space)?;
    let dataset = Arc::new(Dataset::open(&options.data)?);
    let loading = loader_options(config, &space, 0);
    let mut feed = Feed::new(cx, dataset.clone(), loading, DType::F32)?;
    let state = initial_state(config, dataset.len() as u64, feed.steps_per_epoch() as u64);
    let mut iteration = Iteration::new(cx, config, &space)?;
    let sampler = Sampler::new(config.sampling.policy, &space, config.seed)?;
    let mut times = Vec::new();
    for step in 0..=TIMED {
        let began = Instant::now();
        let Fed { views: [student_view, teacher_view], .. } = feed.next(cx)?;
        let archs = sampler.draw(step);
        let (student_view, teacher_view) = (&student_view, &teacher_view);
        let steps = state.steps;
        let inputs = Step { step, steps, lr: 0.0, archs: &archs, student_view, teacher_view };
        if step < TIMED {
            feed.prefetch(cx);
        }
        iteration.run(cx, &inputs, None)?;
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
        available_bytes: available_bytes(),
        step_ms,
        images_per_s: config.train.batch as f64 / step_ms * 1e3,
        eta_s: end as f64 * step_ms / 1e3,
    })
}
