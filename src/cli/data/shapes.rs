//! `engine data shapes`: drawn images with annotations.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::data::synthetic::scenes::{self, CLASSES, Counts};
use crate::error::Result;
use crate::outside::printable;
use crate::program::output::table;
use crate::program::{print, print_json};

/// Arguments of `engine data shapes`.
#[derive(Args, Clone, Debug)]
pub struct ShapesArgs {
    /// The folder, which must be new or empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Images to train on
    #[arg(long, value_name = "N", default_value = "4000", value_parser = clap::value_parser!(u32).range(1..))]
    pub images: u32,
    /// Images to test on
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub test: u32,
    /// Width and height of the images
    #[arg(long, value_name = "PIXELS", default_value = "128", value_parser = clap::value_parser!(u32).range(32..=4096))]
    pub side: u32,
    /// Another seed draws other images
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Draws, and prints what there is.
pub(super) fn run(args: &ShapesArgs, json: bool) -> Result<()> {
    let images = [args.images, args.test].map(|n| n as usize);
    let [train, test] = scenes::write(&args.out, images, args.side, args.seed)?;
    if json {
        let of = |counts: &Counts| {
            let classes = CLASSES.iter().zip(counts.objects);
            let classes: Map<String, Value> =
                classes.map(|(name, n)| ((*name).to_owned(), json!(n))).collect();
            json!({
                "images": counts.images,
                "objects": classes,
                "partly_hidden": counts.hidden,
                "crowds": counts.crowds,
            })
        };
        let out = args.out.display().to_string();
        return print_json(&json!({"out": out, "train": of(&train), "test": of(&test)}));
    }
    let row = |name: &str, of: &dyn Fn(&Counts) -> usize| {
        vec![name.to_owned(), of(&train).to_string(), of(&test).to_string()]
    };
    let mut rows = vec![vec![String::new(), "train".to_owned(), "test".to_owned()]];
    rows.push(row("images", &|counts| counts.images));
    rows.extend(CLASSES.iter().enumerate().map(|(c, name)| row(name, &|n| n.objects[c])));
    rows.push(row("partly hidden", &|counts| counts.hidden));
    rows.push(row("crowds", &|counts| counts.crowds));
    let (out, side) = (printable(&args.out), args.side);
    print(&format!("{out}: images of {side}x{side}\n{}", table(&rows)))
}
