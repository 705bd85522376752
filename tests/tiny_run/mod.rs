//! A run's folder with a checkpoint of a random net of preset tiny, and images of two kinds.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use engine::cx::Cx;
use engine::nn::{Heads, Init, Mlp, Params, Role, Supernet};
use engine::rng::{Philox, Purpose};
use engine::space::Space;
use engine::train::checkpoint::{self, State};
use engine::train::health::Watch;

pub(crate) const HIDDEN: usize = 32;
/// Numbers of its embeddings.
pub(crate) const DIM: usize = 16;

/// Forty images of two kinds, stripes and dots, in class folders.
pub(crate) fn write_images(dir: &Path) {
    for (class, name) in ["dots", "stripes"].into_iter().enumerate() {
        fs::create_dir_all(dir.join(name)).unwrap();
        for i in 0..20u64 {
            let mut rng = Philox::new(3, Purpose::Check, i, class as u16);
            let (tint, period) = (rng.uniform(), 3 + rng.below(4) as u32);
            let image = image::RgbImage::from_fn(32, 32, |x, y| {
                let on = match class {
                    0 => x % period == 0 && y % period == 0,
                    _ => (x + y) % period < period / 2,
                };
                let level = if on { 220.0 } else { 60.0 } + 30.0 * rng.uniform();
                image::Rgb([level as u8, (level * tint) as u8, (level * (1.0 - tint)) as u8])
            });
            image.save(dir.join(name).join(format!("{i:02}.png"))).unwrap();
        }
    }
}

/// A checkpoint of step 7 in `root/checkpoints`; the student's seed is 1.
pub(crate) fn write_checkpoint(cx: &Cx, root: &Path, teacher_seed: u64) -> PathBuf {
    write_step(cx, root, 7, [1, teacher_seed])
}

/// A checkpoint of a step in `root/checkpoints`, with the seeds of student and teacher.
pub(crate) fn write_step(cx: &Cx, root: &Path, step: u64, seeds: [u64; 2]) -> PathBuf {
    write(cx, root, step, seeds, |_, _| ())
}

/// As [`write_checkpoint`], of any step and with the teacher's tensors changed by `change`, which
/// gets their names and values.
pub(crate) fn write_changed(
    cx: &Cx,
    root: &Path,
    teacher_seed: u64,
    step: u64,
    change: impl Fn(&str, &mut [f32]),
) -> PathBuf {
    write(cx, root, step, [1, teacher_seed], change)
}

fn write(
    cx: &Cx,
    root: &Path,
    step: u64,
    seeds: [u64; 2],
    change: impl Fn(&str, &mut [f32]),
) -> PathBuf {
    let heads = Heads::projector(Mlp::moco(HIDDEN, DIM, false));
    let net = Supernet::new(&Space::preset("tiny").unwrap(), Some(&heads));
    let tensors = |seed| {
        let mut params = Params::init(cx, net.specs(), seed).unwrap();
        // Blocks start as the identity; here they shall matter.
        let scales =
            net.specs().iter().map(|s| s.role == Role::NormScale && s.init == Init::Constant(0.0));
        for (value, last) in params.values_mut().iter_mut().zip(scales) {
            if last {
                value.host_mut::<f32>().fill(0.7);
            }
        }
        params.to_torch(cx).unwrap()
    };
    let head = [("moco.hidden", HIDDEN), ("moco.dim", DIM)];
    let state = State {
        step,
        steps: 10,
        seed: 1,
        preset: engine::space::presets::tiny(),
        method: "moco".into(),
        data_cursor: 0,
        sampler_cursor: 0,
        queue_pointer: 0,
        pointers: BTreeMap::new(),
        images: 40,
        data: None,
        time_s: 0.0,
        collapsed_steps: 0,
        health: Watch::default(),
        loss: None,
        tuned: None,
        init: None,
        extended: Vec::new(),
        changed: Vec::new(),
        config: head.map(|(k, v)| (k.to_owned(), v.to_string())).into(),
        hashes: BTreeMap::new(),
    };
    let mut teacher = tensors(seeds[1]);
    teacher.iter_mut().for_each(|(name, _, values)| change(name, values));
    let contents = vec![("student", tensors(seeds[0])), ("teacher", teacher)];
    checkpoint::write(&root.join("checkpoints"), state, &contents, 1).unwrap()
}

/// For [`write_changed`]: every image gets an embedding near one point.
pub(crate) fn collapse(name: &str, values: &mut [f32]) {
    match name {
        "head.2.weight" => values.iter_mut().for_each(|w| *w *= 1e-3),
        "head.2.bias" => values.fill(1.0),
        _ => (),
    }
}
