//! What the emulator counts, held against numbers worked out by hand; tensor cores; costs.

use super::{Planted, SEEDS, download, emulator, ramp, upload};
use crate::device::driver::{DevicePtr, Driver, Geometry, Launcher};
use crate::device::emulator::{Counters, Emulator, Races};

/// Prints what accesses and switches cost: the figures of docs/emulator.md. It stands here, as
/// the kernels with planted faults are part of no other program.
#[test]
#[ignore = "prints speeds, which no test holds to anything; run by hand, in release"]
fn costs() {
    let e = emulator();
    let q = Launcher { driver: &e, op: "cost" };
    let (blocks, threads, rounds) = (16, 256, 256_u32);
    let n = blocks * threads;
    let x = upload(&e, &vec![1.0; (n * rounds) as usize]);
    let y = e.alloc(4 * n as usize).unwrap();
    let geometry = Geometry::linear(blocks, threads);
    let one = |kernel: &str, pointers: &[DevicePtr], per_round: f32| {
        let mut best = f32::INFINITY;
        for _ in 0..5 {
            let mut run = || q.launch(kernel, geometry, pointers, &rounds);
            best = best.min(e.time_ms(&mut run).unwrap());
        }
        let ns = best * 1e6 / (n * rounds) as f32 / per_round;
        println!("{kernel}: {best:.1} ms, {ns:.1} ns each");
    };
    one("cost_accesses", &[x, y], 1.0);
    one("cost_shared", &[y], 2.0);
    one("cost_barriers", &[y], 1.0);
    one("cost_shuffles", &[y], 1.0);
    one("cost_mma", &[y], 1.0);
}

/// Counters of one launch of one warp.
fn counted(kernel: &str, n: usize, shared_bytes: u32, stride: u32) -> Counters {
    let e = emulator();
    let q = Launcher { driver: &e, op: "count" };
    let (x, y) = (upload(&e, &ramp(n)), e.alloc(128).unwrap());
    e.count(true);
    let geometry = Geometry::linear(1, 32).shared(shared_bytes);
    q.launch(kernel, geometry, &[x, y], &stride).unwrap();
    let counters = e.take_counters();
    assert!(e.take_counters().is_empty() && counters.len() == 1);
    counters[kernel]
}

#[test]
fn sectors_are_counted() {
    // Values of 4 bytes: 8 a sector, so 32 of them are 4 sectors side by side, 8 where every
    // second one is read, and 32 where they are 128 bytes apart.
    for (stride, sectors) in [(1, 4), (2, 8), (32, 32), (0, 1)] {
        let c = counted("count_global", 32 * 32, 0, stride);
        assert_eq!((c.launches, c.global_read_bytes, c.global_read_requests), (1, 128, 1));
        assert_eq!(c.global_read_sectors, sectors, "stride {stride}");
        assert_eq!((c.global_written_bytes, c.global_write_requests), (128, 1));
        assert_eq!(c.global_write_sectors, 4);
        assert_eq!(c.shared_requests, 0);
    }
}

#[test]
fn bank_conflicts_are_counted() {
    // 32 banks of 4 bytes: with stride 1 each lane has its own, with stride 2 two lanes share
    // one, with stride 32 all do, and with stride 33 none again. A write and a read each.
    for (stride, turns) in [(1, 1), (2, 2), (8, 8), (32, 32), (33, 1)] {
        let c = counted("count_shared", 32, 4 * 33 * 32, stride);
        assert_eq!((c.shared_requests, c.shared_least_wavefronts), (2, 2));
        assert_eq!(c.shared_wavefronts, 2 * turns, "stride {stride}");
    }
    // A word that all lanes read is one turn.
    let e = emulator();
    let q = Launcher { driver: &e, op: "count" };
    let (x, y) = (upload(&e, &ramp(32)), e.alloc(128).unwrap());
    e.count(true);
    q.launch("count_broadcast", Geometry::linear(1, 32), &[x, y], &0u32).unwrap();
    let c = e.take_counters()["count_broadcast"];
    assert_eq!((c.shared_requests, c.shared_wavefronts), (2, 2));
    assert_eq!((c.barriers, c.warp_operations), (1, 1));
}

#[test]
fn asynchronous_copies_and_vectors_are_counted() {
    let e = emulator();
    e.count(true);
    Planted::new(&e, "fault_copy").run(false).unwrap();
    let c = e.take_counters()["fault_copy"];
    // 64 threads copy 16 bytes each: two requests of 512 bytes, 16 sectors each, and as many
    // writes to shared memory, in 4 turns each.
    assert_eq!((c.copied_bytes, c.global_read_requests, c.global_read_sectors), (1024, 2, 32));
    // Two reads 16 bytes apart by each of two warps: lanes 8 apart share a bank.
    assert_eq!((c.shared_requests, c.shared_wavefronts), (2 + 4, 2 * 4 + 4 * 4));
    assert_eq!(c.shared_least_wavefronts, 2 * 4 + 4);
}

#[test]
fn atomics_of_64_bits_add_up() {
    let e = Emulator::new(3).unwrap();
    let q = Launcher { driver: &e, op: "count" };
    let sum = e.alloc(16).unwrap();
    e.check_races(Races::Everywhere);
    e.count(true);
    // Carries from the lower half to the upper one, and a value below zero.
    for value in [(3 << 32) - 1, -5_i64] {
        for seed in SEEDS {
            e.reschedule(seed);
            e.fill(sum, 0, 16).unwrap();
            q.launch("count_atomics", Geometry::linear(4, 64), &[sum], &value).unwrap();
            let mut found = [0_i64; 2];
            e.copy_to_host(bytemuck::cast_slice_mut(&mut found), sum).unwrap();
            assert_eq!(found, [256 * value, 0]);
        }
    }
    let c = e.take_counters()["count_atomics"];
    assert_eq!(c.atomics, 256 * c.launches);
    let middle = DevicePtr(sum.0 + 4);
    let launch = q.launch("count_atomics", Geometry::linear(1, 1), &[middle], &1_i64);
    assert!(launch.unwrap_err().to_string().contains("no multiple of 8"));
}

/// The product of `a` (16 × k) and `b` (k × 8), by rows.
fn product(a: &[f32], b: &[f32], k: usize) -> Vec<f32> {
    let at = |i: usize| (0..k).map(|j| a[i / 8 * k + j] * b[j * 8 + i % 8]).sum();
    (0..128).map(at).collect()
}

#[test]
fn tensor_cores_multiply() {
    let e = emulator();
    let q = Launcher { driver: &e, op: "mma" };
    // Whole numbers, so that sums are exact; all of A and half of B are not zero.
    let values = |n: usize, step: usize| -> Vec<f32> {
        (0..n).map(|i| ((i * step) % 31) as f32 - 15.5).map(|x| 2.0 * x).collect()
    };
    e.count(true);
    for (kernel, k) in [("mma_bf16", 16), ("mma_tf32", 8)] {
        let a = values(16 * k, 7);
        let mut b = values(8 * k, 11);
        b[4 * k..].fill(0.0);
        let transposed: Vec<f32> = (0..8 * k).map(|i| b[i % k * 8 + i / k]).collect();
        let d = e.alloc(512).unwrap();
        for (by_columns, b_there) in [(0u32, &b), (1, &transposed)] {
            let narrow = |values: &[f32]| {
                if k == 8 {
                    return upload(&e, values);
                }
                let values: Vec<half::bf16> =
                    values.iter().map(|v| half::bf16::from_f32(*v)).collect();
                let p = e.alloc(2 * values.len()).unwrap();
                e.copy_to_device(p, bytemuck::cast_slice(&values)).unwrap();
                p
            };
            for seed in SEEDS {
                e.reschedule(seed);
                let pointers = [narrow(&a), narrow(b_there), d];
                q.launch(kernel, Geometry::linear(1, 32), &pointers, &by_columns).unwrap();
                assert_eq!(download(&e, d, 128).unwrap(), product(&a, &b, k), "{kernel}");
            }
        }
        let c = e.take_counters()[kernel];
        let (launches, macs) = (c.launches, 16 * 8 * k as u64);
        assert_eq!((launches, c.tensor_issued), (12, 12 * macs));
        // The second half of the rows of B is zeros.
        assert_eq!(c.tensor_useful, c.tensor_issued / 2, "{kernel}");
    }
}
