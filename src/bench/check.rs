//! `bench check`: conformance of all ops, from their cases.

use crate::cli::{DeviceArgs, open_device};
use crate::error::{Error, Result};
use crate::ops::Outcome;
use crate::ops::check::{self, Summary};

/// Flags of `bench check`.
#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Runs only checks whose name contains this.
    #[arg(long)]
    filter: Option<String>,
    /// Names every check, not only those that fail.
    #[arg(long)]
    verbose: bool,
}

/// Runs all checks; 1 where one failed.
pub fn run(args: &CheckArgs) -> Result<u8> {
    let cx = open_device(&args.device)?;
    let wanted = |name: &str| args.filter.as_ref().is_none_or(|f| name.contains(f.as_str()));
    let summary = check::run_all(&cx, wanted, |name, outcome| match outcome {
        Ok(Outcome::Passed) if args.verbose => println!("ok    {name}"),
        Ok(Outcome::Skipped) if args.verbose => println!("skip  {name}"),
        Ok(_) => {}
        Err(why) => println!("FAIL  {name}: {why}"),
    });
    let Summary { passed, failed, skipped } = summary;
    if summary == Summary::default() {
        return Err(Error::usage("--filter matches no check"));
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(u8::from(failed > 0))
}
