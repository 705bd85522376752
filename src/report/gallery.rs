//! The worst and the best images of a test, with what is true beside what was found.

use serde::Serialize;

use super::labels::{Area, touch};
use super::numbers;
use super::svg::{Anchor, Svg, text_width};
use crate::config::Task;
use crate::eval::dense::mistakes::{IOU, SCORE};
use crate::finetune::details::{Details, Example, Layer, Outlined, Verdict};
use crate::finetune::overlay::colour;

/// Longer side of a drawing, in pixels.
const SIDE: f64 = 340.0;
/// Font size of labels, and their height.
const FONT: f64 = 10.0;
const LABEL: f64 = 13.0;
/// Missed objects that have labels: more would hide the image.
const MOST_MISSED: usize = 8;
/// Classes of a legend at most.
const MOST_NAMED: usize = 40;

/// Images of a test.
#[derive(Serialize)]
pub(super) struct Gallery {
    /// What the images are ranked by, and how they went in all.
    notes: Vec<String>,
    /// Colours of the classes that are seen.
    legend: Vec<(String, String)>,
    worst: Vec<Shown>,
    best: Vec<Shown>,
}

/// An image.
#[derive(Serialize)]
struct Shown {
    name: String,
    verdict: String,
    /// Drawings with their captions.
    drawings: Vec<(String, &'static str)>,
}

/// The images of a test; their ids begin with `id`.
pub(super) fn of(id: &str, details: &Details) -> Gallery {
    let shown = |(which, examples): (&str, &[Example])| {
        let each = examples.iter().enumerate();
        each.map(|(i, e)| shown(&format!("{id}-{which}-{i}"), details, e)).collect()
    };
    Gallery {
        notes: notes(details),
        legend: legend(details),
        worst: shown(("worst", &details.worst)),
        best: shown(("best", &details.best)),
    }
}

/// A small square in a class's colour.
pub(super) fn swatch(class: usize) -> String {
    let mut svg = Svg::with((14.0, 14.0), "", " aria-hidden=\"true\"");
    svg.open(&painted(class));
    svg.rect("dot", (1.0, 1.0), (12.0, 12.0), 3.0, None);
    svg.close();
    svg.finish()
}

/// The attribute that gives shapes of a group a class's colour.
fn painted(class: usize) -> String {
    let [r, g, b] = colour(class);
    format!("style=\"--c:#{r:02x}{g:02x}{b:02x}\"")
}

fn notes(details: &Details) -> Vec<String> {
    let rule = match details.task {
        Task::Seg => "Images are ranked by their own mIoU, the mean over the classes that are true or \
                      said in an image: one with a small object of a class that is missed comes early. \
                      Pixels without a class count nowhere and have no colour."
            .to_owned(),
        _ => format!(
            "Images are ranked by mistakes: objects that were missed, and boxes that find none. A box \
             finds an object of its class where they overlap by IoU {IOU} or more; boxes with a score \
             below {SCORE} are left out, so these counts say less than AP does. True boxes are dashed; \
             mistakes have thick lines. Thin dotted boxes count nowhere: \
             crowds and difficult objects, and what was found in them."
        ),
    };
    vec![rule, spread(&details.images)]
}

/// How all images went.
fn spread(images: &[Verdict]) -> String {
    let mut shares: Vec<f64> = Vec::new();
    let (mut sums, mut clean) = ([0; 3], 0);
    for image in images {
        match image {
            Verdict::Pixels(share) if *share >= 0.0 => shares.push(*share),
            Verdict::Pixels(_) => {}
            Verdict::Objects(counts) => {
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
                clean += usize::from(image.mistakes() == 0);
            }
        }
    }
    shares.sort_by(f64::total_cmp);
    let count = |n: usize| numbers::count(n as u64);
    match (shares.first(), shares.get(shares.len() / 2), shares.last()) {
        (Some(worst), Some(middle), Some(best)) => format!(
            "Of {} images the worst has {}, the middle one {}, the best {}.",
            count(shares.len()),
            numbers::percent(*worst),
            numbers::percent(*middle),
            numbers::percent(*best)
        ),
        _ => format!(
            "In {} images {} objects were found and {} missed, and {} boxes find none; {} images are \
             without a mistake.",
            count(images.len()),
            count(sums[0]),
            count(sums[1]),
            count(sums[2]),
            count(clean)
        ),
    }
}

fn legend(details: &Details) -> Vec<(String, String)> {
    let classes = details.classes.iter().enumerate().take(MOST_NAMED);
    classes.map(|(i, class)| (swatch(i), class.name.clone())).collect()
}

fn shown(id: &str, details: &Details, example: &Example) -> Shown {
    let verdict = match example.verdict {
        Verdict::Pixels(share) => format!("mIoU {}", numbers::percent(share)),
        Verdict::Objects([found, missed, wrong]) => {
            let boxes = if wrong == 1 { "box that finds" } else { "boxes that find" };
            format!("{found} found, {missed} missed, {wrong} {boxes} none")
        }
    };
    let draw = |what: &str, layer: Option<&Layer>, first: bool| {
        let label = format!("{}, {what}", example.name);
        drawing((id, first), &label, details, example, layer)
    };
    let (truth, found) = (Some(&example.truth), Some(&example.found));
    let drawings = match details.task {
        Task::Seg => vec![
            (draw("the image", None, true), "image"),
            (draw("true classes", truth, false), "truth"),
            (draw("predicted classes", found, false), "predicted"),
        ],
        _ => vec![
            (draw("true objects", truth, true), "truth"),
            (draw("objects that were found", found, false), "found"),
        ],
    };
    Shown { name: example.name.clone(), verdict, drawings }
}

/// An image with a layer over it. The first drawing of an image holds it, others show it again.
fn drawing(
    (id, is_first): (&str, bool),
    label: &str,
    details: &Details,
    example: &Example,
    layer: Option<&Layer>,
) -> String {
    let [width, height] = example.size.map(f64::from);
    let scale = SIDE / width.max(height).max(1.0);
    let size = (width * scale, height * scale);
    let mut svg = Svg::new(size, label);
    match is_first {
        true => svg.image(id, size, &example.image),
        false => svg.shown(id),
    }
    let Some(layer) = layer else { return svg.finish() };
    if let Some(pixels) = &layer.pixels {
        let of_layer = format!("{id}-{}", if is_first { "a" } else { "b" });
        svg.open("class=\"pixels\"");
        svg.image(&of_layer, size, pixels);
        svg.close();
    }
    let area = |o: &&Outlined| f64::from(o.bbox[2] * o.bbox[3]);
    // Small ones on top, so that each can be pointed at.
    let mut by_area: Vec<&Outlined> = layer.objects.iter().collect();
    by_area.sort_by(|a, b| area(b).total_cmp(&area(a)));
    for object in by_area {
        outline(&mut svg, object, scale, &words(details, object));
    }
    let mut taken: Vec<Area> = Vec::new();
    // Mistakes are named first, where there is not room for all.
    let mut by_place: Vec<&Outlined> = layer.objects.iter().collect();
    by_place.sort_by_key(|o| o.is_right != Some(false));
    let missed = |o: &&&Outlined| o.score.is_none() && o.is_right == Some(false);
    let is_few = by_place.iter().filter(missed).count() <= MOST_MISSED;
    for object in by_place {
        let [short, _] = words(details, object);
        if object.score.is_some() || (is_few && object.is_right == Some(false)) {
            tag(&mut svg, object, scale, size, &short, &mut taken);
        }
    }
    svg.finish()
}

/// What an object is called: in short, and in full.
fn words(details: &Details, object: &Outlined) -> [String; 2] {
    let class = details.classes.get(object.class);
    let name = class.map_or_else(|| format!("class {}", object.class), |c| c.name.clone());
    let score = object.score.map(|score| numbers::fixed(f64::from(score), 2));
    let verdict = match (&score, object.is_right) {
        (None, Some(true)) => "found",
        (None, Some(false)) => "missed",
        (None, None) => "need not be found",
        (Some(_), Some(true)) => "finds an object",
        (Some(_), Some(false)) => "finds no object",
        (Some(_), None) => "counts nowhere",
    };
    match score {
        Some(score) => [format!("{name} {score}"), format!("{name}, score {score}\n{verdict}")],
        None => [format!("{name} missed"), format!("{name}\n{verdict}")],
    }
}

fn outline(svg: &mut Svg, object: &Outlined, scale: f64, [_, full]: &[String; 2]) {
    let [x, y, w, h] = object.bbox.map(|v| f64::from(v) * scale);
    let kind = match (object.is_right, object.score) {
        (None, _) => " ignored",
        (Some(false), None) => " true mistake",
        (Some(false), Some(_)) => " mistake",
        (Some(true), None) => " true",
        (Some(true), Some(_)) => "",
    };
    svg.open(&painted(object.class));
    svg.rect(&format!("object under{kind}"), (x, y), (w, h), 1.0, None);
    svg.rect(&format!("object{kind}"), (x, y), (w, h), 1.0, Some(full));
    svg.close();
}

/// A label at a corner of its box, where that is free.
fn tag(
    svg: &mut Svg,
    object: &Outlined,
    scale: f64,
    (width, height): (f64, f64),
    text: &str,
    taken: &mut Vec<Area>,
) {
    let [x, y, w, h] = object.bbox.map(|v| f64::from(v) * scale);
    let wide = text_width(text, FONT) * 1.1 + 6.0;
    let left = x.clamp(0.0, (width - wide).max(0.0));
    let right = (x + w - wide).clamp(0.0, (width - wide).max(0.0));
    let places = [(left, y - LABEL), (left, y), (left, y + h), (right, y - LABEL), (right, y + h)];
    let area = |(x, y): (f64, f64)| -> Area { (x, y, x + wide, y + LABEL) };
    let is_free = |place: &(f64, f64)| {
        let area = area(*place);
        area.1 >= 0.0 && area.3 <= height && !taken.iter().any(|other| touch(*other, area))
    };
    let Some(place) = places.into_iter().find(is_free) else { return };
    taken.push(area(place));
    // Letters are dark on light colours.
    let [r, g, b] = colour(object.class).map(f64::from);
    let is_light = 0.299 * r + 0.587 * g + 0.114 * b > 125.0;
    svg.open(&painted(object.class));
    svg.rect("dot", place, (wide, LABEL), 2.0, None);
    svg.close();
    let class = if is_light { "tag dark" } else { "tag" };
    svg.text(class, (place.0 + 3.0, place.1 + LABEL - 3.0), Anchor::Start, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finetune::details::Class;

    fn details() -> Details {
        let class = |name: &str| Class { name: name.into(), ..Class::default() };
        let object = |class: usize, x: f32, score, is_right| Outlined {
            class,
            score,
            bbox: [x, 20.0, 30.0, 30.0],
            is_right,
        };
        let layer = |objects| Layer { pixels: None, objects };
        let example = Example {
            name: "a \"b\".jpg".into(),
            verdict: Verdict::Objects([1, 1, 1]),
            image: "data:image/png;base64,AAAA".into(),
            size: [100, 50],
            truth: layer(vec![
                object(0, 10.0, None, Some(true)),
                object(1, 60.0, None, Some(false)),
            ]),
            found: layer(vec![
                object(0, 11.0, Some(0.91), Some(true)),
                object(1, 12.0, Some(0.6), Some(false)),
            ]),
        };
        Details {
            task: Task::DetFpn,
            arch: "s8".into(),
            step: 3,
            data: vec!["d".into()],
            score: 0.5,
            classes: vec![class("<cat>"), class("dog")],
            confusion: Vec::new(),
            images: vec![Verdict::Objects([1, 1, 1]), Verdict::Objects([2, 0, 0])],
            worst: vec![example],
            best: Vec::new(),
        }
    }

    #[test]
    fn mistakes_are_marked_and_named() {
        let gallery = of("r", &details());
        assert!(gallery.notes[1].starts_with("In 2 images 3 objects were found and 1 missed"));
        let [(truth, _), (found, _)] = &gallery.worst[0].drawings[..] else { panic!() };
        assert!(truth.contains("object true mistake") && truth.contains(">dog missed<"));
        assert!(!truth.contains(">&lt;cat&gt; missed<"));
        assert!(found.contains(">&lt;cat&gt; 0.91<") && found.contains(">dog 0.60<"));
        assert!(found.contains("dog, score 0.60\nfinds no object"));
        // The image itself is there once.
        assert_eq!(truth.matches("data:image").count(), 1);
        assert!(!found.contains("data:image") && found.contains("<use href=\"#r-worst-0\"/>"));
    }

    #[test]
    fn labels_do_not_touch() {
        let mut svg = Svg::new((340.0, 170.0), "");
        let mut taken = Vec::new();
        let object =
            Outlined { class: 0, score: None, bbox: [0.0, 0.0, 10.0, 10.0], is_right: None };
        for _ in 0..9 {
            tag(&mut svg, &object, 1.0, (340.0, 170.0), "a label", &mut taken);
        }
        assert!((1..4).contains(&taken.len()), "{}", taken.len());
        for (i, a) in taken.iter().enumerate() {
            assert!(taken[..i].iter().all(|b| !touch(*a, *b)));
        }
    }
}
