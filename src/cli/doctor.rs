//! `engine doctor`: what this machine offers.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::Globals;
use crate::config::Precision;
use crate::device::cuda::{self, Gpu, Installed};
use crate::device::gpu_code::GPU_CODE;
use crate::device::host::{self, Available};
use crate::device::kernels::kernels;
use crate::device::ptxas::Usage;
use crate::device::{self, Chosen, emulator};
use crate::error::{Error, Result};
use crate::ops::gemm;
use crate::program::output::{facts, fitting_table};
use crate::program::{print, print_json};
use crate::progress::human_bytes;

/// Arguments of `engine doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// List the GPU kernels instead, with what each uses: registers, memory, spills
    #[arg(long)]
    kernels: bool,
}

/// Prints what is here; exit 5 where something that every verb needs is missing.
pub fn run(args: &DoctorArgs, globals: &Globals) -> Result<()> {
    if args.kernels {
        return list_kernels(globals.json);
    }
    let found = Found::look(globals)?;
    if globals.json {
        print_json(&found.json())?;
    } else {
        print(&facts(&found.rows()?))?;
    }
    found.device?;
    found.writable
}

/// All that was looked at.
struct Found {
    threads: usize,
    cores: usize,
    /// Memory of the machine, or of the container.
    total_bytes: Option<usize>,
    /// What this process may take of it.
    available: Option<Available>,
    cuda: Result<Installed>,
    device: Result<(Chosen, Precision)>,
    folder: PathBuf,
    writable: Result<()>,
}

impl Found {
    fn look(globals: &Globals) -> Result<Self> {
        let threads = host::threads(globals.device.threads.into());
        let wanted = globals.device.precision.unwrap_or(Precision::Auto);
        let device = device::choose(globals.device.device, threads).map(|chosen| {
            let dtype = wanted.dtype(chosen.backend.runs_kernels());
            (chosen, Precision::of(dtype))
        });
        let folder = std::env::current_dir().map_err(|e| Error::read(Path::new("."), e))?;
        Ok(Self {
            threads,
            cores: host::cores(),
            total_bytes: host::total_bytes(),
            available: host::available(),
            cuda: cuda::installed(),
            device,
            writable: writable(&folder),
            folder,
        })
    }

    fn json(&self) -> Value {
        let device = match &self.device {
            Ok((Chosen { backend, why }, precision)) => {
                json!({ "name": backend.name(), "precision": precision, "why": why })
            }
            Err(e) => json!({ "name": Value::Null, "why": e.to_string() }),
        };
        let cuda = match &self.cuda {
            Ok(here) => json!({
                "driver": here.release.to_string(),
                "gpus": here.gpus.iter().map(|gpu| gpu_json(here, gpu)).collect::<Vec<_>>(),
            }),
            Err(e) => json!({ "driver": Value::Null, "why": e.to_string(), "gpus": [] }),
        };
        let [fp32, bf16] = gemm::instructions();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "cpu": {
                "model": host::cpu_model(),
                "cores": self.cores,
                "features": cpu_features(),
                "products": { "fp32": fp32, "bf16": bf16 },
            },
            "threads": self.threads,
            "memory": {
                "total_bytes": self.total_bytes,
                "available_bytes": self.available.as_ref().map(|a| a.bytes),
                "limited_by": self.available.as_ref().map(|a| a.bound.to_string()),
            },
            "device": device,
            "nvidia_driver": nvidia_driver(),
            "cuda": cuda,
            "gpu_kernels": {
                "nvcc": GPU_CODE.nvcc,
                "targets": GPU_CODE.targets,
                "count": GPU_CODE.kernels().ok(),
            },
            "emulator": { "kernels": emulator::IS_PRESENT.then(|| kernels().len()) },
            "folder": {
                "path": self.folder.display().to_string(),
                "writable": self.writable.is_ok(),
            },
        })
    }

    fn rows(&self) -> Result<Vec<(String, String)>> {
        let total = self.total_bytes.map_or("unknown".to_owned(), human_bytes);
        let free = self.available.as_ref().map_or("an unknown part is free".to_owned(), |a| {
            format!("{} are free for this process, bounded by {}", human_bytes(a.bytes), a.bound)
        });
        let driver = match (&self.cuda, nvidia_driver()) {
            (Ok(here), text) => {
                let release = format!("CUDA {}", here.release);
                text.map_or(release.clone(), |t| format!("{release}; {t}"))
            }
            // Its kernel module may be there without its library, in a container say.
            (Err(e), Some(text)) => format!("{e}; {text}"),
            (Err(e), None) => e.to_string(),
        };
        let gpu_kernels = match GPU_CODE.present() {
            Ok(nvcc) => {
                let (n, targets) = (GPU_CODE.kernels()?, GPU_CODE.targets.join(" "));
                format!("{n} for {targets}, built by nvcc {nvcc}")
            }
            Err(e) => e.to_string(),
        };
        let device = match &self.device {
            Ok((Chosen { backend, why }, precision)) => {
                format!("{}, {precision} ({why})", backend.name())
            }
            Err(e) => e.to_string(),
        };
        let folder = match &self.writable {
            Ok(()) => format!("{} (writable)", self.folder.display()),
            Err(e) => e.to_string(),
        };
        let [fp32, bf16] = gemm::instructions();
        let row = |name: &str, value: String| (name.to_owned(), value);
        let mut rows = vec![
            row("engine", env!("CARGO_PKG_VERSION").to_owned()),
            row("processor", host::cpu_model().unwrap_or_else(|| "unknown".into())),
            row("instructions", cpu_features().join(" ")),
            row("products", format!("{fp32} in fp32, {bf16} in bf16")),
            row("threads", format!("{} of {}", self.threads, self.cores)),
            row("memory", format!("{total}, of which {free}")),
            row("NVIDIA driver", driver),
        ];
        if let Ok(here) = &self.cuda {
            let gpu = |gpu: &Gpu| (format!("GPU {}", gpu.index), gpu_text(here, gpu));
            rows.extend(here.gpus.iter().map(gpu));
        }
        let emulated = match emulator::IS_PRESENT {
            true => format!("{} kernels, run and checked on the host", kernels().len()),
            false => format!("not in this build; {}", emulator::HOW_TO_GET),
        };
        rows.extend([row("GPU kernels", gpu_kernels), row("emulator", emulated)]);
        rows.extend([row("device", device), row("folder", folder)]);
        Ok(rows)
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}

fn gpu_json(here: &Installed, gpu: &Gpu) -> Value {
    let target = here.target_for(gpu);
    json!({
        "index": gpu.index,
        "name": gpu.name,
        "compute_capability": gpu.capability.to_string(),
        "memory_bytes": gpu.memory_bytes,
        "target": target.as_ref().ok(),
        "why_not": target.as_ref().err().map(Error::to_string),
    })
}

fn gpu_text(here: &Installed, gpu: &Gpu) -> String {
    let runs = match here.target_for(gpu) {
        Ok(target) => format!("runs the kernels for {target}"),
        Err(e) => format!("not usable: {e}"),
    };
    let (name, capability, memory) = (&gpu.name, gpu.capability, gib(gpu.memory_bytes));
    format!("{name}, compute capability {capability}, {memory}, {runs}")
}

/// `--kernels`: what each kernel uses on each target.
fn list_kernels(as_json: bool) -> Result<()> {
    let nvcc = GPU_CODE.present()?;
    let usage = GPU_CODE.usage()?;
    if as_json {
        let kernels: Vec<Value> = usage.iter().map(usage_json).collect();
        return print_json(&json!({
            "nvcc": nvcc,
            "targets": GPU_CODE.targets,
            "kernels": kernels,
        }));
    }
    let header = [
        "kernel",
        "target",
        "registers",
        "shared B",
        "constant B",
        "stack B",
        "spill stores B",
        "spill loads B",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(usage.iter().map(|u| {
        let memory = [u.shared_bytes, u.constant_bytes, u.stack_bytes];
        let spills = [u.spill_store_bytes, u.spill_load_bytes];
        let numbers = [&[u.registers], &memory[..], &spills].concat();
        let words = [u.kernel.clone(), u.target.clone()];
        words.into_iter().chain(numbers.iter().map(u32::to_string)).collect()
    }));
    print(&fitting_table(&rows, &["constant B", "stack B", "spill loads B", "shared B"]))
}

fn usage_json(u: &Usage) -> Value {
    json!({
        "kernel": u.kernel,
        "target": u.target,
        "registers": u.registers,
        "shared_bytes": u.shared_bytes,
        "constant_bytes": u.constant_bytes,
        "stack_bytes": u.stack_bytes,
        "spill_store_bytes": u.spill_store_bytes,
        "spill_load_bytes": u.spill_load_bytes,
    })
}

/// Instruction sets that the ops' code looks for.
fn cpu_features() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! probe {
            ($($name:tt),*) => {$(if std::is_x86_feature_detected!($name) { found.push($name); })*};
        }
        probe!("sse4.2", "avx", "fma", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512bf16");
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        found.push("neon");
    }
    found
}

/// First line of what the driver says about itself.
fn nvidia_driver() -> Option<String> {
    let text = fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

/// Whether a file can be made in a folder.
fn writable(dir: &Path) -> Result<()> {
    tempfile::tempfile_in(dir)
        .map(drop)
        .map_err(|e| Error::device(format!("cannot write in {}: {e}", dir.display())))
}
