//! Similarity of a subnet's features to the teacher's (paper, Eq. 3–5). The teacher's are
//! computed once, and so is what the score needs of them.

use std::ops::Range;
use std::path::Path;

use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::eval::images::{self, Images};
use crate::eval::progress::Progress;
use crate::eval::store::{MEMORY_LIMIT_BYTES, Store};
use crate::nn::{Feature, Subnet};
use crate::ops::relation;
use crate::tensor::{Meta, Tensor};

/// What decides a score.
#[derive(Clone, Copy)]
pub struct Criterion<'a> {
    /// Features that are compared.
    pub features: &'a [Feature],
    /// The first so many images are compared.
    pub images: usize,
    /// Temperature of the relation.
    pub tau: f64,
}

/// The teacher's features of a batch, prepared for comparison with those of students.
pub enum Reference {
    /// A feature map: compared by the relation of its positions.
    Map(relation::Teacher),
    /// Embeddings [N, D], rows of unit length: compared by their cosines.
    Embeddings {
        /// Row by row.
        values: Vec<f32>,
        /// D.
        dim: usize,
    },
}

impl Reference {
    /// Prepares the value of a feature.
    pub fn new(cx: &Cx, feature: Feature, value: &Tensor, tau: f64) -> Result<Self> {
        Ok(match feature {
            Feature::Z => Self::Embeddings { values: cx.download(value)?, dim: value.shape().c() },
            _ => Self::Map(relation::Teacher::new(cx, value, tau)?),
        })
    }

    /// What [`Reference::from_numbers`] makes the same from.
    fn numbers(self, cx: &Cx) -> Result<Vec<f32>> {
        match self {
            Self::Embeddings { values, .. } => Ok(values),
            Self::Map(teacher) => teacher.numbers(cx),
        }
    }

    fn from_numbers(
        cx: &Cx,
        feature: Feature,
        meta: Meta,
        numbers: Vec<f32>,
        tau: f64,
    ) -> Result<Self> {
        Ok(match feature {
            Feature::Z => Self::Embeddings { values: numbers, dim: meta.shape.c() },
            _ => Self::Map(relation::Teacher::from_numbers(cx, meta, &numbers, tau)?),
        })
    }

    /// Similarity of a student's features of the same images, of each; higher is better.
    pub fn compare(&self, cx: &Cx, student: &Tensor) -> Result<Vec<f64>> {
        match self {
            Self::Embeddings { values, dim } => Ok(cosines(values, &cx.download(student)?, *dim)),
            Self::Map(teacher) => teacher.score(cx, student),
        }
    }
}

/// The teacher's features of one kind, of all images, prepared for comparison.
struct Level {
    feature: Feature,
    /// Shape and type of each batch's features, and where what is kept of them is in the store.
    batches: Vec<(Meta, Range<usize>)>,
    store: Store,
}

/// What the students are compared with: the teacher's features of the images.
pub struct Target<'a> {
    images: &'a Images,
    count: usize,
    tau: f64,
    features: Vec<Feature>,
    levels: Vec<Level>,
}

impl<'a> Target<'a> {
    /// Runs the teacher on the images that are to be compared. Features that do not fit in
    /// memory go to nameless files in `dir`.
    pub fn new(
        cx: &Cx,
        teacher: &Subnet,
        images: &'a Images,
        criterion: Criterion,
        dir: &Path,
    ) -> Result<Self> {
        let Criterion { features, images: count, tau } = criterion;
        let mut levels: Vec<Level> = Vec::new();
        let mut progress = Progress::new("images seen by the teacher", count, 0);
        for batch in images.batches(cx, count)? {
            let images::Batch { span, x, .. } = batch?;
            let mut out = teacher.features(cx, x, features)?;
            for (i, &feature) in features.iter().enumerate() {
                let value = out.take(feature).into_value();
                let numbers = Reference::new(cx, feature, &value, tau)?.numbers(cx)?;
                if levels.len() == i {
                    let elems = numbers.len() / span.len() * count;
                    let store = Store::new(dir, elems, MEMORY_LIMIT_BYTES / features.len())?;
                    levels.push(Level { feature, batches: Vec::new(), store });
                }
                let range = levels[i].store.push(&numbers)?;
                levels[i].batches.push((value.meta(), range));
            }
            progress.advance(span.len(), String::new);
        }
        Ok(Self { images, count, tau, features: features.to_vec(), levels })
    }

    /// Similarity of a student to the teacher, as \[level\]\[image\]; higher is better.
    pub fn score(&self, cx: &Cx, student: &Subnet) -> Result<Vec<Vec<f64>>> {
        let mut scores = vec![Vec::with_capacity(self.count); self.levels.len()];
        for (b, batch) in self.images.batches(cx, self.count)?.enumerate() {
            let mut out = student.features(cx, batch?.x, &self.features)?;
            for (level, scores) in self.levels.iter().zip(&mut scores) {
                let value = out.take(level.feature).into_value();
                scores.extend(level.compare(cx, b, &value, self.tau)?);
            }
        }
        if scores.iter().flatten().all(|s| s.is_finite()) {
            return Ok(scores);
        }
        Err(crate::eval::not_finite(student.arch()))
    }
}

impl Level {
    /// Scores of a batch's images.
    fn compare(&self, cx: &Cx, batch: usize, student: &Tensor, tau: f64) -> Result<Vec<f64>> {
        let (meta, range) = &self.batches[batch];
        let numbers = self.store.read(range.clone())?;
        Reference::from_numbers(cx, self.feature, *meta, numbers, tau)?.compare(cx, student)
    }
}

/// Dot products of unit rows of length `dim`: cosines.
fn cosines(a: &[f32], b: &[f32], dim: usize) -> Vec<f64> {
    let dot = |(a, b): (&[f32], &[f32])| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    a.chunks_exact(dim).zip(b.chunks_exact(dim)).map(dot).collect()
}

/// Exit 2 for a feature that has no similarity, a list that is empty or names one twice, or
/// a temperature that is too low.
pub fn check(features: &[Feature], tau: f64) -> Result<()> {
    if !(relation::MIN_TAU..f64::INFINITY).contains(&tau) {
        return Err(Error::usage(format!(
            "search.tau is {tau}: expected at least {}",
            relation::MIN_TAU
        )));
    }
    if features.is_empty() {
        return Err(Error::usage("no feature to compare: expected --features, such as z or c4,c5"));
    }
    for (i, feature) in features.iter().enumerate() {
        if *feature == Feature::Pool {
            return Err(Error::usage(
                "pool cannot be compared: subnets differ in its channels; use z, which is the \
                 same size for all, or c5",
            ));
        }
        if features[..i].contains(feature) {
            return Err(Error::usage(format!("feature {feature} is named twice")));
        }
    }
    Ok(())
}
