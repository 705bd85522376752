//! Fine-tuning for dense tasks: what segmentation and detection have in common.
//!
//! [`prepare`] settles data and settings; [`Prepared::run`] trains, takes the statistics of batch
//! norms again and tests.

use std::sync::Arc;
use std::time::Instant;

use super::det::{self, DetModel, DetSet, Detect};
use super::learner::statistics_images;
use super::rates;
use super::seg::{SegModel, SegSet, Segment};
use super::tested::{self, Places, Tested};
use super::tuned_net::TunedNet;
use crate::config::{Body, Config, Recipe, Setting, Task, flag, resolve};
use crate::cx::Cx;
use crate::data::steps_per_epoch;
use crate::error::{Error, Result};
use crate::eval::dense::score::Metric;
use crate::eval::record::Learnt;
use crate::export::subnet::stats_to_torch;
use crate::files;
use crate::files::owned::Owned;
use crate::nn::{BnMode, Collector, RunningStats};
use crate::signals::{self, Signals};
use crate::space::{Arch, Space};
use crate::ssl::Begin;
use crate::train::interim::{self, Found, Test};
use crate::train::plan::{Planner, rehearsal};
use crate::train::resume::existing;
use crate::train::{
    Annotated, Checkpoint, Finished, Job, Make, Objective, Options, Outcome, RUN, Setup, Source,
    Tuned, Tuning, run_job, unseen,
};

/// What to fine-tune, on what.
pub struct Request {
    /// The run: its images, folder and weights to start from. Its settings are replaced.
    pub run: Options,
    /// Whether the run's folder is left alone: nothing is to be written.
    pub is_dry: bool,
    /// The task.
    pub task: Task,
    /// The recipe.
    pub recipe: Recipe,
    /// What the user set, above the recipe.
    pub settings: Vec<Setting>,
    /// The net.
    pub arch: Arch,
    /// Whether the weights that it starts from may be a larger net's.
    pub is_cut: bool,
    /// Images that are learnt from.
    pub data: String,
    /// Their folder, where the annotations do not lie beside them.
    pub images: Option<String>,
    /// Images that are tested on.
    pub val_data: String,
    /// Their folder.
    pub val_images: Option<String>,
    /// How boxes are scored.
    pub metric: Metric,
}

/// Images of a task, to learn from and to test on.
enum Data {
    Seg { train: Arc<SegSet>, val: Arc<SegSet> },
    Det { train: Arc<DetSet>, val: Arc<DetSet>, task: Task },
}

/// A fine-tuning of which images and settings are settled.
pub struct Prepared {
    /// The run.
    pub options: Options,
    tuning: Tuning,
    data: Data,
    val_data: String,
    metric: Metric,
    /// When it began.
    started: Instant,
}

impl Data {
    fn open(request: &Request, config: &Config, space: &Space) -> Result<Self> {
        let task = request.task;
        if task != Task::Seg {
            let open = |source: &str, images: &Option<String>| {
                det::open(source, images.as_deref(), config, task, space)
            };
            let train = open(&request.data, &request.images)?.to_learn_from()?;
            let val = open(&request.val_data, &request.val_images)?;
            val.numbers_of(train.names())?;
            return Ok(Self::Det { train: Arc::new(train), val: Arc::new(val), task });
        }
        let train = SegSet::open(&request.data, config)?;
        let val = SegSet::open(&request.val_data, config)?.with_classes(train.names())?;
        Ok(Self::Seg { train: Arc::new(train), val: Arc::new(val) })
    }

    fn train(&self) -> Arc<dyn Annotated> {
        match self {
            Self::Seg { train, .. } => train.clone(),
            Self::Det { train, .. } => train.clone(),
        }
    }

    fn classes(&self) -> &[String] {
        match self {
            Self::Seg { train, .. } => train.names(),
            Self::Det { train, .. } => train.names(),
        }
    }

    fn val_images(&self) -> usize {
        match self {
            Self::Seg { val, .. } => val.images(),
            Self::Det { val, .. } => val.len(),
        }
    }

    fn task(&self) -> Task {
        match self {
            Self::Seg { .. } => Task::Seg,
            Self::Det { task, .. } => *task,
        }
    }

    fn make(&self) -> &'static Make {
        match self {
            Self::Seg { .. } => &Segment::make,
            Self::Det { task: Task::DetC4, .. } => &Detect::make_c4,
            Self::Det { .. } => &Detect::make_fpn,
        }
    }
}

/// Settings of the recipe, made to fit the batch that the user set, and the user's.
fn settle(request: &Request) -> Result<Vec<Setting>> {
    let mut layers = request.recipe.settings(request.task, 1.0)?;
    let own = resolve(&layers)?.config;
    layers.extend(request.settings.iter().cloned());
    let asked = resolve(&layers)?;
    let times = asked.config.train.batch as f64 / own.train.batch as f64;
    if times == 1.0 {
        return Ok(layers);
    }
    // Below what the user set: a value of his stays.
    let at = layers.len() - request.settings.len();
    let why = "--recipe for this batch";
    let steps = (own.finetune.steps as f64 / times).round().max(1.0) as i64;
    for (key, value) in [
        ("train.lr", toml::Value::Float(own.train.lr * times)),
        ("finetune.lr_head", toml::Value::Float(own.finetune.lr_head * times)),
        ("finetune.steps", toml::Value::Integer(steps)),
    ] {
        if !asked.is_set(key) {
            tracing::info!(
                "{key} = {value}: the recipe {} is for batches of {}, this one has {}",
                request.recipe,
                own.train.batch,
                asked.config.train.batch
            );
            layers.insert(at, flag(why, key, value));
        }
    }
    Ok(layers)
}

/// Opens the images and resolves the settings.
///
/// # Errors
/// Exit 2 for settings and folders that cannot be used, 3 for images and annotations.
pub fn prepare(mut request: Request) -> Result<Prepared> {
    if !request.is_dry {
        let run = &mut request.run;
        run.claimed = Some(Arc::new(Owned::claim(&run.out, &RUN, existing(run))?));
    }
    let settings = resolve(&settle(&request)?)?;
    let config = &settings.config;
    let tuning = &config.finetune;
    if tuning.body == Body::Frozen || tuning.cutmix > 0.0 {
        return Err(Error::usage(format!(
            "--task {}: finetune.body=frozen and finetune.cutmix are for cls alone; finetune.bn=frozen keeps \
             the statistics of batch norms, train.lr=0 the weights of the body",
            request.task
        )));
    }
    let space = config.tuned_space(&request.arch)?;
    if space.channels() != 3 {
        return Err(Error::usage(format!(
            "--task {}: expected a net for RGB images, found one for {} channels",
            request.task,
            space.channels()
        )));
    }
    let data = Data::open(&request, config, &space)?;
    tracing::info!(
        "{} images to learn from, {} to test on, {} classes",
        data.train().images(),
        data.val_images(),
        data.classes().len()
    );
    let tuned = Tuned {
        task: request.task.to_string(),
        arch: request.arch,
        classes: data.classes().to_vec(),
        labels: "all".to_owned(),
    };
    let source = Source::Annotated(data.train());
    let tuning = Tuning { source, space, tuned, is_cut: request.is_cut };
    let options = Options { settings, ..request.run };
    let Request { val_data, metric, .. } = request;
    Ok(Prepared { options, tuning, data, val_data, metric, started: Instant::now() })
}

impl Prepared {
    /// Trains, and tests what has come to its end. The result is none where the run was stopped.
    ///
    /// # Errors
    /// Those of a run; exit 4 where training diverged.
    pub fn run(&mut self, cx: &Cx, signals: &Signals) -> Result<(Outcome, Option<Tested>)> {
        let mut options = self.options.clone();
        options.time_limit =
            options.time_limit.map(|limit| limit.saturating_sub(self.started.elapsed()));
        let make = self.data.make();
        let test =
            |cx: &Cx, it: &dyn Objective, config: &Config, step| self.interim(cx, it, config, step);
        let (tuning, test) = (Some(&self.tuning), Some(&test as &Test));
        let job = Job { make, course: rates::COURSE, tuning, test };
        let outcome = run_job(cx, &options, &job, signals)?;
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
        let (space, classes) = (&self.tuning.space, self.data.classes().len());
        let rehearse = |cx: &Cx, config: &Config| {
            let setup = Setup { config, space, classes, begin: Begin::Blank };
            rehearsal(cx, &setup, self.data.make())
        };
        Planner { cx, config: self.options.config(), rehearse: &rehearse }.check()
    }

    /// Steps of the run.
    pub fn steps(&self) -> u64 {
        let config = self.options.config();
        let per_epoch = steps_per_epoch(self.tuning.source.images(), config.train.batch);
        (rates::COURSE.steps)(config, per_epoch as u64)
    }

    /// Tests the net as it stands after so many steps, as it is tested at the end.
    fn interim(&self, cx: &Cx, it: &dyn Objective, config: &Config, step: u64) -> Result<Found> {
        let stats = self.statistics(cx, it, config)?;
        let weights = it.params().to_torch(cx)?;
        let all = weights.into_iter().chain(stats_to_torch(cx, it.net(), &stats)?);
        let tuned = TunedNet {
            task: self.data.task(),
            config: config.clone(),
            arch: self.tuning.tuned.arch,
            classes: self.data.classes().to_vec(),
            learnt: self.learnt(config),
            bn_images: statistics_images(config),
            step,
            named: all.map(|(name, shape, values)| (name, (shape, values))).collect(),
            origin: format!("the net at step {step}"),
        };
        let tested = self.test(cx, tuned, Places::default())?;
        let file = interim::file(&self.options.out, step);
        files::create_dir(&self.options.out.join("eval"))?;
        files::write_json(&file, &tested.result)?;
        Ok(tested.found(step))
    }

    /// Takes statistics, keeps them, and tests.
    fn finish(&self, cx: &Cx) -> Result<Tested> {
        let out = &self.options.out;
        let checkpoint = Checkpoint::open(out)?;
        let config = &checkpoint.config()?;
        let (space, classes) = (&self.tuning.space, self.data.classes().len());
        let setup = Setup { config, space, classes, begin: Begin::Blank };
        let mut objective = (self.data.make())(cx, &setup)?;
        objective.restore(cx, &checkpoint)?;
        let stats = self.statistics(cx, objective.as_ref(), config)?;
        let stats = stats_to_torch(cx, objective.net(), &stats)?;
        self.keep(&checkpoint, self.learnt(config), &stats)?;
        let tuned = TunedNet::of_run(&checkpoint, &[self.data.task()])?;
        self.test(cx, tuned, Places { run: Some(out), answers: Some(out) })
    }

    fn test(&self, cx: &Cx, tuned: TunedNet, places: Places) -> Result<Tested> {
        match &self.data {
            Data::Seg { val, .. } => {
                tested::segmentation(cx, SegModel::new(cx, tuned)?, (val, &self.val_data), places)
            }
            Data::Det { val, .. } => {
                let (model, data) = (DetModel::new(cx, tuned)?, (&**val, &*self.val_data));
                tested::detection(cx, &model, data, self.metric, places)
            }
        }
    }

    /// What results say of how it was learnt.
    fn learnt(&self, config: &Config) -> Learnt {
        Learnt {
            labels: self.tuning.tuned.labels.clone(),
            recipe: config.finetune.recipe.to_string(),
            lr: config.train.lr,
            lr_head: config.finetune.lr_head,
            select: config.finetune.select.to_string(),
            train_images: self.tuning.source.images(),
            train_data: self.options.data.clone(),
            seed: config.seed,
        }
    }

    /// Statistics of batch norms from training images as training makes them, but none that it sees;
    /// those of a frozen backbone are there.
    fn statistics(&self, cx: &Cx, it: &dyn Objective, config: &Config) -> Result<RunningStats> {
        let dense = it.dense().ok_or_else(|| Error::usage("expected a net for a dense task"))?;
        let norms = it.net().norms().len();
        let frozen = dense.frozen();
        if let Some(frozen) = frozen.filter(|frozen| (0..norms).all(|i| frozen.layer(i).is_some()))
        {
            return Ok(frozen.clone());
        }
        let images = statistics_images(config);
        tracing::info!("batch norm statistics from {images} training images");
        let mut batches = unseen(cx, it, &self.tuning.source, config)?;
        let mut collector = Collector::new();
        for _ in 0..images.div_ceil(config.train.batch) {
            signals::go_on()?;
            dense.calibrate(cx, batches.next(cx)?, &mut BnMode::Calibrate(&mut collector))?;
        }
        let stats = collector.finish(cx)?;
        Ok(frozen.map_or(stats.clone(), |frozen| stats.or(frozen)))
    }

    fn keep(&self, checkpoint: &Checkpoint, learnt: Learnt, stats: &[files::Entry]) -> Result<()> {
        let finished = Finished {
            step: checkpoint.state.step,
            student: checkpoint.state.hashes.get("student").cloned().unwrap_or_default(),
            tensors: String::new(),
            bn_images: statistics_images(&checkpoint.config()?),
            learnt,
        };
        finished.write(&self.options.out, stats).map(drop)
    }
}
