//! The GPU code in this build, as ptxas reported on it. A build without nvcc has none: then the
//! tests of it are ignored, and say so.

use std::collections::{BTreeMap, BTreeSet};

use engine::device::gpu_code::GPU_CODE;
use engine::device::kernels::kernels;
use engine::device::ptxas::Usage;
use serde::Deserialize;

/// `kernels/limits.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    registers: BTreeMap<String, u32>,
}

impl Limits {
    fn read() -> Self {
        toml::from_str(include_str!("../kernels/limits.toml")).unwrap()
    }

    /// The pattern that counts for a kernel, and its limit.
    fn of(&self, kernel: &str) -> (&str, u32) {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => kernel.starts_with(start),
            None => kernel == pattern,
        };
        let fitting = self.registers.iter().filter(|(pattern, _)| fits(pattern));
        let (pattern, limit) = fitting.max_by_key(|(p, _)| p.len()).expect("\"*\" fits all");
        (pattern, *limit)
    }

    /// What is wrong with a kernel.
    fn faults(&self, u: &Usage) -> Vec<String> {
        let (pattern, registers) = self.of(&u.kernel);
        let mut faults = Vec::new();
        let mut at_most = |what: &str, found: u32, limit: u32| {
            if found > limit {
                let (kernel, target) = (&u.kernel, &u.target);
                faults.push(format!("{kernel} on {target}: {found} {what}, at most {limit}"));
            }
        };
        at_most(&format!("registers ({pattern:?})"), u.registers, registers);
        at_most("bytes of local arrays", u.stack_bytes, 0);
        at_most("bytes of spilled registers", u.spill_store_bytes + u.spill_load_bytes, 0);
        faults
    }
}

/// What every kernel uses.
fn usage() -> Vec<Usage> {
    let usage = GPU_CODE.usage().unwrap();
    assert!(!usage.is_empty(), "ptxas reported on no kernel");
    usage
}

/// Whether nvcc is required, as the build script reads it.
fn nvcc_is_required() -> bool {
    std::env::var("ENGINE_REQUIRE_NVCC").is_ok_and(|v| !v.is_empty() && v != "0")
}

#[test]
fn tests_of_gpu_code_are_ignored_only_where_there_is_none() {
    assert_eq!(cfg!(gpu_code), GPU_CODE.nvcc.is_some());
    assert!(cfg!(gpu_code) || !nvcc_is_required(), "ENGINE_REQUIRE_NVCC is set");
}

#[test]
#[cfg_attr(not(gpu_code), ignore = "this build holds no GPU code: run scripts/install-nvcc")]
fn kernels_stay_within_their_limits() {
    let limits = Limits::read();
    let faults: Vec<String> = usage().iter().flat_map(|u| limits.faults(u)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
#[cfg_attr(not(gpu_code), ignore = "this build holds no GPU code: run scripts/install-nvcc")]
fn every_kernel_is_built_for_every_target() {
    let usage = usage();
    let machine: Vec<&str> =
        GPU_CODE.targets.iter().filter(|t| t.starts_with("sm_")).copied().collect();
    assert_eq!(usage.len(), GPU_CODE.kernels().unwrap() * machine.len());
    for u in &usage {
        assert!(machine.contains(&u.target.as_str()), "{u:?}");
    }
}

#[test]
#[cfg_attr(not(gpu_code), ignore = "this build holds no GPU code: run scripts/install-nvcc")]
fn gpu_and_emulator_have_the_same_kernels() {
    let built: BTreeSet<String> =
        GPU_CODE.modules.iter().flat_map(|m| m.kernels().unwrap()).collect();
    let table: BTreeSet<String> = kernels().iter().map(|k| k.name.to_owned()).collect();
    assert_eq!(built, table);
}

#[test]
#[cfg_attr(not(gpu_code), ignore = "this build holds no GPU code: run scripts/install-nvcc")]
fn no_limit_is_left_over() {
    let limits = Limits::read();
    let usage = usage();
    for pattern in limits.registers.keys() {
        let used = usage.iter().any(|u| limits.of(&u.kernel).0 == pattern);
        assert!(used, "{pattern:?} of kernels/limits.toml is no kernel's limit");
    }
}

#[test]
fn limits_fail() {
    let limits = Limits {
        registers: [("*", 64), ("conv_*", 128), ("conv_a", 255)]
            .map(|(k, v)| (k.to_owned(), v))
            .into(),
    };
    let faults = |kernel: &str, registers, stack_bytes, spill_load_bytes| {
        let kernel = kernel.to_owned();
        let target = "sm_80".to_owned();
        let rest = Usage::default();
        let u = Usage { kernel, target, registers, stack_bytes, spill_load_bytes, ..rest };
        limits.faults(&u).len()
    };
    assert_eq!(faults("relu", 64, 0, 0), 0);
    assert_eq!(faults("relu", 65, 0, 0), 1);
    assert_eq!(faults("conv_b", 128, 0, 0), 0);
    assert_eq!(faults("conv_b", 129, 8, 4), 3);
    assert_eq!(faults("conv_a", 255, 0, 0), 0);
}
