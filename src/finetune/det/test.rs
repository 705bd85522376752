//! What a net finds in images whose objects are annotated.

use std::path::Path;

use super::model::{DetModel, Shown};
use super::set::DetSet;
use crate::cx::Cx;
use crate::data::annotated::{Detection, Detections, Objects, results};
use crate::error::Result;
use crate::eval::dense::UNDEFINED;
use crate::eval::dense::mistakes::SCORE;
use crate::eval::dense::score::{self, Metric, Scores};
use crate::eval::progress::Progress;
use crate::finetune::details::{Class, Details, Example, Placed, Verdict};
use crate::signals;

/// File of a run with what was found, as COCO's results.
pub const RESULTS: &str = "detections.json";

/// Numbers of boxes and, of a net with a mask head on objects with masks, of masks.
pub struct Scored {
    /// Of boxes.
    pub boxes: Scores,
    /// Of masks.
    pub masks: Option<Scores>,
    /// What was found, image by image, the best first.
    pub found: Detections,
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
    Ok(Scored { boxes, masks, found: of_boxes })
}

/// What a test by a metric looks like; `data` names its images.
///
/// # Errors
/// Images that can no longer be read; classes that the net does not know.
pub fn details(
    model: &DetModel,
    (set, data): (&DetSet, &[String]),
    metric: Metric,
    scored: &Scored,
) -> Result<Details> {
    let truth: &Objects = &set.objects;
    let all = &scored.found.all;
    let numbers = set.numbers_of(&model.classes)?;
    let mut own = vec![0; set.names().len()];
    for (class, number) in numbers.iter().enumerate() {
        number.iter().for_each(|&number| own[number] = class);
    }
    let classes = classes(model, truth, &numbers, metric, scored);
    let judged = score::judge(truth, &scored.found);
    let mut tallies = vec![[0; 3]; set.len()];
    for (object, is_found) in truth.objects.iter().zip(&judged.found) {
        is_found.iter().for_each(|&is| tallies[object.image][usize::from(!is)] += 1);
    }
    for (found, is_right) in all.iter().zip(&judged.right) {
        tallies[found.image][2] += usize::from(*is_right == Some(false));
    }
    let images: Vec<Verdict> = tallies.into_iter().map(Verdict::Objects).collect();
    let example = |i: usize| {
        let image = set.load(i)?;
        let size = [image.height, image.width];
        let example = Example::of(&set.name(i), images[i], image)?;
        let true_ones = set.of_image[i].iter().map(|&o| Placed {
            class: own[truth.objects[o].class],
            score: None,
            bbox: truth.objects[o].bbox,
            mask: truth.objects[o].mask.as_ref(),
            is_right: judged.found[o],
        });
        let is_shown = |d: &usize| all[*d].image == i && all[*d].score >= SCORE;
        let found = (0..all.len())
            .filter(is_shown)
            .map(|d| Placed::found(&all[d], own[all[d].class], judged.right[d]));
        let truth = example.objects(size, &true_ones.collect::<Vec<_>>())?;
        let found = example.objects(size, &found.collect::<Vec<_>>())?;
        Ok(Example { truth, found, ..example })
    };
    let of = (data, scored.boxes.ap());
    Details::new(model.task, &model.describe(), of, classes, images.clone(), example)
}

/// Numbers of the net's classes.
fn classes(
    model: &DetModel,
    truth: &Objects,
    numbers: &[Option<usize>],
    metric: Metric,
    scored: &Scored,
) -> Vec<Class> {
    // Of other metrics there are no curves.
    let coco = (metric != Metric::Coco).then(|| score::boxes(Metric::Coco, truth, &scored.found));
    let curves = &coco.as_ref().unwrap_or(&scored.boxes).classes;
    let short = |curve: Vec<f64>| curve.iter().map(|p| (p * 1e4).round() / 1e4).collect();
    let class = |(name, number): (&String, &Option<usize>)| {
        let name = name.clone();
        let Some(c) = *number else {
            return Class { name, numbers: vec![UNDEFINED; 3], ..Class::default() };
        };
        let boxes = &scored.boxes.classes[c];
        Class {
            name,
            count: boxes.objects as u64,
            numbers: boxes.ap.to_vec(),
            masks: scored.masks.as_ref().map(|masks| masks.classes[c].ap),
            curves: curves[c].curves.clone().map(|both| both.map(short)),
        }
    };
    model.classes.iter().zip(numbers).map(class).collect()
}
