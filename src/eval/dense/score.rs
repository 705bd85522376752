//! What results are worth against annotations, by one of the metrics.

use serde_json::{Map, Value, json};

use super::coco::{self, Summary};
use super::mistakes::{self, Judged};
use super::voc::{self, Rule};
use super::{Detected, UNDEFINED};
use crate::choice;
use crate::data::annotated::{Detection, Detections, Object, Objects};
use crate::geometry::{BBox, Rle};

choice! {
    /// How boxes are scored.
    #[derive(Default)]
    pub enum Metric("metric") {
        /// COCO's: the mean over ten overlaps and 101 steps of recall.
        #[default]
        Coco = "coco",
        /// Pascal VOC's of 2007, eleven steps of recall, as a mean over COCO's ten overlaps.
        Voc07 = "voc07",
        /// The same with boxes rounded to one decimal and scores to three, as detectron2 does.
        Voc07D2 = "voc07-d2",
        /// Pascal VOC's of 2010 and later, the area under the curve, likewise.
        Voc12 = "voc12",
    }
}

/// A class's precision.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassScore {
    /// What it is called.
    pub name: String,
    /// True objects that may be missed.
    pub objects: usize,
    /// The mean over overlaps, at .5 and at .75; −1 where there is none.
    pub ap: [f64; 3],
    /// Precision at COCO's steps of recall, at the overlaps .5 and .75; none of a class without
    /// objects, and of other metrics.
    pub curves: Option<[Vec<f64>; 2]>,
}

/// Numbers of all classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// COCO's twelve, by their names; −1 where one is not defined.
    pub numbers: [(&'static str, f64); 12],
    /// Of each class.
    pub classes: Vec<ClassScore>,
}

impl Scores {
    /// The mean precision.
    pub fn ap(&self) -> f64 {
        self.numbers[0].1
    }

    /// By their names, with the mean precision of each class.
    pub fn to_json(&self) -> Map<String, Value> {
        let per_class: Map<String, Value> =
            self.classes.iter().map(|class| (class.name.clone(), json!(class.ap[0]))).collect();
        let numbers = self.numbers.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
        numbers.chain([("per_class".to_owned(), per_class.into())]).collect()
    }

    fn new(summary: &Summary, classes: Vec<ClassScore>) -> Self {
        let Summary { ap, ap50, ap75, ap_by_area: by_area, ar, ar_by_area } = *summary;
        let numbers = [
            ("AP", ap),
            ("AP50", ap50),
            ("AP75", ap75),
            ("APs", by_area[0]),
            ("APm", by_area[1]),
            ("APl", by_area[2]),
            ("AR1", ar[0]),
            ("AR10", ar[1]),
            ("AR100", ar[2]),
            ("ARs", ar_by_area[0]),
            ("ARm", ar_by_area[1]),
            ("ARl", ar_by_area[2]),
        ];
        Self { numbers, classes }
    }
}

/// Scores boxes.
pub fn boxes(metric: Metric, truth: &Objects, found: &Detections) -> Scores {
    let rule = match metric {
        Metric::Coco => return by_coco(truth, found, &of_boxes(truth, found)),
        Metric::Voc07 | Metric::Voc07D2 => Rule::ElevenPoints,
        Metric::Voc12 => Rule::Area,
    };
    by_voc(truth, found, rule, metric == Metric::Voc07D2)
}

/// The overlap of a detection's box and an object's, by their positions.
fn of_boxes(truth: &Objects, found: &Detections) -> impl Fn(usize, usize) -> f64 {
    |d, t| {
        let (found, truth) = (&found.all[d], &truth.objects[t]);
        found.bbox.iou(&truth.bbox, truth.crowd)
    }
}

/// Judges boxes one by one.
pub fn judge(truth: &Objects, found: &Detections) -> Judged {
    let (objects, detections) = coco_objects(truth, found);
    mistakes::judge(truth.categories.len(), &objects, &detections, &of_boxes(truth, found))
}

/// Scores masks by COCO's metric; none where results or annotations have none. An object without a
/// mask is missed.
pub fn masks(truth: &Objects, found: &Detections) -> Option<Scores> {
    if !found.masks || !truth.have_masks() {
        return None;
    }
    let boxed = |mask: Option<&Rle>| mask.map_or(BBox::default(), Rle::bbox);
    let found_boxes: Vec<BBox> = found.all.iter().map(|d| boxed(d.mask.as_ref())).collect();
    let true_boxes: Vec<BBox> = truth.objects.iter().map(|o| boxed(o.mask.as_ref())).collect();
    let iou = |d: usize, t: usize| {
        let object = &truth.objects[t];
        match (&found.all[d].mask, &object.mask) {
            // Few boxes meet, and runs are many.
            (Some(a), Some(b)) if found_boxes[d].iou(&true_boxes[t], false) > 0.0 => {
                a.iou(b, object.crowd)
            }
            _ => 0.0,
        }
    };
    Some(by_coco(truth, found, &iou))
}

fn detected(detection: &Detection) -> Detected {
    let &Detection { image, class, score, area, .. } = detection;
    Detected { image, class, score, area }
}

/// Objects and detections as COCO's metric takes them.
fn coco_objects(truth: &Objects, found: &Detections) -> (Vec<coco::Truth>, Vec<Detected>) {
    let object = |o: &Object| coco::Truth {
        image: o.image,
        class: o.class,
        area: o.area,
        crowd: o.crowd,
        ignore: o.crowd || o.difficult,
    };
    (truth.objects.iter().map(object).collect(), found.all.iter().map(detected).collect())
}

fn by_coco(
    truth: &Objects,
    found: &Detections,
    iou: &(dyn Fn(usize, usize) -> f64 + Sync),
) -> Scores {
    let (objects, detections) = coco_objects(truth, found);
    let results = coco::evaluate(truth.categories.len(), &objects, &detections, iou);
    let aps = results.iter().map(|result| [result.ap(), result.ap50(), result.ap75()]);
    let mut scores = Scores::new(&Summary::of(&results), classes(truth, aps));
    for (class, result) in scores.classes.iter_mut().zip(&results) {
        class.curves = result.curves().map(|both| both.map(|curve| curve.to_vec()));
    }
    scores
}

fn by_voc(truth: &Objects, found: &Detections, rule: Rule, rounds: bool) -> Scores {
    let object = |o: &Object| voc::Truth {
        image: o.image,
        class: o.class,
        corners: voc::corners(&o.bbox),
        difficult: o.crowd || o.difficult,
    };
    let objects: Vec<voc::Truth> = truth.objects.iter().map(object).collect();
    let mut corners: Vec<[f64; 4]> = found.all.iter().map(|d| voc::corners(&d.bbox)).collect();
    let mut detections: Vec<Detected> = found.all.iter().map(detected).collect();
    if rounds {
        corners.iter_mut().flatten().for_each(|corner| *corner = voc::rounded(*corner, 1));
        detections.iter_mut().for_each(|d| d.score = voc::rounded(d.score, 3));
    }
    let results = voc::evaluate(truth.categories.len(), &objects, &detections, &corners, rule);
    let aps: Vec<[f64; 3]> = results.iter().map(|r| [r.ap(), r.aps[0], r.aps[5]]).collect();
    // A class without objects counts as 0.
    let mean = |i: usize| match aps.is_empty() {
        true => UNDEFINED,
        false => aps.iter().map(|ap| ap[i]).sum::<f64>() / aps.len() as f64,
    };
    let summary = Summary { ap: mean(0), ap50: mean(1), ap75: mean(2), ..Summary::undefined() };
    Scores::new(&summary, classes(truth, aps.into_iter()))
}

fn classes(truth: &Objects, aps: impl Iterator<Item = [f64; 3]>) -> Vec<ClassScore> {
    let mut objects = vec![0; truth.categories.len()];
    for object in truth.objects.iter().filter(|o| !o.crowd && !o.difficult) {
        objects[object.class] += 1;
    }
    let named = truth.categories.iter().zip(objects).zip(aps);
    named
        .map(|((class, objects), ap)| {
            let name = class.name.clone();
            ClassScore { name, objects, ap, curves: None }
        })
        .collect()
}
