//! Nearest neighbours during training: whether the nets come to know the classes of labelled
//! images better than they did untrained, and than pixels alone would.
//!
//! A probe runs between two steps and only reads the weights. What it draws is a function of the
//! seed and of nothing that training draws, so weights are the same bit for bit with and without.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::folder::PROBES;
use super::objective::Objective;
use super::options::Options;
use super::source::Source;
use crate::config::{CkptEvery, ProbeEvery};
use crate::cx::Cx;
use crate::data::Dataset;
use crate::error::{Error, Kind, Result};
use crate::eval::evaluate::standard_error;
use crate::eval::features::{Labelled, pass};
use crate::eval::images::halves_by_class;
use crate::eval::raw_features::{self, RawFeatures};
use crate::eval::{Images, knn};
use crate::files;
use crate::nn::{Feature, Subnet};
use crate::space::{Arch, Space};

/// Neighbours that vote, as in `engine eval knn`.
const NEIGHBOURS: usize = 20;
/// Images that batch norms' statistics are computed from.
const BN_IMAGES: usize = 512;
/// Images of a batch at least, where parts of training batches are smaller.
const LEAST_BATCH: usize = 32;
/// Prepared images that take more than this are decoded again for every probe.
const CACHE_BYTES: usize = 256 << 20;
/// An automatic interval is this share of the run's steps, or an epoch where that is longer.
const PROBES_OF_A_RUN: u64 = 20;

/// Labelled images that a run is probed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOn {
    /// The training images themselves, by their class folders.
    Own,
    /// This source.
    Source(String),
}

/// Where a run stands.
pub(super) struct Progressed {
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Steps after which this process stops.
    pub end: u64,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
}

/// A line of `probe.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Steps done.
    pub step: u64,
    pub epoch: f64,
    /// Where the images are from.
    pub data: String,
    /// Neighbours and queries together.
    pub images: usize,
    pub k: usize,
    /// Accuracy of always naming the queries' most frequent class.
    pub chance: f64,
    /// Accuracy of raw pixels.
    pub pixels: f64,
    pub nets: Vec<Net>,
}

/// What a net knew; nothing where its features are not finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Net {
    pub arch: Arch,
    pub knn: Option<f64>,
    pub stderr: Option<f64>,
}

/// The images, and what was found on them so far.
pub(super) struct Probe {
    path: PathBuf,
    title: String,
    neighbours: Images,
    queries: Images,
    classes: usize,
    archs: Vec<(&'static str, Arch)>,
    every: ProbeEvery,
    /// Accuracy of pixels and of guessing, from the first probe on.
    known: Option<(f64, f64)>,
    /// What the file holds, once it was read.
    earlier: Option<Earlier>,
    measured: Instant,
}

/// What `probe.jsonl` holds.
#[derive(Default)]
struct Earlier {
    /// Step of its last line, whatever images that was on.
    step: Option<u64>,
    /// The first and the newest line on these images.
    lines: Option<(Line, Line)>,
}

impl Probe {
    /// Opens the images that `options` name, if any. `dataset` is what is trained on. Nothing is
    /// written yet.
    ///
    /// # Errors
    /// [`Kind::Data`] for images that cannot be read, with fewer than two classes, or too few to
    /// have neighbours and queries.
    pub(super) fn open(options: &Options, source: &Source, space: &Space) -> Result<Option<Self>> {
        let (dataset, what) = match (&options.probe, source) {
            (None, _) => return Ok(None),
            (Some(ProbeOn::Own), Source::Images(dataset)) => {
                (dataset.clone(), "--probe without a value takes --data:")
            }
            (Some(ProbeOn::Own), Source::Annotated(_)) => {
                return Err(Error::usage("annotated images have no classes to probe with"));
            }
            (Some(ProbeOn::Source(path)), _) => {
                (Arc::new(Dataset::open(std::slice::from_ref(path))?), "--probe")
            }
        };
        let config = options.config();
        let [neighbours, queries] = halves_by_class(&dataset, config.probe.images, config.seed);
        let classes = dataset.classes().len();
        if classes < 2 || queries.is_empty() {
            return Err(Error::data(format!(
                "{what} {} has {classes} class(es), {} labelled images to compare with and {} to \
                 name: expected at least 2 classes and 2 images of one; give --probe a source with a \
                 folder for each class, such as labelled/<class>/<image>, or raise probe.images ({})",
                dataset.title(),
                neighbours.len(),
                queries.len(),
                config.probe.images
            )));
        }
        let batch = (config.train.batch / config.train.accum).max(LEAST_BATCH);
        let images = |indices: Vec<usize>| -> Result<Images> {
            let bytes = indices.len() * space.input().elems() * size_of::<f32>();
            let images = Images::new(dataset.clone(), indices, space.input(), config.data.workers);
            let images = images.in_batches_of(batch);
            match bytes > CACHE_BYTES {
                true => Ok(images),
                false => images.cached(&std::env::temp_dir()),
            }
        };
        let mut archs = vec![("MAX", space.max())];
        archs.extend(Some(("MIN", space.min())).filter(|(_, min)| *min != space.max()));
        Ok(Some(Self {
            path: options.out.join(PROBES),
            title: dataset.title().to_owned(),
            neighbours: images(neighbours)?,
            queries: images(queries)?,
            classes,
            archs,
            every: config.probe.every,
            known: None,
            earlier: None,
            measured: Instant::now(),
        }))
    }

    /// Measures where that is due and writes the line; returns it in words.
    pub(super) fn if_due(
        &mut self,
        cx: &Cx,
        objective: &dyn Objective,
        now: &Progressed,
    ) -> Result<Option<String>> {
        let earlier = match self.earlier.take() {
            Some(earlier) => earlier,
            None => Earlier::read(&self.path, &self.title, self.images())?,
        };
        if earlier.step == Some(now.step) || !self.is_due(now) {
            self.earlier = Some(earlier);
            return Ok(None);
        }
        let line = self.measure(cx, objective, now)?;
        append(&self.path, &line)?;
        self.measured = Instant::now();
        let first = earlier.lines.map_or_else(|| line.clone(), |(first, _)| first);
        let words = self.in_words(&first, &line);
        self.earlier = Some(Earlier { step: Some(now.step), lines: Some((first, line)) });
        Ok(Some(words))
    }

    /// The newest line, for `status.json`.
    pub(super) fn last(&self) -> Option<Value> {
        self.earlier.as_ref()?.lines.as_ref().map(|(_, last)| json!(last))
    }

    fn images(&self) -> usize {
        self.neighbours.len() + self.queries.len()
    }

    fn is_due(&self, now: &Progressed) -> bool {
        let interval = match self.every {
            ProbeEvery::Auto => now.steps_per_epoch.max(now.steps.div_ceil(PROBES_OF_A_RUN)),
            ProbeEvery::Every(CkptEvery::Steps(n)) => n,
            ProbeEvery::Every(CkptEvery::Epochs(n)) => n.saturating_mul(now.steps_per_epoch),
            ProbeEvery::Every(CkptEvery::Time(every)) => {
                let is_end = now.step == 0 || now.step == now.end;
                return is_end || self.measured.elapsed() >= every;
            }
        };
        // 0 is a multiple too.
        now.step.is_multiple_of(interval.max(1)) || now.step == now.end
    }

    fn measure(&mut self, cx: &Cx, it: &dyn Objective, now: &Progressed) -> Result<Line> {
        let (pixels, chance) = match self.known {
            Some(known) => known,
            None => *self.known.insert(self.without_net(cx)?),
        };
        let net = |(_, arch): &(&str, Arch)| {
            let knn = self.knn(cx, it, *arch)?;
            Ok(Net { arch: *arch, knn, stderr: knn.map(|p| standard_error(p, self.queries.len())) })
        };
        Ok(Line {
            step: now.step,
            epoch: now.step as f64 / now.steps_per_epoch as f64,
            data: self.title.clone(),
            images: self.images(),
            k: NEIGHBOURS,
            chance,
            pixels,
            nets: self.archs.iter().map(net).collect::<Result<_>>()?,
        })
    }

    /// Accuracy of pixels, and of naming the queries' most frequent class.
    fn without_net(&self, cx: &Cx) -> Result<(f64, f64)> {
        let plain = |images: &Images| -> Result<RawFeatures> {
            let mut plain = RawFeatures::new(images.input(), images.len());
            pass(cx, &[], images, Feature::Pool, |batch, labels| plain.add(batch, labels))?;
            Ok(plain)
        };
        let (mut train, mut test) = (plain(&self.neighbours)?.pixels, plain(&self.queries)?.pixels);
        raw_features::centre(&mut train, &mut test)?;
        let mut counts = vec![0usize; self.classes];
        test.labels.iter().for_each(|&label| counts[label] += 1);
        let most = counts.into_iter().max().unwrap_or(0);
        let chance = most as f64 / test.len().max(1) as f64;
        Ok((self.accuracy(cx, train, test)?, chance))
    }

    /// Accuracy of the student's net `arch`; none where its features are not finite.
    fn knn(&self, cx: &Cx, it: &dyn Objective, arch: Arch) -> Result<Option<f64>> {
        let bn = self.neighbours.tensors(cx, BN_IMAGES)?;
        let subnet = Subnet::recalibrated(cx, it.net(), it.params(), arch, bn)?;
        let features = |images: &Images| -> Result<Labelled> {
            Ok(pass(cx, &[&subnet], images, Feature::Pool, |_, _| Ok(()))?.swap_remove(0))
        };
        match features(&self.neighbours).and_then(|keys| Ok((keys, features(&self.queries)?))) {
            Ok((keys, queries)) => self.accuracy(cx, keys, queries).map(Some),
            // Training itself notices, and names the tensor.
            Err(e) if e.kind() == Kind::Diverged => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn accuracy(&self, cx: &Cx, train: Labelled, test: Labelled) -> Result<f64> {
        Ok(knn::accuracy(cx, train, test, &[NEIGHBOURS], self.classes)?[0])
    }

    /// `probe at step 40: kNN (k = 20) of MAX 45.2 % ±1.6 (untrained 27.3 %), MIN …`.
    fn in_words(&self, first: &Line, last: &Line) -> String {
        let percent = |p: f64| format!("{:.1} %", 100.0 * p);
        let net = |((name, arch), net): (&(&str, Arch), &Net)| {
            let Some((p, stderr)) = net.knn.zip(net.stderr) else {
                return format!("{name} unknown (features are not finite)");
            };
            let before = first.nets.iter().find(|n| n.arch == *arch).and_then(|n| n.knn);
            let before = before.filter(|_| first.step == 0 && last.step > 0);
            let untrained = match (last.step, before) {
                (0, _) => " untrained".into(),
                (_, Some(p)) => format!(" (untrained {})", percent(p)),
                (_, None) => String::new(),
            };
            format!("{name} {} ±{:.1}{untrained}", percent(p), 100.0 * stderr)
        };
        let nets: Vec<String> = self.archs.iter().zip(&last.nets).map(net).collect();
        format!(
            "probe at step {}: kNN (k = {}) of {}; raw pixels {}, guessing {}",
            last.step,
            last.k,
            nets.join(", "),
            percent(last.pixels),
            percent(last.chance)
        )
    }
}

impl Earlier {
    /// Of a file, which may not be there; lines on other images than `title`'s so many are no
    /// comparison.
    fn read(path: &Path, title: &str, images: usize) -> Result<Self> {
        let (all, _) = files::json_lines::<Line>(path)?;
        let step = all.last().map(|line| line.step);
        let mut same = all.into_iter().filter(|line| line.data == title && line.images == images);
        let first = same.next();
        let lines = first.map(|first| (first.clone(), same.next_back().unwrap_or(first)));
        Ok(Self { step, lines })
    }
}

/// Adds a line in one write: a killed run leaves whole lines.
pub(crate) fn append(path: &Path, line: &Line) -> Result<()> {
    let text = format!("{}\n", json!(line));
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|e| Error::write(path, files::disk_hint(&e)))?;
    file.write_all(text.as_bytes()).map_err(|e| Error::write(path, files::disk_hint(&e)))
}
