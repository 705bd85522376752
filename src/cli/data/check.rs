//! `engine data check` and `engine data stats`: what images there are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::Channels;
use super::annotated::Annotated;
use crate::config::{Recipe, Task};
use crate::data::Dataset;
use crate::data::survey::{ClassCount, Extent, Repeats, Survey, of_read, sheet, survey};
use crate::error::{Error, Result};
use crate::eval::progress::Progress;
use crate::outside::printable;
use crate::program::output::{facts, prepare_file, table};
use crate::program::{print, print_json};

/// Classes that `check` lists, at most: of more, the largest and the smallest.
const LISTED: usize = 10;

/// Rows and columns of a contact sheet.
const SHEET: [usize; 2] = [12, 12];

/// Arguments of `engine data check`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
#[command(override_usage = "engine data check PATH... [OPTIONS] [KEY=VALUE]...")]
pub struct CheckArgs {
    /// Images: a folder, a list, archives, Parquet, CIFAR or IDX files, or a packed file; or annotated
    /// images, in one of the layouts of docs/dense.md, and settings of their nets
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
    /// Annotations that are looked at: det-fpn, det-c4, seg, or cls for images alone [default: those
    /// that PATH unmistakably has]
    #[arg(long, value_name = "TASK", hide_possible_values = true)]
    pub task: Option<Task>,
    /// Folder of the images, where they do not lie beside the annotations (of det-c4 and det-fpn)
    #[arg(long, value_name = "DIR")]
    pub images: Option<String>,
    /// Recipe of engine finetune whose anchors boxes are held against [default: small]
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    pub recipe: Option<Recipe>,
    /// Search space of the net with these anchors [default: data]
    #[arg(long, value_name = "NAME|FILE")]
    pub preset: Option<String>,
    /// Images of a test set: also say which of them the others hold too
    #[arg(long, value_name = "TEST")]
    pub test_data: Vec<String>,
    /// Write a PNG with a few images, of each class a row
    #[arg(long, value_name = "FILE")]
    pub sheet: Option<PathBuf>,
    /// Replace that file
    #[arg(long, requires = "sheet")]
    pub overwrite: bool,
    /// Read every image, however many they are
    #[arg(long)]
    pub all: bool,
    /// Channels to read them with
    #[command(flatten)]
    pub channels: Channels,
}

const EXAMPLES: &str = "\
Examples:
  engine data check images/ --sheet sheet.png
  engine data check coco#val2017 --recipe coco-fpn
  engine data check bccd.tar#train --preset tiny det.anchor=24
  engine data check camvid.tar#train
docs/data.md and docs/dense.md explain what is printed.";

/// Prints what there is and what cannot be read; exit 3 where anything cannot.
pub(super) fn run(args: &CheckArgs, json: bool) -> Result<()> {
    match Annotated::of(args)? {
        Ok(annotated) => annotated.run(json),
        Err(paths) => of_images(&paths, args, json),
    }
}

fn of_images(paths: &[String], args: &CheckArgs, json: bool) -> Result<()> {
    if let Some(out) = &args.sheet {
        prepare_file(out, args.overwrite)?;
    }
    let extent = if args.all { Extent::All } else { Extent::Quick };
    let main = Dataset::open(paths)?;
    let channels = args.channels.channels();
    let survey = look_at(&main, extent, channels);
    let mut test = None;
    if !args.test_data.is_empty() {
        let dataset = Dataset::open(&args.test_data)?;
        let found = look_at(&dataset, extent, channels);
        let repeats = survey.repeated_in(&found);
        test = Some((dataset, found, repeats));
    }
    let rows = match &args.sheet {
        Some(out) => Some((out, sheet::write(&main, channels, SHEET, out)?)),
        None => None,
    };
    if json {
        let mut value = as_json(&survey);
        if let Some((_, found, repeats)) = &test {
            value["test"] = as_json(found);
            value["test"]["repeats_of_train"] = json!(repeats);
        }
        if let Some((out, rows)) = &rows {
            value["sheet"] = json!({ "file": out.display().to_string(), "rows": rows });
        }
        print_json(&value)?;
    } else {
        let mut text = described(&main, &survey);
        if let Some((dataset, found, repeats)) = &test {
            text += &format!("\ntest images\n{}", described(dataset, found));
            let pairs = Pairs { first: &main, second: dataset, of_test: true };
            text += &pairs.text(repeats);
        }
        if let Some((out, rows)) = &rows {
            text += &shown(out, rows);
        }
        print(&text)?;
    }
    expect_readable(&survey)?;
    test.map_or(Ok(()), |(_, found, _)| expect_readable(&found))
}

fn look_at(dataset: &Dataset, extent: Extent, channels: usize) -> Survey {
    let chosen = extent.of(dataset);
    let mut progress = Progress::new("images", chosen.len(), 0);
    survey(dataset, &chosen, channels, |more| progress.advance(more, String::new))
}

fn as_json(survey: &Survey) -> serde_json::Value {
    json!({
        "source": survey.source,
        "kinds": survey.kinds,
        "images": survey.images,
        "read": survey.read,
        "readable": survey.read - survey.corrupt.len(),
        "corrupt": survey.corrupt,
        "other_files": survey.other_files,
        "unsupported_formats": survey.unsupported_formats,
        "sixteen_bit": survey.sixteen_bit,
        "bytes": survey.bytes,
        "parts": survey.parts,
        "labels_from": survey.labels_from,
        "empty_folders": survey.empty_folders,
        "classes": survey.classes,
        "unlabelled": survey.unlabelled,
        "formats": survey.formats,
        "shorter_side": survey.shorter_side,
        "repeats": survey.repeats,
    })
}

/// Exit 3 where images cannot be read.
fn expect_readable(survey: &Survey) -> Result<()> {
    match survey.corrupt.len() {
        0 => Ok(()),
        n => Err(Error::data(format!(
            "{n} of {} images cannot be read: repair or remove them, or let training replace them \
             (data.on_corrupt, data.max_corrupt)",
            survey.read
        ))),
    }
}

/// What `check` prints of a data set.
fn described(dataset: &Dataset, survey: &Survey) -> String {
    let listed = survey
        .corrupt
        .iter()
        .map(|c| format!("cannot read {}: {}\n", printable(&c.file), c.reason));
    let pairs = Pairs { first: dataset, second: dataset, of_test: false };
    listed.collect::<String>()
        + &summary(survey)
        + &pairs.text(&survey.repeats)
        + &balance(&survey.classes)
}

/// Classes and their images: all, or the largest and the smallest.
fn balance(classes: &[ClassCount]) -> String {
    if classes.is_empty() {
        return String::new();
    }
    let mut sorted: Vec<&ClassCount> = classes.iter().collect();
    let head = if classes.len() <= 2 * LISTED {
        "images per class"
    } else {
        sorted.sort_by_key(|c| std::cmp::Reverse(c.images));
        sorted.drain(LISTED..classes.len() - LISTED);
        "images per class (the largest and the smallest)"
    };
    let row = |c: &&ClassCount| vec![printable(&c.class).to_string(), c.images.to_string()];
    format!("\n{head}\n{}", table(&sorted.iter().map(row).collect::<Vec<_>>()))
}

/// Data sets whose images are the first and the second of pairs.
struct Pairs<'a> {
    first: &'a Dataset,
    second: &'a Dataset,
    /// Whether the second is a test set.
    of_test: bool,
}

impl Pairs<'_> {
    fn text(&self, repeats: &Repeats) -> String {
        let what =
            if self.of_test { "test images that the others hold" } else { "repeated images" };
        let other = match repeats.same_in_another_class {
            0 => String::new(),
            n => format!(", {n} of them in another class"),
        };
        let mut text = format!(
            "{what}: {} the same{other}, {} nearly the same (of {} compared)\n",
            repeats.same, repeats.nearly, repeats.compared
        );
        for (how, pairs) in [("=", &repeats.same_pairs), ("~", &repeats.near_pairs)] {
            for &[first, second] in pairs {
                let (first, second) = (self.first.name(first), self.second.name(second));
                text += &format!("  {} {how} {}\n", printable(&first), printable(&second));
            }
        }
        text
    }
}

fn shown(out: &Path, rows: &[String]) -> String {
    let what = match rows {
        [] => "images spread evenly".to_owned(),
        rows => {
            let rows: Vec<String> = rows.iter().map(|class| printable(class).to_string()).collect();
            format!("a row for each of {}", rows.join(", "))
        }
    };
    format!("\n{}: {what}\n", printable(out))
}

/// Prints what there is; exit 3 where nothing can be read.
pub(super) fn stats(paths: &[String], channels: usize, json: bool) -> Result<()> {
    let dataset = Dataset::open(paths)?;
    let survey = look_at(&dataset, Extent::All, channels);
    for c in &survey.corrupt {
        tracing::warn!("cannot read {}: {}", printable(&c.file), c.reason);
    }
    if survey.corrupt.len() == survey.images {
        return Err(Error::data(format!(
            "none of the {} images can be read: `engine data check` says why",
            survey.images
        )));
    }
    if json {
        return print_json(&survey);
    }
    let list = |v: &[f64], between| v.iter().map(|x| digits(*x)).collect::<Vec<_>>().join(between);
    let mean = if channels == 3 { "mean (r g b)" } else { "mean" };
    let rows = [(mean, list(&survey.mean, " ")), ("std", list(&survey.std, " "))];
    let mut text = summary(&survey) + &facts(&rows);
    if !survey.classes.is_empty() {
        let classes = survey.classes.iter();
        let rows = classes.map(|c| vec![printable(&c.class).to_string(), c.images.to_string()]);
        text += &format!("\nimages per class\n{}", table(&rows.collect::<Vec<_>>()));
    }
    text += &format!(
        "\nfor a search space of your own (docs/spaces.md)\nchannels = {channels}\nmean = [{}]\nstd = [{}]\n",
        list(&survey.mean, ", "),
        list(&survey.std, ", ")
    );
    print(&text)
}

/// Four digits of a number of at most 1, and at least four decimals.
fn digits(x: f64) -> String {
    let zeros = if x > 0.0 { (-x.log10()).floor().clamp(0.0, 8.0) as usize } else { 0 };
    format!("{x:.0$}", 4 + zeros)
}

/// A few lines that check and stats share.
fn summary(survey: &Survey) -> String {
    let list =
        |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join(", ") };
    let counts = |of: &BTreeMap<&str, usize>| {
        list(of.iter().map(|(name, n)| format!("{name} {n}")).collect())
    };
    let sides = survey.shorter_side.iter();
    let sides = sides.map(|s| format!("{}-{} px {}", s.from, s.to, s.images)).collect();
    let classes = match &survey.classes[..] {
        [] => "none".to_owned(),
        classes => {
            let counts = || classes.iter().map(|c| c.images);
            let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
            format!("{}, of {least} to {most} images", classes.len())
        }
    };
    let rounded = match survey.sixteen_bit {
        0 => "-".to_owned(),
        n if survey.mean.len() == 3 => format!("{n} images, rounded to 8 bits a channel"),
        n => format!("{n} images, with all their bits"),
    };
    let labels = match &survey.labels_from[..] {
        [] if survey.classes.is_empty() => "none".to_owned(),
        [] => "folders' names".to_owned(),
        [one] => printable(one).to_string(),
        [first, .., last] => {
            let n = survey.labels_from.len();
            format!("{n} files: {} to {}", printable(first), printable(last))
        }
    };
    let empty = match survey.empty_folders {
        0 => "-".to_owned(),
        n => format!("in {n} folders, which are no classes"),
    };
    let parts = survey.parts.iter().map(|(part, n)| format!("{} {n}", printable(part))).collect();
    let rows = [
        ("source", printable(&survey.source).to_string()),
        ("kind", counts(&survey.kinds)),
        ("images", of_read(survey.images, survey.read)),
        ("unreadable", survey.corrupt.len().to_string()),
        ("other files", survey.other_files.to_string()),
        ("size", format!("{:.1} MB", survey.bytes as f64 / 1e6)),
        ("formats", counts(&survey.formats)),
        ("not read", counts(&survey.unsupported_formats)),
        ("16 bits", rounded),
        ("shorter side", list(sides)),
        ("parts", list(parts)),
        ("labels from", labels),
        ("classes", classes),
        ("no images", empty),
        ("unlabelled", survey.unlabelled.to_string()),
    ];
    facts(&rows)
}
