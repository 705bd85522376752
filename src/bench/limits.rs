//! `--limits`: the most, and the least, that may be counted of each row.

use std::collections::BTreeMap;
use std::path::Path;

use regex_lite::Regex;
use serde::Deserialize;

use super::counted::{Counted, Sums};
use crate::device::emulator::Counters;
use crate::error::{Error, Kind, Result};

/// A file of limits.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    limit: Vec<Limit>,
}

/// Limits of all rows whose names match. The first that matches decides.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    /// Regular expression of names.
    #[serde(deserialize_with = "regex")]
    rows: Regex,
    /// Most bytes, over the least.
    most_bytes: Option<f64>,
    /// Least share of the sectors' bytes that threads asked for.
    least_used: Option<f64>,
    /// Largest share of shared memory's turns that bank conflicts may cost.
    #[serde(default)]
    most_conflicts: f64,
    /// Least share of the tensor cores' multiply-adds that have something to multiply.
    least_useful: Option<f64>,
}

fn regex<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Regex, D::Error> {
    Regex::new(&String::deserialize(from)?).map_err(serde::de::Error::custom)
}

impl Limits {
    /// Reads a TOML file of `[[limit]]`s. Exit 2 where it is not one.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
        Self::parse(&text).map_err(|e| e.context(format!("--limits {}", path.display())))
    }

    fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| Error::usage(e.to_string().trim_end().to_owned()))
    }

    /// What broke a limit.
    pub(super) fn breaches(&self, counted: &[Counted]) -> Breaches {
        let mut broken = Breaches::default();
        for Counted { used, kernels } in counted {
            let (name, floor) = (&used.work.name, used.work.bytes_floor);
            let found = self.judge(name, floor, kernels);
            if !found.is_empty() {
                broken.said.extend(found);
                broken.entries.push(entry(name, &Sums::of(kernels.values()), floor));
            }
        }
        broken
    }

    fn judge(
        &self,
        name: &str,
        bytes_floor: u64,
        kernels: &BTreeMap<&'static str, Counters>,
    ) -> Vec<String> {
        let sums = Sums::of(kernels.values());
        if sums.launches == 0 {
            return Vec::new();
        }
        let names: Vec<&str> = kernels.keys().copied().collect();
        let row = format!("{name} ({})", names.join(", "));
        match self.limit.iter().find(|limit| limit.rows.is_match(name)) {
            Some(limit) => limit.judge(&row, &sums, bytes_floor),
            None => vec![format!("{row}: there are no limits for this row")],
        }
    }
}

impl Limit {
    fn judge(&self, row: &str, sums: &Sums, bytes_floor: u64) -> Vec<String> {
        let most = |what: &str, found: f64, most: Option<f64>| {
            let most = most.filter(|most| found > *most)?;
            Some(format!("{row}: {what} {found:.3}, allowed at most {most:.3}"))
        };
        let least = |what: &str, found: f64, least: Option<f64>| {
            let least = least.filter(|least| found < *least)?;
            Some(format!("{row}: {what} {found:.3}, allowed at least {least:.3}"))
        };
        // Tensor cores that must be of use must be used.
        let useful = sums.tensor_useful().unwrap_or(0.0);
        let all = [
            most("bytes over the least", sums.ratio(bytes_floor), self.most_bytes),
            least("share of sectors used", sums.sector_use(), self.least_used),
            most("share of bank conflicts", sums.conflict_share(), Some(self.most_conflicts)),
            least("useful share of tensor operations", useful, self.least_useful),
        ];
        all.into_iter().flatten().collect()
    }
}

/// An entry of the file that allows what was counted of a row, and 2 % more.
fn entry(name: &str, sums: &Sums, bytes_floor: u64) -> String {
    let most = |found: f64| (102.0 * found).ceil() / 100.0;
    let least = |found: f64| (98.0 * found).floor() / 100.0;
    let mut limits = format!(
        "{{ rows = '^{}$', most_bytes = {:.2}, least_used = {:.2}",
        regex_lite::escape(name),
        most(sums.ratio(bytes_floor)),
        least(sums.sector_use())
    );
    if sums.conflicts > 0 {
        limits += &format!(", most_conflicts = {:.2}", most(sums.conflict_share()));
    }
    if let Some(useful) = sums.tensor_useful() {
        limits += &format!(", least_useful = {:.2}", least(useful));
    }
    limits + " },"
}

/// Limits that were broken.
#[derive(Default)]
pub(super) struct Breaches {
    /// Of which row, by which of its kernels, what was counted and what is allowed.
    said: Vec<String>,
    /// Entries that would allow what was counted, one a row.
    entries: Vec<String>,
}

impl Breaches {
    /// Exit 7 with all of them, where there are any.
    pub(super) fn expect_none(&self) -> Result<()> {
        if self.said.is_empty() {
            return Ok(());
        }
        let (n, said) = (self.said.len(), self.said.join("\n  "));
        let entries = self.entries.join("\n  ");
        let message = format!(
            "{n} limits are broken:\n  {said}\nmake the kernels as good as they were, or, where \
             the new counts are right, give the file of limits these entries:\n  {entries}"
        );
        Err(Error::new(Kind::Parity, message))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cx::Cx;
    use crate::device::emulator::Emulator;
    use crate::device::{Geometry, Launcher};
    use crate::tensor::{DType, Meta, Shape};

    /// What the planted kernel `count_global` does, which copies 32 values, `stride` apart.
    fn copied(stride: u32) -> BTreeMap<&'static str, Counters> {
        let emulator = Arc::new(Emulator::new(1).unwrap());
        let cx = Cx::device(emulator.clone(), 1).unwrap();
        let x = cx.zeros(Shape::vector(32 * 32), DType::F32).unwrap();
        let y = cx.alloc(Meta::new(Shape::vector(32), DType::F32)).unwrap();
        let launcher = Launcher { driver: emulator.as_ref(), op: "copy" };
        emulator.count(true);
        let pointers = [x.device(), y.device()];
        launcher.launch("count_global", Geometry::linear(1, 32), &pointers, &stride).unwrap();
        emulator.take_counters()
    }

    /// The limits of a pass over memory hold for a copy of values side by side, and not for one
    /// whose loads are far apart.
    #[test]
    #[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
    fn a_kernel_with_loads_far_apart_breaks_the_limits_of_one_without() {
        let limits = Limits::parse(include_str!("../../benches/limits.toml")).unwrap();
        let judge = |stride| limits.judge("relu/32/forward/f32", 256, &copied(stride));
        assert_eq!(judge(1), Vec::<String>::new());
        // 128 of 32 × 32 bytes read, 128 of 128 written.
        assert_eq!(
            judge(32),
            ["relu/32/forward/f32 (count_global): share of sectors used 0.222, allowed at least \
              0.980"]
        );
        assert_eq!(limits.judge("new/32/forward/f32", 256, &copied(1)).len(), 1);
    }

    #[test]
    #[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
    fn every_limit_can_be_broken() {
        let text =
            "limit = [{ rows = '^a/', most_bytes = 0.9, least_used = 1.1, least_useful = 0.1 }]";
        let broken = Limits::parse(text).unwrap().judge("a/b", 256, &copied(1));
        assert_eq!(broken.len(), 3, "{broken:?}");
        let mut conflicts = copied(1);
        let counts = conflicts.get_mut("count_global").unwrap();
        (counts.shared_wavefronts, counts.shared_least_wavefronts) = (4, 3);
        let free = Limits::parse("limit = [{ rows = '' }]").unwrap();
        assert_eq!(free.judge("a", 1, &conflicts).len(), 1);
        for wrong in ["limit = [{ rows = '(' }]", "limit = [{ rows = '', most = 1 }]", "x = 1"] {
            assert_eq!(Limits::parse(wrong).err().map(|e| e.exit_code()), Some(2), "{wrong}");
        }
    }
}
