//! Fine-tuning for classes of images.
//!
//! [`prepare`] settles images, labels and settings; [`Prepared::run`] trains, takes the statistics
//! of batch norms again and tests.

pub mod classify;
mod finish;
mod heads;
mod label_file;
pub mod labels;
mod mixing;
pub mod tries;

use std::sync::Arc;
use std::time::Instant;

pub use self::classify::Classify;
pub use self::finish::{Tested, chance, file_name};
pub use self::labels::Labels;
use self::tries::Chosen;
use crate::config::{Config, Recipe, Select, Setting, Task, TunedBn, flag, resolve};
use crate::cx::Cx;
use crate::data::{Dataset, steps_per_epoch};
use crate::error::{Error, Kind, Result};
use crate::eval::record::Split;
use crate::files::owned::Owned;
use crate::finetune::rates;
use crate::outside::printable;
use crate::signals::Signals;
use crate::space::Arch;
use crate::ssl::Begin;
use crate::train::plan::{Planner, rehearsal};
use crate::train::resume::existing;
use crate::train::{Job, Make, Options, Outcome, RUN, Setup, Source, Tuned, Tuning, run_job};

/// Warnings of one kind, at most.
const SHOWN: usize = 5;

/// What to fine-tune, on what.
pub struct Request {
    /// The run: its images, folder and weights to start from. Its settings are replaced.
    pub run: Options,
    /// Whether the run's folder is left alone: nothing is to be written.
    pub is_dry: bool,
    /// The recipe.
    pub recipe: Recipe,
    /// What the user set, above the recipe.
    pub settings: Vec<Setting>,
    /// The net.
    pub arch: Arch,
    /// Whether the weights that it starts from may be a larger net's.
    pub is_cut: bool,
    /// Which images have labels.
    pub labels: Labels,
    /// Images that are tested on.
    pub val_data: Vec<String>,
}

/// A fine-tuning of which images and settings are settled.
pub struct Prepared {
    /// The run.
    pub options: Options,
    tuning: Tuning,
    /// The labelled images.
    dataset: Arc<Dataset>,
    val: Arc<Dataset>,
    val_data: Vec<String>,
    /// Images of the tuning that rates of linear classifiers are chosen on.
    held_out: Vec<usize>,
    /// When it began.
    started: Instant,
}

/// Opens the images, chooses those with labels and resolves the settings.
///
/// # Errors
/// Exit 2 for settings and folders that cannot be used, 3 for images and labels.
pub fn prepare(request: Request) -> Result<Prepared> {
    let Request { mut run, is_dry, recipe, settings, arch, is_cut, labels, val_data } = request;
    if !is_dry {
        run.claimed = Some(Arc::new(Owned::claim(&run.out, &RUN, existing(&run))?));
    }
    let all = Dataset::open(&run.data)?;
    let mut val = Dataset::open(&val_data)?;
    expect_same_classes(&all, &mut val)?;
    let seed = resolve(&settings)?.config.seed;
    let chosen = labels.choose(&all, seed)?;
    let share = chosen.indices.len() as f64 / all.len() as f64;
    chosen.said.iter().take(SHOWN).for_each(|line| tracing::warn!("{line}"));
    if chosen.said.len() > SHOWN {
        tracing::warn!("and so are {} more classes", chosen.said.len() - SHOWN);
    }
    tracing::info!(
        "{} of {} images are labelled, of {} classes; {} images to test",
        chosen.indices.len(),
        all.len(),
        all.classes().len(),
        val.len()
    );
    let mut layers = recipe.settings(Task::Cls, share)?;
    let is_rate = |setting: &Setting| ["train.lr", "finetune.lr_head"].contains(&&*setting.key);
    if settings.iter().any(is_rate) {
        // A rate that is named is chosen.
        layers.push(flag("as a rate is set", "finetune.select", Select::Off.as_str()));
    }
    layers.extend(settings);
    run.settings = resolve(&layers)?;
    if run.config().finetune.bn == TunedBn::Frozen {
        return Err(Error::usage(
            "finetune.bn=frozen is for seg, det-c4 and det-fpn; of cls finetune.body=frozen keeps the body",
        ));
    }
    if run.config().finetune.eval_every > 0 {
        return Err(Error::usage(
            "finetune.eval_every is for seg, det-c4 and det-fpn; cls is tested at the end alone",
        ));
    }
    let space = run.config().tuned_space(&arch)?;
    let tuned = Tuned {
        task: Task::Cls.to_string(),
        arch,
        classes: all.classes().to_vec(),
        labels: labels.to_string(),
    };
    let dataset = Arc::new(all.only(&chosen.indices));
    let tuning = Tuning { source: Source::Images(dataset.clone()), space, tuned, is_cut };
    let config = run.config();
    let holds_out = rates::tries_many(config) && config.finetune.select == Select::HeldOut;
    let held_out = match holds_out {
        true => labels::hold_out(&dataset, config.seed)?[1].clone(),
        false => Vec::new(),
    };
    let (val, started) = (Arc::new(val), Instant::now());
    Ok(Prepared { options: run, tuning, dataset, val, val_data, held_out, started })
}

/// Numbers the classes of the test images like those that are learnt.
fn expect_same_classes(train: &Dataset, val: &mut Dataset) -> Result<()> {
    if train.classes().is_empty() || val.classes().is_empty() {
        let which = if train.classes().is_empty() { train } else { val };
        return Err(Error::data(format!(
            "{}: its images have no classes; expected a folder for each class, such as \
             train/<class>/<image>",
            printable(which.title())
        )));
    }
    let missing: Vec<String> = train
        .classes()
        .iter()
        .filter(|class| !val.classes().contains(class))
        .map(|class| format!("{class:?}"))
        .collect();
    val.relabel(train.classes())?;
    if !missing.is_empty() {
        tracing::warn!(
            "{} has no image of {} of the {} classes that are learnt, such as {}",
            printable(val.title()),
            missing.len(),
            train.classes().len(),
            missing[0]
        );
    }
    Ok(())
}

impl Prepared {
    /// Trains, and tests what has come to its end. The result is none where the run was stopped.
    ///
    /// # Errors
    /// Those of a run; exit 4 where training diverged.
    pub fn run(&mut self, cx: &Cx, signals: &Signals) -> Result<(Outcome, Option<Tested>)> {
        match self.choose(cx, signals)? {
            Chosen::Nothing => {}
            Chosen::Settings(settings) => self.options.settings = *settings,
            Chosen::Stopped(kind) => {
                let (stopped, steps) = (Some(kind), self.steps());
                let outcome =
                    Outcome { stopped, step: 0, steps, loss: None, nets: 1, standing: None };
                return Ok((outcome, None));
            }
        }
        let mut options = self.options.clone();
        options.time_limit =
            options.time_limit.map(|limit| limit.saturating_sub(self.started.elapsed()));
        let make = self.maker();
        let outcome = run_job(cx, &options, &self.job(make.as_ref()), signals)?;
        if outcome.stopped.is_some() || outcome.step < outcome.steps {
            return Ok((outcome, None));
        }
        Ok((outcome, Some(self.finish(cx)?)))
    }

    /// Bytes that it takes, by plan.
    ///
    /// # Errors
    /// Exit 5 where they do not fit, with the largest batch that does.
    pub fn planned_bytes(&self, cx: &Cx) -> Result<usize> {
        let (space, classes) = (&self.tuning.space, self.dataset.classes().len());
        let rehearse = |cx: &Cx, config: &Config| {
            let setup = Setup { config, space, classes, begin: Begin::Blank };
            let make = self.maker();
            rehearsal(cx, &setup, make.as_ref())
        };
        Planner { cx, config: self.options.config(), rehearse: &rehearse }.check()
    }

    /// Makes the objective.
    fn maker(&self) -> Box<Make> {
        let held_out = self.held_out.clone();
        Box::new(move |cx, setup| Ok(Box::new(Classify::new(cx, setup, &held_out)?)))
    }

    /// Steps of the run.
    pub fn steps(&self) -> u64 {
        let config = self.options.config();
        let per_epoch = steps_per_epoch(self.dataset.len(), config.train.batch);
        (rates::COURSE.steps)(config, per_epoch as u64)
    }

    fn job<'a>(&'a self, make: &'a Make) -> Job<'a> {
        Job { make, course: rates::COURSE, tuning: Some(&self.tuning), test: None }
    }

    /// Why it ends, where its time is over.
    fn is_over_time(&self) -> Option<Kind> {
        let limit = self.options.time_limit?;
        (self.started.elapsed() >= limit).then_some(Kind::Stopped)
    }

    /// The test images, as results name them.
    fn test_split(&self) -> Split {
        Split { data: self.val_data.clone(), images: self.val.len() }
    }
}
