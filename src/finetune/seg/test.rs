//! What a net says of images whose pixels have labels.

use std::path::Path;

use super::model::SegModel;
use super::set::SegSet;
use crate::config::Task;
use crate::cx::Cx;
use crate::data::annotated::LabelImage;
use crate::error::{Error, Result};
use crate::eval::dense::miou::Counts;
use crate::eval::progress::Progress;
use crate::files;
use crate::finetune::details::{Class, Details, Example, Verdict};
use crate::signals;
use crate::train::Annotated;

/// Folder of a run with the classes that it says, images called as those that were tested.
pub const MASKS: &str = "masks";

/// What was said of images.
pub struct Scored {
    /// Pixels of all images by class and answer.
    pub counts: Counts,
    /// How each image went.
    images: Vec<Verdict>,
}

/// Counts the pixels of all images by class and answer. The answers are written as PNGs into the
/// folder `masks` of `out`, where there is one.
///
/// # Errors
/// Images and labels that cannot be read, a folder that cannot be written.
pub fn test(cx: &Cx, model: &SegModel, set: &SegSet, out: Option<&Path>) -> Result<Scored> {
    let mut counts = Counts::new(model.classes.len());
    let mut verdicts = Vec::with_capacity(set.images());
    let mut progress = Progress::new("images", set.images(), 0);
    for i in 0..set.images() {
        signals::go_on()?;
        let (image, labels) = set.load(i)?;
        let found = model.predict(cx, &image)?;
        let mut of_image = Counts::new(model.classes.len());
        of_image.add(&labels.labels, &found.labels).map_err(|at| {
            Error::data(format!(
                "{}: expected classes of {}, found {} at pixel {at}",
                set.name(i),
                model.classes.len(),
                labels.labels[at]
            ))
        })?;
        counts.merge(&of_image);
        verdicts.push(Verdict::Pixels(rounded(of_image.miou())));
        if let Some(out) = out {
            write(&out.join(MASKS).join(format!("{}.png", set.name(i))), &found)?;
        }
        progress.advance(1, || format!("mIoU {:.3}", counts.miou()));
    }
    Ok(Scored { counts, images: verdicts })
}

/// What a test looks like; `data` names its images.
///
/// # Errors
/// Images and labels that can no longer be read.
pub fn details(
    cx: &Cx,
    model: &SegModel,
    (set, data): (&SegSet, &[String]),
    scored: &Scored,
) -> Result<Details> {
    let counts = &scored.counts;
    let class = |(c, name): (usize, &String)| Class {
        name: name.clone(),
        count: counts.truth(c),
        numbers: vec![counts.iou(c), counts.accuracy(c)],
        ..Class::default()
    };
    let classes = model.classes.iter().enumerate().map(class).collect();
    let example = |i: usize| {
        let (image, labels) = set.load(i)?;
        let said = model.predict(cx, &image)?;
        let example = Example::of(set.name(i), scored.images[i], image)?;
        let (truth, found) = (example.labels(&labels)?, example.labels(&said)?);
        Ok(Example { truth, found, ..example })
    };
    let of = (data, counts.miou());
    let images = scored.images.clone();
    let details = Details::new(Task::Seg, &model.describe(), of, classes, images, example)?;
    Ok(Details { confusion: counts.pairs().collect(), ..details })
}

/// With six digits, more than a page can show.
fn rounded(share: f64) -> f64 {
    (share * 1e6).round() / 1e6
}

/// Writes labels as a grey PNG.
fn write(path: &Path, found: &LabelImage) -> Result<()> {
    if let Some(dir) = path.parent() {
        files::create_dir(dir)?;
    }
    let bytes = found.encode()?;
    files::write_atomic(path, |out| out.write_all(&bytes))
}
