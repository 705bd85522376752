//! The end of a fine-tuning: statistics of batch norms from views that training has not seen, the
//! classifier where there are several, and the test.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Prepared;
use super::classify::{Classify, STATISTICS_IMAGES};
use super::tries::{Cell, Tries};
use crate::config::{Config, Select};
use crate::cx::Cx;
use crate::data::Dataset;
use crate::error::Result;
use crate::eval::classes::{Answers, ask_all};
use crate::eval::details::Side;
use crate::eval::record::{self, Learnt, Net, Split};
use crate::eval::{Details, Images};
use crate::export::subnet::stats_to_torch;
use crate::files;
use crate::finetune::rates;
use crate::nn::{CLASSIFIER, Classifier, RunningStats, recalibrate};
use crate::signals;
use crate::ssl::Begin;
use crate::train::{Checkpoint, Finished, Objective, Setup, Source, unseen};

/// What a fine-tuned net is worth.
pub struct Tested {
    /// Its answers on the test images.
    pub answers: Answers,
    /// All of it, as it is written.
    pub result: Map<String, Value>,
    /// Where it was written.
    pub path: PathBuf,
}

/// Accuracy of always naming the most frequent class of some images.
pub fn chance(images: &Images, classes: usize) -> f64 {
    let mut counts = vec![0usize; classes];
    let labels = images.indices().iter().filter_map(|&i| images.dataset().label(i));
    labels.for_each(|label| counts[label] += 1);
    counts.into_iter().max().unwrap_or(0) as f64 / images.len().max(1) as f64
}

/// Statistics of batch norms from training views that training has not seen: what running averages
/// would hold, were they exact. Those of a frozen body are there already.
pub(super) fn statistics(
    cx: &Cx,
    net: &Classify,
    dataset: &Arc<Dataset>,
    config: &Config,
) -> Result<RunningStats> {
    if let Some(stats) = net.statistics() {
        return Ok(stats.clone());
    }
    let mut batches = unseen(cx, net, &Source::Images(dataset.clone()), config)?;
    let count = STATISTICS_IMAGES.div_ceil(config.train.batch);
    let images = (0..count).map(|_| {
        signals::go_on()?;
        Ok(batches.next(cx)?.views.swap_remove(0))
    });
    recalibrate(cx, net.net(), net.params(), &net.net().space().max(), images)
}

/// What classifiers of a net answer on images, in one pass.
pub(super) fn answers_of(
    cx: &Cx,
    net: &Classify,
    stats: RunningStats,
    heads: &[&str],
    dataset: &Arc<Dataset>,
) -> Result<Vec<Answers>> {
    let width = net.width();
    let classes = dataset.classes().len();
    let one = |name: &&str| {
        let named = net.classifier(cx, name)?;
        Classifier::from_torch(cx, width, classes, &named, "the run")
    };
    let classifiers: Vec<Classifier> = heads.iter().map(one).collect::<Result<_>>()?;
    let every = (0..dataset.len()).collect();
    let images = Images::new(dataset.clone(), every, net.net().space().input(), cx.threads());
    ask_all(cx, &net.subnet(stats), &classifiers.iter().collect::<Vec<_>>(), &images)
}

impl Prepared {
    /// Takes statistics, keeps them with the classifier, and tests.
    pub(super) fn finish(&self, cx: &Cx) -> Result<Tested> {
        let options = &self.options;
        let checkpoint = Checkpoint::open(&options.out)?;
        let mut settings = options.settings.clone();
        settings.inherit(&checkpoint.state.config)?;
        let config = &settings.config;
        let classes = self.val.classes().len();
        let space = &self.tuning.space;
        let setup = Setup { config, space, classes, begin: Begin::Blank };
        let mut net = Classify::new(cx, &setup, &self.held_out)?;
        net.restore(cx, &checkpoint)?;
        tracing::info!("batch norm statistics from {STATISTICS_IMAGES} training views");
        let stats = statistics(cx, &net, &self.dataset, config)?;
        let (name, lr_head) = match rates::tries_many(config) {
            true => self.choose_head(cx, &net, &stats, config)?,
            false => (CLASSIFIER.to_owned(), config.finetune.lr_head),
        };
        let answers = answers_of(cx, &net, stats.clone(), &[&name], &self.val)?.swap_remove(0);
        let mut tensors = stats_to_torch(cx, net.net(), &stats)?;
        let head = net.classifier(cx, &name)?.into_iter();
        tensors.extend(head.map(|(name, (shape, values))| (name, shape, values)));
        let learnt = Learnt {
            labels: self.tuning.tuned.labels.clone(),
            recipe: config.finetune.recipe.to_string(),
            lr: config.train.lr,
            lr_head,
            select: config.finetune.select.to_string(),
            train_images: self.dataset.len(),
            train_data: options.data.clone(),
            seed: config.seed,
        };
        let finished = Finished {
            step: checkpoint.state.step,
            student: checkpoint.state.hashes.get("student").cloned().unwrap_or_default(),
            tensors: String::new(),
            bn_images: STATISTICS_IMAGES,
            learnt,
        };
        let finished = finished.write(&options.out, &tensors)?;
        let arch = self.tuning.tuned.arch;
        let what = Net::new(arch, space, &config.preset.name, checkpoint.state.step, "student");
        let test = self.test_split();
        let every = (0..self.val.len()).collect();
        let images = Images::new(self.val.clone(), every, space.input(), cx.threads());
        let chance = chance(&images, classes);
        let result = record::of_answers(&what, &finished.learnt, &test, classes, chance, &answers);
        let path = self.write(&what, &test, &result)?;
        let side = Side::of(&images, images.indices(), &test.data);
        Details::of_answers(&what, &finished.learnt.train_data, &side, &answers)
            .write(&options.out, &file_name(&what, &test))?;
        Ok(Tested { answers, result, path })
    }

    /// The name and the rate of the best of several classifiers: on the images that are held out,
    /// those which have not seen them are compared.
    fn choose_head(
        &self,
        cx: &Cx,
        net: &Classify,
        stats: &RunningStats,
        config: &Config,
    ) -> Result<(String, f64)> {
        let all = &self.dataset;
        let (test, tried) = match config.finetune.select {
            Select::Test => (self.val.clone(), net.heads(true)),
            _ => (Arc::new(all.only(&self.held_out)), net.heads(false)),
        };
        let names: Vec<&str> = tried.iter().map(|(name, _)| *name).collect();
        let found = answers_of(cx, net, stats.clone(), &names, &test)?;
        let cell = |((_, lr_head), answers): (&(&str, f64), &Answers)| {
            let top1 = Some(answers.top1());
            Cell { lr: config.train.lr, lr_head: *lr_head, top1 }
        };
        let tries = Tries {
            of: self.digest()?,
            select: config.finetune.select.to_string(),
            train_images: all.len() - self.held_out.len(),
            test_images: test.len(),
            cells: tried.iter().zip(&found).map(cell).collect(),
        };
        for Cell { lr_head, top1, .. } in &tries.cells {
            tracing::info!("lr {lr_head}: {:.2} %", 100.0 * top1.unwrap_or(0.0));
        }
        tries.write(&self.options.out)?;
        let best = tries.best()?.lr_head;
        let place = tried.iter().position(|(_, lr)| *lr == best).unwrap_or(0);
        let name = net.heads(true).get(place).map_or(CLASSIFIER, |(name, _)| name).to_owned();
        Ok((name, best))
    }

    /// Writes a result into the run's `eval` folder.
    fn write(&self, net: &Net, test: &Split, result: &Map<String, Value>) -> Result<PathBuf> {
        let dir = self.options.out.join("eval");
        files::create_dir(&dir)?;
        let path = dir.join(file_name(net, test));
        files::write_json(&path, result)?;
        Ok(path)
    }
}

/// `cls-<images>-<arch>-step-00000100.json`.
pub fn file_name(net: &Net, test: &Split) -> String {
    format!("cls-{}-{}-step-{:08}.json", record::domain(&test.data), net.arch, net.step)
}
