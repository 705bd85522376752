//! Whole iterations of training on the emulator against the CPU: all kernels together, and all
//! state on the device.

use std::sync::Arc;

use engine::config::Config;
use engine::device::Cx;
use engine::device::emulator::Emulator;
use engine::ops::Fill;
use engine::ops::check::values;
use engine::space::Space;
use engine::tensor::{DType, Shape};
use engine::train::{Iteration, Report, Step};

/// What two iterations report, and the state after them by name.
type Trained = (Vec<Report>, Vec<(String, Vec<f32>)>);

fn train(cx: &Cx) -> engine::Result<Trained> {
    let mut config = Config::for_preset("tiny")?;
    (config.train.batch, config.train.bn_group, config.train.accum) = (6, 3, 2);
    (config.moco.queue, config.moco.hidden, config.moco.dim) = (9, 24, 16);
    let space = Space::preset("tiny")?;
    let archs = [space.max(), space.min()];
    let mut iteration = Iteration::new(cx, &config, &space)?;
    let mut reports = Vec::new();
    for step in 0..2 {
        let shape = Shape::nhwc(config.train.batch, space.resolution, space.resolution, 3);
        let view = |seed| cx.upload(shape, DType::F32, &values(shape, Fill::Normal, seed));
        let (student_view, teacher_view) = (view(2 * step)?, view(2 * step + 1)?);
        let step = Step {
            step,
            steps: 10,
            lr: 0.05,
            archs: &archs,
            student_view: &student_view,
            teacher_view: &teacher_view,
        };
        reports.push(iteration.run(cx, &step, None)?);
    }
    let mut state = Vec::new();
    for (what, params) in [("student", &iteration.student), ("teacher", &iteration.teacher)] {
        let named = params.to_torch(cx)?.into_iter();
        state.extend(named.map(|(name, _, values)| (format!("{what} {name}"), values)));
    }
    for (spec, v) in iteration.net.specs().iter().zip(&iteration.velocity) {
        state.push((format!("momentum {}", spec.name), cx.download(v)?));
    }
    let (queue, pointer) = iteration.method.state(cx)?;
    state.extend(queue.into_iter().map(|(name, _, values)| (name, values)));
    state.push(("pointer".into(), vec![pointer as f32]));
    Ok((reports, state))
}

#[track_caller]
fn close(what: &str, found: f64, expected: f64, size: f64) {
    // Written so that NaN fails.
    let close = (found - expected).abs() <= 1e-3 * size;
    assert!(close, "{what}: {found}, the CPU has {expected}");
}

#[test]
fn iterations_on_the_emulator_are_those_of_the_cpu() {
    let emulator = Cx::device(Arc::new(Emulator::new(2).unwrap()), 1).unwrap();
    let cpu = Cx::cpu(2).unwrap();
    let (found, found_state) = emulator.install(|| train(&emulator)).unwrap();
    let (expected, expected_state) = cpu.install(|| train(&cpu)).unwrap();
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found.losses.len(), 2);
        for (found, expected) in found.losses.iter().zip(&expected.losses) {
            close(&format!("loss of step {step}"), *found, *expected, expected.abs());
        }
        let [a, b] = [found, expected].map(|r| r.grad_norm);
        close(&format!("gradient of step {step}"), a, b, b);
        let [a, b] = [found, expected].map(|r| r.feature_std);
        close(&format!("deviation of step {step}"), a, b, b);
    }
    for ((name, found), (_, expected)) in found_state.iter().zip(&expected_state) {
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let pairs = found.iter().zip(expected);
        let difference = norm(&mut pairs.map(|(f, e)| f64::from(*f) - f64::from(*e)));
        let size = norm(&mut expected.iter().map(|e| f64::from(*e)));
        assert_eq!(found.len(), expected.len());
        close(name, difference, 0.0, size);
    }
    assert_eq!(found_state.len(), expected_state.len());
}
