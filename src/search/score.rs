//! Similarity of a subnet's features to the teacher's (paper, Eq. 3–5). The teacher's are
//! computed once, and so is what the score needs of them.

use std::ops::Range;
use std::path::Path;

use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::eval::images::Images;
use crate::eval::progress::Progress;
use crate::eval::store::{MEMORY_LIMIT_BYTES, Store};
use crate::nn::{Feature, Subnet};
use crate::ops::{expect_shape, relation};
use crate::tensor::{Meta, Shape, Tensor};

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
    /// A feature map: compared by the relation of its positions, where nets compute.
    Map(relation::Teacher),
    /// Embeddings [N, D], rows of unit length: compared by their cosines, on the host.
    Embeddings {
        /// Row by row.
        values: Vec<f32>,
        /// D.
        dim: usize,
    },
}

/// What a comparison gives, which a device may still be computing.
pub enum Compared<'a> {
    /// Scores of feature maps.
    Map(relation::Scores),
    /// Embeddings of teacher and student.
    Embeddings {
        /// Of the teacher, row by row.
        teacher: &'a [f32],
        /// Of the student [N, D].
        student: Tensor,
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

    /// Compares a student's features of the same images, without waiting for the device.
    pub fn compare(&self, cx: &Cx, student: &Tensor) -> Result<Compared<'_>> {
        Ok(match self {
            Self::Embeddings { values, dim } => {
                expect_shape("z", student.shape(), Shape::matrix(values.len() / dim, *dim))?;
                Compared::Embeddings { teacher: values, student: student.clone() }
            }
            Self::Map(teacher) => Compared::Map(teacher.compare(cx, student)?),
        })
    }
}

impl Compared<'_> {
    /// Similarity of each image; higher is better. Waits for the device.
    pub fn read(self, cx: &Cx) -> Result<Vec<f64>> {
        match self {
            Self::Map(scores) => scores.read(cx),
            Self::Embeddings { teacher, student } => {
                Ok(cosines(teacher, &cx.download(&student)?, student.shape().c()))
            }
        }
    }
}

/// What is kept of the teacher's features of a batch until a student is compared with them.
enum Kept {
    /// Themselves.
    Ready(Reference),
    /// A feature map of this shape and type, in the store.
    Stored(Meta, Range<usize>),
}

/// Bytes that the teacher's features may take where nets compute, once its first pass is done.
fn room_bytes(cx: &Cx) -> Result<usize> {
    if !cx.is_device() {
        return Ok(MEMORY_LIMIT_BYTES);
    }
    // A student takes at most what the teacher's pass has just taken.
    let of_pass = cx.memory().reserved_bytes;
    Ok(cx.available_bytes()?.map_or(MEMORY_LIMIT_BYTES, |bytes| bytes.saturating_sub(of_pass)))
}

/// What the students are compared with: the teacher's features of the images. They stay where
/// nets compute while there is room; the rest is read again for every student, from memory of the
/// host or from a file.
pub struct Target<'a> {
    images: &'a Images,
    criterion: Criterion<'a>,
    /// As \[batch\]\[level\].
    batches: Vec<Vec<Kept>>,
    store: Store,
    room_bytes: usize,
}

impl<'a> Target<'a> {
    /// Runs the teacher on the images that are to be compared. What does not fit into memory goes
    /// to a file in `dir` that has no name.
    pub fn new(
        cx: &Cx,
        teacher: &Subnet,
        images: &'a Images,
        criterion: Criterion<'a>,
        dir: &Path,
    ) -> Result<Self> {
        Self::within(cx, teacher, images, criterion, dir, None)
    }

    /// As [`Target::new`], with so much room where nets compute.
    fn within(
        cx: &Cx,
        teacher: &Subnet,
        images: &'a Images,
        criterion: Criterion<'a>,
        dir: &Path,
        room: Option<usize>,
    ) -> Result<Self> {
        let Criterion { features, images: count, tau } = criterion;
        // The host's memory is the room already where nets compute on it.
        let store_bytes = if cx.is_device() { MEMORY_LIMIT_BYTES } else { 0 };
        let (batches, store) = (Vec::new(), Store::new(dir, store_bytes));
        let mut target = Self { images, criterion, batches, store, room_bytes: 0 };
        let mut progress = Progress::new("images seen by the teacher", count, 0);
        for x in inputs(cx, teacher, images, count)? {
            let x = x?;
            let n = x.shape().n();
            let mut out = teacher.features(cx, x, features)?;
            if target.batches.is_empty() {
                target.room_bytes = room.map_or_else(|| room_bytes(cx), Ok)?;
            }
            let keep = |feature: &Feature| {
                let value = out.take(*feature).into_value();
                target.keep(cx, Reference::new(cx, *feature, &value, tau)?)
            };
            let batch = features.iter().map(keep).collect::<Result<_>>()?;
            target.batches.push(batch);
            progress.advance(n, String::new);
        }
        Ok(target)
    }

    fn keep(&mut self, cx: &Cx, reference: Reference) -> Result<Kept> {
        let Reference::Map(teacher) = &reference else { return Ok(Kept::Ready(reference)) };
        if let Some(room) = self.room_bytes.checked_sub(teacher.size_bytes()) {
            self.room_bytes = room;
            return Ok(Kept::Ready(reference));
        }
        self.room_bytes = 0;
        Ok(Kept::Stored(teacher.meta(), self.store.push(&teacher.numbers(cx)?)?))
    }

    /// Similarity of a student to the teacher, as \[level\]\[image\]; higher is better.
    pub fn score(&self, cx: &Cx, student: &Subnet) -> Result<Vec<Vec<f64>>> {
        let Criterion { features, images: count, .. } = self.criterion;
        let mut compared = Vec::with_capacity(self.batches.len() * features.len());
        for (x, batch) in inputs(cx, student, self.images, count)?.zip(&self.batches) {
            let mut out = student.features(cx, x?, features)?;
            for (feature, kept) in features.iter().zip(batch) {
                compared.push(self.compare(cx, kept, &out.take(*feature).into_value())?);
            }
        }
        // Read at the end, so that a device does not wait for the host between batches.
        let mut scores = vec![Vec::with_capacity(count); features.len()];
        for (i, compared) in compared.into_iter().enumerate() {
            scores[i % features.len()].extend(compared.read(cx)?);
        }
        if scores.iter().flatten().all(|s| s.is_finite()) {
            return Ok(scores);
        }
        Err(crate::eval::not_finite(student.arch()))
    }

    fn compare<'k>(&self, cx: &Cx, kept: &'k Kept, student: &Tensor) -> Result<Compared<'k>> {
        match kept {
            Kept::Ready(reference) => reference.compare(cx, student),
            Kept::Stored(meta, range) => {
                let (numbers, tau) = (self.store.read(range.clone())?, self.criterion.tau);
                let teacher = relation::Teacher::from_numbers(cx, *meta, &numbers, tau)?;
                Ok(Compared::Map(teacher.compare(cx, student)?))
            }
        }
    }
}

/// The images by batches: teacher and students see the same, large ones unless what they say of
/// an image depends on its batch.
fn inputs<'a>(
    cx: &'a Cx,
    net: &Subnet,
    images: &'a Images,
    count: usize,
) -> Result<impl Iterator<Item = Result<Tensor>> + 'a> {
    match net.is_frozen() {
        true => images.large_tensors(cx, count),
        false => images.tensors(cx, count),
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

#[cfg(all(test, feature = "emulator"))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::data::Dataset;
    use crate::data::synthetic::{self, Domain};
    use crate::device::emulator::Emulator;
    use crate::nn::{Params, Supernet};
    use crate::space::Space;
    use crate::ssl;
    use crate::tensor::DType;

    const IMAGES: usize = 6;
    const FEATURES: [Feature; 3] = [Feature::Z, Feature::C4, Feature::C5];
    const CRITERION: Criterion = Criterion { features: &FEATURES, images: IMAGES, tau: 0.2 };

    /// Scores of a net against another one, in batches of two, with so much room for the features,
    /// and whatever `counted` says of the scoring.
    fn scores<T>(cx: &Cx, room: Option<usize>, counted: impl Fn() -> T) -> (Vec<Vec<f64>>, T) {
        let space = Space::preset("tiny").unwrap();
        let net = Supernet::new(&space, Some(&ssl::heads(&Config::for_preset("tiny").unwrap())));
        let params = |seed| Params::init(cx, net.specs(), seed).unwrap().ready(cx).unwrap();
        let dir = tempfile::tempdir().unwrap();
        synthetic::write(dir.path(), Domain::Shapes, [IMAGES, 0], space.resolution, 0).unwrap();
        let data = Dataset::open(&[dir.path().join("train").display().to_string()]).unwrap();
        let images = Images::new(Arc::new(data), (0..IMAGES).collect(), space.input(), 1)
            .in_batches_of(2)
            .cached_for(cx, dir.path())
            .unwrap();
        let (one, other) = (params(1), params(2));
        let subnet = |params| {
            let batches = images.tensors(cx, IMAGES).unwrap();
            Subnet::recalibrated(cx, &net, params, space.min(), batches).unwrap()
        };
        let (teacher, student) = (subnet(&one), subnet(&other));
        let target = Target::within(cx, &teacher, &images, CRITERION, dir.path(), room).unwrap();
        counted();
        (target.score(cx, &student).unwrap(), counted())
    }

    #[test]
    fn features_that_do_not_fit_are_stored_and_give_the_same_scores() {
        let emulator = Arc::new(Emulator::new(1).unwrap());
        let device = Cx::device(emulator.clone(), 1).unwrap();
        let narrow = device.computing_in(DType::BF16);
        for cx in [Cx::for_tests(), device, narrow] {
            let of = |room| scores(&cx, room, || emulator.take_transfers());
            let (expected, [loaded, read]) = of(None);
            assert_eq!((expected.len(), expected[0].len()), (FEATURES.len(), IMAGES));
            // Room for the first batch's maps alone, and for none.
            for room in [10_000, 0] {
                let (found, [stored, _]) = of(Some(room));
                assert_eq!(found, expected, "{} bytes on {}", room, cx.name());
                assert!(!cx.is_device() || stored > loaded, "{stored} bytes");
            }
            if cx.is_device() {
                // Only scores, and embeddings of the student.
                let of_z = IMAGES * 128 * cx.dtype().size_bytes();
                let maps = (FEATURES.len() - 1) * IMAGES * size_of::<f32>();
                assert_eq!(read, (of_z + maps) as u64);
            }
        }
    }
}
