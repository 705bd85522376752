//! `engine report`: a run as one page, or two runs beside each other.

use std::path::PathBuf;

use clap::Args;

use super::Globals;
use crate::error::{Error, Result};
use crate::program::output::prepare_file;
use crate::program::{print, print_json};
use crate::report;

/// Name of a comparison in the first run's folder.
const COMPARISON: &str = "comparison.html";

/// Arguments of `engine report`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ReportArgs {
    /// The run's folder; report.html is written into it. Two runs are compared: comparison.html is
    /// written into the first one's folder
    #[arg(value_name = "RUN", num_args = 1..=2, required = true)]
    pub runs: Vec<PathBuf>,
    /// Another place for the comparison of two runs
    #[arg(long, value_name = "FILE.html")]
    pub out: Option<PathBuf>,
    /// Replace FILE.html
    #[arg(long, requires = "out")]
    pub overwrite: bool,
}

const EXAMPLES: &str = "\
Examples:
  engine report runs/a
  engine report runs/a runs/b
  engine report runs/a runs/b --out a-and-b.html";

/// Writes the page and prints where it is.
pub fn run(args: &ReportArgs, globals: &Globals) -> Result<()> {
    let page = match (args.runs.as_slice(), &args.out) {
        ([first, second], out) => {
            if let Some(out) = out {
                prepare_file(out, args.overwrite)?;
            }
            let out = out.clone().unwrap_or_else(|| first.join(COMPARISON));
            report::compare([first, second], &out)?
        }
        ([run], None) => report::run(run)?,
        _ => {
            return Err(Error::usage(
                "--out is where two runs are compared: expected engine report RUN RUN --out FILE; the \
                 page of one run is RUN/report.html",
            ));
        }
    };
    if globals.json {
        return print_json(&serde_json::json!({ "report": page }));
    }
    print(&page.display().to_string())
}
