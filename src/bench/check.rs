//! `bench check`: conformance of all ops, from their cases, and of the other kernels.

use std::sync::Arc;

use super::filter::Filter;
use super::{baseline, machine};
use crate::cx::Cx;
use crate::device::Backend;
use crate::device::guarded::Guarded;
use crate::error::{Error, Result};
use crate::ops::Outcome;
use crate::ops::check::{self, Summary};
use crate::program::{DeviceArgs, open_device};
use crate::registry;
use serde_json::json;

/// Flags of `bench check`.
#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    baseline: baseline::BaselineArgs,
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

/// Runs all checks; 1 where one failed, or exit 7 where it did not fail in the baseline.
pub fn run(args: &CheckArgs) -> Result<u8> {
    let cx = guarded(open_device(&args.device)?)?;
    let mut result = machine::about(&cx, json!({}));
    let old = args.baseline.read(&result, false)?;
    let mut rows = Vec::new();
    let summary = check::run(
        &cx,
        registry::checks(),
        |name| args.filter.matches(name),
        |name, outcome| {
            let (word, why) = match outcome {
                Ok(Outcome::Passed) => ("passed", None),
                Ok(Outcome::Skipped) => ("skipped", None),
                Err(why) => ("failed", Some(why)),
            };
            match why {
                Some(why) => println!("FAIL  {name}: {why}"),
                None if args.verbose => {
                    println!("{:<5} {name}", if word == "passed" { "ok" } else { "skip" })
                }
                None => {}
            }
            let failed = u8::from(word == "failed");
            rows.push(json!({"name": name, "outcome": word, "why": why, "failed": failed}));
        },
    );
    let Summary { passed, failed, skipped } = summary;
    if summary == Summary::default() {
        return Err(Error::usage("--filter matches no check"));
    }
    let counts =
        json!({"passed": passed, "failed": failed, "skipped": skipped, "benchmarks": rows});
    machine::extend(&mut result, counts);
    args.baseline.keep(&result)?;
    let compared = args.baseline.compare(old, &result);
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    compared?;
    Ok(u8::from(failed > 0))
}
