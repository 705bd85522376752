//! `engine doctor`: what this machine offers.

use std::fs;
use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::output::table;
use super::{Globals, device, print, print_json};
use crate::error::{Error, Result};

/// Arguments of `engine doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {}

/// Prints what is here; exit 5 where something that every verb needs is missing.
pub fn run(_args: &DoctorArgs, globals: &Globals) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = match globals.device.threads {
        0 => cores,
        n => usize::from(n),
    };
    let (total, available) = memory_bytes();
    let device = device::choose(&globals.device);
    let here = std::env::current_dir().map_err(|e| Error::read(Path::new("."), e))?;
    let writable = tempfile_in(&here);
    let features = cpu_features();
    if globals.json {
        print_json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "cpu": { "model": cpu_model(), "cores": cores, "features": features },
            "threads": threads,
            "memory": { "total_bytes": total, "available_bytes": available },
            "device": match &device {
                Ok(why) => json!({ "name": "cpu", "precision": "fp32", "why": why }),
                Err(e) => json!({ "name": Value::Null, "why": e.to_string() }),
            },
            "nvidia_driver": nvidia_driver(),
            "folder": { "path": here.display().to_string(), "writable": writable.is_ok() },
        }))?;
    } else {
        let gib = |bytes: Option<u64>| {
            bytes.map_or("unknown".to_owned(), |b| {
                format!("{:.1} GiB", b as f64 / (1u64 << 30) as f64)
            })
        };
        let chosen = match &device {
            Ok(why) => format!("cpu, fp32 ({why})"),
            Err(e) => e.to_string(),
        };
        let folder = match &writable {
            Ok(()) => format!("{} (writable)", here.display()),
            Err(e) => e.to_string(),
        };
        let rows = [
            ("engine", env!("CARGO_PKG_VERSION").to_owned()),
            ("processor", cpu_model().unwrap_or_else(|| "unknown".into())),
            ("instructions", features.join(" ")),
            ("threads", format!("{threads} of {cores}")),
            ("memory", format!("{}, of which {} are free", gib(total), gib(available))),
            ("NVIDIA driver", nvidia_driver().unwrap_or_else(|| "none".into())),
            ("device", chosen),
            ("folder", folder),
        ];
        print(&table(&rows.map(|(name, value)| vec![name.to_owned(), format!(" {value}")])))?;
    }
    device?;
    writable
}

/// Instruction sets that the ops' code looks for.
fn cpu_features() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! probe {
            ($($name:tt),*) => {$(if std::is_x86_feature_detected!($name) { found.push($name); })*};
        }
        probe!("sse4.2", "avx", "fma", "avx2", "avx512f", "avx512bw", "avx512vl");
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        found.push("neon");
    }
    found
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// First line of what the driver says about itself.
fn nvidia_driver() -> Option<String> {
    let text = fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

/// Memory of the machine, or of the container where that is less: total and available, in
/// bytes.
fn memory_bytes() -> (Option<u64>, Option<u64>) {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find_map(|l| l.strip_prefix(name))?;
        Some(
            line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?
                << 10,
        )
    };
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limit = number("/sys/fs/cgroup/memory.max");
    let used = number("/sys/fs/cgroup/memory.current");
    let left = limit.zip(used).map(|(limit, used)| limit.saturating_sub(used));
    let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
    (least(field("MemTotal"), limit), least(field("MemAvailable"), left))
}

/// Whether a file can be made in a folder.
fn tempfile_in(dir: &Path) -> Result<()> {
    let path = dir.join(format!(".engine-doctor-{}", std::process::id()));
    let made = fs::write(&path, b"x").and_then(|()| fs::remove_file(&path));
    made.map_err(|e| Error::device(format!("cannot write in {}: {e}", dir.display())))
}
