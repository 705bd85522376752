//! What the kernels of every piece of work do, counted on the emulator.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::row;
use super::shapes::Used;
use crate::cx::Cx;
use crate::device::emulator::{Counters, Emulator};
use crate::error::Result;
use crate::ops::work::Work;
use crate::program::output::fitting_table;

/// Bytes of a sector, the unit in which global memory is read and written.
const SECTOR_BYTES: u64 = 32;
/// Rows are marked whose bytes are so many times the least, or whose sectors are used less, or
/// in which more of the turns of shared memory are conflicts.
const MARK_BYTES: f64 = 1.5;
const MARK_SECTORS: f64 = 0.75;
const MARK_CONFLICTS: f64 = 0.1;

/// Work, and what each of its kernels did.
pub(super) struct Counted {
    /// The work.
    pub used: Used,
    /// Counts by kernel.
    pub kernels: BTreeMap<&'static str, Counters>,
}

/// Runs and counts all work.
pub(super) fn all(emulator: &Emulator, work: Vec<(Cx, Vec<Used>)>) -> Result<Vec<Counted>> {
    let one = |cx: &Cx, used: Used| {
        let kernels = cx.install(|| count(cx, emulator, &used.work));
        Ok(Counted { kernels: kernels.map_err(|e| e.context(used.work.name.clone()))?, used })
    };
    work.into_iter().flat_map(|(cx, all)| all.into_iter().map(move |u| one(&cx, u))).collect()
}

fn count(cx: &Cx, emulator: &Emulator, work: &Work) -> Result<BTreeMap<&'static str, Counters>> {
    let run = (work.prepare)(cx, 0)?(cx)?;
    emulator.take_counters();
    emulator.count(true);
    let done = run(cx);
    emulator.count(false);
    done?;
    Ok(emulator.take_counters())
}

/// Sums of interest over some kernels.
pub(super) struct Sums {
    /// Launches.
    pub launches: u64,
    /// Bytes that threads read and wrote, by asynchronous copies too.
    pub bytes: u64,
    /// Sectors that these touched.
    pub sectors: u64,
    /// Requests that they were part of.
    pub requests: u64,
    /// Turns of the banks of shared memory.
    pub turns: u64,
    /// Those that conflicts cost.
    pub conflicts: u64,
    /// Barriers.
    pub barriers: u64,
    /// Multiply-adds of tensor cores.
    pub tensor_issued: u64,
    /// Those whose factors are both not zero.
    pub tensor_useful: u64,
}

impl Sums {
    /// Over all of `counters`.
    pub(super) fn of<'a>(counters: impl Iterator<Item = &'a Counters> + Clone) -> Self {
        let sum = |f: fn(&Counters) -> u64| counters.clone().map(f).sum();
        Self {
            launches: sum(|c| c.launches),
            bytes: sum(|c| c.global_read_bytes + c.global_written_bytes),
            sectors: sum(|c| c.global_read_sectors + c.global_write_sectors),
            requests: sum(|c| c.global_read_requests + c.global_write_requests),
            turns: sum(|c| c.shared_wavefronts),
            conflicts: sum(|c| c.shared_wavefronts - c.shared_least_wavefronts),
            barriers: sum(|c| c.barriers),
            tensor_issued: sum(|c| c.tensor_issued),
            tensor_useful: sum(|c| c.tensor_useful),
        }
    }

    /// Bytes over the least.
    pub(super) fn ratio(&self, bytes_floor: u64) -> f64 {
        self.bytes as f64 / bytes_floor.max(1) as f64
    }

    /// Share of the sectors' bytes that threads asked for; more than 1 where several threads
    /// ask for the same bytes.
    pub(super) fn sector_use(&self) -> f64 {
        self.bytes as f64 / (self.sectors * SECTOR_BYTES).max(1) as f64
    }

    /// Share of the turns of shared memory that conflicts cost.
    pub(super) fn conflict_share(&self) -> f64 {
        self.conflicts as f64 / self.turns.max(1) as f64
    }

    /// Share of the tensor cores' multiply-adds that had something to multiply; none where they
    /// were not used.
    pub(super) fn tensor_useful(&self) -> Option<f64> {
        (self.tensor_issued > 0).then(|| self.tensor_useful as f64 / self.tensor_issued as f64)
    }

    /// Cells of a row of the table: `floor`, where there is one, is least bytes and ratio.
    fn row(&self, mark: &str, name: &str, uses: String, floor: [String; 2]) -> Vec<String> {
        let [least, ratio] = floor;
        vec![
            mark.to_owned(),
            name.to_owned(),
            uses,
            self.launches.to_string(),
            kib(self.bytes),
            least,
            ratio,
            format!("{:.2}", self.sectors as f64 / self.requests.max(1) as f64),
            percent(self.sector_use()),
            percent(self.conflict_share()),
            self.tensor_useful().map_or(String::new(), percent),
        ]
    }
}

fn kib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1024.0)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

impl Counted {
    /// Over all of its kernels.
    pub(super) fn sums(&self) -> Sums {
        Sums::of(self.kernels.values())
    }

    /// An entry of `benchmarks`.
    pub(super) fn json(&self) -> Value {
        let (sums, Used { work, uses }) = (self.sums(), &self.used);
        json!({
            "name": work.name,
            "op": work.op,
            "shape": work.shape,
            "uses": uses,
            "bytes": sums.bytes,
            "bytes_floor": work.bytes_floor,
            "flops": work.flops,
            "launches": sums.launches,
            "sectors": sums.sectors,
            "requests": sums.requests,
            "bank_turns": sums.turns,
            "bank_conflicts": sums.conflicts,
            "barriers": sums.barriers,
            "tensor_issued": sums.tensor_issued,
            "tensor_useful": sums.tensor_useful,
            "kernels": self.kernels,
        })
    }

    /// Its row, called `name`, and one of each kernel.
    fn rows(&self, name: &str, verbose: bool) -> Vec<Vec<String>> {
        let (sums, floor) = (self.sums(), self.used.work.bytes_floor);
        let ratio = sums.ratio(floor);
        let poor = ratio > MARK_BYTES
            || sums.sector_use() < MARK_SECTORS
            || sums.conflict_share() > MARK_CONFLICTS;
        // An op may have nothing to do, and pass its gradient on.
        let mark = if poor && sums.launches > 0 { "*" } else { "" };
        let uses = self.used.count().map_or(String::new(), |n| n.to_string());
        let least = [kib(floor), format!("{ratio:.2}")];
        let mut rows = vec![sums.row(mark, name, uses, least)];
        for (kernel, counters) in self.kernels.iter().filter(|_| verbose) {
            let sums = Sums::of(std::iter::once(counters));
            rows.push(sums.row("", &format!("  {kernel}"), String::new(), Default::default()));
        }
        rows
    }
}

/// The table for people.
pub(super) fn text(counted: &[Counted], verbose: bool) -> String {
    let head = [
        "",
        "work",
        "uses",
        "launches",
        "KiB",
        "least",
        "ratio",
        "per req",
        "used",
        "conflicts",
        "useful",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(row::grouped(counted, |c| &c.used.work.name, |c, name| c.rows(name, verbose)));
    if counted.iter().all(|c| c.used.count().is_none()) {
        rows.iter_mut().filter(|row| row.len() > 1).for_each(|row| drop(row.remove(2)));
    }
    let may_go = ["per req", "least", "launches", "uses", "useful", "conflicts"];
    format!(
        "{}{}\nper req: sectors of a request; used: share of the sectors' bytes that is asked for\n\
         * more than {MARK_BYTES} times the least bytes, less than {:.0} % of the sectors used, or\n  \
         more than {:.0} % of the wavefronts of shared memory lost to bank conflicts\n",
        fitting_table(&rows, &may_go),
        totals(counted),
        100.0 * MARK_SECTORS,
        100.0 * MARK_CONFLICTS
    )
}

/// The sums over all rows and, of a long table, the rows that move most above their least bytes.
fn totals(counted: &[Counted]) -> String {
    let floor: u64 = counted.iter().map(|c| c.used.work.bytes_floor).sum();
    let all = Sums::of(counted.iter().flat_map(|c| c.kernels.values()));
    let (bytes, ratio, launches) = (kib(all.bytes), all.ratio(floor), all.launches);
    let sums = format!(
        "\nall rows, once each: {bytes} KiB, {ratio:.2} times the least; {launches} launches\n"
    );
    let excess = |c: &Counted| {
        let once = c.sums().bytes.saturating_sub(c.used.work.bytes_floor);
        once as f64 * c.used.count().unwrap_or(1) as f64
    };
    let costs = counted.iter().map(|c| (c.used.work.name.as_str(), excess(c))).collect();
    sums + &row::worst("move", "KiB above the least", costs, |bytes| kib(bytes as u64))
}
