//! What `eval/*.json` says of a net: written here only, whatever evaluates.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::baselines::Baselines;
use super::classes::Answers;
use super::dense::miou::Counts;
use super::dense::score::{Metric, Scores};
use super::evaluate::{EvalResult, Options, Splits};
use crate::config::Task;
use crate::space::{Arch, Space};

/// The images of one side of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Split {
    /// Where they are from.
    pub data: Vec<String>,
    /// How many they are.
    pub images: usize,
}

/// How a classifier was learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learnt {
    /// Which images had labels: `all`, a share, or a file's name.
    pub labels: String,
    /// Recipe.
    pub recipe: String,
    /// Learning rate of the body.
    pub lr: f64,
    /// Learning rate of the head.
    pub lr_head: f64,
    /// Which images the rates were chosen on: `off` (none), `held-out` or `test`.
    pub select: String,
    /// Images that were learnt from.
    pub train_images: usize,
    /// Sources of these images.
    pub train_data: Vec<String>,
    /// Seed of the run.
    pub seed: u64,
}

/// A net that was evaluated.
#[derive(Clone, Debug, Serialize)]
pub struct Net {
    /// Which.
    pub arch: Arch,
    /// Multiply-accumulates of the backbone's convolutions for one image.
    pub macs: u64,
    /// Parameters of the backbone.
    pub params: u64,
    /// Name of its space.
    pub preset: String,
    /// Training step of its weights.
    pub step: u64,
    /// `student` or `teacher`.
    pub weights: &'static str,
}

impl Net {
    /// The net `arch` of a space.
    pub fn new(arch: Arch, space: &Space, preset: &str, step: u64, weights: &'static str) -> Self {
        let cost = space.cost(&arch);
        Self {
            arch,
            macs: cost.macs,
            params: cost.params,
            preset: preset.to_owned(),
            step,
            weights,
        }
    }
}

/// What nets were evaluated with.
#[derive(Clone, Debug, Serialize)]
pub struct Setup {
    /// `knn` or `linear`.
    pub protocol: String,
    /// `pool` or `z`.
    pub features: String,
    /// To learn from.
    pub train: Split,
    /// To test on.
    pub test: Split,
    /// Number of classes.
    pub classes: usize,
    /// Accuracy of always naming the most frequent class of the test images.
    pub chance: f64,
    /// Accuracy of drawing from the classes evenly.
    pub chance_uniform: f64,
}

impl Setup {
    /// For images of `sets`, which are from `data` and `test_data`.
    pub fn new(options: &Options, sets: &Splits, data: &[String], test_data: &[String]) -> Self {
        Self {
            protocol: options.protocol.to_string(),
            features: options.feature.name().to_owned(),
            train: Split { data: data.to_vec(), images: sets.train.len() },
            test: Split { data: test_data.to_vec(), images: sets.test.len() },
            classes: sets.classes,
            chance: sets.chance(),
            chance_uniform: sets.uniform_chance(),
        }
    }

    /// As the first keys of a result.
    pub fn to_json(&self) -> Map<String, Value> {
        object(self)
    }
}

/// The result of one net: what it is, how it was evaluated, what it is worth, and what stands
/// beside that. `bn_images`: how many images its batch norms' statistics are from, where they did
/// not come with it.
pub fn of_net(
    net: &Net,
    setup: &Setup,
    bn_images: Option<usize>,
    verdict: &EvalResult,
    baselines: Option<&Baselines>,
) -> Map<String, Value> {
    let mut all = object(net);
    all.extend(setup.to_json());
    all.insert("bn_images".into(), json!(bn_images));
    all.extend(verdict.to_json(setup.test.images));
    if let Some(baselines) = baselines {
        all.insert("baselines".into(), Value::Object(baselines.to_json()));
        all.insert("remarks".into(), json!(baselines.remarks(verdict)));
    }
    all
}

/// The result of a net with a classifier: what it is, how it was learnt and tested, and its answers.
/// The first keys are those of every result of a task.
pub fn of_answers(
    net: &Net,
    learnt: &Learnt,
    test: &Split,
    classes: usize,
    chance: f64,
    answers: &Answers,
) -> Map<String, Value> {
    let mut all = object(&json!({
        "task": "cls",
        "arch": net.arch,
        "top1": answers.top1(),
        "top5": answers.top5(),
        "chance": chance,
        "labels": learnt.labels,
        "train_images": learnt.train_images,
        "test_images": test.images,
        "seed": learnt.seed,
    }));
    all.extend(object(net));
    let train = Split { data: learnt.train_data.clone(), images: learnt.train_images };
    all.extend(object(&json!({
        "protocol": "fine-tuned",
        "features": "pool",
        "recipe": learnt.recipe,
        "lr": learnt.lr,
        "lr_head": learnt.lr_head,
        "select": learnt.select,
        "train": train,
        "test": test,
        "classes": classes,
        "chance_uniform": 1.0 / classes.max(1) as f64,
    })));
    all.extend(answers.to_json());
    all
}

/// The result of a net with heads that say the class of each pixel.
pub fn of_segmentation(
    net: &Net,
    learnt: &Learnt,
    test: &Split,
    names: &[String],
    counts: &Counts,
) -> Map<String, Value> {
    let mut all = object(&json!({
        "task": "seg",
        "arch": net.arch,
        "miou": counts.miou(),
        "macc": counts.macc(),
        "aacc": counts.aacc(),
        "per_class": counts.per_class(names),
        "labels": learnt.labels,
        "train_images": learnt.train_images,
        "test_images": test.images,
        "seed": learnt.seed,
    }));
    all.extend(object(net));
    all.extend(of_learning(learnt, test));
    all
}

/// The result of a net that finds objects: numbers of boxes and, where there are some, of masks.
pub fn of_detection(
    task: Task,
    net: &Net,
    learnt: &Learnt,
    test: &Split,
    (metric, boxes, masks): (Metric, &Scores, Option<&Scores>),
) -> Map<String, Value> {
    let mut all = object(&json!({ "task": task, "metric": metric, "arch": net.arch }));
    all.extend(boxes.to_json());
    if let Some(masks) = masks {
        all.insert("mask".into(), masks.to_json().into());
    }
    all.extend(object(&json!({
        "labels": learnt.labels,
        "train_images": learnt.train_images,
        "test_images": test.images,
        "seed": learnt.seed,
    })));
    all.extend(object(net));
    all.extend(of_learning(learnt, test));
    all
}

/// How a net was fine-tuned and tested.
fn of_learning(learnt: &Learnt, test: &Split) -> Map<String, Value> {
    let train = Split { data: learnt.train_data.clone(), images: learnt.train_images };
    object(&json!({
        "protocol": "fine-tuned",
        "recipe": learnt.recipe,
        "lr": learnt.lr,
        "lr_head": learnt.lr_head,
        "train": train,
        "test": test,
    }))
}

/// The number that says most of a fine-tuned net's result, and its name; none of another evaluation.
pub fn headline(result: &Value) -> Option<(&'static str, f64)> {
    let (name, key) = match result["task"].as_str()?.parse().ok()? {
        Task::Cls => ("top-1", "top1"),
        Task::Seg => ("mIoU", "miou"),
        Task::DetC4 | Task::DetFpn => ("AP", "AP"),
    };
    Some((name, result[key].as_f64()?))
}

fn object(value: &impl Serialize) -> Map<String, Value> {
    json!(value).as_object().cloned().unwrap_or_default()
}

/// A short name of the images: the last part of their path, without the endings of archives.
pub fn domain(data: &[String]) -> String {
    let first = data.first().map_or("", String::as_str);
    let (path, inside) = first.split_once('#').map_or((first, ""), |(p, i)| (p, i));
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let endings = [".zst", ".tar", ".txt", ".bin", ".pack"];
    let name = endings.iter().fold(name, |name, end| name.strip_suffix(end).unwrap_or(name));
    let name = if name.is_empty() || name == "." { "images" } else { name };
    let inside = if inside.is_empty() { String::new() } else { format!("-{inside}") };
    format!("{name}{inside}").replace('/', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_have_short_names() {
        let name = |path: &str| domain(&[path.to_owned()]);
        assert_eq!(name("/a/b/cifar10.tar.zst#train"), "cifar10-train");
        assert_eq!(name("a.tar#x/y"), "a-x-y");
        assert_eq!(name("target/"), "target");
        assert_eq!(name("list.txt"), "list");
        assert_eq!(name("."), "images");
    }
}
