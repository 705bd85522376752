//! What a net finds in images whose objects are annotated.

use std::path::Path;

use super::model::{DetModel, Shown};
use super::set::DetSet;
use crate::cx::Cx;
use crate::data::annotated::{Detection, Detections, Objects, results};
use crate::error::Result;
use crate::eval::dense::score::{self, Metric, Scores};
use crate::eval::progress::Progress;
use crate::signals;

/// File of a run with what was found, as COCO's results.
pub const RESULTS: &str = "detections.json";

/// Numbers of boxes and, of a net with a mask head on objects with masks, of masks.
pub struct Scored {
    /// Of boxes.
    pub boxes: Scores,
    /// Of masks.
    pub masks: Option<Scores>,
    /// Of each image what was found, the best first.
    pub found: Vec<Vec<Shown>>,
}

/// Finds objects in all images and scores them. They are written into the file `out`, where one is
/// named.
///
/// # Errors
/// Images that cannot be read; classes that the net does not know; a file that cannot be written.
pub fn test(
    cx: &Cx,
    model: &DetModel,
    set: &DetSet,
    metric: Metric,
    out: Option<&Path>,
) -> Result<Scored> {
    let numbers = set.numbers_of(&model.classes)?;
    let mut progress = Progress::new("images", set.len(), 0);
    let mut found = Vec::with_capacity(set.len());
    for i in 0..set.len() {
        signals::go_on()?;
        found.push(model.detect(cx, &set.load(i)?)?);
        progress.advance(1, String::new);
    }
    drop(progress);
    let truth: &Objects = &set.objects;
    let detection = |(image, shown): (usize, &Shown), of_mask: bool| {
        let Shown { class, score, bbox, mask } = shown;
        let pixels = mask.as_ref().filter(|_| of_mask).map(|mask| mask.area() as f64);
        Some(Detection {
            image,
            class: numbers[*class]?,
            score: f64::from(*score),
            bbox: *bbox,
            mask: mask.clone(),
            area: pixels.unwrap_or(bbox.area()),
        })
    };
    let all = |of_mask: bool| {
        let each = found.iter().enumerate();
        let each = each.flat_map(|(i, found)| found.iter().map(move |shown| (i, shown)));
        let all: Vec<Detection> = each.filter_map(|one| detection(one, of_mask)).collect();
        Detections { all, masks: model.has_masks() }
    };
    let of_boxes = all(false);
    if let Some(out) = out {
        results::write(out, truth, &of_boxes)?;
    }
    let boxes = score::boxes(metric, truth, &of_boxes);
    // As detectron2 scores masks: without the boxes, by the masks' own areas.
    let masks = (metric == Metric::Coco).then(|| score::masks(truth, &all(true))).flatten();
    Ok(Scored { boxes, masks, found })
}
