//! `bench check`: conformance of all ops, from their cases.

use crate::cli::{DeviceArgs, open_device};
use crate::error::{Error, Result};
use crate::ops::{self, Outcome};

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
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, check) in ops::registry() {
        if !wanted(&name) {
            skipped += 1;
            continue;
        }
        match cx.install(|| check(&cx)) {
            Ok(Outcome::Passed) => {
                passed += 1;
                if args.verbose {
                    println!("ok    {name}");
                }
            }
            Ok(Outcome::Skipped) => {
                skipped += 1;
                if args.verbose {
                    println!("skip  {name}");
                }
            }
            Err(why) => {
                failed += 1;
                println!("FAIL  {name}: {why}");
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if passed + failed == 0 {
        return Err(Error::usage("--filter matches no check"));
    }
    Ok(u8::from(failed > 0))
}
