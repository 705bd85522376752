//! `--baseline` and `bench report`: two results of a verb of `bench` side by side.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::files;
use crate::program::output::{PROSE, fitting_table, print, wrap};

/// What must be the same for times or counts to be comparable.
const ALIKE: [&str; 9] = [
    "device",
    "hardware",
    "driver",
    "clock_mhz",
    "memory_clock_mhz",
    "threads",
    "preset",
    "batch",
    "precision",
];
/// What must be the same besides where times are of the whole of it.
const WHOLE: [&str; 7] =
    ["archs", "queue", "features", "images", "mean_bytes", "resolution", "workers"];
/// Counts that may not grow.
const COUNTS: [&str; 8] = [
    "launches",
    "bytes",
    "sectors",
    "requests",
    "bank_turns",
    "barriers",
    "tensor_issued",
    "failed",
];
/// Worst rows that a message names.
const NAMED: usize = 10;

/// A share, written as `5%` or `5`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(f64);

impl FromStr for Percent {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let number = s.strip_suffix('%').unwrap_or(s).trim().parse().ok();
        let share = number.filter(|p: &f64| p.is_finite() && *p >= 0.0).map(|p| Self(p / 100.0));
        share.ok_or_else(|| Error::usage(format!("{s:?} is not a percentage: expected, say, 5%")))
    }
}

/// Flags that keep a result, and hold it to an earlier one.
#[derive(clap::Args, Debug)]
pub struct BaselineArgs {
    /// What `--json` wrote before: exit 7 where something has become worse. Refuses to compare
    /// other hardware, drivers, clocks or settings.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// How much slower than the baseline a row may be; it must also be more than its noise.
    /// Counts may not grow at all.
    #[arg(long, value_name = "PERCENT", default_value = "5%")]
    fail_over: Percent,
    /// Writes the result here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl BaselineArgs {
    /// The baseline, where there is one. `about`: a result without its rows; `whole`: of work
    /// whose architectures must be the same. Exit 2 unless both were made alike.
    pub fn read(&self, about: &Value, whole: bool) -> Result<Option<Value>> {
        let old = self.baseline.as_deref().map(files::read_json::<Value>).transpose()?;
        old.iter().try_for_each(|old| expect_alike(old, about, whole))?;
        Ok(old)
    }

    /// Writes the result where that was asked for.
    pub fn keep(&self, result: &Value) -> Result<()> {
        self.json.as_deref().map_or(Ok(()), |path| files::write_json(path, result))
    }

    /// Exit 7 where a row is worse than the baseline's.
    pub fn compare(&self, old: Option<Value>, new: &Value) -> Result<()> {
        old.map_or(Ok(()), |old| compare(&old, new, self.fail_over))
    }
}

/// Exit 2 with all that differs, unless two results were made alike.
fn expect_alike(old: &Value, new: &Value, whole: bool) -> Result<()> {
    let part = |v: &Value, key: &str| match (key, v[key].as_str()) {
        // Which of several equal GPUs it was does not matter.
        ("device", Some(name)) => Value::from(name.split(':').next()),
        _ => v[key].clone(),
    };
    let keys = ALIKE.iter().chain(WHOLE.iter().filter(|_| whole));
    let differs = keys.filter(|key| part(old, key) != part(new, key));
    let all: Vec<String> =
        differs.map(|key| format!("{key} was {}, now {}", old[key], new[key])).collect();
    if all.is_empty() {
        return Ok(());
    }
    Err(Error::usage(format!(
        "the baseline cannot be compared with: {}; make it again with --json, or run as it was made",
        all.join("; ")
    )))
}

/// Something that both results have.
struct Pair {
    name: String,
    old: f64,
    new: f64,
    /// Relative.
    noise: f64,
}

impl Pair {
    fn ratio(&self) -> f64 {
        if self.old > 0.0 {
            self.new / self.old
        } else if self.new > 0.0 {
            f64::INFINITY
        } else {
            1.0
        }
    }
}

fn rows(result: &Value) -> &[Value] {
    result["benchmarks"].as_array().map_or(&[], Vec::as_slice)
}

/// Rows of both by name, each with its values of `keys`.
fn pairs(old: &Value, new: &Value, keys: &[&str]) -> Vec<Pair> {
    let by_name: HashMap<&str, &Value> =
        rows(old).iter().filter_map(|row| Some((row["name"].as_str()?, row))).collect();
    let mut all = Vec::new();
    for row in rows(new) {
        let name = row["name"].as_str().unwrap_or_default();
        let Some(before) = by_name.get(name) else { continue };
        for key in keys {
            let (Some(old), Some(new)) = (before[key].as_f64(), row[key].as_f64()) else {
                continue;
            };
            let noise = |row: &Value| row["noise"].as_f64().unwrap_or(0.0);
            let name = if keys.len() > 1 { format!("{name}: {key}") } else { name.to_owned() };
            all.push(Pair { name, old, new, noise: noise(before).max(noise(row)) });
        }
    }
    all
}

/// Exit 7 where a row of `new` takes longer than in `old` by more than `fail_over` and by more
/// than its noise, or where a count has grown.
fn compare(old: &Value, new: &Value, fail_over: Percent) -> Result<()> {
    let times = pairs(old, new, &["time_ms"]);
    let (all, allowed) = match times.is_empty() {
        true => (pairs(old, new, &COUNTS), 0.0),
        false => (times, fail_over.0),
    };
    if all.is_empty() {
        return Err(Error::usage("the baseline has no row of the same name: make it again"));
    }
    let mut worse: Vec<&Pair> =
        all.iter().filter(|p| p.ratio() - 1.0 > allowed.max(p.noise)).collect();
    worse.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()));
    if worse.is_empty() {
        return print(&format!("none of {} figures is worse than the baseline's", all.len()));
    }
    let named: Vec<String> = worse
        .iter()
        .take(NAMED)
        .map(|p| {
            format!("  {}: {} -> {} ({:+.1} %)", p.name, p.old, p.new, 100.0 * (p.ratio() - 1.0))
        })
        .collect();
    Err(Error::new(
        Kind::Parity,
        format!(
            "{} of {} figures are worse than the baseline's, the worst:\n{}",
            worse.len(),
            all.len(),
            named.join("\n")
        ),
    ))
}

/// Flags of `bench report`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  bench report old.json new.json")]
pub struct ReportArgs {
    /// The result before, as `--json` of `bench kernels`, `bench step` or `bench search` wrote it.
    old: PathBuf,
    /// The result after.
    new: PathBuf,
}

/// Prints what both results have, the worst first, and the mean ratio.
pub fn report(args: &ReportArgs) -> Result<()> {
    let [old, new] = [files::read_json::<Value>(&args.old)?, files::read_json(&args.new)?];
    let (what, mut all) = sides(&old, &new)?;
    all.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()));
    let mut cells = vec![["", what, "old", "new", "new/old"].map(str::to_owned).to_vec()];
    cells.extend(all.iter().map(|p| {
        let beyond_noise = p.ratio() - 1.0 > p.noise;
        let mark = if beyond_noise { "*" } else { "" }.to_owned();
        let [old, new] =
            [p.old, p.new].map(|v| if what == "ms" { format!("{v:.4}") } else { format!("{v}") });
        vec![mark, p.name.clone(), old, new, format!("{:.3}", p.ratio())]
    }));
    let finite = all.iter().map(Pair::ratio).filter(|r| r.is_finite() && *r > 0.0);
    let (n, logs) = finite.fold((0, 0.0), |(n, sum), r| (n + 1, sum + r.ln()));
    let mut out = fitting_table(&cells, &["old", "new"]);
    if let Err(e) = expect_alike(&old, &new, true) {
        out += &format!("\n{}\n", wrap(&format!("not made alike: {e}"), PROSE));
    }
    out += &format!(
        "\n{n} figures, geometric mean of new/old {:.3}; * worse by more than its noise\n",
        (logs / f64::from(n.max(1))).exp()
    );
    print(&out)
}

/// The figures of two files of one kind, and what they are. A step without rows, such as another
/// program's, has its parts.
fn sides(old: &Value, new: &Value) -> Result<(&'static str, Vec<Pair>)> {
    for (what, key) in [("ms", "time_ms"), ("bytes", "bytes"), ("launches", "launches")] {
        let all = pairs(old, new, &[key]);
        if !all.is_empty() {
            return Ok((what, all));
        }
    }
    let steps = ["iteration_ms", "/parts/teacher", "/parts/optimizer"];
    let step = |v: &Value, key: &str| {
        if key.starts_with('/') { v.pointer(key)?.as_f64() } else { v[key].as_f64() }
    };
    if step(old, "iteration_ms").is_some() && step(new, "iteration_ms").is_some() {
        let students = old["archs"].as_array().map_or(0, Vec::len);
        let students = (0..students).map(|k| format!("/parts/student/{k}"));
        let keys = steps.iter().map(|k| (*k).to_owned()).chain(students);
        let pair = |key: String| {
            let (old, new) = (step(old, &key)?, step(new, &key)?);
            Some(Pair { name: key.replace("/parts/", "").replace('/', " "), old, new, noise: 0.0 })
        };
        return Ok(("ms", keys.filter_map(pair).collect()));
    }
    Err(Error::usage(
        "these files have nothing in common: expected two that --json of the same verb \
         wrote, with rows of the same names",
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result(times: &[(&str, f64, f64)]) -> Value {
        let row = |(name, time_ms, noise): &(&str, f64, f64)| json!({"name": name, "time_ms": time_ms, "noise": noise});
        let rows: Vec<Value> = times.iter().map(row).collect();
        json!({"device": "cuda:0", "driver": "580.65.06", "batch": 256, "benchmarks": rows})
    }

    #[test]
    fn what_is_slower_by_more_than_allowed_and_than_its_noise_fails() {
        let old = result(&[("a", 1.0, 0.01), ("b", 1.0, 0.2), ("gone", 1.0, 0.0)]);
        let five = "5%".parse().unwrap();
        let fails = |a, b| {
            let new = result(&[("a", a, 0.0), ("b", b, 0.0), ("new", 9.0, 0.0)]);
            compare(&old, &new, five).err().map(|e| (e.exit_code(), e.to_string()))
        };
        assert_eq!(fails(1.04, 1.19), None);
        let (code, why) = fails(1.06, 1.3).unwrap();
        assert_eq!(code, 7);
        assert!(why.contains("2 of 2 figures") && why.contains("b: 1 -> 1.3 (+30.0 %)"), "{why}");
        assert_eq!(compare(&old, &result(&[]), five).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn other_hardware_drivers_and_settings_are_refused() {
        let old = result(&[]);
        for (key, value) in [
            ("device", json!("cpu")),
            ("hardware", json!("NVIDIA H200")),
            ("driver", json!("550.54.15")),
            ("clock_mhz", json!(1980)),
            ("batch", json!(64)),
            ("precision", json!("bf16")),
        ] {
            let mut new = old.clone();
            new[key] = value;
            let refused = expect_alike(&old, &new, false).unwrap_err();
            assert_eq!(refused.exit_code(), 2);
            assert!(refused.to_string().contains(&format!("{key} was")), "{refused}");
        }
        let mut same = old.clone();
        same["device"] = json!("cuda:3");
        expect_alike(&old, &same, true).unwrap();
        same["queue"] = json!(64);
        expect_alike(&old, &same, false).unwrap();
        assert_eq!(expect_alike(&old, &same, true).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn percentages_are_read() {
        let read = |s: &str| s.parse::<Percent>().unwrap();
        assert_eq!((read("5%"), read("2.5")), (Percent(0.05), Percent(0.025)));
        for wrong in ["", "%", "-1%", "inf", "much"] {
            assert!(wrong.parse::<Percent>().is_err(), "{wrong:?}");
        }
    }
}
