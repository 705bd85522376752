//! The machine code of `kernels/` that this program holds, as the build script compiled it.

use std::collections::BTreeSet;
use std::fmt;

use super::ptxas::{self, Usage};
use crate::error::{Error, Result};

/// All GPU code of the program; empty where it was built without nvcc.
pub static GPU_CODE: GpuCode = include!(concat!(env!("OUT_DIR"), "/gpu_code.rs"));

/// How to get a program that holds GPU code: the end of messages that miss it.
pub const HOW_TO_GET: &str =
    "run scripts/install-nvcc (or set NVCC or CUDA_HOME) and build engine again";

/// What nvcc made.
pub struct GpuCode {
    /// Version of nvcc, such as `13.0.88`; none where the program was built without it.
    pub nvcc: Option<&'static str>,
    /// What was compiled for, as nvcc names it: machine code (`sm_80`, `sm_90a`) and PTX
    /// (`compute_80`).
    pub targets: &'static [&'static str],
    /// One for each file of kernels.
    pub modules: &'static [Module],
}

/// The compiled kernels of one file.
pub struct Module {
    /// The file, such as `kernels/relu.cu`.
    pub source: &'static str,
    /// Machine code for all targets.
    pub fatbin: &'static [u8],
    /// What ptxas said about it.
    pub ptxas: &'static str,
}

/// A GPU's compute capability, such as 9.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability {
    /// 9 of 9.0.
    pub major: u32,
    /// 0 of 9.0.
    pub minor: u32,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Module {
    /// What its kernels use on every target of machine code.
    pub fn usage(&self) -> Result<Vec<Usage>> {
        let context = format!("ptxas' report on {}", self.source);
        ptxas::parse(self.ptxas).map_err(|e| e.context(context))
    }

    /// The names of its kernels.
    pub fn kernels(&self) -> Result<BTreeSet<String>> {
        Ok(self.usage()?.into_iter().map(|u| u.kernel).collect())
    }
}

impl GpuCode {
    /// What all kernels use.
    pub fn usage(&self) -> Result<Vec<Usage>> {
        Ok(self.modules.iter().map(Module::usage).collect::<Result<Vec<_>>>()?.concat())
    }

    /// Number of kernels.
    pub fn kernels(&self) -> Result<usize> {
        self.modules.iter().map(|m| Ok(m.kernels()?.len())).sum()
    }

    /// CUDA release that the code belongs to: drivers of an older major release do not load it.
    pub fn cuda_major(&self) -> Option<u32> {
        self.nvcc?.split('.').next()?.parse().ok()
    }

    /// The version of the nvcc that built it; an error that says how to get one where the
    /// program was built without.
    pub fn present(&self) -> Result<&'static str> {
        self.nvcc.ok_or_else(|| {
            Error::device(format!(
                "this build holds no CUDA kernels, as it was made without nvcc; {HOW_TO_GET}"
            ))
        })
    }

    /// The target that a GPU would run; an error that says what to do where there is none.
    pub fn target_for(&self, gpu: Capability) -> Result<&'static str> {
        let nvcc = self.present()?;
        // The best first: machine code of the nearest architecture, then PTX.
        let fit = self.targets.iter().filter_map(|t| Some((rank(t, gpu)?, *t))).max();
        fit.map(|(_, target)| target).ok_or_else(|| {
            Error::device(format!(
                "the CUDA kernels in this build (nvcc {nvcc}: {}) do not run on compute capability \
                 {gpu}; expected 8.0 or newer: set ENGINE_CUDA_ARCHS={}{} and build engine again",
                self.targets.join(" "),
                gpu.major,
                gpu.minor
            ))
        })
    }
}

/// How well a target fits a GPU, or none where it does not run there. Machine code runs on its
/// own major version from its minor version on, with the suffix `a` on exactly its own, with
/// `f` on its family; PTX is translated for anything that is not older.
fn rank(target: &str, gpu: Capability) -> Option<(bool, Capability, bool)> {
    let (kind, name) = target.split_once('_')?;
    let specific = name.ends_with('a');
    let number: u32 = name.trim_end_matches(['a', 'f']).parse().ok()?;
    let of = Capability { major: number / 10, minor: number % 10 };
    let machine = kind == "sm";
    let runs = match (machine, specific) {
        (_, true) => of == gpu,
        (true, false) => of.major == gpu.major && of.minor <= gpu.minor,
        (false, false) => of <= gpu,
    };
    runs.then_some((machine, of, specific))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(targets: &'static [&'static str], major: u32, minor: u32) -> Option<&'static str> {
        let code = GpuCode { nvcc: Some("13.0.88"), targets, modules: &[] };
        code.target_for(Capability { major, minor }).ok()
    }

    #[test]
    fn the_nearest_target_is_taken() {
        let usual: &[&str] = &["sm_80", "sm_90a", "compute_80"];
        assert_eq!(target(usual, 8, 0), Some("sm_80"));
        assert_eq!(target(usual, 8, 9), Some("sm_80"));
        assert_eq!(target(usual, 9, 0), Some("sm_90a"));
        assert_eq!(target(usual, 10, 0), Some("compute_80"));
        assert_eq!(target(usual, 7, 5), None);
        assert_eq!(target(&["sm_90a"], 10, 0), None);
        assert_eq!(target(&["sm_80", "sm_89", "compute_80"], 8, 9), Some("sm_89"));
        assert_eq!(target(&["sm_86"], 8, 0), None);
        assert_eq!(target(&["sm_100a", "sm_90a", "sm_90"], 9, 0), Some("sm_90a"));
    }

    #[test]
    fn without_nvcc_the_message_says_how_to_get_it() {
        let none = GpuCode { nvcc: None, targets: &[], modules: &[] };
        let e = none.target_for(Capability { major: 9, minor: 0 }).unwrap_err();
        assert_eq!(e.exit_code(), 5);
        assert!(e.to_string().contains("scripts/install-nvcc"), "{e}");
        assert_eq!((none.kernels().unwrap(), none.cuda_major()), (0, None));
    }
}
