//! The CUDA driver of this program, above a stand-in for NVIDIA's library (`stand_in/`): what
//! is queued, in which order, and what is said when something is missing. That kernels run on
//! a GPU is not shown here. A build without nvcc cannot open a GPU: then most tests are ignored,
//! and say so.

#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::{Command, Output};

use engine::device::cuda::Cuda;
use engine::device::driver::Launch;
use engine::device::{DevicePtr, Driver, Geometry};

/// Compiles the stand-ins into a folder of their own.
fn stand_in(flags: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (source, library) in
        [("libcuda.c", "libcuda.so.1"), ("libnvToolsExt.c", "libnvToolsExt.so.1")]
    {
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let status = Command::new(compiler)
            .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
            .arg(dir.path().join(library))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand_in").join(source))
            .args(flags)
            .status()
            .unwrap();
        assert!(status.success());
    }
    dir
}

/// Runs a test of this file again, with the stand-in in front of any real driver.
fn again(test: &str, libraries: &Path, settings: &[(&str, &str)]) {
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("LD_LIBRARY_PATH", libraries)
        .env("STAND_IN_NVTX", libraries.join("nvtx"))
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
}

fn doctor(libraries: &Path, args: &[&str], settings: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_engine"))
        .arg("doctor")
        .args(args)
        .env("LD_LIBRARY_PATH", libraries)
        .envs(settings.iter().copied())
        .output()
        .unwrap()
}

/// Its arguments are those that the stand-in expects of every kernel.
const KERNEL: &str = "relu_forward_f32";

fn bytes(values: &[f32]) -> &[u8] {
    bytemuck::cast_slice(values)
}

fn read(cuda: &Cuda, from: DevicePtr, n: usize) -> Vec<f32> {
    let mut values = vec![0f32; n];
    cuda.copy_to_host(bytemuck::cast_slice_mut(&mut values), from).unwrap();
    values
}

/// Values that fill the page-locked memory more than once.
const MORE_THAN_IS_PINNED: usize = 17 << 20;

/// y = x + 1 over `n` values.
fn plus_one(
    cuda: &Cuda,
    x: DevicePtr,
    y: DevicePtr,
    n: u32,
    geometry: Geometry,
) -> engine::Result<()> {
    let (params, shapes) = (n.to_ne_bytes(), format!("{n} values"));
    cuda.launch(&Launch {
        op: "plus-one",
        kernel: KERNEL,
        geometry,
        pointers: &[x, y],
        params: &params,
        shapes: &shapes,
    })
}

#[test]
#[ignore = "needs the stand-in; started by `work_keeps_its_order`"]
fn order() {
    let cuda = Cuda::open(0).unwrap();
    assert_eq!(cuda.hardware().name.as_deref(), Some("Stand-in 0"));
    cuda.profile(true).and_then(|()| cuda.profile(false)).unwrap();
    let n = MORE_THAN_IS_PINNED;
    let mut values: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let (x, y) = (cuda.alloc(4 * n).unwrap(), cuda.alloc(4 * n).unwrap());
    cuda.copy_to_device(x, bytes(&values)).unwrap();
    // The copy has its own copy of what it was given.
    values.fill(-1.0);
    let geometry = Geometry::cover(n as u32, 256);
    plus_one(&cuda, x, y, n as u32, geometry).unwrap();
    // After the kernel, which still reads x.
    cuda.copy_to_device(x, bytes(&[7.0, 8.0])).unwrap();
    cuda.copy(y.offset(8), x, 8).unwrap();
    cuda.fill(y, 0, 4).unwrap();
    let got = read(&cuda, y, n);
    assert_eq!(got[..6], [0.0, 2.0, 7.0, 8.0, 5.0, 6.0]);
    assert!(got.iter().enumerate().skip(4).all(|(i, v)| *v == i as f32 + 1.0));
    assert_eq!(read(&cuda, x, 4), [7.0, 8.0, 2.0, 3.0]);
    // Freed behind the work that uses it.
    plus_one(&cuda, y, x, 4, Geometry::linear(1, 256)).unwrap();
    cuda.free(y);
    assert_eq!(read(&cuda, x, 4), [1.0, 3.0, 8.0, 9.0]);

    cuda.range_begins("step/teacher");
    cuda.range_begins("layer1.0\0");
    cuda.range_ends();
    cuda.range_ends();

    let ms = cuda.time_ms(&mut || {
        cuda.fill(x, 1, 4)?;
        cuda.fill(x, 2, 4)
    });
    assert_eq!(ms.unwrap(), 2.0);
    cuda.free(x);
    cuda.sync().unwrap();
    let (free, total) = cuda.memory_bytes().unwrap();
    assert_eq!((free, total), (256 << 20, 256 << 20));
    assert_eq!((cuda.name(), cuda.gpu().name.as_str()), ("cuda:0".into(), "Stand-in 0"));
}

#[test]
#[cfg_attr(not(gpu_code), ignore = "this build holds no GPU code: run scripts/install-nvcc")]
fn work_keeps_its_order() {
    let libraries = stand_in(&[]);
    again("order", libraries.path(), &[]);
    again("order", libraries.path(), &[("STAND_IN_EAGER", "1")]);
    let ranges = std::fs::read_to_string(libraries.path().join("nvtx")).unwrap();
    assert_eq!(ranges, "0 step/teacher\n1 layer1.0 \n1 end\n0 end\n".repeat(2));
}

#[test]
#[ignore = "needs the stand-in; started by `copies_ahead_wait_for_nothing_but_their_place`"]
fn ahead() {
    let cuda = Cuda::open(0).unwrap();
    // Otherwise streams run as late as can be: the copy when it is awaited.
    let copies_run_at_once = std::env::var_os("STAND_IN_EAGER").is_some();
    let [x, a, b, c, d] = std::array::from_fn(|_| cuda.alloc(16).unwrap());
    let next = |y| plus_one(&cuda, x, y, 4, Geometry::linear(1, 32)).unwrap();
    cuda.copy_to_device(x, bytes(&[1.0; 4])).unwrap();
    next(a);
    let copy = cuda.staging_slot().unwrap();
    next(b);
    let mut values = [5.0; 4];
    cuda.copy_ahead(copy, x, bytes(&values)).unwrap();
    values.fill(9.0);
    next(c);
    cuda.arrive(copy).unwrap();
    next(d);
    // In front of the slot: the copy waits for it. Behind it: neither waits for the other.
    // Behind the arrival: it waits for the copy.
    let beside = if copies_run_at_once { 6.0 } else { 2.0 };
    for (y, expected) in [(a, 2.0), (b, beside), (c, beside), (d, 6.0)] {
        assert_eq!(read(&cuda, y, 4), [expected; 4]);
    }

    // Page-locked memory is written again when its copies are done, those in order and those
    // ahead.
    let n = MORE_THAN_IS_PINNED;
    let (large, small) = (cuda.alloc(4 * n).unwrap(), cuda.alloc(16).unwrap());
    let mut values = vec![0f32; n];
    for round in 0..3 {
        values.iter_mut().enumerate().for_each(|(i, v)| *v = (i + round) as f32);
        let copy = cuda.staging_slot().unwrap();
        cuda.copy_to_device(small, bytes(&[round as f32; 4])).unwrap();
        cuda.copy_ahead(copy, large, bytes(&values)).unwrap();
        values.fill(-1.0);
        cuda.copy_to_device(small.offset(8), bytes(&[7.0; 2])).unwrap();
        cuda.arrive(copy).unwrap();
        let got = read(&cuda, large, n);
        assert!(got.iter().enumerate().all(|(i, v)| *v == (i + round) as f32), "round {round}");
        assert_eq!(read(&cuda, small, 4), [round as f32, round as f32, 7.0, 7.0]);
    }
    // A slot that nothing comes to, and a copy that is none.
    let unused = cuda.staging_slot().unwrap();
    cuda.arrive(unused).unwrap();
    assert_eq!(cuda.copy_ahead(unused, x, &[1]).unwrap_err().exit_code(), 5);
}

#[test]
#[cfg_attr(not(gpu_code), ignore = "this build holds no GPU code: run scripts/install-nvcc")]
fn copies_ahead_wait_for_nothing_but_their_place() {
    let libraries = stand_in(&[]);
    again("ahead", libraries.path(), &[]);
    again("ahead", libraries.path(), &[("STAND_IN_EAGER", "1")]);
}

#[test]
#[ignore = "needs the stand-in; started by `wrong_launches_are_named`"]
fn wrong() {
    let cuda = Cuda::open(0).unwrap();
    let x = cuda.alloc(1024).unwrap();
    let fails = |geometry: Geometry| {
        let e = plus_one(&cuda, x, x, 4, geometry).unwrap_err();
        assert_eq!(e.exit_code(), 5);
        e.to_string()
    };
    assert!(fails(Geometry::linear(1, 512)).contains("512 threads a block"));
    let large = fails(Geometry::linear(1, 32).shared(200 << 10));
    assert!(large.contains("at most 166912 bytes of shared memory"), "{large}");
    plus_one(&cuda, x, x, 4, Geometry::linear(1, 32).shared(100 << 10)).unwrap();

    let e = cuda.alloc(300 << 20).unwrap_err();
    assert_eq!(e.exit_code(), 5);
    let text = e.to_string();
    assert!(text.contains("300 MiB more") && text.contains("256 MiB, of which 255 are"), "{text}");

    let e = Cuda::open(1).err().unwrap().to_string();
    assert!(e.contains("no GPU 1"), "{e}");
}

#[test]
#[cfg_attr(not(gpu_code), ignore = "this build holds no GPU code: run scripts/install-nvcc")]
fn wrong_launches_are_named() {
    again("wrong", stand_in(&[]).path(), &[]);
}

#[test]
#[ignore = "needs the stand-in; started by `a_fault_names_its_kernel`"]
fn fault() {
    let cuda = Cuda::open(0).unwrap();
    let x = cuda.alloc(1024).unwrap();
    let launched = plus_one(&cuda, x, x, 4, Geometry::linear(1, 32));
    if std::env::var_os("ENGINE_CUDA_SYNC").is_some() {
        let text = launched.unwrap_err().to_string();
        for part in [KERNEL, "plus-one", "4 values", "ILLEGAL_ADDRESS"] {
            assert!(text.contains(part), "{text}");
        }
    } else {
        launched.unwrap();
        let text = cuda.sync().unwrap_err().to_string();
        assert!(text.contains("ENGINE_CUDA_SYNC=1") && text.contains("cuda:0"), "{text}");
    }
}

#[test]
#[cfg_attr(not(gpu_code), ignore = "this build holds no GPU code: run scripts/install-nvcc")]
fn a_fault_names_its_kernel() {
    let libraries = stand_in(&[]);
    again("fault", libraries.path(), &[("STAND_IN_FAULT", "1")]);
    let sync = [("STAND_IN_FAULT", "1"), ("ENGINE_CUDA_SYNC", "1")];
    again("fault", libraries.path(), &sync);
}

/// What `engine doctor` prints.
fn told(libraries: &Path, settings: &[(&str, &str)]) -> String {
    let out = doctor(libraries, &[], settings);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{text} {:?}", out.stderr);
    text
}

#[test]
fn doctor_says_what_the_driver_lacks() {
    let (libraries, old) = (stand_in(&[]), stand_in(&["-DWITHOUT_POOLS"]));
    let text = told(libraries.path(), &[("STAND_IN_GPUS", "2")]);
    assert!(text.contains("CUDA 13.0"), "{text}");
    assert!(text.contains("Stand-in 1, compute capability 9.0, 0.2 GiB"), "{text}");
    assert!(told(old.path(), &[]).contains("no cuDeviceGetDefaultMemPool"));
    assert!(told(libraries.path(), &[("STAND_IN_INIT", "999")]).contains("does not work"));
}

#[test]
#[cfg_attr(not(gpu_code), ignore = "this build holds no GPU code: run scripts/install-nvcc")]
fn doctor_says_what_runs_the_kernels() {
    let libraries = stand_in(&[]);
    for (settings, says) in [
        (&[][..], "runs the kernels for sm_90a"),
        (&[("STAND_IN_CAPABILITY", "120")], "for compute_80"),
        (&[("STAND_IN_CAPABILITY", "75")], "8.0 or newer"),
        (&[("STAND_IN_VERSION", "12020")], "driver is too old"),
        (&[("STAND_IN_GPUS", "0")], "sees no GPU"),
    ] {
        let text = told(libraries.path(), settings);
        assert!(text.contains(says), "{settings:?}: {text}");
    }
}
