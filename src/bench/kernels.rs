//! `bench kernels`: what the kernels of every op do, counted on the emulator, beside the least
//! that the op needs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::filter::Filter;
use crate::cli::DeviceArgs;
use crate::cli::output::table;
use crate::device::emulator::{Counters, Emulator};
use crate::device::{Cx, DeviceChoice};
use crate::error::{Error, Result};
use crate::ops::work::Work;
use crate::{files, ops, optim};

/// Bytes of a sector, the unit in which global memory is read and written.
const SECTOR_BYTES: u64 = 32;
/// Rows are marked whose bytes are so many times the least, or whose sectors are used less.
const MARK_BYTES: f64 = 1.5;
const MARK_SECTORS: f64 = 0.75;

/// Flags of `bench kernels`.
#[derive(clap::Args, Debug)]
pub struct KernelsArgs {
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    filter: Filter,
    /// A row for each kernel, beside one for the whole pass.
    #[arg(long)]
    verbose: bool,
    /// Writes the result here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What a pass did.
struct Counted {
    work: Work,
    kernels: BTreeMap<&'static str, Counters>,
}

/// Counts all work and prints a table.
pub fn run(args: &KernelsArgs) -> Result<()> {
    if args.device.device != DeviceChoice::Emulator {
        return Err(Error::usage(
            "bench kernels counts what kernels do, and only the emulator counts: expected --device \
             emulator",
        ));
    }
    let threads = usize::from(args.device.threads);
    let emulator = Arc::new(Emulator::new(threads)?);
    let cx = Cx::device(emulator.clone(), threads)?;
    let mut counted = Vec::new();
    for work in ops::work()?
        .into_iter()
        .chain(optim::work())
        .chain(ops::relation::work::work())
        .filter(|w| args.filter.matches(&w.name))
    {
        let kernels = cx.install(|| count(&cx, &emulator, &work))?;
        counted.push(Counted { work, kernels });
    }
    if counted.is_empty() {
        return Err(Error::usage("--filter matches no work"));
    }
    if let Some(path) = &args.json {
        let benchmarks: Vec<Value> = counted.iter().map(Counted::json).collect();
        files::write_json(path, &json!({"device": "emulator", "benchmarks": benchmarks}))?;
    }
    print!("{}", text(&counted, args.verbose));
    Ok(())
}

fn count(cx: &Cx, emulator: &Emulator, work: &Work) -> Result<BTreeMap<&'static str, Counters>> {
    let run = (work.prepare)(cx)?;
    emulator.take_counters();
    emulator.count(true);
    let done = run(cx);
    emulator.count(false);
    done.map_err(|e| e.context(work.name.clone()))?;
    Ok(emulator.take_counters())
}

/// Sums of interest over some kernels.
struct Sums {
    launches: u64,
    bytes: u64,
    sectors: u64,
    requests: u64,
    conflicts: u64,
    barriers: u64,
}

impl Sums {
    fn of<'a>(counters: impl Iterator<Item = &'a Counters> + Clone) -> Self {
        let sum = |f: fn(&Counters) -> u64| counters.clone().map(f).sum();
        Self {
            launches: sum(|c| c.launches),
            // What asynchronous copies read is among what is read.
            bytes: sum(|c| c.global_read_bytes + c.global_written_bytes),
            sectors: sum(|c| c.global_read_sectors + c.global_write_sectors),
            requests: sum(|c| c.global_read_requests + c.global_write_requests),
            conflicts: sum(|c| c.shared_wavefronts - c.shared_least_wavefronts),
            barriers: sum(|c| c.barriers),
        }
    }

    /// Share of the sectors' bytes that threads asked for; more than 1 where several threads
    /// ask for the same bytes.
    fn sector_use(&self) -> f64 {
        self.bytes as f64 / (self.sectors * SECTOR_BYTES).max(1) as f64
    }

    /// Cells of a row of the table: `floor`, where there is one, is least bytes and ratio.
    fn row(&self, mark: &str, name: &str, floor: [String; 2]) -> Vec<String> {
        let [least, ratio] = floor;
        vec![
            mark.to_owned(),
            name.to_owned(),
            self.launches.to_string(),
            kib(self.bytes),
            least,
            ratio,
            format!("{:.2}", self.sectors as f64 / self.requests.max(1) as f64),
            format!("{:.0} %", 100.0 * self.sector_use()),
            self.conflicts.to_string(),
            self.barriers.to_string(),
        ]
    }
}

fn kib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1024.0)
}

impl Counted {
    fn sums(&self) -> Sums {
        Sums::of(self.kernels.values())
    }

    fn json(&self) -> Value {
        let kernels: serde_json::Map<String, Value> =
            self.kernels.iter().map(|(name, c)| (name.to_string(), json!(c))).collect();
        let sums = self.sums();
        json!({
            "name": self.work.name,
            "op": self.work.op,
            "shape": self.work.shape,
            "bytes": sums.bytes,
            "bytes_floor": self.work.bytes_floor,
            "flops": self.work.flops,
            "launches": sums.launches,
            "sectors": sums.sectors,
            "requests": sums.requests,
            "bank_conflicts": sums.conflicts,
            "barriers": sums.barriers,
            "kernels": kernels,
        })
    }

    fn rows(&self, verbose: bool) -> Vec<Vec<String>> {
        let (sums, floor) = (self.sums(), self.work.bytes_floor);
        let ratio = sums.bytes as f64 / floor.max(1) as f64;
        // An op may have nothing to do, and pass its gradient on.
        let poor = ratio > MARK_BYTES || sums.sector_use() < MARK_SECTORS;
        let mark = if poor && sums.launches > 0 { "*" } else { "" };
        let mut rows = vec![sums.row(mark, &self.work.name, [kib(floor), format!("{ratio:.2}")])];
        for (name, counters) in self.kernels.iter().filter(|_| verbose) {
            let sums = Sums::of(std::iter::once(counters));
            rows.push(sums.row("", &format!("  {name}"), Default::default()));
        }
        rows
    }
}

fn text(counted: &[Counted], verbose: bool) -> String {
    let head = [
        "",
        "work",
        "launches",
        "KiB",
        "least",
        "ratio",
        "sectors/req",
        "used",
        "conflicts",
        "barriers",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(counted.iter().flat_map(|c| c.rows(verbose)));
    format!(
        "{}\n* more than {MARK_BYTES} times the least bytes, or less than {:.0} % of the sectors used\n",
        table(&rows),
        100.0 * MARK_SECTORS
    )
}
