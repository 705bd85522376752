//! `engine data check` of annotated images: what annotations hold, and whether anchors suit them.

use serde_json::{Map, Value, json};

use super::check::CheckArgs;
use crate::cli::train::split_words;
use crate::config::{Config, Recipe, Resolved, Setting, Task, flag, resolve};
use crate::data::annotated::{NO_CLASS, Root};
use crate::data::survey::labels::{self, LabelSurvey};
use crate::data::survey::objects::{self, ObjectSurvey, SizeGroup};
use crate::data::survey::{Extent, of_read};
use crate::error::{Error, Result};
use crate::eval::progress::Progress;
use crate::finetune::det::TASKS;
use crate::finetune::det::recall::{AnchorSet, Recall};
use crate::outside::printable;
use crate::program::output::{facts, table};
use crate::program::{print, print_json};

/// Lines of one kind that are printed, at most.
const LISTED: usize = 20;

/// An annotated path, and what is to be looked at.
pub(super) struct Annotated<'a> {
    args: &'a CheckArgs,
    source: String,
    root: Root,
    words: Vec<Setting>,
    of_objects: Option<Task>,
    of_labels: bool,
}

/// Boxes, and the anchors that they were held against.
struct Boxes {
    survey: ObjectSurvey,
    task: Task,
    config: Config,
    anchors: AnchorSet,
    recall: Vec<Recall>,
}

impl<'a> Annotated<'a> {
    /// The path that `args` name, if it is annotated: as `--task` says, or unmistakably. Else the paths.
    ///
    /// # Errors
    /// Flags and settings that are of no use to what is looked at.
    pub(super) fn of(args: &'a CheckArgs) -> Result<std::result::Result<Self, Vec<String>>> {
        let (paths, words) = split_words(&args.paths)?;
        let is_wanted = args.task.is_some_and(|task| task != Task::Cls);
        let root = match &paths[..] {
            _ if args.task == Some(Task::Cls) => None,
            [path] if is_wanted => Some(Root::open(path)?),
            // What cannot be opened here is opened as images, which says what is wrong.
            [path] => Root::open(path).ok().filter(|root| root.has_objects() || root.has_labels()),
            _ if is_wanted => {
                return Err(Error::usage("--task seg, det-c4 or det-fpn: expected one PATH"));
            }
            _ => None,
        };
        let Some(root) = root else {
            args.expect_no_annotations(&words)?;
            return Ok(Err(paths));
        };
        args.expect_annotations()?;
        let (of_objects, of_labels) = match args.task {
            Some(Task::Seg) => (None, true),
            Some(task) => (Some(task), false),
            None => (root.has_objects().then(|| args.det_task()), root.has_labels()),
        };
        if args.images.is_some() && of_objects.is_none() {
            return Err(Error::usage("--images is for det-c4 and det-fpn"));
        }
        let [source] = &paths[..] else { return Err(Error::usage("expected one PATH")) };
        Ok(Ok(Self { args, source: source.clone(), root, words, of_objects, of_labels }))
    }

    /// Prints what there is; exit 3 where anything is damaged.
    pub(super) fn run(&self, json: bool) -> Result<()> {
        let boxes = self.of_objects.map(|task| self.boxes(task)).transpose()?;
        let labels = self.of_labels.then(|| self.labels()).transpose()?;
        let damaged = boxes.as_ref().map_or(0, |boxes| boxes.survey.damaged.len())
            + labels.as_ref().map_or(0, |labels| labels.damaged.len());
        if json {
            let mut all = Map::new();
            if let Some(boxes) = &boxes {
                all.insert("objects".into(), boxes.to_json());
            }
            if let Some(labels) = &labels {
                all.insert("label_images".into(), json!(labels));
            }
            print_json(&all)?;
        } else {
            let parts = [boxes.as_ref().map(Boxes::text), labels.as_ref().map(labels_text)];
            print(&parts.into_iter().flatten().collect::<Vec<_>>().join("\n"))?;
        }
        match damaged {
            0 => Ok(()),
            n => Err(Error::data(format!(
                "{n} images or annotations are damaged: repair or remove them; engine finetune stops \
                 at the first that it meets"
            ))),
        }
    }

    fn extent(&self) -> Extent {
        if self.args.all { Extent::All } else { Extent::Quick }
    }

    /// Settings of a task: the recipe's, and above them the user's.
    fn settings(&self, task: Task) -> Result<Resolved> {
        let named = self.args.recipe.filter(|recipe| {
            // Of two tasks a recipe is that of one.
            self.args.task.is_some() || Recipe::all(task).contains(recipe)
        });
        let mut settings = named.unwrap_or(Recipe::Small).settings(task, 1.0)?;
        let preset = self.args.preset.as_ref();
        settings.extend(preset.map(|name| flag("--preset", "preset", name.as_str())));
        settings.extend(self.words.iter().cloned());
        resolve(&settings)
    }

    fn boxes(&self, task: Task) -> Result<Boxes> {
        let config = self.settings(task)?.config;
        let anchors = AnchorSet::new(&config, task)?;
        let images = self.args.images.as_deref();
        let extent = self.extent();
        let survey = objects::survey(&self.source, &self.root, images, extent, shown("images"))?;
        let recall = anchors.recall(&survey.kept);
        Ok(Boxes { survey, task, config, anchors, recall })
    }

    fn labels(&self) -> Result<LabelSurvey> {
        let config = self.settings(Task::Seg)?.config;
        let ignore = u8::try_from(config.seg.ignore).unwrap_or(NO_CLASS);
        let extent = self.extent();
        labels::survey(&self.source, &self.root, ignore, extent, shown("label images"))
    }
}

/// Shows how many of all are done.
fn shown(what: &'static str) -> impl FnMut(usize, usize) {
    let mut progress = None;
    move |more, all| {
        progress.get_or_insert_with(|| Progress::new(what, all, 0)).advance(more, String::new);
    }
}

impl CheckArgs {
    /// The detector whose recipe was named, else the usual one.
    fn det_task(&self) -> Task {
        let is_of = |task: &Task| self.recipe.is_some_and(|r| Recipe::all(*task).contains(&r));
        let named = TASKS.into_iter().rev().find(is_of);
        named.unwrap_or(Task::DetFpn)
    }

    /// Errors: flags that look at images alone.
    fn expect_annotations(&self) -> Result<()> {
        let given = [
            ("--test-data", !self.test_data.is_empty()),
            ("--sheet", self.sheet.is_some()),
            ("--channels", self.channels.channels() != 3),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((flag, _)) => Err(Error::usage(format!(
                "{flag} looks at images without their annotations: add --task cls, or leave it out"
            ))),
        }
    }

    /// Errors: flags and settings that are of no use without annotations.
    fn expect_no_annotations(&self, words: &[Setting]) -> Result<()> {
        let given = [
            ("--images", self.images.is_some()),
            ("--recipe", self.recipe.is_some()),
            ("--preset", self.preset.is_some()),
        ];
        let flag = given.iter().find(|(_, given)| *given).map(|(flag, _)| (*flag).to_owned());
        match flag.or_else(|| words.first().map(|word| word.key.clone())) {
            None => Ok(()),
            Some(what) => Err(Error::usage(format!(
                "{what} is for annotated images: expected a PATH with annotations in one of the layouts of \
                 docs/dense.md, and --task det-fpn, det-c4 or seg where they are not found by themselves"
            ))),
        }
    }
}

impl Boxes {
    /// Images that have more objects than a net may find.
    fn beyond_top_k(&self) -> usize {
        self.survey.objects_of.iter().filter(|&&n| n > self.config.det.top_k).count()
    }

    fn to_json(&self) -> Value {
        let mut all = json!(self.survey);
        let det = &self.config.det;
        let (strides, sizes): (Vec<usize>, Vec<&[f64]>) = self.anchors.levels().unzip();
        all["top_k"] = json!(det.top_k);
        all["images_beyond_top_k"] = json!(self.beyond_top_k());
        all["anchors"] = json!({
            "task": self.task,
            "recipe": self.config.finetune.recipe,
            "preset": self.config.preset.name,
            "short": det.short_test,
            "long": det.long,
            "strides": strides,
            "sizes": sizes,
            "ratios": self.anchors.ratios(),
            "recall": self.recall,
        });
        all
    }

    fn text(&self) -> String {
        let survey = &self.survey;
        let top_k = self.config.det.top_k;
        let mean = (survey.objects - survey.crowds) as f64 / survey.images.max(1) as f64;
        let rows = [
            ("objects of", printable(&survey.source).to_string()),
            ("annotations", survey.annotations.clone()),
            ("images", of_read(survey.images, survey.read)),
            ("damaged", survey.damaged.len().to_string()),
            ("objects", survey.objects.to_string()),
            ("crowds", survey.crowds.to_string()),
            ("difficult", survey.difficult.to_string()),
            ("with a mask", survey.masks.to_string()),
            (
                "an image has",
                format!("{mean:.1} objects on average, {} at most", survey.most_objects),
            ),
            ("without objects", format!("{} images", survey.images_without_objects)),
            ("over det.top_k", format!("{} images with more than {top_k}", self.beyond_top_k())),
            ("left out", format!("{} boxes without a pixel in their image", survey.dropped.len())),
            ("cut off", format!("{} boxes that reach out of their image", survey.clipped)),
        ];
        let dropped = survey.dropped.iter();
        let dropped: Vec<String> = dropped
            .map(|d| format!("left out {}: {}, image {}", d.place, d.reason, printable(&d.image)))
            .collect();
        let mut classes =
            vec![["class", "objects", "images", "crowds", "difficult"].map(str::to_owned).to_vec()];
        classes.extend(survey.classes.iter().map(|c| {
            let counts = [c.objects, c.images, c.crowds, c.difficult].map(|n| n.to_string());
            [vec![printable(&c.class).to_string()], counts.to_vec()].concat()
        }));
        let text = [damaged(&survey.damaged), listed(&dropped), facts(&rows)].concat();
        format!("{text}\n{}\n{}\n{}", table(&classes), self.sizes(), self.anchors())
    }

    /// How large objects are.
    fn sizes(&self) -> String {
        let head = ["size", "objects", "shorter side", "longer side", "width/height"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.survey.sizes.iter().map(|group: &SizeGroup| {
            let row = [
                group.size.to_owned(),
                group.objects.to_string(),
                spread(group.shorter_side, 1),
                spread(group.longer_side, 1),
                spread(group.aspect, 2),
            ];
            row.to_vec()
        }));
        table(&rows)
            + "(least, median and greatest; small is an area up to 32², medium up to 96²)\n"
    }

    /// How well anchors suit them.
    fn anchors(&self) -> String {
        let (det, recipe) = (&self.config.det, self.config.finetune.recipe);
        let list = |values: &mut dyn Iterator<Item = f64>| {
            values.map(|v| v.to_string()).collect::<Vec<_>>().join(" ")
        };
        let sizes = list(&mut self.anchors.levels().flat_map(|(_, sizes)| sizes.iter().copied()));
        let strides = list(&mut self.anchors.levels().map(|(stride, _)| stride as f64));
        let rows = [
            (
                "anchors of",
                format!("{}, recipe {recipe}, preset {}", self.task, self.config.preset.name),
            ),
            (
                "sides",
                format!(
                    "{sizes} pixels, ratios {}",
                    list(&mut self.anchors.ratios().iter().copied())
                ),
            ),
            ("positions", format!("every {strides} pixels")),
            ("images", format!("shorter side {}, longer at most {}", det.short_test, det.long)),
        ];
        let head = ["size", "boxes", "IoU >= 0.5", "IoU >= 0.7", "no overlap"];
        let mut table_rows = vec![head.map(str::to_owned).to_vec()];
        table_rows.extend(self.recall.iter().map(|found| {
            let shares = [found.iou50, found.iou70, found.none].map(percent);
            [vec![found.size.to_owned(), found.boxes.to_string()], shares.to_vec()].concat()
        }));
        facts(&rows)
            + &table(&table_rows)
            + "(share of the boxes whose best anchor has that overlap)\n"
    }
}

fn labels_text(survey: &LabelSurvey) -> String {
    let share = survey.ignored as f64 / survey.pixels.max(1) as f64;
    let absent: Vec<String> = survey.absent.iter().map(|c| printable(c).to_string()).collect();
    let rows = [
        ("label images of", printable(&survey.source).to_string()),
        ("images", of_read(survey.images, survey.read)),
        ("damaged", survey.damaged.len().to_string()),
        ("pixels", survey.pixels.to_string()),
        ("ignored", format!("{} ({})", survey.ignored, percent(Some(share)))),
        ("never occur", if absent.is_empty() { "-".to_owned() } else { absent.join(", ") }),
    ];
    let mut classes = vec![["class", "pixels", "share", "images"].map(str::to_owned).to_vec()];
    classes.extend(survey.classes.iter().map(|c| {
        let numbers = [c.pixels.to_string(), percent(Some(c.share)), c.images.to_string()];
        [vec![printable(&c.class).to_string()], numbers.to_vec()].concat()
    }));
    format!("{}{}\n{}", damaged(&survey.damaged), facts(&rows), table(&classes))
}

/// A line for each of what is damaged.
fn damaged(all: &[String]) -> String {
    listed(&all.iter().map(|what| format!("damaged: {what}")).collect::<Vec<_>>())
}

/// The first lines, and how many more there are.
fn listed(lines: &[String]) -> String {
    let shown: String = lines.iter().take(LISTED).map(|line| format!("{line}\n")).collect();
    match lines.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown}and {more} more, which --json names\n"),
    }
}

/// Least, median and greatest.
fn spread(values: Option<[f64; 3]>, digits: usize) -> String {
    let Some(values) = values else { return "-".to_owned() };
    values.map(|v| format!("{v:.digits$}")).join(" / ")
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}
