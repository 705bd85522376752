//! Curves of fine-tuning on annotated images: each loss by itself, and how many objects a step learns
//! from.

use super::chart::{Line, LineChart};
use super::dense;
use super::run::Run;
use super::series::{Bin, MAX_BINS, bins, ends};
use super::svg::Size;
use super::training::{Panel, means, series, sign};
use crate::error::Result;

const CLASSES: [&str; 5] = ["c1", "c2", "c3", "c4", "c5"];

/// Names of the losses in `metrics.jsonl`, and what they are.
const LOSSES: [(&str, &str); 7] = [
    ("seg", "of pixels"),
    ("aux", "of pixels, by the auxiliary head"),
    ("rpn_cls", "whether anchors hold an object"),
    ("rpn_loc", "where anchors' objects lie"),
    ("cls", "classes of regions"),
    ("box", "boxes of regions"),
    ("mask", "masks of regions"),
];

/// A loss over the steps.
struct Loss {
    name: &'static str,
    about: &'static str,
    /// Steps and values.
    points: Vec<(f64, f64)>,
}

/// A line for each loss; none where there is only one.
pub(super) fn losses(run: &Run) -> Option<Panel> {
    let value = |name: &str| series(run, |step| step.losses.as_ref()?.get(name).copied().flatten());
    let known: Vec<Loss> = LOSSES
        .iter()
        .map(|(name, about)| Loss { name, about, points: value(name) })
        .filter(|loss| ends(&loss.points).is_some())
        .collect();
    if known.len() < 2 {
        return None;
    }
    let about: Vec<String> =
        known.iter().map(|loss| format!("{}: {}", loss.name, loss.about)).collect();
    let lines = known.iter().map(|loss| (loss.name, means(&loss.points)));
    let note = format!("The parts of the loss, with their weights. {}.", about.join("; "));
    panel("Losses one by one", note, lines)
}

/// A chart with a line for each name.
fn panel<'a>(
    title: &'static str,
    note: String,
    lines: impl Iterator<Item = (&'a str, Vec<Bin>)>,
) -> Option<Panel> {
    let line = |((name, bins), class): ((&str, Vec<Bin>), &&'static str)| Line {
        name: name.to_owned(),
        class,
        bins,
    };
    let svg = LineChart {
        label: title,
        size: Size::WIDE,
        x_label: "step",
        lines: lines.zip(&CLASSES).map(line).collect(),
        references: Vec::new(),
        from_zero: true,
    }
    .draw()?;
    Some(Panel { title: title.into(), note, svg, wide: true })
}

/// What tests during training found; none where there were none.
pub(super) fn tests(run: &Run) -> Result<Option<Panel>> {
    let lines = dense::over_steps(&run.dir)?;
    let names: Vec<&str> = lines.iter().map(|(name, _)| *name).collect();
    let note = format!(
        "{} of the test images (%) every finetune.eval_every steps and at the end. Where curves no longer \
         rise, more steps gain nothing.",
        names.join(", ")
    );
    let lines = lines.iter().map(|(name, points)| (*name, bins(points, MAX_BINS)));
    Ok(panel("Tests during training", note, lines))
}

/// What a step of detection learns from.
pub(super) fn signs(run: &Run) -> Vec<Panel> {
    if run.dense_task().is_none() {
        return Vec::new();
    }
    let all = [
        (
            "pos_anchors",
            "Anchors that hold an object",
            "In a batch. Near 0 no anchor fits an object: det.anchor, the side of the smallest, is far \
             from the objects' sizes.",
        ),
        (
            "fg_rois",
            "Regions that hold an object",
            "In a batch, of those that the heads learn from. It rises as proposals get better.",
        ),
        (
            "padding",
            "Padding",
            "Share of a batch that is no image. Above a third a batch wastes time on it: \
             det.size_per=batch wastes less.",
        ),
    ];
    let panel = |(name, title, note): (&str, &str, &str)| {
        sign(run, name, title, note.to_owned(), Vec::new())
    };
    all.into_iter().filter_map(panel).collect()
}
