//! Nets and a whole training iteration against PyTorch, from files that the scripts beside
//! them make.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use engine::config::{Byol, Config, DenseLevel, Densecl, Method, Moco, QueueFill, Ressl, Rule};
use engine::cx::Cx;
use engine::data::{Batch, Targets};
use engine::files::{self, Named};
use engine::finetune::cls::Classify;
use engine::nn::{BnMode, Feature, Gradients, ParamSpec, Params, Supernet, recalibrate};
use engine::space::{Arch, Block, Space, StageSpace, StemSpace, presets};
use engine::ssl::Begin;
use engine::tape::Tape;
use engine::tensor::{DType, Shape, Tensor, to_nchw};
use engine::train::objective::{At, Setup};
use engine::train::{Pretrain, Step};

const MAPS: [Feature; 4] = [Feature::C2, Feature::C3, Feature::C4, Feature::C5];

fn fixture(name: &str) -> (Named, HashMap<String, String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    files::read_safetensors(&path).unwrap()
}

/// A space whose maximum is `max` and whose smallest net is all ones.
fn space(max: &Arch, stem: [usize; 2], maxpool: bool) -> Space {
    let strides = [1, 2, 2, 2];
    Space {
        name: max.to_string(),
        resolution: 32,
        stem: StemSpace { kernel: stem[0], stride: stem[1], maxpool, widths: vec![1, max.stem] },
        stages: std::array::from_fn(|i| StageSpace {
            widths: vec![1, max.widths[i]],
            depths: vec![1, max.depths[i]],
            stride: strides[i],
        }),
        ..presets::data()
    }
}

/// The entries `prefix.*`, without the prefix.
fn part(named: &Named, prefix: &str) -> Named {
    let inside = |n: &String| n.strip_prefix(prefix)?.strip_prefix('.').map(str::to_owned);
    named.iter().filter_map(|(n, v)| Some((inside(n)?, v.clone()))).collect()
}

/// Images [N, C, H, W] as a tensor [N, H, W, C].
fn nhwc(cx: &Cx, (shape, values): &(Vec<usize>, Vec<f32>)) -> Tensor {
    let &[n, c, h, w] = shape.as_slice() else { panic!("four dimensions") };
    let values = to_nchw(values, c, h * w);
    cx.upload(Shape::nhwc(n, h, w, c), DType::F32, &values).unwrap()
}

/// Values N×C×H×W.
fn nchw(cx: &Cx, t: &Tensor) -> Vec<f32> {
    to_nchw(&cx.download(t).unwrap(), t.shape().positions(), t.shape().c())
}

/// Largest difference relative to the largest expected magnitude.
#[track_caller]
fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let worst = found.iter().zip(expected).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    // A NaN is no largest difference.
    assert!(found.iter().all(|x| x.is_finite()), "{what} is not finite");
    assert!(worst <= tolerance * scale, "{what}: {worst:e} of {scale:e}");
}

fn close_all(cx: &Cx, what: &str, specs: &[ParamSpec], found: &[&Tensor], expected: &Named) {
    for (spec, t) in specs.iter().zip(found) {
        let values = spec.to_torch(&cx.download(t).unwrap());
        close(&format!("{what} {}", spec.name), &values, &expected[&spec.name].1, 1e-4);
    }
}

#[test]
fn a_net_agrees_with_torchvisions_bottlenecks() {
    agrees_with_torchvision("bottleneck.safetensors", |space| space);
}

#[test]
fn a_net_agrees_with_torchvisions_basic_blocks() {
    agrees_with_torchvision("basic.safetensors", |space| Space {
        block: Block::Basic,
        mean: vec![0.0; 4],
        std: vec![1.0; 4],
        ..space
    });
}

fn agrees_with_torchvision(file: &str, of: fn(Space) -> Space) {
    let (named, meta) = fixture(file);
    let cx = Cx::for_tests();
    let arch: Arch = meta["arch"].parse().unwrap();
    let net = Supernet::new(&of(space(&arch, [7, 2], true)), None);
    let params = Params::from_torch(&cx, net.specs(), &part(&named, "weight"), "fixture").unwrap();
    let batches = [nhwc(&cx, &named["x.0"]), nhwc(&cx, &named["x.1"])];

    let mut grads = Gradients::zeros(&cx, net.specs()).unwrap();
    for probe in [Feature::C3, Feature::C5] {
        let mut tape = Tape::recording(&cx);
        let x = tape.constant(batches[0].clone());
        let norm = &mut BnMode::Batch { group: 0 };
        let mut out = net.forward(&mut tape, &params, x, &arch, norm, &MAPS).unwrap();
        for f in MAPS {
            let expected = &named[&format!("train.{f}")].1;
            close(&format!("train.{f}"), &nchw(&cx, out.get(f).value()), expected, 1e-5);
        }
        let root = out.take(probe);
        drop(out);
        let gradient = nhwc(&cx, &named[&format!("probe.{probe}")]);
        tape.backward(root, gradient, grads.slots()).unwrap();
    }
    let all: Vec<&Tensor> = (0..net.specs().len()).map(|i| grads.get(i)).collect();
    close_all(&cx, "grad", net.specs(), &all, &part(&named, "grad"));

    let stats = recalibrate(&cx, &net, &params, &arch, batches.clone().map(Ok)).unwrap();
    for (i, name) in net.norms().iter().enumerate() {
        let (mean, var) = stats.layer(i).unwrap();
        for (what, t) in [("running_mean", mean), ("running_var", var)] {
            let expected = &named[&format!("running.{name}.{what}")].1;
            close(&format!("{name}.{what}"), &cx.download(t).unwrap(), expected, 1e-5);
        }
    }
    let mut tape = Tape::inference(&cx);
    let x = tape.constant(batches[0].clone());
    let out =
        net.forward(&mut tape, &params, x, &arch, &mut BnMode::Frozen(&stats), &MAPS).unwrap();
    for f in MAPS {
        let expected = &named[&format!("eval.{f}")].1;
        close(&format!("eval.{f}"), &nchw(&cx, out.get(f).value()), expected, 1e-5);
    }
}

/// The settings of the fixture's iteration.
fn settings(named: &Named, meta: &HashMap<String, String>) -> Config {
    let number = |key: &str| meta[key].parse::<f64>().unwrap();
    let rows = named.get("queue").map_or(0, |(shape, _)| shape[0]);
    let last = ["head.3.weight", "head.2.weight"].map(|name| named.get(&format!("before.{name}")));
    let [dim, hidden] = last.into_iter().flatten().next().unwrap().0[..] else {
        panic!("a matrix")
    };
    let mut config = Config::defaults(&presets::tiny(), meta["method"].parse().unwrap());
    config.seed = meta["seed"].parse().unwrap();
    config.train.momentum = number("momentum");
    config.train.weight_decay = number("weight_decay");
    config.train.decay_exempt = meta.get("decay_exempt").is_some_and(|word| word == "true");
    config.train.bn_group = number("bn_group") as usize;
    if let Some(trust) = meta.get("trust") {
        (config.train.optimizer, config.train.trust) = (Rule::Lars, trust.parse().unwrap());
    }
    match config.method {
        Method::Moco | Method::Densecl => {
            let head_norm = named.contains_key("before.head.1.weight");
            let queue_fill = QueueFill::Random;
            let (ema, tau, queue) = (number("ema"), number("tau"), rows);
            config.moco =
                Moco { queue, tau, ema, dim, hidden, head_norm, queue_fill, symmetric: false };
        }
        // The fixture's momentum is that of the step; it rises from here.
        Method::Byol => config.byol = Byol { ema: number("ema"), dim, hidden },
        Method::Ressl => {
            config.ressl = Ressl {
                queue: rows,
                tau_teacher: number("tau_teacher"),
                tau_student: number("tau_student"),
                ema: number("ema"),
                dim,
                hidden,
                head_norm: false,
                queue_fill: QueueFill::Random,
            };
        }
    }
    if config.method == Method::Densecl {
        let level = if meta["dense_level"] == "4" { DenseLevel::C4 } else { DenseLevel::C5 };
        config.densecl = Densecl { weight: number("dense_weight"), level };
    }
    config
}

#[test]
fn an_iteration_agrees_with_autograd() {
    iteration_agrees("iteration.safetensors");
}

#[test]
fn an_iteration_with_norms_in_the_head_agrees_with_autograd() {
    iteration_agrees("iteration_norm.safetensors");
}

#[test]
fn byols_iteration_with_lars_agrees_with_autograd() {
    iteration_agrees("iteration_byol.safetensors");
}

#[test]
fn ressls_iteration_agrees_with_autograd() {
    iteration_agrees("iteration_ressl.safetensors");
}

#[test]
fn densecls_iteration_agrees_with_autograd() {
    iteration_agrees("iteration_densecl.safetensors");
}

#[test]
fn densecls_iteration_at_c4_agrees_with_autograd() {
    iteration_agrees("iteration_densecl_c4.safetensors");
}

fn iteration_agrees(file: &str) {
    let (named, meta) = fixture(file);
    let cx = Cx::for_tests();
    let archs: Vec<Arch> = meta["archs"].split(',').map(|a| a.parse().unwrap()).collect();
    let space = space(&archs[0], [3, 1], false);
    let config = settings(&named, &meta);

    let setup = Setup { config: &config, space: &space, classes: 0, begin: Begin::Seeded };
    let mut it = Pretrain::new(&cx, &setup).unwrap();
    let specs = it.net.specs().to_vec();
    let load = |prefix: &str, specs: &[ParamSpec]| {
        Params::from_torch(&cx, specs, &part(&named, prefix), prefix).unwrap()
    };
    it.student = load("before", &specs);
    it.teacher = load("teacher_before", it.net.shared());
    for (velocity, before) in
        it.optimizer.velocity_mut().iter_mut().zip(load("momentum_before", &specs).into_values())
    {
        *velocity = before;
    }
    let pointers: BTreeMap<String, u64> = meta
        .iter()
        .filter_map(|(key, value)| {
            let name = key.strip_prefix("pointer.").filter(|name| named.contains_key(*name))?;
            Some((name.to_owned(), value.parse().unwrap()))
        })
        .collect();
    it.method.restore(&cx, &named, &pointers).unwrap();

    let names = match named.contains_key("view.0") {
        true => ["view.0", "view.1"],
        false => ["x_student", "x_teacher"],
    };
    let views = names.map(|name| nhwc(&cx, &named[name]));
    let [step, lr] = ["step", "lr"].map(|key| meta[key].parse::<f64>().unwrap());
    // So long a run that BYOL's momentum has not risen yet.
    let at = At { step: step as u64, steps: 1_000_000, lr };
    let step = Step { at, archs: &archs, views: &views };
    let report = it.iterate(&cx, &step, None, &mut || {}).unwrap();

    for (k, (_, loss)) in report.losses.iter().enumerate() {
        close(&format!("loss {k}"), &[*loss as f32], &named[&format!("loss.{k}")].1, 1e-5);
    }
    let memory = it.method.state(&cx).unwrap();
    assert_eq!(memory.tensors.len(), pointers.len());
    for (name, shape, values) in &memory.tensors {
        close(name, values, &named[&format!("{name}_after")].1, 1e-5);
        let (n, rows) = (views[0].shape().n() as u64, shape[0] as u64);
        assert_eq!(memory.pointers[name], (pointers[name] + n) % rows);
    }
    let squares = part(&named, "grad").values().flat_map(|v| &v.1).map(|g| g * g).sum::<f32>();
    close("norm of the gradient", &[report.grad_norm as f32], &[squares.sqrt()], 1e-4);
    let shared = it.net.shared();
    for (what, specs, found) in [
        ("after", &specs[..], it.student.values()),
        ("teacher_after", shared, it.teacher.values()),
        ("momentum", &specs, it.optimizer.velocity()),
    ] {
        let found: Vec<&Tensor> = found.iter().collect();
        close_all(&cx, what, specs, &found, &part(&named, what));
    }
}

#[test]
fn fine_tuning_agrees_with_pytorchs_sgd_of_two_rates() {
    let (named, meta) = fixture("finetune.safetensors");
    let cx = Cx::for_tests();
    let number = |key: &str| meta[key].parse::<f64>().unwrap();
    let arch: Arch = meta["arch"].parse().unwrap();
    let mut config = Config::for_preset("tiny").unwrap();
    config.train.bn_group = 0;
    (config.train.lr, config.finetune.lr_head) = (number("lr"), number("lr_head"));
    (config.train.momentum, config.train.weight_decay) =
        (number("momentum"), number("weight_decay"));
    let space = space(&arch, [3, 1], false);
    let classes = named["before.fc.bias"].0[0];
    let setup = Setup { config: &config, space: &space, classes, begin: Begin::Seeded };
    let mut it = Classify::make(&cx, &setup).unwrap();
    let specs = it.net().specs().to_vec();
    let before = Params::from_torch(&cx, &specs, &part(&named, "before"), "before").unwrap();
    it.start_from(&cx, before).unwrap();
    for step in 0..2 {
        let x = nhwc(&cx, &named[&format!("x.{step}")]);
        let classes = named[&format!("classes.{step}")].1.iter().map(|c| *c as usize).collect();
        let batch = Batch {
            step,
            epoch: 0,
            indices: (0..x.shape().n()).collect(),
            targets: Some(Targets::Classes(classes)),
            views: vec![x],
            wait_ms: 0.0,
        };
        // The largest of the rates is the run's, which the others are shares of.
        let at = At { step, steps: 2, lr: number("lr_head") };
        let report = it.step(&cx, &at, batch, None, &mut || {}).unwrap();
        close("loss", &[report.loss as f32], &named[&format!("loss.{step}")].1, 1e-5);
    }
    let after: Vec<&Tensor> = it.params().values().iter().collect();
    close_all(&cx, "after", &specs, &after, &part(&named, "after"));
    let momentum = it.state(&cx).unwrap().contents.swap_remove(1).1;
    for (name, _, values) in &momentum {
        close(name, values, &named[name].1, 1e-4);
    }
}
