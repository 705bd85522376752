//! `engine report`: a run as one page.

use std::path::PathBuf;

use clap::Args;

use super::Globals;
use crate::error::Result;
use crate::program::{print, print_json};
use crate::report;

/// Arguments of `engine report`.
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// The run's folder; report.html is written into it
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
}

/// Writes the page and prints where it is.
pub fn run(args: &ReportArgs, globals: &Globals) -> Result<()> {
    let page = report::run(&args.run)?;
    if globals.json {
        return print_json(&serde_json::json!({ "report": page }));
    }
    print(&page.display().to_string())
}
