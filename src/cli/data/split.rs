//! `engine data split`: lists of images to train and to test on.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, json};

use crate::data::Dataset;
use crate::data::partition::{self, Parts};
use crate::error::{Error, Result};
use crate::outside::printable;
use crate::program::output::{prepare_file, table};
use crate::program::{print, print_json};

/// Arguments of `engine data split`.
#[derive(Args, Clone, Debug)]
pub struct SplitArgs {
    /// Images: a folder or a list
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
    /// The folder that gets train.txt and test.txt
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Share of every class to test on, between 0 and 1
    #[arg(long, value_name = "SHARE", default_value = "0.1", value_parser = share)]
    pub test: f64,
    /// Replace lists that are there
    #[arg(long)]
    pub overwrite: bool,
}

fn share(text: &str) -> std::result::Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| format!("{text:?}: expected a number between 0 and 1, such as 0.1"))
}

/// Writes the lists, and prints what they hold.
pub(super) fn run(args: &SplitArgs, json: bool) -> Result<()> {
    let lists = ["train.txt", "test.txt"].map(|name| args.out.join(name));
    lists.iter().try_for_each(|list| prepare_file(list, args.overwrite))?;
    let dataset = Dataset::open(&args.paths)?;
    let is_test = partition::assign(&dataset, args.test)?;
    fs::create_dir_all(&args.out).map_err(|e| {
        Error::device(format!("cannot make the folder {}: {e}", printable(&args.out)))
    })?;
    let classes = partition::write(&dataset, &is_test, &args.out)?;
    let sum = |of: fn(&Parts) -> usize| classes.iter().map(|(_, parts)| of(parts)).sum::<usize>();
    let (train, test) = (sum(|parts| parts.train), sum(|parts| parts.test));
    let [train_list, test_list] = lists.map(|list| list.display().to_string());
    for (class, parts) in &classes {
        if parts.train == 0 || parts.test == 0 {
            tracing::warn!(
                "{}: {} images to train on, {} to test on",
                printable(class),
                parts.train,
                parts.test
            );
        }
    }
    if json {
        let classes: Map<_, _> =
            classes.iter().map(|(class, parts)| (class.clone(), json!(parts))).collect();
        return print_json(&json!({
            "train": {"list": train_list, "images": train},
            "test": {"list": test_list, "images": test},
            "classes": classes,
        }));
    }
    let row = |class: &str, train: String, test: String| vec![class.to_owned(), train, test];
    let mut rows = vec![row("class", "train".to_owned(), "test".to_owned())];
    rows.extend(classes.iter().map(|(class, parts)| {
        row(&printable(class).to_string(), parts.train.to_string(), parts.test.to_string())
    }));
    rows.push(row("all", train.to_string(), test.to_string()));
    let head = format!("{} and {}", printable(&train_list), printable(&test_list));
    print(&format!("{head}\n{}", table(&rows)))
}
