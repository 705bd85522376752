//! Kernels with planted faults (`kernels/host/faults.cu`): each fault is caught and named with
//! its line, and the right version of each kernel passes under several schedules.

mod counters;

use std::ffi::CStr;

use super::{Emulator, Races, ffi, linked};
use crate::device::driver::{DevicePtr, Driver, Geometry, Launcher};
use crate::device::kernels::{self, Kernel};
use crate::error::Result;

#[link(name = "engine_faults", kind = "static", modifiers = "+whole-archive")]
unsafe extern "C" {}

const FAULTS: &str = include_str!("../../../../kernels/host/faults.cu");
const SEEDS: std::ops::Range<u64> = 0..6;

/// The line of `faults.cu` that ends with a comment, as messages write it.
fn line(comment: &str) -> String {
    let comment = format!("// {comment}");
    let at = FAULTS.lines().position(|l| l.ends_with(&comment)).expect("the comment is there");
    format!("kernels/host/faults.cu:{}", at + 1)
}

fn upload(e: &Emulator, values: &[f32]) -> DevicePtr {
    let p = e.alloc(size_of_val(values)).unwrap();
    e.copy_to_device(p, bytemuck::cast_slice(values)).unwrap();
    p
}

fn download(e: &Emulator, p: DevicePtr, n: usize) -> Result<Vec<f32>> {
    let mut values = vec![0.0; n];
    e.copy_to_host(bytemuck::cast_slice_mut(&mut values), p)?;
    Ok(values)
}

/// Values 1, 2, …
fn ramp(n: usize) -> Vec<f32> {
    (1..=n).map(|i| i as f32).collect()
}

/// The table that was read from the sources is what the host's compiler makes of them.
#[test]
fn the_table_of_kernels_is_that_of_the_compiler() {
    let linked = linked::linked();
    assert_eq!(linked.len(), kernels::kernels().len() + kernels::FAULTS.len());
    for kernel in kernels::kernels().iter().chain(kernels::FAULTS) {
        // SAFETY: the number is a kernel's; its strings are literals.
        let (k, file) = unsafe {
            let k = ffi::emu_kernel(linked[kernel.name]);
            (k, CStr::from_ptr(k.file).to_str().unwrap())
        };
        let (pointers, params_bytes) = (k.pointers as usize, k.params_bytes as usize);
        let (name, max_threads) = (kernel.name, k.max_threads);
        assert_eq!(*kernel, Kernel { name, file, pointers, params_bytes, max_threads });
    }
}

/// One block of a kernel of `faults.cu` that reads x, of 4 values a thread, and writes y, of
/// one.
struct Planted<'a> {
    e: &'a Emulator,
    kernel: &'a str,
    geometry: Geometry,
    reads: bool,
}

impl<'a> Planted<'a> {
    fn new(e: &'a Emulator, kernel: &'a str) -> Self {
        Self { e, kernel, geometry: Geometry::linear(1, 64), reads: true }
    }

    fn run(&self, broken: bool) -> Result<DevicePtr> {
        let n = self.geometry.block[0] as usize;
        let y = self.e.alloc(4 * n)?;
        let launcher = Launcher { driver: self.e, op: "fault" };
        let x = upload(self.e, &ramp(4 * n));
        let pointers: &[_] = if self.reads { &[x, y] } else { &[y] };
        let done = launcher.launch(self.kernel, self.geometry, pointers, &u32::from(broken));
        self.e.free(x);
        done.map(|()| y)
    }

    /// Passes as it should be, and says all of `words` when broken, whatever the seed.
    fn check(&self, words: &[&str]) {
        for seed in SEEDS {
            self.e.reschedule(seed);
            if let Err(e) = self.run(false) {
                panic!("seed {seed}, not broken: {e}");
            }
            let message = match self.run(true) {
                Ok(_) => panic!("{}, seed {seed}: the fault is not seen", self.kernel),
                Err(e) => e.to_string(),
            };
            if seed == 0 {
                println!("{message}\n");
            }
            assert!(message.contains(self.kernel), "{message}");
            for word in words {
                assert!(message.contains(word), "seed {seed}: no {word:?} in: {message}");
            }
        }
    }
}

fn emulator() -> Emulator {
    Emulator::new(1).unwrap()
}

/// A kernel with x and y, and what it says when broken.
fn caught(kernel: &str, words: &[&str]) {
    Planted::new(&emulator(), kernel).check(words);
}

/// The same for a kernel with y alone.
fn caught_without_input(kernel: &str, words: &[&str]) {
    Planted { reads: false, ..Planted::new(&emulator(), kernel) }.check(words);
}

#[test]
fn relu_runs() {
    let e = Emulator::new(2).unwrap();
    let q = Launcher { driver: &e, op: "relu" };
    let x: Vec<f32> = (0..1000).map(|i| i as f32 - 500.5).collect();
    let (px, py) = (upload(&e, &x), e.alloc(4000).unwrap());
    for seed in SEEDS {
        e.reschedule(seed);
        e.handed_out(py, 4000);
        q.launch("relu_forward_f32", Geometry::cover(1000, 256), &[px, py], &1000u32).unwrap();
        let y = download(&e, py, 1000).unwrap();
        assert!(x.iter().zip(&y).all(|(x, y)| x.max(0.0) == *y));
    }
    e.reschedule(0);
    e.handed_out(py, 3996);
    let launch = q.launch("relu_forward_f32", Geometry::cover(1000, 256), &[px, py], &1000u32);
    let message = launch.unwrap_err().to_string();
    assert!(message.contains("kernels/relu.cu:12: thread (249, 0, 0) of block (0, 0, 0)"));
    assert!(message.contains("0 bytes past the end of an allocation of 3996 bytes"), "{message}");
}

#[test]
fn a_removed_barrier_is_a_race() {
    let (reader, writer) = (line("removed barrier, reader"), line("removed barrier, writer"));
    caught("fault_barrier", &["a race", "of tile (1024 bytes, shared)", &reader, &writer]);
    caught("fault_reuse", &["a race", "tile", &line("reuse, reader"), &line("reuse, writer")]);
    caught("fault_halves", &["a race", "tile", &line("removed barrier, halves")]);
    caught_without_input("fault_atomic", &["a race", "count", &line("atomics, reader")]);
}

#[test]
fn a_removed_barrier_changes_results_under_other_seeds() {
    let e = emulator();
    e.check_races(Races::Nowhere);
    let planted = Planted::new(&e, "fault_barrier");
    let results = |broken| -> Vec<Vec<f32>> {
        let one = |seed| {
            e.reschedule(seed);
            download(&e, planted.run(broken).unwrap(), 64).unwrap()
        };
        SEEDS.map(one).collect()
    };
    let right: Vec<f32> = ramp(64).into_iter().rev().collect();
    assert!(results(false).iter().all(|y| *y == right));
    let broken = results(true);
    assert!(broken.iter().any(|y| *y != broken[0]));
}

#[test]
fn races_within_and_between_warps_are_seen() {
    caught("fault_warp_sync", &["a race", "tile", &line("removed warp_sync, reader")]);
    caught("fault_named_barrier", &["a race", "tile", &line("removed named barrier, writer")]);
}

#[test]
fn races_between_blocks_are_seen() {
    let e = emulator();
    e.check_races(Races::Everywhere);
    let q = Launcher { driver: &e, op: "fault" };
    let (writes, reads) = (line("two blocks write"), line("another block reads"));
    let half = line("another block's half");
    let (x, y) = (upload(&e, &ramp(256)), upload(&e, &ramp(256)));
    let geometry = Geometry::linear(4, 64);
    for seed in SEEDS {
        e.reschedule(seed);
        let run = |kernel, pointers: &[DevicePtr], broken: u32| {
            q.launch(kernel, geometry, pointers, &broken).map_err(|e| e.to_string())
        };
        run("fault_blocks", &[x, y], 0).unwrap();
        run("fault_in_place", &[y], 0).unwrap();
        let message = run("fault_blocks", &[x, y], 1).unwrap_err();
        assert!(message.contains("a race") && message.contains(&writes), "{message}");
        let message = run("fault_in_place", &[y], 1).unwrap_err();
        assert!(message.contains("a race") && message.contains(&reads), "{message}");
        // Two blocks share each word, and each has a half of it.
        let halves = |broken: u32| {
            let launch = q.launch("fault_block_halves", Geometry::linear(2, 64), &[y], &broken);
            launch.map_err(|e| e.to_string())
        };
        halves(0).unwrap();
        let message = halves(1).unwrap_err();
        assert!(message.contains("a race") && message.contains(&half), "{message}");
    }
    // The kernels of one block that are right stay so.
    for kernel in ["fault_barrier", "fault_reuse", "fault_warp_sync", "fault_copy_barrier"] {
        Planted::new(&e, kernel).run(false).unwrap();
    }
}

#[test]
fn a_fault_on_any_host_thread_ends_the_launch() {
    let e = Emulator::new(3).unwrap();
    let q = Launcher { driver: &e, op: "relu" };
    let n = 512 * 256;
    let (x, y) = (upload(&e, &ramp(n)), e.alloc(4 * n).unwrap());
    let launch = || q.launch("relu_forward_f32", Geometry::linear(512, 256), &[x, y], &(n as u32));
    for seed in SEEDS {
        e.reschedule(seed);
        e.handed_out(y, 4 * n - 4);
        assert!(launch().unwrap_err().to_string().contains("past the end"));
        e.handed_out(y, 4 * n);
        launch().unwrap();
        assert_eq!(download(&e, y, n).unwrap(), ramp(n));
    }
}

#[test]
fn stores_past_the_end_are_caught() {
    let global = line("store past the end");
    caught("fault_store", &["0 bytes past the end of an allocation of 256 bytes", &global]);
    let e = emulator();
    let shared = line("shared store past the end");
    let planted =
        Planted { geometry: Geometry::linear(1, 256), ..Planted::new(&e, "fault_store_shared") };
    planted.check(&["0 bytes past the end of tile (1024 bytes, shared)", &shared]);
    let dynamic = line("dynamic store past the end");
    let geometry = Geometry::linear(1, 64).shared(256);
    let planted = Planted { geometry, ..Planted::new(&e, "fault_dynamic") };
    planted.check(&["0 bytes past the end of dynamic shared memory (256 bytes, shared)", &dynamic]);
}

#[test]
fn reads_of_what_nothing_wrote_are_caught() {
    let global = line("uninitialised read");
    caught("fault_uninitialised", &["nothing wrote", "allocation of 256 bytes", &global]);
    let shared = line("uninitialised shared read");
    let word = "reads 4 bytes that nothing wrote: byte 20 of tile";
    caught("fault_uninitialised_shared", &[word, "thread (5, 0, 0)", &shared]);
}

#[test]
fn wrong_masks_are_caught() {
    caught("fault_mask", &["lanes 0x", "returned", &line("wrong mask")]);
    let word = "from lane 16, which the mask 0x0000ffff does not name";
    caught("fault_lane", &[word, &line("lane outside")]);
}

#[test]
fn missing_waits_on_asynchronous_copies_are_caught() {
    let word = "an asynchronous copy that nobody has waited for";
    caught("fault_copy", &[word, "tile", &line("removed wait, reader")]);
    caught("fault_copy_group", &[word, &line("too few groups")]);
    let (reader, copy) = (line("removed copy barrier, reader"), line("removed copy barrier, copy"));
    let e = emulator();
    let planted = Planted::new(&e, "fault_copy_barrier");
    for seed in SEEDS {
        e.reschedule(seed);
        planted.run(false).unwrap();
        let message = planted.run(true).unwrap_err().to_string();
        // Under some schedules the reader comes while the copy is under way.
        assert!(message.contains("a race") || message.contains(word), "{message}");
        assert!(message.contains(&reader) || message.contains(&copy), "{message}");
    }
}

#[test]
fn too_much_shared_memory_is_caught() {
    let words = ["49156 bytes of static shared memory, of which there are 49152"];
    caught_without_input("fault_static", &[words[0], &line("static shared memory")]);
    let e = emulator();
    let geometry = Geometry::linear(1, 64).shared((227 << 10) + 4);
    let planted = Planted { geometry, ..Planted::new(&e, "fault_dynamic") };
    let message = planted.run(false).unwrap_err().to_string();
    assert!(message.contains("has at most 232448 bytes of shared memory"), "{message}");
    let geometry = Geometry::linear(1, 64).shared(227 << 10);
    assert!(Planted { geometry, ..planted }.run(false).is_ok());
}

#[test]
fn misaligned_and_stray_accesses_are_caught() {
    let word = "reads 16 bytes at an address that is no multiple of 16: byte 4 of an allocation";
    let e = emulator();
    Planted::new(&e, "fault_misaligned").check(&["no multiple of 16", &line("misaligned load")]);
    e.reschedule(0);
    let message = Planted::new(&e, "fault_misaligned").run(true).unwrap_err().to_string();
    assert!(message.contains(word), "{message}");
    let null = line("null pointer");
    caught_without_input("fault_host", &["which is no memory of the device", &null]);
    caught_without_input("fault_constant", &["to a constant", &line("constant")]);
    caught_without_input("fault_stack", &["bytes of local memory"]);
}

#[test]
fn barriers_that_some_threads_never_reach_are_caught() {
    let half = line("barrier of a part of a warp");
    caught_without_input("fault_half_warp", &["of its warp", "returned", &half]);
    let all = line("barrier that warp 1 does not come to");
    let named = line("barrier that others do not come to");
    let words = ["32 threads (0 to 31) wait for the block's barrier", &all, &named];
    caught_without_input("fault_other_barrier", &words);
}

#[test]
fn launches_are_checked_against_the_kernel_table() {
    let e = emulator();
    let q = Launcher { driver: &e, op: "relu" };
    let p = e.alloc(4096).unwrap();
    e.fill(p, 0, 4096).unwrap();
    let geometry = Geometry::linear(1, 256);
    let says = |launch: Result<()>, word: &str| {
        let message = launch.unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    };
    let name = "relu_forward_f32";
    q.launch(name, geometry, &[p, p], &256u32).unwrap();
    let params = "8 bytes of parameters, where kernels/relu.cu declares 4";
    says(q.launch(name, geometry, &[p, p], &256u64), params);
    says(q.launch(name, geometry, &[p], &256u32), "1 pointers, where kernels/relu.cu declares 2");
    let large = Geometry::linear(1, 288);
    says(q.launch(name, large, &[p, p], &256u32), "288 threads a block, where");
    let huge = Geometry { block: [32, 32, 2], ..geometry };
    says(q.launch(name, huge, &[p, p], &256u32), "a block has 1 to 1024 threads");
    let empty = Geometry { grid: [0, 1, 1], ..geometry };
    says(q.launch(name, empty, &[p, p], &256u32), "a grid has 1 to");
    let near = "there is no kernel of this name (did you mean \"relu_forward_f32\"?)";
    says(q.launch("relu_foward_f32", geometry, &[p, p], &256u32), near);
}

#[test]
fn memory_that_was_given_back_is_not_used() {
    let e = emulator();
    let q = Launcher { driver: &e, op: "relu" };
    let (x, y) = (upload(&e, &ramp(256)), e.alloc(1024).unwrap());
    let launch = || {
        q.launch("relu_forward_f32", Geometry::linear(1, 256), &[x, y], &256u32)
            .map_err(|e| e.to_string())
    };
    launch().unwrap();
    e.handed_back(y);
    let message = launch().unwrap_err();
    assert!(message.contains("byte 0 of a buffer that was given back to the pool"), "{message}");
    e.handed_out(y, 1024);
    assert!(download(&e, y, 256).unwrap_err().to_string().contains("nothing wrote it"));
    launch().unwrap();
    e.free(x);
    let message = launch().unwrap_err();
    let freed = "byte 0 of an allocation of 1024 bytes that was freed";
    assert!(message.contains(freed), "{message}");
    assert!(e.copy_to_device(x, &[0]).unwrap_err().to_string().contains(freed));
    assert!(download(&e, y, 257).unwrap_err().to_string().contains("byte 1024 is 0 bytes past"));
}

#[test]
fn storage_in_bf16_rounds_as_the_hardware_does() {
    let e = emulator();
    let q = Launcher { driver: &e, op: "round" };
    let mut x: Vec<f32> = (0..2000u32).map(|i| f32::from_bits(i.wrapping_mul(2_147_483))).collect();
    x.extend([f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -f32::MAX, 0.0, -0.0, 1e-40]);
    x.retain(|x| !x.is_nan());
    // Halfway between two bf16, both ways to even.
    x.extend([f32::from_bits(0x3f80_8000), f32::from_bits(0x3f81_8000), f32::NAN]);
    let n = x.len();
    let (px, py) = (upload(&e, &x), e.alloc(2 * n).unwrap());
    q.launch("round_bf16", Geometry::cover(n as u32, 256), &[px, py], &(n as u32)).unwrap();
    let mut y = vec![half::bf16::ZERO; n];
    e.copy_to_host(bytemuck::cast_slice_mut(&mut y), py).unwrap();
    for (x, y) in x.iter().zip(&y) {
        let expected = if x.is_nan() { 0x7fff } else { half::bf16::from_f32(*x).to_bits() };
        assert_eq!(y.to_bits(), expected, "{x:e}");
    }
}
