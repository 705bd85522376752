//! `bench check`: conformance of all ops, from their cases, and of the other kernels.

use std::sync::Arc;

use super::filter::Filter;
use crate::cli::{DeviceArgs, open_device};
use crate::data;
use crate::device::guarded::Guarded;
use crate::device::{Backend, Cx};
use crate::error::{Error, Result};
use crate::eval;
use crate::ops::check::{self, Summary};
use crate::ops::{self, Outcome};
use crate::optim;

/// Flags of `bench check`.
#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    filter: Filter,
    /// Names every check, not only those that fail.
    #[arg(long)]
    verbose: bool,
}

/// Puts sentinels around the buffers of a device that does not watch them itself.
fn guarded(cx: Cx) -> Result<Cx> {
    match cx.backend() {
        Backend::Driver(driver) if !driver.is_checked() => {
            Cx::device(Arc::new(Guarded::new(driver.clone())), cx.threads())
        }
        _ => Ok(cx),
    }
}

/// Runs all checks; 1 where one failed.
pub fn run(args: &CheckArgs) -> Result<u8> {
    let cx = guarded(open_device(&args.device)?)?;
    let mut checks = ops::registry();
    checks.extend(check::draws::checks());
    checks.extend(ops::norm::checks::checks());
    checks.extend(ops::queue_push::checks::checks());
    checks.extend(ops::relation::checks::checks());
    checks.extend(optim::checks());
    checks.extend(data::augment_checks());
    checks.extend(eval::knn::checks::checks());
    let summary = check::run(
        &cx,
        checks,
        |name| args.filter.matches(name),
        |name, outcome| match outcome {
            Ok(Outcome::Passed) if args.verbose => println!("ok    {name}"),
            Ok(Outcome::Skipped) if args.verbose => println!("skip  {name}"),
            Ok(_) => {}
            Err(why) => println!("FAIL  {name}: {why}"),
        },
    );
    let Summary { passed, failed, skipped } = summary;
    if summary == Summary::default() {
        return Err(Error::usage("--filter matches no check"));
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(u8::from(failed > 0))
}
