//! The end of a fine-tuning: statistics of batch norms from views that training has not seen, and
//! the test.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::Prepared;
use super::classify::{Classify, STATISTICS_IMAGES};
use crate::cx::Cx;
use crate::error::Result;
use crate::eval::Images;
use crate::eval::classes::{Answers, ask};
use crate::eval::record::{self, Learnt, Net, Split};
use crate::export::subnet::stats_to_torch;
use crate::files;
use crate::nn::{CLASSIFIER, Classifier, Subnet, recalibrate};
use crate::signals;
use crate::ssl::Begin;
use crate::train::{Checkpoint, Finished, Objective, Setup, unseen};

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
        let mut net = Classify::new(cx, &setup, &[])?;
        net.restore(cx, &checkpoint)?;
        let stats = match net.statistics() {
            Some(stats) => stats.clone(),
            None => {
                tracing::info!("batch norm statistics from {STATISTICS_IMAGES} training views");
                let mut batches = unseen(cx, &net, &self.tuning.dataset, config)?;
                let count = STATISTICS_IMAGES.div_ceil(config.train.batch);
                let images = (0..count).map(|_| {
                    signals::go_on()?;
                    Ok(batches.next(cx)?.views.swap_remove(0))
                });
                recalibrate(cx, net.net(), net.params(), &space.max(), images)?
            }
        };
        let mut tensors = stats_to_torch(cx, net.net(), &stats)?;
        let classifier = net.params().to_torch(cx)?;
        let of_head = |name: &str| name.starts_with(CLASSIFIER);
        tensors.extend(classifier.into_iter().filter(|(name, ..)| of_head(name)));
        let learnt = Learnt {
            labels: self.tuning.tuned.labels.clone(),
            recipe: config.finetune.recipe.to_string(),
            lr: config.train.lr,
            lr_head: config.finetune.lr_head,
            select: config.finetune.select.to_string(),
            train_images: self.tuning.dataset.len(),
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
        let named = tensors.into_iter().map(|(n, s, v)| (n, (s, v))).collect();
        let width = net.net().specs().iter().find(|spec| of_head(&spec.name));
        let width = width.map_or(0, |spec| spec.shape.c());
        let classifier = Classifier::from_torch(cx, width, classes, &named, "the run")?;
        let subnet = Subnet::with_stats(net.net(), net.params(), space.max(), stats);
        let every = (0..self.val.len()).collect();
        let images = Images::new(self.val.clone(), every, space.resolution, cx.threads());
        let answers = ask(cx, &subnet, &classifier, &images)?;
        let arch = self.tuning.tuned.arch;
        let what = Net::new(arch, space, &config.preset, checkpoint.state.step, "student");
        let test = self.test_split();
        let chance = chance(&images, classes);
        let result = record::of_answers(&what, &finished.learnt, &test, classes, chance, &answers);
        let path = write(self, &what, &test, &result)?;
        Ok(Tested { answers, result, path })
    }
}

/// Writes a result into the run's `eval` folder.
fn write(run: &Prepared, net: &Net, test: &Split, result: &Map<String, Value>) -> Result<PathBuf> {
    let dir = run.options.out.join("eval");
    files::create_dir(&dir)?;
    let path = dir.join(file_name(net, test));
    files::write_json(&path, result)?;
    Ok(path)
}

/// `cls-<images>-<arch>-step-00000100.json`.
pub fn file_name(net: &Net, test: &Split) -> String {
    format!("cls-{}-{}-step-{:08}.json", record::domain(&test.data), net.arch, net.step)
}
