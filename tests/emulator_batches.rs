//! Training fed on a device, the emulator, beside training fed on the CPU: the same views, the
//! same faults, and runs that go on where they were killed.
#![cfg(feature = "emulator")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use common::runs::kill;
use common::{engine, expect, s};
use engine::cx::Cx;
use engine::data::{Dataset, LoaderOptions, OnCorrupt, TrainLoader, Views};
use engine::device::emulator::Emulator;
use engine::tensor::{DType, Tensor};
use engine::train::{Batches, Feed};
use half::bf16;

/// Fourteen images of many sizes, so that batches need more and less memory.
fn images(dir: &Path) -> PathBuf {
    let root = dir.join("images");
    fs::create_dir(&root).unwrap();
    for i in 0..14u32 {
        let image = image::RgbImage::from_fn(9 + 5 * i, 40 - 2 * i, |x, y| {
            let noise = (x * 31 + y * 17 + i * 1013).wrapping_mul(2_654_435_761) >> 25;
            image::Rgb([noise as u8, (x * 3 + i * 20) as u8, (y * 6) as u8])
        });
        image.save(root.join(format!("{i:02}.png"))).unwrap();
    }
    root
}

fn open(data: &Path) -> Arc<Dataset> {
    Arc::new(Dataset::open(&[s(data).to_owned()]).unwrap())
}

/// Batches of four, whose two views are made differently.
fn options(start_step: u64) -> LoaderOptions {
    let views = vec![Views::moco_v2(), Views { solarise_p: 0.5, ..Views::byol()[1].clone() }];
    LoaderOptions { views, start_step, seed: 3, ..LoaderOptions::moco_v2(12, 4, 2) }
}

fn emulator() -> Cx {
    Cx::device(Arc::new(Emulator::new(2).unwrap()), 1).unwrap()
}

/// The views of some steps, as bits.
fn fed(cx: &Cx, data: &Path, first: u64, steps: usize, prefetch: bool) -> Vec<Vec<Vec<u32>>> {
    let mut batches = Batches::new(cx, open(data), options(first)).unwrap();
    assert_eq!(batches.steps_per_epoch(), 3);
    let step = |_| {
        let views = batches.next(cx).unwrap().views;
        if prefetch {
            batches.prefetch(cx);
            batches.prefetch(cx);
        }
        let bits = |v: &Tensor| cx.download(v).unwrap().into_iter().map(f32::to_bits).collect();
        views.iter().map(bits).collect()
    };
    (0..steps).map(step).collect()
}

#[test]
fn views_are_the_cpus_bit_for_bit_whatever_is_taken_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path());
    let expected = fed(&Cx::for_tests(), &data, 0, 7, false);
    assert_ne!(expected[0], expected[3]);
    for prefetch in [false, true] {
        let cx = emulator();
        assert!(fed(&cx, &data, 0, 7, prefetch) == expected);
        assert!(fed(&cx, &data, 4, 3, prefetch) == expected[4..], "resumed");
        assert_eq!(cx.memory().live_bytes, 0, "a feed that ends leaves nothing behind");
    }
    assert!(fed(&Cx::for_tests(), &data, 4, 3, true) == expected[4..]);
}

#[test]
fn narrow_views_are_the_same_rounded() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path());
    let expected = fed(&Cx::for_tests(), &data, 0, 1, false).remove(0);
    let cx = emulator().computing_in(DType::BF16);
    let mut batches = Batches::new(&cx, open(&data), options(0)).unwrap();
    let views = batches.next(&cx).unwrap().views;
    assert_eq!((views.len(), expected.len()), (2, 2));
    for (found, expected) in views.iter().zip(expected) {
        let rounded = |bits: u32| bf16::from_f32(f32::from_bits(bits)).to_f32();
        let expected: Vec<f32> = expected.into_iter().map(rounded).collect();
        assert_eq!((found.dtype(), cx.download(found).unwrap()), (DType::BF16, expected));
    }
}

/// One piece of memory for images beside the views: no step after the largest takes more.
#[test]
fn memory_grows_with_the_largest_batch_only() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path());
    let cx = emulator();
    let mut batches = Batches::new(&cx, open(&data), options(0)).unwrap();
    let mut allocations = |steps| {
        for _ in 0..steps {
            batches.next(&cx).unwrap();
            batches.prefetch(&cx);
        }
        cx.memory().allocations
    };
    let several_epochs = allocations(12);
    assert!(several_epochs > 0, "memory is not counted");
    assert_eq!(allocations(12), several_epochs);
}

fn spoil(data: &Path, name: &str) {
    fs::write(data.join(name), b"\xFF\xD8\xFF\xE0 no jpeg").unwrap();
}

#[test]
fn unreadable_images_are_replaced_by_the_same_ones() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path());
    let before = fed(&Cx::for_tests(), &data, 0, 3, false);
    (0..5).for_each(|i| spoil(&data, &format!("{:02}.png", 2 * i)));
    let expected = fed(&Cx::for_tests(), &data, 0, 3, false);
    assert_ne!(before, expected);
    assert!(fed(&emulator(), &data, 0, 3, true) == expected);
}

#[test]
fn a_batch_that_fails_fails_its_own_step() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path());
    let mut loader = TrainLoader::new(open(&data), options(0)).unwrap();
    let third = std::iter::repeat_with(|| loader.next().unwrap()).nth(2).unwrap();
    spoil(&data, &format!("{:02}.png", third.indices[1]));
    let failure = |cx: &Cx| {
        let options = LoaderOptions { on_corrupt: OnCorrupt::Stop, ..options(0) };
        let mut batches = Batches::new(cx, open(&data), options).unwrap();
        for _ in 0..2 {
            batches.next(cx).unwrap();
            batches.prefetch(cx);
        }
        let [first, later] = [(); 2].map(|()| batches.next(cx).err().unwrap().to_string());
        assert!(first.contains("on_corrupt") && later.contains("stopped"), "{first}; {later}");
        first
    };
    assert_eq!(failure(&emulator()), failure(&Cx::for_tests()));
}

const SMALL: [&str; 7] = [
    "train.batch=4",
    "train.epochs=1",
    "train.bn_group=4",
    "moco.queue=8",
    "moco.hidden=16",
    "moco.dim=8",
    "ckpt.every=1",
];

fn train<'a>(device: &'a str, data: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--preset", "tiny", "--device", device];
    args.extend(["--data", s(data), "--out", s(out)]);
    args.extend(more);
    args.extend(SMALL);
    args
}

fn lines(run: &Path) -> usize {
    fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

/// Killed in the middle of its second step and resumed; what its first step saw is what the
/// CPU's saw.
#[test]
fn killed_and_resumed_on_a_device_is_bit_identical() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path());
    let [whole, killed, cpu, dumps] =
        ["whole", "killed", "cpu", "dumps"].map(|d| dir.path().join(d));
    expect(0, &train("emulator", &data, &whole, &["--max-steps", "2"]));
    assert_eq!(lines(&whole), 2);

    let dumping = |to| ["--max-steps", "1", "--dump-steps", "0", "--dump-dir", to];
    let (of_cpu, of_device) = (dumps.join("cpu"), dumps.join("device"));
    expect(0, &train("emulator", &data, &killed, &dumping(s(&of_device))));
    let args = train("emulator", &data, &killed, &["--max-steps", "2", "--resume", "must"]);
    let mut child = engine(&args).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let log = || fs::read_to_string(killed.join("train.log")).unwrap();
    while !log().contains("continuing from") && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(100));
    kill(child);
    assert_eq!(lines(&killed), 1, "its second step was done before it was killed");
    expect(0, &args);
    assert_eq!(lines(&killed), 2);
    for stem in ["student", "teacher", "optimizer", "queue"] {
        let [a, b] = [&whole, &killed]
            .map(|run| fs::read(run.join(format!("checkpoints/last/{stem}.safetensors"))).unwrap());
        assert!(a == b, "{stem} differs");
    }

    expect(0, &train("cpu", &data, &cpu, &dumping(s(&of_cpu))));
    let [a, b] = [of_cpu, of_device].map(|dumps| {
        let path = dumps.join("step-00000000.safetensors");
        engine::files::read_safetensors(&path).unwrap().0
    });
    // Nets compute in bf16 there.
    let rounded = |x: &f32| bf16::from_f32(*x).to_f32();
    for name in ["x_student", "x_teacher"] {
        let expected: Vec<f32> = a[name].1.iter().map(rounded).collect();
        assert!(b[name].1 == expected && b[name].0 == [4, 3, 32, 32], "{name}");
    }
}

/// A process reads what it trains on: what lies behind its last step cannot fail it.
#[test]
fn nothing_is_taken_ahead_of_the_last_step() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path());
    let seeded = LoaderOptions { seed: 0, ..options(0) };
    let mut loader = TrainLoader::new(open(&data), seeded).unwrap();
    let second = std::iter::repeat_with(|| loader.next().unwrap()).nth(1).unwrap();
    spoil(&data, &format!("{:02}.png", second.indices[0]));
    for device in ["cpu", "emulator"] {
        let (one, two) = (dir.path().join(format!("{device}1")), dir.path().join(device));
        let stop = ["--seed", "0", "data.on_corrupt=stop", "--max-steps"];
        expect(0, &train(device, &data, &one, &[&stop[..], &["1"]].concat()));
        let (_, stderr) = expect(3, &train(device, &data, &two, &[&stop[..], &["2"]].concat()));
        assert!(stderr.contains("on_corrupt"), "{stderr}");
        assert_eq!((lines(&one), lines(&two)), (1, 1), "{device}");
    }
}
