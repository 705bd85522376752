//! `engine eval det` and `eval seg`: what results on dense tasks are worth, whatever made them.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use serde_json::{Map, json};

use super::Globals;
use super::eval::percent;
use crate::config::Task;
use crate::data::annotated::{LabelImages, NO_CLASS, Objects, Predictions, results};
use crate::device::host;
use crate::error::{Error, Result};
use crate::eval::dense::miou::Counts;
use crate::eval::dense::score::{self, Metric, Scores};
use crate::finetune::det::{self, DetModel};
use crate::finetune::export;
use crate::finetune::seg::{SegModel, SegSet};
use crate::finetune::tested::{self, Places, Scored, Tested};
use crate::finetune::tuned_net::TunedNet;
use crate::program::output::{facts, table};
use crate::program::{open_device, print, print_json};
use crate::train::Checkpoint;

/// Arguments of `engine eval det`.
#[derive(Args, Clone, Debug)]
#[command(after_help = DET_EXAMPLES)]
#[command(group = ArgGroup::new("answers").required(true).args(["ckpt", "model", "detections"]))]
#[command(
    override_usage = "engine eval det (--ckpt RUN | --model DIR | --detections FILE)\n           \
                            --data ANNOTATIONS [OPTIONS]"
)]
pub struct DetArgs {
    /// A net that engine finetune --task det-c4 or det-fpn has trained to the end: its run
    #[arg(long, value_name = "RUN|CKPT")]
    pub ckpt: Option<PathBuf>,
    /// The export of such a net, instead of its run
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// What was found, instead of a net: a JSON file of COCO's results, with boxes, masks, or both
    #[arg(long, value_name = "FILE")]
    pub detections: Option<PathBuf>,
    /// Folder of the images, where they do not lie beside the annotations
    #[arg(long, value_name = "DIR", conflicts_with = "detections")]
    pub images: Option<String>,
    /// What is true: COCO's JSON file, or a folder in COCO's or Pascal VOC's layout (#NAME: a split)
    #[arg(long, value_name = "ANNOTATIONS")]
    pub data: String,
    /// How boxes are scored; masks always by COCO's metric
    #[arg(long, value_name = "METRIC", default_value_t)]
    pub metric: Metric,
}

/// Arguments of `engine eval seg`.
#[derive(Args, Clone, Debug)]
#[command(after_help = SEG_EXAMPLES)]
#[command(group = ArgGroup::new("answers").required(true).args(["ckpt", "model", "masks"]))]
#[command(override_usage = "engine eval seg (--ckpt RUN | --model DIR | --masks DIR)\n           \
                            --data VAL [OPTIONS]")]
pub struct SegArgs {
    /// A net that engine finetune --task seg has trained to the end: its run
    #[arg(long, value_name = "RUN|CKPT")]
    pub ckpt: Option<PathBuf>,
    /// The export of such a net, instead of its run
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// What was predicted, instead of a net: a folder of PNGs called like the images, whose values are
    /// classes
    #[arg(long, value_name = "DIR")]
    pub masks: Option<String>,
    /// What is true: label images in one of the layouts of docs/dense.md (#NAME: a split)
    #[arg(long, value_name = "VAL")]
    pub data: String,
    /// The true label of pixels that count nowhere [default: the run's, 255 with --masks]
    #[arg(long, value_name = "LABEL")]
    pub ignore: Option<u8>,
}

const DET_EXAMPLES: &str = "\
Examples:
  engine eval det --ckpt runs/bccd --data bccd.tar#test --metric voc07
  engine eval det --model exported/ --data bccd.tar#test
  engine eval det --detections results.json --data instances_val2017.json
  engine eval det --detections results.json --data VOC2007#test --metric voc07
Numbers are pycocotools' (coco) or detectron2's (voc07, voc12). docs/dense.md explains them.";

const SEG_EXAMPLES: &str = "\
Examples:
  engine eval seg --ckpt runs/camvid --data camvid.tar#test
  engine eval seg --masks predicted/ --data camvid.tar#test
  engine eval seg --masks predicted/ --data cityscapes#val --json
docs/dense.md explains layouts and numbers.";

/// Where a net is read from.
enum Source<'a> {
    Run(&'a Path),
    Export(&'a Path),
}

fn source<'a>(ckpt: &'a Option<PathBuf>, model: &'a Option<PathBuf>) -> Option<Source<'a>> {
    let run = ckpt.as_deref().map(Source::Run);
    run.or(model.as_deref().map(Source::Export))
}

impl Source<'_> {
    /// The net, which is for one of these tasks, and the run's folder where it is one.
    fn open(&self, tasks: &[Task]) -> Result<(TunedNet, Option<PathBuf>)> {
        match self {
            Self::Run(path) => {
                let checkpoint = Checkpoint::open(path)?;
                Ok((TunedNet::of_run(&checkpoint, tasks)?, checkpoint.run_dir()))
            }
            Self::Export(path) => Ok((export::open(path)?.expect(tasks)?, None)),
        }
    }
}

/// Images whose counts are held at a time.
const AT_ONCE: usize = 64;

/// Runs on as many threads as are asked for.
fn on_threads<T: Send>(globals: &Globals, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(host::threads(globals.device.threads.into()))
        .build()
        .map_err(|e| Error::device(format!("cannot start threads: {e}; use fewer --threads")))?;
    pool.install(work)
}

/// Scores objects.
pub(super) fn det(args: &DetArgs, globals: &Globals) -> Result<()> {
    match (&args.detections, source(&args.ckpt, &args.model)) {
        (Some(detections), _) => det_of_file(detections, args, globals),
        (None, Some(source)) => det_of_net(&source, args, globals),
        (None, None) => Err(Error::usage("expected --ckpt RUN, --model DIR or --detections FILE")),
    }
}

fn det_of_net(source: &Source, args: &DetArgs, globals: &Globals) -> Result<()> {
    let cx = open_device(&globals.device)?;
    let tested = cx.install(|| -> Result<_> {
        let (tuned, run) = source.open(&det::TASKS)?;
        let space = tuned.space()?;
        let model = DetModel::new(&cx, tuned)?;
        let images = args.images.as_deref();
        let set = det::open(&args.data, images, model.config(), model.task, &space)?;
        let places = Places { run: run.as_deref(), answers: None };
        tested::detection(&cx, &model, (&set, &args.data), args.metric, places)
    })?;
    say(&tested, &args.data, globals)
}

/// A result on stdout.
fn say(tested: &Tested, data: &str, globals: &Globals) -> Result<()> {
    match globals.json {
        true => print_json(&tested.result),
        false => print(&scored_text(data, tested)),
    }
}

fn det_of_file(detections: &Path, args: &DetArgs, globals: &Globals) -> Result<()> {
    let (truth, boxes, masks) = on_threads(globals, || {
        let truth = Objects::open(&args.data)?;
        let found = results::read(detections, &truth)?;
        let masks = match args.metric {
            Metric::Coco => score::masks(&truth, &found),
            _ => None,
        };
        let boxes = score::boxes(args.metric, &truth, &found);
        Ok((truth, boxes, masks))
    })?;
    if globals.json {
        let mut result = Map::from_iter([("metric".to_owned(), json!(args.metric))]);
        result.extend(boxes.to_json());
        if let Some(masks) = &masks {
            result.insert("mask".into(), masks.to_json().into());
        }
        return print_json(&result);
    }
    let images = truth.images.len();
    print(&det_text(images, &truth.title, args.metric, &boxes, masks.as_ref()))
}

/// Numbers of boxes and masks as tables.
fn det_text(
    images: usize,
    title: &str,
    metric: Metric,
    boxes: &Scores,
    masks: Option<&Scores>,
) -> String {
    let mut text = format!("{} of {title}, metric {metric}\n", counted(images));
    for (what, scores) in [("boxes", Some(boxes)), ("masks", masks)] {
        if let Some(scores) = scores {
            text += &format!("\n{}", scores_text(what, scores));
        }
    }
    text
}

fn counted(images: usize) -> String {
    format!("{images} image{}", if images == 1 { "" } else { "s" })
}

/// A share, where it is defined.
fn shown(share: f64) -> String {
    if share < 0.0 { "-".into() } else { percent(share) }
}

fn scores_text(what: &str, scores: &Scores) -> String {
    let mut rows = vec![[what, "objects", "AP", "AP50", "AP75"].map(str::to_owned).to_vec()];
    rows.extend(scores.classes.iter().map(|class| {
        let aps = class.ap.map(shown);
        [class.name.clone(), class.objects.to_string()].into_iter().chain(aps).collect()
    }));
    let objects: usize = scores.classes.iter().map(|class| class.objects).sum();
    let mut all = vec!["all classes".to_owned(), objects.to_string()];
    all.extend(scores.numbers[..3].iter().map(|(_, value)| shown(*value)));
    rows.push(all);
    // Of other metrics there are no more numbers.
    let defined: Vec<(&str, String)> = scores.numbers[3..]
        .iter()
        .filter(|(_, value)| *value >= 0.0)
        .map(|(name, value)| (*name, shown(*value)))
        .collect();
    let rest = if defined.is_empty() { String::new() } else { format!("\n{}", facts(&defined)) };
    table(&rows) + &rest
}

/// Scores label images.
pub(super) fn seg(args: &SegArgs, globals: &Globals) -> Result<()> {
    let Some(source) = source(&args.ckpt, &args.model) else { return seg_of_files(args, globals) };
    let cx = open_device(&globals.device)?;
    let tested = cx.install(|| -> Result<_> {
        let (tuned, run) = source.open(&[Task::Seg])?;
        let model = SegModel::new(&cx, tuned)?;
        let mut config = model.config().clone();
        config.seg.ignore = args.ignore.map_or(config.seg.ignore, usize::from);
        let set = SegSet::open(&args.data, &config)?.with_classes(&model.classes)?;
        let places = Places { run: run.as_deref(), answers: None };
        tested::segmentation(&cx, model, (&set, &args.data), places)
    })?;
    say(&tested, &args.data, globals)
}

/// What a fine-tuned net was found to be worth, as text.
pub(super) fn scored_text(data: &str, tested: &Tested) -> String {
    match &tested.scored {
        Scored::Seg { names, counts, images } => seg_text(*images, data, names, counts),
        Scored::Det(found) => {
            let (boxes, masks) = (&found.boxes, found.masks.as_ref());
            det_text(found.images, data, found.metric, boxes, masks)
        }
    }
}

/// Scores label images that something else has made.
fn seg_of_files(args: &SegArgs, globals: &Globals) -> Result<()> {
    let (images, names, counts) = on_threads(globals, || {
        let truth = LabelImages::open(&args.data, args.ignore.unwrap_or(NO_CLASS))?;
        let predicted = Predictions::open(args.masks.as_deref().unwrap_or_default())?;
        let classes = truth.names().map_or(usize::from(u8::MAX), <[String]>::len);
        let mut counts = Counts::new(classes);
        for from in (0..truth.len()).step_by(AT_ONCE) {
            let these = from..truth.len().min(from + AT_ONCE);
            let all: Vec<Result<Counts>> =
                these.into_par_iter().map(|i| count(&truth, &predicted, i, classes)).collect();
            // The first image in order that fails is the one that is named.
            for one in all {
                counts.merge(&one?);
            }
        }
        let names = match truth.names() {
            Some(names) => names.to_vec(),
            None => (0..counts.met()).map(|class| class.to_string()).collect(),
        };
        Ok((truth.len(), names, counts))
    })?;
    if globals.json {
        return print_json(&json!({
            "miou": counts.miou(),
            "macc": counts.macc(),
            "aacc": counts.aacc(),
            "per_class": counts.per_class(&names),
        }));
    }
    print(&seg_text(images, &args.data, &names, &counts))
}

fn count(truth: &LabelImages, predicted: &Predictions, i: usize, classes: usize) -> Result<Counts> {
    let labels = truth.read(i)?;
    let (found, file) = predicted.read(truth, i)?;
    if (found.width, found.height) != (labels.width, labels.height) {
        return Err(Error::data(format!(
            "{file}: expected {}x{} pixels, as {} has, found {}x{}; predictions are scored at the \
             images' own sizes",
            labels.width,
            labels.height,
            truth.title(i),
            found.width,
            found.height
        )));
    }
    let mut counts = Counts::new(classes);
    counts.add(&labels.labels, &found.labels).map_err(|at| {
        Error::data(format!(
            "{file}: expected classes from 0 to {}, found {} at column {}, row {}; pixels are counted \
             where the true label is a class",
            classes - 1,
            found.labels[at],
            at % found.width,
            at / found.width
        ))
    })?;
    Ok(counts)
}

/// Accuracies of classes of pixels as a table.
pub(super) fn seg_text(images: usize, data: &str, names: &[String], counts: &Counts) -> String {
    let mut rows = vec![["class", "pixels", "IoU", "accuracy"].map(str::to_owned).to_vec()];
    let row = |(c, name): (usize, &String)| {
        let numbers =
            [counts.truth(c).to_string(), shown(counts.iou(c)), shown(counts.accuracy(c))];
        std::iter::once(name.clone()).chain(numbers).collect()
    };
    rows.extend(names.iter().enumerate().map(row));
    let pixels: u64 = (0..names.len()).map(|c| counts.truth(c)).sum();
    let mean = [pixels.to_string(), shown(counts.miou()), shown(counts.macc())];
    rows.push(std::iter::once("mean".to_owned()).chain(mean).collect());
    format!(
        "{} of {}\n\n{}\n{} of all pixels are right\n",
        counted(images),
        data,
        table(&rows),
        shown(counts.aacc())
    )
}
