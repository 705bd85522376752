//! `engine data`: images themselves.

mod annotated;
mod check;
mod shapes;
mod split;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rayon::ThreadPoolBuilder;
use serde_json::{Value, json};

use super::Globals;
use crate::data::pack::{self, Form};
use crate::data::{CorruptPolicy, Dataset, OnCorrupt};
use crate::device::host;
use crate::error::{Error, Result};
use crate::outside::printable;
use crate::program::output::prepare_file;
use crate::program::{print, print_json};

/// Arguments of `engine data`.
#[derive(Args, Clone, Debug)]
pub struct DataArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: DataVerb,
}

/// How many channels images have.
#[derive(Args, Clone, Copy, Debug)]
pub struct Channels {
    /// Read images as ones of so many channels, as a search space of your own says
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u8).range(1..=16))]
    channels: u8,
}

impl Channels {
    fn channels(self) -> usize {
        self.channels.into()
    }
}

/// Verbs of `engine data`.
#[derive(Subcommand, Clone, Debug)]
pub enum DataVerb {
    /// Say what the images, and annotations, are; list what is damaged, and exit 3 if anything is
    ///
    /// Every image is read where they have at most 256 MiB together, else 2048 spread evenly.
    Check(check::CheckArgs),
    /// Write lists of the images to train and to test on, with their labels; copies nothing
    Split(split::SplitArgs),
    /// Draw scenes of shapes with boxes, masks and label images, to try detection and segmentation
    Shapes(shapes::ShapesArgs),
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
        /// Channels to read them with
        #[command(flatten)]
        channels: Channels,
    },
    /// Sizes, classes, formats, mean and deviation
    Stats {
        /// Images
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<String>,
        /// Channels to read them with
        #[command(flatten)]
        channels: Channels,
    },
}

/// Runs a verb on images.
pub fn run(args: &DataArgs, globals: &Globals) -> Result<()> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(host::threads(globals.device.threads.into()))
        .build()
        .map_err(|e| Error::device(format!("cannot start threads: {e}; use fewer --threads")))?;
    pool.install(|| match &args.verb {
        DataVerb::Check(args) => check::run(args, globals.json),
        DataVerb::Split(args) => split::run(args, globals.json),
        DataVerb::Shapes(args) => shapes::run(args, globals.json),
        DataVerb::Stats { paths, channels } => {
            check::stats(paths, channels.channels(), globals.json)
        }
        DataVerb::Pack { paths, out, max_side, strict, overwrite, channels } => {
            prepare_file(out, *overwrite)?;
            let on_corrupt = if *strict { OnCorrupt::Stop } else { OnCorrupt::Replace };
            let policy = CorruptPolicy { on_corrupt, ..CorruptPolicy::default() };
            let form = Form { channels: channels.channels(), max_side: max_side.map(usize::from) };
            write_pack(paths, out, form, policy, globals.json)
        }
    })
}

/// Packs images into one file and prints what was done.
pub fn write_pack(
    paths: &[String],
    out: &Path,
    form: Form,
    policy: CorruptPolicy,
    json: bool,
) -> Result<()> {
    let dataset = Dataset::open(paths)?;
    let packed = pack::write(&dataset, out, form, policy)?;
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
