//! The part of the page about training: key figures and curves.

use std::collections::HashMap;

use serde::Serialize;

use super::chart::{Line, LineChart};
use super::dense_training;
use super::health;
use super::numbers;
use super::run::{Run, Step};
use super::series::{MAX_BINS, bins, ends};
use super::svg::{Layouts, Size};
use crate::config::{Method, Task};
use crate::progress::human_duration;
use crate::space::{Arch, Space};
use crate::ssl::{self, Even};

/// A chart with its heading and what to look for in it.
#[derive(Serialize)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) note: String,
    pub(super) svg: Layouts,
    /// Whether it takes the page's whole width.
    pub(super) wide: bool,
}

/// One of the figures at the top.
#[derive(Clone, Serialize)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) note: String,
}

/// Bins of the lines of nets by size: few, since each step shows only two random nets.
const SIZE_BINS: usize = 100;

/// Loss of a net that tells no images apart, or of guessing among classes.
fn even(run: &Run) -> Option<Even> {
    if let Some(tuned) = &run.tuned {
        let weight = match run.dense_task() {
            None => 1.0,
            Some(Task::Seg) => 1.0 + run.number("seg.aux_weight").unwrap_or(0.0),
            // Boxes that are guessed have no loss of their own.
            Some(_) => return None,
        };
        let loss = weight * (tuned.classes.len() as f64).ln();
        return Some(Even { loss, what: "guessing", formula: None });
    }
    run.word("method")?;
    match run.queue() {
        Some(rows) => Some(ssl::even(run.method(), rows as usize)),
        None => (run.method() == Method::Byol).then(|| ssl::even(Method::Byol, 0)),
    }
}

/// (step, value) of a metric; missing values become NaN, a gap in the line.
pub(super) fn series(run: &Run, value: impl Fn(&Step) -> Option<f64>) -> Vec<(f64, f64)> {
    let pair = |s: &Step| (s.step.unwrap_or(f64::NAN), value(s).unwrap_or(f64::NAN));
    run.steps.iter().map(pair).collect()
}

/// The figures at the top of the page.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    let mut all = Vec::new();
    let mut add = |name: &str, value: String, note: String| {
        all.push(Figure { name: name.into(), value, note });
    };
    let Some(last) = run.steps.last() else { return all };
    let step = run.steps_done();
    let of =
        run.status["steps"].as_u64().map_or(String::new(), |n| format!("of {}", numbers::count(n)));
    add("steps", numbers::count(step), of);
    if let Some(found) = health::found(run) {
        add("health", found.health.to_string(), found.in_short());
    }
    if let Some((_, loss)) = ends(&series(run, |s| run.loss(s))) {
        let note = even(run)
            .map_or(String::new(), |even| format!("{}: {}", even.what, numbers::short(even.loss)));
        add("loss", numbers::short(loss), note);
    }
    if let Some((_, rate)) = ends(&series(run, |s| s.images_per_s)) {
        let per_day = format!("{} a day", numbers::scaled(rate * 86_400.0));
        add("images a second", numbers::short(rate), per_day);
    }
    if let Some(seconds) = last.time_s {
        let seen = run
            .number("train.batch")
            .map_or(String::new(), |b| format!("{} images seen", numbers::scaled(b * step as f64)));
        add("time in training", human_duration(seconds), seen);
    }
    let peak = run.steps.iter().filter_map(|s| s.device_mem_bytes).fold(0.0, f64::max);
    if peak > 0.0 {
        add("memory at most", format!("{}B", numbers::scaled(peak)), "of tensors".into());
    }
    all
}

/// All curves.
pub(super) fn panels(run: &Run) -> Vec<Panel> {
    let loss = loss(run);
    let parts = match run.dense_task() {
        Some(_) => dense_training::losses(run),
        None => run.space().and_then(|space| by_size(run, &space)),
    };
    let rest = [
        learning_rate(run),
        health::spread(run),
        health::rank(run),
        entropy(run),
        matches(run),
        grad_norm(run),
        throughput(run),
        waiting(run),
        memory(run),
    ];
    let signs = dense_training::signs(run);
    loss.into_iter().chain(parts).chain(rest.into_iter().flatten()).chain(signs).collect()
}

/// A panel with one line.
fn single(
    run: &Run,
    (title, note): (&str, String),
    value: impl Fn(&Step) -> Option<f64>,
    references: Vec<(f64, String)>,
    size: Size,
) -> Option<Panel> {
    let bins = bins(&series(run, value), MAX_BINS);
    let lines = vec![Line { name: title.to_lowercase(), class: "c1", bins }];
    let chart =
        LineChart { label: title, size, x_label: "step", lines, references, from_zero: true };
    let svg = chart.draw()?;
    Some(Panel { title: title.into(), note, svg, wide: size.is_wide() })
}

fn loss(run: &Run) -> Option<Panel> {
    let value = |s: &Step| run.loss(s);
    if let Some(tuned) = &run.tuned {
        let mut note = match run.dense_task() {
            Some(_) => "The sum of the losses of a batch, which are drawn below.",
            None => "Cross-entropy with the classes of a batch, mean over classifiers.",
        }
        .to_owned();
        let mut references = Vec::new();
        if let Some(Even { loss: even, .. }) = even(run) {
            note += " The dashed line is the loss of guessing.";
            let classes = tuned.classes.len();
            let times = even / (classes as f64).ln();
            let times = if times > 1.0 { format!("{} ", numbers::short(times)) } else { "".into() };
            references.push((even, format!("{times}ln {classes} = {}", numbers::fixed(even, 2))));
        }
        return single(run, ("Loss", note), value, references, Size::WIDE);
    }
    let mut note = "Loss of a student net, mean over those of a step. ".to_owned();
    let references = match even(run) {
        Some(Even { loss, what, formula }) => {
            note += &format!(
                "The dashed line is the loss of a net that tells no images apart ({what}). A loss \
                 below it is no proof of learning, nor one above it of the contrary: see spread and \
                 rank."
            );
            let value = numbers::fixed(loss, 2);
            let rows = numbers::count(run.queue().unwrap_or_default() as u64);
            let label = match formula {
                Some(formula) => format!("{} = {value}", formula.replace('K', &rows)),
                None => value,
            };
            vec![(loss, label)]
        }
        None => Vec::new(),
    };
    single(run, ("Loss", note), value, references, Size::WIDE)
}

fn learning_rate(run: &Run) -> Option<Panel> {
    let mut note = match run.tuned {
        Some(_) => "The larger of the rates of body and head.".to_owned(),
        None => "The schedule: warm-up, if any, then half a cosine down to 0.".to_owned(),
    };
    for e in &run.extended {
        note += &format!(
            " At step {} the run was extended from {} to {} steps: the curve jumps to that of the \
             longer run.",
            numbers::count(e.step),
            numbers::count(e.from),
            numbers::count(e.to)
        );
    }
    single(run, ("Learning rate", note), |s| s.lr, Vec::new(), Size::HALF)
}

/// A sign of the method's, if it has that.
pub(super) fn sign(
    run: &Run,
    name: &str,
    title: &str,
    note: String,
    most: Vec<(f64, String)>,
) -> Option<Panel> {
    run.steps.iter().find(|step| step.signs.contains_key(name))?;
    single(run, (title, note), |s| s.signs.get(name).copied(), most, Size::HALF)
}

fn entropy(run: &Run) -> Option<Panel> {
    let note =
        "Entropy of the relations that the teacher finds, mean over images. At the dashed line \
                every image is related to all others alike; at 0 to one alone."
            .to_owned();
    let most =
        run.queue().map(|rows| (rows.ln(), format!("ln K = {}", numbers::fixed(rows.ln(), 2))));
    sign(run, "entropy", "Entropy of relations", note, most.into_iter().collect())
}

fn matches(run: &Run) -> Option<Panel> {
    let note =
        "Share of the positions that are matched by any. Near 0 all positions of an image are \
                alike."
            .to_owned();
    sign(run, "matches", "Matched positions", note, Vec::new())
}

fn grad_norm(run: &Run) -> Option<Panel> {
    let note = "Should stay within one order of magnitude; rising spikes announce divergence \
                (lower train.lr)."
        .to_owned();
    single(run, ("Gradient norm", note), |s| s.grad_norm, Vec::new(), Size::HALF)
}

fn throughput(run: &Run) -> Option<Panel> {
    let note = "Images a second. Dips are checkpoints or a busy machine.".to_owned();
    single(run, ("Throughput", note), |s| s.images_per_s, Vec::new(), Size::HALF)
}

fn waiting(run: &Run) -> Option<Panel> {
    let waits = series(run, |s| s.data_wait_ms);
    let rates = series(run, |s| s.images_per_s);
    let mut note = "Milliseconds of a step in which the net had to wait for images.".to_owned();
    let batch = run.number("train.batch");
    if let (Some((_, wait)), Some((_, rate)), Some(batch)) = (ends(&waits), ends(&rates), batch) {
        let share = (wait * rate / (batch * 1000.0)).clamp(0.0, 1.0);
        note += &format!(" Lately {} of the time", numbers::percent(share));
        note += if share > 0.05 { ": more data.workers would help." } else { ": nothing to gain." };
    }
    single(run, ("Waiting for images", note), |s| s.data_wait_ms, Vec::new(), Size::HALF)
}

fn memory(run: &Run) -> Option<Panel> {
    let most = run.steps.iter().filter_map(|s| s.device_mem_bytes).fold(0.0, f64::max);
    let (unit, prefix) = numbers::scale_of(most);
    let note =
        format!("{prefix}B in tensors. Flat after the first steps: a step allocates nothing.");
    let value = |s: &Step| Some(s.device_mem_bytes? / unit);
    single(run, ("Memory", note), value, Vec::new(), Size::HALF)
}

/// Nets of similar cost.
struct SizeGroup {
    name: String,
    class: &'static str,
    points: Vec<(f64, f64)>,
}

/// Index of the group that an architecture belongs to: 0 for MAX, then three ranges of MACs
/// of equal ratio, the largest first.
fn size_group(macs: f64, is_max: bool, (lo, hi): (f64, f64)) -> usize {
    let share = (macs / lo).ln() / (hi / lo).ln();
    if is_max { 0 } else { 3 - (share * 3.0).clamp(0.0, 2.0) as usize }
}

fn by_size(run: &Run, space: &Space) -> Option<Panel> {
    let max = space.max();
    let macs = |a: &Arch| space.cost(a).macs as f64;
    let range = (macs(&space.min()), macs(&max));
    let edge = |i: i32| range.0 * (range.1 / range.0).powf(f64::from(i) / 3.0);
    let (unit, prefix) = numbers::scale_of(range.1);
    let name = |i: i32| {
        let [a, b] =
            [edge(i), edge(i + 1)].map(|v| numbers::short((v / unit * 100.0).round() / 100.0));
        format!("{a}–{b} {prefix}")
    };
    let group = |name: String, class| SizeGroup { name, class, points: Vec::new() };
    let mut groups = [
        group("MAX".into(), "size4"),
        group(name(2), "size3"),
        group(name(1), "size2"),
        group(name(0), "size1"),
    ];
    let mut known: HashMap<&str, Option<usize>> = HashMap::new();
    for s in &run.steps {
        for (id, loss) in s.losses.iter().flatten() {
            let index = *known.entry(id).or_insert_with(|| {
                let arch: Arch = id.parse().ok()?;
                Some(size_group(macs(&arch), arch == max, range))
            });
            if let Some(i) = index {
                groups[i].points.push((s.step?, loss.unwrap_or(f64::NAN)));
            }
        }
    }
    let lines: Vec<Line> = groups
        .into_iter()
        .filter(|g| !g.points.is_empty())
        .map(|g| Line { name: g.name, class: g.class, bins: means(&g.points) })
        .collect();
    let references = Vec::new();
    let label = "Loss by size of net";
    let chart =
        LineChart { label, size: Size::WIDE, x_label: "step", lines, references, from_zero: false };
    let svg = chart.draw()?;
    let note = "The same loss, by the compute of the net (multiply-accumulates an image). Lines \
                should fall together; one that stays behind is a size that training neglects \
                (try sampling.policy = \"sandwich\")."
        .into();
    Some(Panel { title: label.into(), note, svg, wide: true })
}

/// Bins without their extremes: several bands would hide each other.
pub(super) fn means(points: &[(f64, f64)]) -> Vec<super::series::Bin> {
    let flat = |b: super::series::Bin| super::series::Bin { min: b.mean, max: b.mean, ..b };
    bins(points, SIZE_BINS).into_iter().map(flat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_fall_into_groups() {
        let range = (1.0, 1000.0);
        let group = |macs, is_max| size_group(macs, is_max, range);
        assert_eq!([group(1000.0, true), group(1000.0, false), group(50.0, false)], [0, 1, 2]);
        assert_eq!([group(1.0, false), group(0.5, false)], [3, 3]);
    }
}
