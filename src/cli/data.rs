//! `engine data`: images themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rayon::ThreadPoolBuilder;
use serde_json::{Value, json};

use super::Globals;
use crate::data::survey::{Survey, survey};
use crate::data::{CorruptPolicy, Dataset, OnCorrupt, pack};
use crate::device::host;
use crate::error::{Error, Result};
use crate::eval::progress::Progress;
use crate::outside::printable;
use crate::program::output::{facts, prepare_file, table};
use crate::program::{print, print_json};

/// Arguments of `engine data`.
#[derive(Args, Clone, Debug)]
pub struct DataArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: DataVerb,
}

/// Verbs of `engine data`.
#[derive(Subcommand, Clone, Debug)]
pub enum DataVerb {
    /// Read every image; list those that cannot be read, and exit 3 if there are any
    Check {
        /// Images: a folder, a list, archives, CIFAR files or a packed file
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<String>,
    },
    /// Put images into one file that opens at once
    Pack {
        /// Images
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<String>,
        /// The file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Make images smaller whose longer side exceeds this
        #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(1..))]
        max_side: Option<u16>,
        /// Stop at the first image that cannot be read, rather than leave a few out
        #[arg(long)]
        strict: bool,
        /// Replace the file
        #[arg(long)]
        overwrite: bool,
    },
    /// Sizes, classes, formats, mean and deviation
    Stats {
        /// Images
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<String>,
    },
}

/// Runs a verb on images.
pub fn run(args: &DataArgs, globals: &Globals) -> Result<()> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(host::threads(globals.device.threads.into()))
        .build()
        .map_err(|e| Error::device(format!("cannot start threads: {e}; use fewer --threads")))?;
    pool.install(|| match &args.verb {
        DataVerb::Check { paths } => check(paths, globals.json),
        DataVerb::Stats { paths } => stats(paths, globals.json),
        DataVerb::Pack { paths, out, max_side, strict, overwrite } => {
            prepare_file(out, *overwrite)?;
            let on_corrupt = if *strict { OnCorrupt::Stop } else { OnCorrupt::Replace };
            let policy = CorruptPolicy { on_corrupt, ..CorruptPolicy::default() };
            write_pack(paths, out, max_side.map(usize::from), policy, globals.json)
        }
    })
}

/// Prints what there is and what cannot be read; exit 3 where anything cannot.
pub fn check(paths: &[String], json: bool) -> Result<()> {
    let survey = read_all(paths)?;
    if json {
        print_json(&json!({
            "source": survey.source,
            "images": survey.images,
            "readable": survey.images - survey.corrupt.len(),
            "corrupt": survey.corrupt,
            "other_files": survey.other_files,
            "unsupported_formats": survey.unsupported_formats,
            "sixteen_bit": survey.sixteen_bit,
            "bytes": survey.bytes,
            "classes": survey.classes,
            "unlabelled": survey.unlabelled,
            "formats": survey.formats,
            "shorter_side": survey.shorter_side,
        }))?;
    } else {
        let listed = survey
            .corrupt
            .iter()
            .map(|c| format!("cannot read {}: {}\n", printable(&c.file), c.reason));
        print(&(listed.collect::<String>() + &summary(&survey)))?;
    }
    match survey.corrupt.len() {
        0 => Ok(()),
        n => Err(Error::data(format!(
            "{n} of {} images cannot be read: repair or remove them, or let training replace them \
             (data.on_corrupt, data.max_corrupt)",
            survey.images
        ))),
    }
}

/// Prints what there is; exit 3 where nothing can be read.
pub fn stats(paths: &[String], json: bool) -> Result<()> {
    let survey = read_all(paths)?;
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
    let three = |v: [f64; 3]| v.map(|x| format!("{x:.4}")).join(" ");
    let channels = [("mean (r g b)", three(survey.mean)), ("std", three(survey.std))];
    let mut text = summary(&survey) + &facts(&channels);
    if !survey.classes.is_empty() {
        let classes = survey.classes.iter();
        let rows = classes.map(|c| vec![printable(&c.class).to_string(), c.images.to_string()]);
        text += &format!("\nimages per class\n{}", table(&rows.collect::<Vec<_>>()));
    }
    print(&text)
}

/// Packs images into one file and prints what was done.
pub fn write_pack(
    paths: &[String],
    out: &Path,
    max_side: Option<usize>,
    policy: CorruptPolicy,
    json: bool,
) -> Result<()> {
    let dataset = Dataset::open(paths)?;
    let packed = pack::write(&dataset, out, max_side, policy)?;
    if json {
        let mut value = json!(packed);
        value["out"] = Value::from(out.display().to_string());
        return print_json(&value);
    }
    print(&format!(
        "{}: {} images, {:.1} MB ({} made smaller, {} left out as unreadable)",
        printable(out),
        packed.images,
        packed.bytes as f64 / 1e6,
        packed.resized,
        packed.corrupt
    ))
}

fn read_all(paths: &[String]) -> Result<Survey> {
    let dataset = Dataset::open(paths)?;
    let mut progress = Progress::new("images", dataset.len(), 0);
    Ok(survey(&dataset, |more| progress.advance(more, String::new)))
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
        n => format!("{n} images, rounded to 8 bits a channel"),
    };
    let rows = [
        ("source", printable(&survey.source).to_string()),
        ("images", survey.images.to_string()),
        ("unreadable", survey.corrupt.len().to_string()),
        ("other files", survey.other_files.to_string()),
        ("size", format!("{:.1} MB", survey.bytes as f64 / 1e6)),
        ("formats", counts(&survey.formats)),
        ("not read", counts(&survey.unsupported_formats)),
        ("16 bits", rounded),
        ("shorter side", list(sides)),
        ("classes", classes),
        ("unlabelled", survey.unlabelled.to_string()),
    ];
    facts(&rows)
}
