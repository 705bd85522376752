//! What a run starts from: the loader's settings, the state before the first step, and what the log
//! says of it.

use std::collections::BTreeMap;
use std::path::Path;

use super::batches::Feed;
use super::checkpoint::{Checkpoint, State};
use super::extend;
use super::folder::Folder;
use super::health::Watch;
use super::init::Init;
use super::job::Job;
use super::objective::Objective;
use super::options::Options;
use super::resume::{Changed, Resume, check_same_run};
use super::source::Source;
use crate::config::Config;
use crate::cx::Cx;
use crate::data::{Deliver, LoaderOptions, steps_per_epoch};
use crate::error::Result;
use crate::outside::printable;
use crate::signals;

/// What the loader is told.
pub(super) fn loader_options(
    config: &Config,
    objective: &dyn Objective,
    first_step: u64,
) -> LoaderOptions {
    LoaderOptions {
        views: objective.views().to_vec(),
        labels: objective.labels(),
        resolution: objective.net().space().resolution,
        batch: config.train.batch,
        workers: config.data.workers,
        seed: config.seed,
        start_step: first_step,
        on_corrupt: config.data.on_corrupt,
        max_corrupt: config.data.max_corrupt,
        deliver: Deliver::default(),
    }
}

/// A step of the image stream that no run reaches: from there on it feeds the warm-up.
const WARM_UP_STEP: u64 = 1 << 40;

/// Shows the objective images before the first step, where it wants to see some: views that
/// training will not see.
pub(super) fn warm_up(
    cx: &Cx,
    objective: &mut dyn Objective,
    source: &Source,
    config: &Config,
) -> Result<()> {
    if objective.warm_up_images() == 0 {
        return Ok(());
    }
    let mut batches = unseen(cx, objective, source, config)?;
    objective.warm_up(cx, &mut || {
        signals::go_on()?;
        batches.next(cx)
    })
}

/// Views as training makes them, but none that it sees.
pub fn unseen(
    cx: &Cx,
    objective: &dyn Objective,
    source: &Source,
    config: &Config,
) -> Result<Box<dyn Feed>> {
    source.feed(cx, objective, config, WARM_UP_STEP)
}

/// The batches of a run from its first step on.
pub fn seen(
    cx: &Cx,
    objective: &dyn Objective,
    source: &Source,
    config: &Config,
) -> Result<Box<dyn Feed>> {
    source.feed(cx, objective, config, 0)
}

/// Gives the objective of a tuning the weights that it begins with. Gives what the log is to say.
///
/// # Errors
/// Those of `--init`.
pub fn begin_tuning(
    cx: &Cx,
    objective: &mut dyn Objective,
    init: &Path,
    is_cut: bool,
) -> Result<Vec<String>> {
    Init::open(init)?.fill(cx, objective, Some(is_cut))
}

/// Before the first step.
pub(super) fn initial_state(
    config: &Config,
    job: &Job,
    images: u64,
    steps_per_epoch: u64,
) -> State {
    State {
        step: 0,
        steps: (job.course.steps)(config, steps_per_epoch),
        seed: config.seed,
        preset: config.preset.clone(),
        method: match job.tuning {
            Some(_) => "fine-tuning".to_owned(),
            None => config.method.to_string(),
        },
        data_cursor: 0,
        sampler_cursor: 0,
        queue_pointer: 0,
        pointers: BTreeMap::new(),
        images,
        data: None,
        time_s: 0.0,
        collapsed_steps: 0,
        health: Watch::default(),
        loss: None,
        tuned: job.tuning.map(|tuning| tuning.tuned.clone()),
        init: None,
        extended: Vec::new(),
        changed: Vec::new(),
        config: config.flat(),
        hashes: BTreeMap::new(),
    }
}

/// Gives the objective the values that it begins with: a checkpoint's, those of `--init`, or
/// fresh ones. `fresh` is the state before the first step. Gives the state to go on from, and what
/// the log is to say of it.
pub(super) fn begin(
    cx: &Cx,
    options: &Options,
    job: &Job,
    it: &mut dyn Objective,
    from: Option<&Checkpoint>,
    fresh: State,
    steps_per_epoch: u64,
) -> Result<(State, Vec<String>)> {
    let Some(checkpoint) = from else {
        let Some(path) = &options.init else { return Ok((fresh, Vec::new())) };
        let init = Init::open(path)?;
        let said = init.fill(cx, it, job.tuning.map(|tuning| tuning.is_cut))?;
        return Ok((State { init: Some(init.origin), ..fresh }, said));
    };
    let named = matches!(options.resume, Resume::From(_));
    let changed = check_same_run(checkpoint, &fresh, named)?;
    let mut state = extend::go_on(checkpoint, &fresh)?;
    for change in &changed {
        state.config.insert(change.key.clone(), change.to.clone());
    }
    state.changed.extend(changed.iter().cloned());
    let changes = changed.iter().map(|Changed { step, key, from, to }| {
        format!("{key} = {to} from step {step} on, {from} before")
    });
    it.restore(cx, checkpoint)?;
    let longer = extend::notice(options.config(), &job.course, checkpoint, &state, steps_per_epoch);
    // A fine-tuning names what it began with each time that it goes on.
    let named = options.init.as_ref().filter(|_| job.tuning.is_none());
    let ignored = named.map(|path| {
        format!(
            "--init {} is ignored: the run goes on with its checkpoint's weights",
            path.display()
        )
    });
    Ok((state, longer.into_iter().chain(ignored).chain(changes).collect()))
}

/// Logs what is about to happen.
pub(super) fn log_header(
    folder: &mut Folder,
    options: &Options,
    it: &dyn Objective,
    state: &State,
    source: &Source,
    from: Option<&Checkpoint>,
) -> Result<()> {
    let config = options.config();
    let per_epoch = steps_per_epoch(source.images(), config.train.batch) as f64;
    // Of fine-tuning the steps may be given.
    let epochs = match state.tuned {
        None => config.train.epochs,
        Some(_) => (state.steps as f64 / per_epoch * 10.0).round() / 10.0,
    };
    let what = match &state.tuned {
        Some(tuned) => format!("fine-tuning {} by recipe {}", tuned.arch, config.finetune.recipe),
        None => format!("training {} with {}", config.preset.name, config.method),
    };
    folder.log(&format!(
        "{what} on {} images: {} steps of {} ({} epochs), {:.1} M parameters",
        source.images(),
        state.steps,
        config.train.batch,
        epochs,
        it.params().elems() as f64 / 1e6,
    ))?;
    if source.images() < config.train.batch {
        tracing::warn!(
            "{} has {} images, fewer than a batch of {}: every batch repeats some",
            printable(&source.title()),
            source.images(),
            config.train.batch
        );
    }
    let outlook = it.outlook(source.images());
    outlook.lines.iter().try_for_each(|line| folder.log(line))?;
    match from {
        Some(c) => {
            folder.log(&format!("continuing from {} (step {})", c.dir.display(), c.state.step))
        }
        None => Ok(()),
    }
}
