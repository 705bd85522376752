//! Whole iterations of training on the emulator against the CPU: all kernels together, and all
//! state on the device.
#![cfg(feature = "emulator")]

use std::sync::Arc;

use engine::config::{Config, Method, Rule};
use engine::cx::Cx;
use engine::device::emulator::Emulator;
use engine::ops::Fill;
use engine::ops::check::values;
use engine::space::Space;
use engine::ssl::Begin;
use engine::tensor::{DType, Shape};
use engine::train::objective::At;
use engine::train::{Pretrain, Report, Setup, Step};

/// What two iterations report, and the state after them by name.
type Trained = (Vec<Report>, Vec<(String, Vec<f32>)>);

/// A method of small heads, a batch in so many parts.
fn config(method: Method, accum: usize, head_norm: bool) -> Config {
    let mut config = Config::defaults(&engine::space::presets::tiny(), method);
    // Norms of the embeddings of four images enlarge what rounding does.
    let group = if head_norm || method == Method::Byol { 8 } else { 4 };
    (config.train.batch, config.train.bn_group, config.train.accum) = (8, group, accum);
    (config.moco.queue, config.moco.hidden, config.moco.dim) = (60, 24, 16);
    (config.ressl.queue, config.ressl.hidden, config.ressl.dim) = (60, 24, 16);
    (config.byol.hidden, config.byol.dim) = (24, 16);
    (config.moco.head_norm, config.ressl.head_norm) = (head_norm, head_norm);
    (config.moco.tau, config.train.weight_decay) = (0.2, 5e-4);
    (config.ressl.tau_teacher, config.ressl.tau_student) = (0.1, 0.2);
    if method == Method::Byol {
        (config.train.optimizer, config.train.decay_exempt) = (Rule::Lars, true);
    }
    config
}

fn train(cx: &Cx, config: &Config, steps: u64) -> engine::Result<Trained> {
    let space = Space::preset("tiny")?;
    let archs = [space.max(), space.min()];
    let setup = Setup { config, space: &space, classes: 0, begin: Begin::Seeded };
    let mut pretrain = Pretrain::new(cx, &setup)?;
    let mut reports = Vec::new();
    for step in 0..steps {
        let shape = Shape::nhwc(config.train.batch, space.resolution, space.resolution, 3);
        let view = |seed| cx.upload(shape, cx.dtype(), &values(shape, Fill::Normal, seed));
        let views = [view(2 * step)?, view(2 * step + 1)?];
        let at = At { step, steps: 10, lr: 0.05 };
        let step = Step { at, archs: &archs, views: &views };
        reports.push(pretrain.iterate(cx, &step, None, &mut || {})?);
    }
    let mut state = Vec::new();
    for (what, params) in [("student", &pretrain.student), ("teacher", &pretrain.teacher)] {
        let named = params.to_torch(cx)?.into_iter();
        state.extend(named.map(|(name, _, values)| (format!("{what} {name}"), values)));
    }
    for (spec, v) in pretrain.net.specs().iter().zip(pretrain.optimizer.velocity()) {
        state.push((format!("momentum {}", spec.name), cx.download(v)?));
    }
    let memory = pretrain.method.state(cx)?;
    state.extend(memory.tensors.into_iter().map(|(name, _, values)| (name, values)));
    let pointers = memory.pointers.values().map(|pointer| *pointer as f32).collect();
    state.push(("pointers".into(), pointers));
    Ok((reports, state))
}

/// How far √Σ(found − expected)² is from 0, relative to √Σ expected².
fn distance<'a>(pairs: impl Iterator<Item = (&'a f32, &'a f32)>) -> f64 {
    let (mut differences, mut sizes) = (0.0, 0.0);
    for (found, expected) in pairs {
        differences += f64::from(found - expected).powi(2);
        sizes += f64::from(*expected).powi(2);
    }
    (differences / sizes).sqrt()
}

/// Training on the emulator in a type is that of the CPU, within `tolerance`: losses, and all
/// values of the same kind together.
fn compare(dtype: DType, config: &Config, tolerance: f64) {
    // The kernels of the nets, which all methods have in common, are followed for longest with MoCo.
    let steps = if config.method == Method::Moco { 3 } else { 2 };
    let emulator = Cx::device(Arc::new(Emulator::new(2).unwrap()), 1).unwrap().computing_in(dtype);
    let cpu = Cx::cpu(2).unwrap();
    let (found, found_state) = emulator.install(|| train(&emulator, config, steps)).unwrap();
    let (expected, expected_state) = cpu.install(|| train(&cpu, config, steps)).unwrap();
    // Written so that NaN fails.
    let close = |what: &str, found: f64, expected: f64, tolerance: f64| {
        let close = (found - expected).abs() <= tolerance * expected.abs();
        assert!(close, "{} {dtype:?}, {what}: {found}, the CPU has {expected}", config.method);
    };
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found.losses.len(), 2);
        for ((_, found), (_, expected)) in found.losses.iter().zip(&expected.losses) {
            close(&format!("loss of step {step}"), *found, *expected, tolerance);
        }
        let [a, b] = [found, expected].map(|r| r.grad_norm);
        close(&format!("gradient of step {step}"), a, b, tolerance);
        // A small difference of nearly equal numbers in bf16.
        let [a, b] =
            [found, expected].map(|r| r.embeddings.expect("there are embeddings").student.std);
        close(&format!("deviation of step {step}"), a, b, 5.0 * tolerance);
    }
    assert_eq!(found_state.len(), expected_state.len());
    assert_eq!(found_state.last(), expected_state.last(), "the queues' pointers");
    let kinds = ["student", "teacher", "momentum", "queue"];
    let method = config.method;
    for kind in kinds.into_iter().filter(|kind| *kind != "queue" || method != Method::Byol) {
        let of_kind = |state: &[(String, Vec<f32>)]| -> Vec<f32> {
            let named = state.iter().filter(|(name, _)| name.starts_with(kind));
            named.flat_map(|(_, values)| values).copied().collect()
        };
        let (found, expected) = (of_kind(&found_state), of_kind(&expected_state));
        assert!(!expected.is_empty() && found.len() == expected.len(), "{kind}");
        let distance = distance(found.iter().zip(&expected));
        eprintln!("{method} {dtype:?} {kind}: {distance:.1e}");
        // Momenta are nothing but gradients, which gather the roundings of all layers.
        let most = if kind == "momentum" { 10.0 * tolerance } else { tolerance };
        assert!(distance <= most, "{method} {dtype:?}, {kind}: {distance:e}");
    }
}

#[test]
fn iterations_on_the_emulator_are_those_of_the_cpu() {
    compare(DType::F32, &config(Method::Moco, 2, false), 1e-4);
    compare(DType::F32, &config(Method::Moco, 1, true), 1e-3);
}

#[test]
fn iterations_in_bf16_are_near_those_of_the_cpu() {
    compare(DType::BF16, &config(Method::Moco, 1, false), 2e-2);
}

#[test]
fn iterations_of_byol_on_the_emulator_are_those_of_the_cpu() {
    compare(DType::F32, &config(Method::Byol, 1, true), 1e-3);
    // Norms in the head enlarge what rounding does.
    compare(DType::BF16, &config(Method::Byol, 1, true), 4e-2);
}

#[test]
fn iterations_of_ressl_on_the_emulator_are_those_of_the_cpu() {
    compare(DType::F32, &config(Method::Ressl, 2, false), 1e-4);
    compare(DType::BF16, &config(Method::Ressl, 1, false), 2e-2);
}

#[test]
fn iterations_of_densecl_on_the_emulator_are_those_of_the_cpu() {
    compare(DType::F32, &config(Method::Densecl, 2, false), 1e-4);
    // A position that is as near to one as to another may match either.
    compare(DType::BF16, &config(Method::Densecl, 1, false), 4e-2);
}
