//! What an evaluation looks like, beside its numbers: images with their nearest neighbours, which
//! classes are taken for which, and a map of the embeddings. A file of them stands in the run's
//! folder beside each evaluation, in `eval/details`; the report shows it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::classes::{Answers, Confusion};
use super::components::components;
use super::features::Labelled;
use super::images::Images;
use super::knn::{self, Neighbour};
use super::record::Net;
use crate::cx::Cx;
use crate::data::{Dataset, thumbnail};
use crate::error::Result;
use crate::files;
use crate::nn::{Feature, Subnet};
use crate::rng::{Philox, Purpose};
use crate::signals;

/// Images whose neighbours are shown: half of them named right, half of them wrong, as far as there
/// are such.
const QUERIES: usize = 6;
/// Neighbours shown of each.
const NEAR: usize = 5;
/// Dots of a map at most.
const MOST_MAPPED: usize = 2000;
/// Longer side of a thumbnail, in pixels.
const SIDE: u32 = 48;

/// The content of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Details {
    /// Which net.
    pub arch: String,
    /// Training step of its weights.
    pub step: u64,
    /// `student` or `teacher`.
    pub weights: String,
    /// `knn`, `linear`, `fine-tuned`, or `embed` where no accuracy was measured.
    pub protocol: String,
    /// Sources of the images that are shown.
    pub data: Vec<String>,
    /// Sources of their neighbours.
    pub among: Vec<String>,
    /// Names of the classes; none where there are none.
    pub classes: Vec<String>,
    /// Share of the images that were named right.
    pub accuracy: Option<f64>,
    /// Class, answer, and how many images had both; pairs without any are left out.
    pub confusion: Vec<(usize, usize, usize)>,
    /// Images with their neighbours.
    pub neighbours: Vec<Query>,
    /// The embeddings, where they differ.
    pub map: Option<Map>,
}

/// An image and its neighbours.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Query {
    /// The image.
    pub image: Shown,
    /// The class that it was given.
    pub answer: Option<usize>,
    /// The nearest first, with their cosine similarities.
    pub near: Vec<(f32, Shown)>,
}

/// An image as a page shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// Its class, if it has one.
    pub class: Option<usize>,
    /// It as a PNG, an address that holds it.
    pub png: String,
}

/// Embeddings on their first two principal components.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Map {
    /// The part of the variance that lies along each.
    pub explained: [f64; 2],
    /// How many images there are; of many only some are on the map, taken evenly.
    pub images: usize,
    /// Where they lie.
    pub places: Vec<[f64; 2]>,
    /// Their classes.
    pub classes: Vec<Option<usize>>,
}

impl Map {
    /// Of features, with the classes of all rows.
    ///
    /// # Errors
    /// Those of the file that features may lie in.
    fn of(features: &Labelled, class: impl Fn(usize) -> Option<usize>) -> Result<Option<Self>> {
        let every = features.len().div_ceil(MOST_MAPPED).max(1);
        let rows: Vec<usize> = (0..features.len()).step_by(every).collect();
        let values = features.values.rows(features.dim, &rows)?;
        // Six digits are more than a page can show.
        let short = |x: f64| format!("{x:.6}").parse().unwrap_or(x);
        Ok(components(&values, features.dim).map(|found| Self {
            explained: found.explained.map(short),
            images: features.len(),
            places: found.places.into_iter().map(|place| place.map(short)).collect(),
            classes: rows.into_iter().map(class).collect(),
        }))
    }
}

/// What was seen of test images, by their rows, when a net was evaluated.
#[derive(Default)]
pub struct Seen {
    /// How classes and answers go together.
    pub confusion: Confusion,
    /// Rows of test images, their answers, and their neighbours among the training images.
    queries: Vec<(usize, usize, Vec<Neighbour>)>,
    map: Option<Map>,
}

impl Seen {
    /// With a map of the test images.
    ///
    /// # Errors
    /// Those of the file that features may lie in.
    pub fn new(test: &Labelled, confusion: Confusion) -> Result<Self> {
        let map = Map::of(test, |row| Some(test.labels[row]))?;
        Ok(Self { confusion, queries: Vec::new(), map })
    }

    /// And with neighbours of a few test images, half of them named right, drawn from a seed.
    pub fn with_neighbours(
        mut self,
        (named, nearest): (&[usize], &[Vec<Neighbour>]),
        labels: &[usize],
        seed: u64,
    ) -> Self {
        let right = knn::right(named, labels);
        for wanted in [true, false] {
            let rows: Vec<usize> = (0..right.len()).filter(|row| right[*row] == wanted).collect();
            let mut rng = Philox::new(seed, Purpose::Subset, u64::from(wanted), 2);
            let drawn = rng.sample(rows.len(), QUERIES / 2).into_iter().map(|i| rows[i]);
            self.queries.extend(drawn.map(|row| {
                let near = &nearest[row][..NEAR.min(nearest[row].len())];
                (row, named[row], near.to_vec())
            }));
        }
        self
    }
}

/// A side of an evaluation: a data set, which of its images lie in the rows, and their sources.
pub struct Side<'a> {
    /// The images.
    pub dataset: &'a Dataset,
    /// Channels that they are read as having.
    pub channels: usize,
    /// The index of each row's image.
    pub shown: &'a [usize],
    /// Sources.
    pub data: &'a [String],
}

impl<'a> Side<'a> {
    /// Of images, of which `shown` lie in the rows.
    pub fn of(images: &'a Images, shown: &'a [usize], data: &'a [String]) -> Self {
        Self { dataset: images.dataset(), channels: images.input().channels(), shown, data }
    }

    /// The image of a row.
    fn image(&self, row: usize) -> Result<Shown> {
        let i = self.shown[row];
        let png = thumbnail(self.dataset.load_as(i, self.channels)?.shown(), SIDE)?;
        Ok(Shown { name: self.dataset.name(i), class: self.dataset.label(i), png })
    }
}

impl Details {
    /// Of a net that was evaluated.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where an image can no longer be read.
    pub fn new(
        net: &Net,
        protocol: &str,
        accuracy: f64,
        seen: Seen,
        (train, test): (&Side, &Side),
    ) -> Result<Self> {
        let near = |(similarity, row): &Neighbour| Ok((*similarity, train.image(*row as usize)?));
        let query = |(row, answer, nearest): &(usize, usize, Vec<Neighbour>)| {
            let near = nearest.iter().map(near).collect::<Result<_>>()?;
            Ok(Query { image: test.image(*row)?, answer: Some(*answer), near })
        };
        Ok(Self {
            accuracy: Some(accuracy),
            confusion: seen.confusion.into_iter().map(|((a, b), n)| (a, b, n)).collect(),
            neighbours: seen.queries.iter().map(query).collect::<Result<_>>()?,
            map: seen.map,
            ..Self::of(net, protocol, train, test)
        })
    }

    /// Of a net with a classifier, which learnt from `learnt`.
    pub fn of_answers(net: &Net, learnt: &[String], test: &Side, answers: &Answers) -> Self {
        let train = Side { shown: &[], data: learnt, ..*test };
        Self {
            accuracy: Some(answers.top1()),
            confusion: answers.confusion.iter().map(|((a, b), n)| (*a, *b, *n)).collect(),
            ..Self::of(net, "fine-tuned", &train, test)
        }
    }

    /// Without anything to show yet.
    fn of(net: &Net, protocol: &str, train: &Side, test: &Side) -> Self {
        Self {
            arch: net.arch.to_string(),
            step: net.step,
            weights: net.weights.to_owned(),
            protocol: protocol.to_owned(),
            data: test.data.to_vec(),
            among: train.data.to_vec(),
            classes: test.dataset.classes().to_vec(),
            accuracy: None,
            confusion: Vec::new(),
            neighbours: Vec::new(),
            map: None,
        }
    }

    /// Writes the file that belongs to the evaluation `name`, such as `knn-….json`, of a run.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, run: &Path, name: &str) -> Result<()> {
        let dir = run.join("eval/details");
        files::create_dir(&dir)?;
        files::write_atomic(&dir.join(name), |out| Ok(serde_json::to_writer(out, self)?))
    }
}

/// Some embeddings of images that need no labels, taken evenly from all of them.
pub struct Sample {
    channels: usize,
    every: usize,
    seen: usize,
    features: Labelled,
    shown: Vec<usize>,
}

impl Sample {
    /// None yet, of `images` images of so many channels.
    pub fn new(images: usize, channels: usize) -> Self {
        let features = Labelled::new(0, Vec::new(), Vec::new());
        let every = images.div_ceil(MOST_MAPPED).max(1);
        Self { channels, every, seen: 0, features, shown: Vec::new() }
    }

    /// Adds what it takes of a batch's rows; `shown` are the images' indices.
    ///
    /// # Errors
    /// None, as few values lie in memory.
    pub fn add(&mut self, shown: &[usize], values: &[f32]) -> Result<()> {
        let dim = values.len() / shown.len().max(1);
        for (i, values) in shown.iter().zip(values.chunks_exact(dim.max(1))) {
            if self.seen.is_multiple_of(self.every) {
                self.features.dim = dim;
                self.features.values.push(values)?;
                self.features.labels.push(0);
                self.shown.push(*i);
            }
            self.seen += 1;
        }
        Ok(())
    }

    /// A net's embeddings of images.
    ///
    /// # Errors
    /// Those of reading images; [`crate::Kind::Diverged`] where embeddings are not finite.
    pub fn take(cx: &Cx, subnet: &Subnet, images: &Images) -> Result<Self> {
        let mut sample = Self::new(images.len(), images.input().channels());
        for batch in images.batches(cx, images.len())? {
            signals::go_on()?;
            let batch = batch?;
            let pooled = subnet.features(cx, batch.x, &[Feature::Pool])?.take(Feature::Pool);
            let values = cx.download(pooled.value())?;
            if !values.iter().all(|v| v.is_finite()) {
                return Err(super::not_finite(subnet.arch()));
            }
            sample.add(&batch.shown, &values)?;
        }
        Ok(sample)
    }

    /// A few of them with their neighbours among the others, and a map; `seed` draws the few.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where an image can no longer be read; those of the device.
    pub fn details(
        mut self,
        cx: &Cx,
        net: &Net,
        (dataset, data): (&Dataset, &[String]),
        seed: u64,
    ) -> Result<Details> {
        let n = self.features.len();
        let queries = Philox::new(seed, Purpose::Subset, 0, 3).sample(n, QUERIES);
        let (values, labels) = self.features.rows(&queries)?;
        let mut asked = Labelled::new(self.features.dim, values, labels);
        // One more, since an image is its own nearest neighbour.
        let nearest = knn::neighbours(cx, &mut self.features, &mut asked, NEAR + 1)?;
        let side = Side { dataset, channels: self.channels, shown: &self.shown, data };
        let query = |(&row, near): (&usize, &Vec<Neighbour>)| -> Result<Query> {
            let others = near.iter().filter(|(_, other)| *other as usize != row).take(NEAR);
            let near = others.map(|(s, other)| Ok((*s, side.image(*other as usize)?)));
            let near = near.collect::<Result<_>>()?;
            Ok(Query { image: side.image(row)?, answer: None, near })
        };
        let neighbours = queries.iter().zip(&nearest).map(query).collect::<Result<_>>()?;
        let class = |row: usize| dataset.label(self.shown[row]);
        let map = Map::of(&self.features, class)?;
        let map = map.map(|map| Map { images: self.seen, ..map });
        Ok(Details { neighbours, map, ..Details::of(net, "embed", &side, &side) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` features in two groups, by turns.
    fn features(n: usize) -> Labelled {
        let mut rng = Philox::new(3, Purpose::Check, 0, 0);
        let value = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
        let values = (0..n).flat_map(|i| [value(i), 0.1 * rng.normal(), 0.5]).collect();
        Labelled::new(3, values, (0..n).map(|i| i % 2).collect())
    }

    #[test]
    fn a_map_has_a_limit_and_the_classes_of_its_rows() {
        let (few, many) = (features(100), features(MOST_MAPPED + 1));
        for (features, dots, classes) in [(&few, 100, [0, 1]), (&many, 1001, [0, 0])] {
            let map = Map::of(features, |row| Some(features.labels[row])).unwrap().unwrap();
            assert_eq!((map.places.len(), map.images), (dots, features.len()));
            assert_eq!(map.classes[..2], classes.map(Some));
            assert!(map.explained[0] > 0.9 && map.places.iter().all(|p| p[0].abs() < 2.1));
        }
        assert!(Map::of(&Labelled::new(2, vec![1.0; 8], vec![0; 4]), |_| None).unwrap().is_none());
    }

    #[test]
    fn right_and_wrong_answers_are_both_shown() {
        let test = features(40);
        let mut named = test.labels.clone();
        named[7] = 0;
        named[8] = 1;
        let nearest: Vec<Vec<Neighbour>> =
            (0..40).map(|i| (0..9).map(|j| (0.9, (i + j) as u32)).collect()).collect();
        let seen = |seed| {
            let seen = Seen::new(&test, Confusion::new()).unwrap();
            seen.with_neighbours((&named, &nearest), &test.labels, seed).queries
        };
        let queries = seen(1);
        let mut wrong: Vec<usize> = queries[3..].iter().map(|q| q.0).collect();
        wrong.sort_unstable();
        assert_eq!(wrong, [7, 8]);
        assert!(queries[..3].iter().all(|q| named[q.0] == test.labels[q.0] && q.2.len() == NEAR));
        assert_eq!(queries, seen(1));
        assert_ne!(queries, seen(2));
    }

    #[test]
    fn a_sample_is_the_same_for_any_batches() {
        let dim = 3;
        let values: Vec<f32> = (0..5000 * dim).map(|i| i as f32).collect();
        let taken = |batch: usize| {
            let mut sample = Sample::new(5000, 3);
            for start in (0..5000).step_by(batch) {
                let rows: Vec<usize> = (start..(start + batch).min(5000)).collect();
                sample.add(&rows, &values[start * dim..(rows[rows.len() - 1] + 1) * dim]).unwrap();
            }
            (
                sample.shown,
                sample.features.values.read(0..dim * sample.features.labels.len()).unwrap(),
            )
        };
        let (shown, rows) = taken(256);
        assert_eq!((shown.len(), shown[1], rows[dim]), (1667, 3, 9.0));
        assert_eq!(taken(7), (shown, rows));
    }
}
