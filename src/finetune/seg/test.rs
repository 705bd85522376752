//! What a net says of images whose pixels have labels.

use std::path::Path;

use super::model::SegModel;
use super::set::SegSet;
use crate::cx::Cx;
use crate::data::annotated::LabelImage;
use crate::error::{Error, Result};
use crate::eval::dense::miou::Counts;
use crate::eval::progress::Progress;
use crate::files;
use crate::signals;
use crate::train::Annotated;

/// Folder of a run with the classes that it says, images called as those that were tested.
pub const MASKS: &str = "masks";

/// Counts the pixels of all images by class and answer. The answers are written as PNGs into the
/// folder `masks` of `out`, where there is one.
///
/// # Errors
/// Images and labels that cannot be read, a folder that cannot be written.
pub fn test(cx: &Cx, model: &SegModel, set: &SegSet, out: Option<&Path>) -> Result<Counts> {
    let mut counts = Counts::new(model.classes.len());
    let mut progress = Progress::new("images", set.images(), 0);
    for i in 0..set.images() {
        signals::go_on()?;
        let (image, labels) = set.load(i)?;
        let found = model.predict(cx, &image)?;
        counts.add(&labels.labels, &found.labels).map_err(|at| {
            Error::data(format!(
                "{}: expected classes of {}, found {} at pixel {at}",
                set.name(i),
                model.classes.len(),
                labels.labels[at]
            ))
        })?;
        if let Some(out) = out {
            write(&out.join(MASKS).join(format!("{}.png", set.name(i))), &found)?;
        }
        progress.advance(1, || format!("mIoU {:.3}", counts.miou()));
    }
    Ok(counts)
}

/// Writes labels as a grey PNG.
fn write(path: &Path, found: &LabelImage) -> Result<()> {
    if let Some(dir) = path.parent() {
        files::create_dir(dir)?;
    }
    let bytes = found.encode()?;
    files::write_atomic(path, |out| out.write_all(&bytes))
}
