//! The GPU half: every `kernels/*.cu` becomes a fatbin (machine code for each target, PTX for
//! what comes later) that the program embeds, with ptxas' report of what each kernel uses. No
//! GPU is looked for; without nvcc the program is built without GPU code.

#[path = "find.rs"]
mod find;

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

use super::env;
use find::Nvcc;

type Result<T> = std::result::Result<T, String>;

const DEFAULT_ARCHS: &str = "80,90a";
const HOW_TO_GET: &str = "run scripts/install-nvcc, or set NVCC or CUDA_HOME";

/// Compiles the kernels `sources`, files of `dir`, and writes `OUT/gpu_code.rs`, the table of
/// what was built. Returns whether that is GPU code: false without nvcc.
pub(crate) fn build(dir: &Path, sources: &[PathBuf], out: &Path) -> Result<bool> {
    let required = env("ENGINE_REQUIRE_NVCC").is_some_and(|v| v != "0");
    let targets = Targets::parse(&env("ENGINE_CUDA_ARCHS").unwrap_or(DEFAULT_ARCHS.into()))?;
    let off = env("ENGINE_NVCC").is_some_and(|v| v == "off");
    if off && required {
        return Err("ENGINE_NVCC=off and ENGINE_REQUIRE_NVCC exclude each other".into());
    }
    let Some(nvcc) = (if off { None } else { find::nvcc()? }) else {
        if required {
            return Err(format!("ENGINE_REQUIRE_NVCC is set but nvcc was not found: {HOW_TO_GET}"));
        }
        return write_table(out, None, &targets, &[]).map(|()| false);
    };
    let build = Build { dir, out, flags: flags(dir, &targets), nvcc: &nvcc };
    build.all(sources)?;
    write_table(out, Some(&nvcc), &targets, sources).map(|()| true)
}

/// What is compiled for: machine code for each architecture, and PTX of the lowest for GPUs
/// that are newer than all of them.
struct Targets {
    /// Such as `80`, `90a`.
    archs: Vec<String>,
    /// Such as `80`; none where the lowest is specific to one GPU (`90a`).
    ptx: Option<String>,
}

impl Targets {
    fn parse(list: &str) -> Result<Self> {
        let wrong = |what: &str| {
            format!(
                "ENGINE_CUDA_ARCHS={list}: {what:?} is no architecture: expected a list such as \
                 {DEFAULT_ARCHS}, the lowest 80"
            )
        };
        let mut archs = Vec::new();
        for arch in list.split(',').map(str::trim) {
            let digits = arch.strip_suffix(['a', 'f']).unwrap_or(arch);
            let number: u32 = digits.parse().map_err(|_| wrong(arch))?;
            if number < 80 {
                return Err(wrong(arch));
            }
            archs.push((number, arch.to_owned()));
        }
        archs.sort();
        archs.dedup();
        let archs: Vec<String> = archs.into_iter().map(|(_, arch)| arch).collect();
        let ptx = archs.first().filter(|a| !a.ends_with(['a', 'f'])).cloned();
        Ok(Self { archs, ptx })
    }

    fn gencode(&self) -> impl Iterator<Item = String> + '_ {
        self.archs.iter().map(|arch| {
            let ptx = if self.ptx.as_ref() == Some(arch) {
                format!(",compute_{arch}")
            } else {
                String::new()
            };
            format!("--generate-code=arch=compute_{arch},code=[sm_{arch}{ptx}]")
        })
    }

    /// Names as nvcc has them: `sm_80`, `sm_90a`, `compute_80`.
    fn names(&self) -> Vec<String> {
        let ptx = self.ptx.iter().map(|a| format!("compute_{a}"));
        self.archs.iter().map(|a| format!("sm_{a}")).chain(ptx).collect()
    }
}

fn flags(dir: &Path, targets: &Targets) -> Vec<String> {
    let fixed = ["--fatbin", "-std=c++17", "-lineinfo", "-Xptxas=-v", "-Werror=all-warnings"];
    let mut flags: Vec<String> = fixed.map(String::from).into();
    flags.push(format!("-I{}", dir.display()));
    flags.extend(targets.gencode());
    if let Some(host) = env("NVCC_CCBIN") {
        flags.push(format!("-ccbin={host}"));
    }
    flags
}

/// One run of the compiler over all files.
struct Build<'a> {
    dir: &'a Path,
    out: &'a Path,
    flags: Vec<String>,
    nvcc: &'a Nvcc,
}

impl Build<'_> {
    /// Compiles what changed, as many files at once as cargo allows jobs.
    fn all(&self, sources: &[PathBuf]) -> Result<()> {
        let jobs = std::env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1usize);
        let (next, errors) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..jobs.min(sources.len()) {
                scope.spawn(|| {
                    while let Some(source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(e) = self.one(source) {
                            errors.lock().expect("no thread panics").push(e);
                        }
                    }
                });
            }
        });
        let errors = errors.into_inner().expect("no thread panics");
        if errors.is_empty() { Ok(()) } else { Err(errors.join("\n")) }
    }

    /// Compiles a file, unless what it depends on is as it was.
    fn one(&self, source: &Path) -> Result<()> {
        let file = |ext: &str| output(self.out, source, ext);
        let cannot =
            |what: &Path, e: std::io::Error| format!("cannot write {}: {e}", what.display());
        let key = file("key");
        let fresh = fs::read_to_string(&key)
            .is_ok_and(|old| file("fatbin").exists() && Some(old) == self.key(source, &file("d")));
        if fresh {
            return Ok(());
        }
        let _ = fs::remove_file(&key);
        let run = Command::new(&self.nvcc.path)
            .args(&self.flags)
            .args(["-MMD".as_ref(), "-MF".as_ref(), file("d").as_os_str()])
            .args(["-o".as_ref(), file("fatbin").as_os_str(), source.as_os_str()])
            .output()
            .map_err(|e| format!("cannot start {}: {e}", self.nvcc.path.display()))?;
        let messages = String::from_utf8_lossy(&run.stderr).into_owned();
        if !run.status.success() {
            let said = String::from_utf8_lossy(&run.stdout);
            return Err(format!("nvcc failed on {}:\n{said}{messages}", source.display()));
        }
        fs::write(file("ptxas"), messages).map_err(|e| cannot(&file("ptxas"), e))?;
        let made = self.key(source, &file("d")).ok_or_else(|| {
            format!("{}: nvcc's list of what it read cannot be used", source.display())
        })?;
        // Last: a build that was cut off has no key.
        fs::write(&key, made).map_err(|e| cannot(&key, e))
    }

    /// What a file's machine code is a function of: compiler, flags, and the contents of the
    /// project's files that it reads. None where they are not known.
    fn key(&self, source: &Path, depfile: &Path) -> Option<String> {
        let list = fs::read_to_string(depfile).ok()?;
        let read = list.split_once(" : ").or(list.split_once(": "))?.1;
        let mut hash = DefaultHasher::new();
        (&self.nvcc.version, &self.flags).hash(&mut hash);
        let mut seen_source = false;
        for path in read.split_whitespace().map(Path::new).filter(|p| p.starts_with(self.dir)) {
            seen_source |= path == source;
            (path, fs::read(path).ok()?).hash(&mut hash);
        }
        seen_source.then(|| format!("{:016x}", hash.finish()))
    }
}

/// `OUT/<stem>.<ext>`.
fn output(out: &Path, source: &Path, ext: &str) -> PathBuf {
    let stem = source.file_stem().unwrap_or_default();
    out.join(stem).with_extension(ext)
}

/// Writes the Rust table of what was built, which `src/device/gpu_code.rs` includes.
fn write_table(
    out: &Path,
    nvcc: Option<&Nvcc>,
    targets: &Targets,
    sources: &[PathBuf],
) -> Result<()> {
    let mut text = String::from("GpuCode {\n");
    let targets = if nvcc.is_some() { targets.names() } else { Vec::new() };
    let version = nvcc.map(|n| n.version.as_str());
    let _ = writeln!(text, "    nvcc: {version:?},\n    targets: &{targets:?},\n    modules: &[");
    for source in sources {
        let path = |ext| output(out, source, ext);
        let _ = writeln!(
            text,
            "        Module {{ source: {:?}, fatbin: include_bytes!({:?}), ptxas: include_str!({:?}) }},",
            source,
            path("fatbin"),
            path("ptxas"),
        );
    }
    text.push_str("    ],\n}\n");
    let path = out.join("gpu_code.rs");
    fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}
