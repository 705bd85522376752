//! Where nvcc is.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Result, env};

/// The oldest release that knows sm_90a.
const OLDEST: (u32, u32) = (12, 0);

/// A compiler that answers.
pub(super) struct Nvcc {
    pub path: PathBuf,
    /// Such as `13.0.88`.
    pub version: String,
}

/// The first nvcc of `$NVCC`, `$CUDA_HOME`, `$CUDA_PATH`, `PATH`, the usual folders and the
/// project's own. `$NVCC` must work; another one that does not is passed over with a warning.
pub(super) fn nvcc() -> Result<Option<Nvcc>> {
    if let Some(path) = env("NVCC") {
        let found = ask(&on_path(Path::new(&path)).unwrap_or(path.into()));
        return found.map(Some).map_err(|e| format!("NVCC: {e}"));
    }
    let mut homes = Vec::new();
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        // A toolkit without its compiler, as in images that only run programs, is no fault.
        homes.extend(env(name).map(|home| Path::new(&home).join("bin/nvcc")));
    }
    let own = Path::new(".nvcc/nvidia/cu13/bin/nvcc").to_owned();
    let there = on_path(Path::new("nvcc")).into_iter().chain(usual_folders()).chain([own]);
    for path in homes.into_iter().chain(there).filter(|p| p.is_file()) {
        match ask(&path) {
            Ok(nvcc) => return Ok(Some(nvcc)),
            Err(e) => println!("cargo:warning={e}; looking further"),
        }
    }
    Ok(None)
}

/// A bare name looked up in `PATH`.
fn on_path(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return None;
    }
    let path = env("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file())
}

/// `/usr/local/cuda`, `/opt/cuda` and `/usr/local/cuda-X.Y`, the newest first.
fn usual_folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/usr/local").into_iter().flatten().flatten();
    let mut versions: Vec<((u32, u32), PathBuf)> = entries
        .filter_map(|e| {
            let name = e.file_name();
            Some((major_minor(name.to_str()?.strip_prefix("cuda-")?)?, e.path()))
        })
        .collect();
    versions.sort();
    let versions = versions.into_iter().rev().map(|(_, path)| path);
    let fixed = ["/usr/local/cuda", "/opt/cuda"].map(PathBuf::from);
    fixed.into_iter().chain(versions).map(|dir| dir.join("bin/nvcc")).collect()
}

/// `13.0` or `13.0.88` as (13, 0); `13` alone as (13, 0).
fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    let major = parts.next()?.parse().ok()?;
    Some((major, parts.next().map_or(Some(0), |p| p.parse().ok())?))
}

/// Asks a compiler for its version.
fn ask(path: &Path) -> Result<Nvcc> {
    let shown = path.display();
    let run = Command::new(path)
        .arg("--version")
        .output()
        .map_err(|e| format!("nvcc at {shown} cannot be started: {e}"))?;
    // "Cuda compilation tools, release 13.0, V13.0.88"
    let text = String::from_utf8_lossy(&run.stdout);
    let version = text.lines().find_map(|l| l.split_once(", V")).map(|(_, v)| v.trim().to_owned());
    let Some(version) = version.filter(|_| run.status.success()) else {
        return Err(format!("{shown} does not answer --version as nvcc does"));
    };
    if major_minor(&version) < Some(OLDEST) {
        let (major, minor) = OLDEST;
        return Err(format!("nvcc at {shown} is {version}; {major}.{minor} or newer is needed"));
    }
    println!("cargo:rerun-if-changed={shown}");
    // Absolute, so that nvcc finds its parts beside itself.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Ok(Nvcc { path, version })
}
