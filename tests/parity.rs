//! A subnet inside the supernet is the same net as one built separately with its weights:
//! features, gradients, and what is exported and read back.

use std::path::Path;

use engine::cx::Cx;
use engine::export::{self, Form, Origin, SubnetSource, subnet};
use engine::nn::{
    BnMode, Feature, Gradients, Heads, Mlp, Params, RunningStats, Supernet, recalibrate,
};
use engine::rng::{Philox, Purpose};
use engine::space::{Arch, Space, StageSpace, StemSpace, presets};
use engine::tape::Tape;
use engine::tensor::{DType, Shape, Tensor};
use engine::{Kind, files};

const WANTED: [Feature; 5] = [Feature::C2, Feature::C3, Feature::C4, Feature::C5, Feature::Z];

/// The paper's layers (7×7 stem, max-pool) in a small size.
fn small_space() -> Space {
    let stage = |widths: [usize; 2], depths: [usize; 3], stride| StageSpace {
        widths: widths.to_vec(),
        depths: depths.to_vec(),
        stride,
    };
    Space {
        name: "small".into(),
        resolution: 48,
        stem: StemSpace { kernel: 7, stride: 2, maxpool: true, widths: vec![4, 6, 9] },
        stages: [
            stage([4, 7], [1, 2, 3], 1),
            stage([6, 8], [1, 2, 3], 2),
            stage([8, 13], [1, 3, 4], 2),
            stage([8, 16], [1, 2, 3], 2),
        ],
        ..presets::data()
    }
}

/// Smallest, largest, two drawn, and two off the grid.
fn subnets(space: &Space) -> Vec<Arch> {
    let mut rng = Philox::new(3, Purpose::Check, 0, 0);
    let mut archs = vec![space.min(), space.max()];
    archs.extend([space.nth(rng.below(space.count())), space.nth(rng.below(space.count()))]);
    let max = space.max();
    archs.push(Arch { stem: max.stem - 1, ..max });
    archs.push(Arch { widths: max.widths.map(|w| w / 2 + 1), depths: [1, 2, 2, 1], ..max });
    archs
}

/// Supernet with weights away from their initial values (no γ is 0).
fn supernet(cx: &Cx, space: &Space) -> (Supernet, Params) {
    let net = Supernet::new(space, Some(&Heads::projector(Mlp::moco(24, 12, false))));
    let mut params = Params::init(cx, net.specs(), 11).unwrap();
    for (i, t) in params.values_mut().iter_mut().enumerate() {
        let mut rng = Philox::new(12, Purpose::Check, i as u64, 0);
        t.host_mut::<f32>().iter_mut().for_each(|w| *w += 0.2 * rng.normal());
    }
    (net, params)
}

fn images(cx: &Cx, n: usize, side: usize) -> Tensor {
    let mut rng = Philox::new(13, Purpose::Check, n as u64, 1);
    let values: Vec<f32> = (0..n * side * side * 3).map(|_| rng.normal()).collect();
    cx.upload(Shape::nhwc(n, side, side, 3), DType::F32, &values).unwrap()
}

fn features(
    cx: &Cx,
    net: &Supernet,
    params: &Params,
    x: &Tensor,
    arch: &Arch,
    norm: &mut BnMode,
) -> Vec<Vec<f32>> {
    let mut tape = Tape::inference(cx);
    let x = tape.constant(x.clone());
    let out = net.forward(&mut tape, params, x, arch, norm, &WANTED).unwrap();
    WANTED.iter().map(|f| cx.download(out.get(*f).value()).unwrap()).collect()
}

#[track_caller]
fn same(what: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = a.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    assert!(scale > 0.0, "{what}: all values are 0");
    assert!(a.iter().chain(b).all(|x| x.is_finite()), "{what} is not finite");
    let worst = a.iter().zip(b).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= 1e-6 * scale, "{what}: {worst:e} of {scale:e}");
}

#[test]
fn a_subnet_is_the_net_built_separately() {
    let cx = Cx::for_tests();
    for space in [small_space(), Space::preset("tiny").unwrap()] {
        let (net, params) = supernet(&cx, &space);
        let x = images(&cx, 4, space.resolution);
        for arch in subnets(&space) {
            let (own, own_params) = subnet::extract(&cx, &net, &params, &arch).unwrap();
            assert_eq!(own.space().max(), arch);
            for group in [0, 2] {
                let norm = &mut BnMode::Batch { group };
                let inside = features(&cx, &net, &params, &x, &arch, norm);
                let outside = features(&cx, &own, &own_params, &x, &arch, norm);
                for ((f, a), b) in WANTED.iter().zip(&inside).zip(&outside) {
                    same(&format!("{arch} {f}, groups of {group}"), a, b);
                }
            }
        }
    }
}

/// Gradients of a random weighting of z.
fn gradients(cx: &Cx, net: &Supernet, params: &Params, x: &Tensor, arch: &Arch) -> Gradients {
    let mut grads = Gradients::zeros(cx, net.specs()).unwrap();
    let mut tape = Tape::recording(cx);
    let input = tape.constant(x.clone());
    let norm = &mut BnMode::Batch { group: 0 };
    let mut out = net.forward(&mut tape, params, input, arch, norm, &[Feature::Z]).unwrap();
    let z = out.take(Feature::Z);
    let shape = z.value().shape();
    let mut rng = Philox::new(14, Purpose::Check, 0, 0);
    let weights: Vec<f32> = (0..shape.elems()).map(|_| rng.normal()).collect();
    tape.backward(z, cx.upload(shape, DType::F32, &weights).unwrap(), grads.slots()).unwrap();
    grads
}

#[test]
fn a_subnets_gradient_is_the_slice_and_nothing_else() {
    let cx = Cx::for_tests();
    let space = small_space();
    let (net, params) = supernet(&cx, &space);
    let x = images(&cx, 4, space.resolution);
    for arch in subnets(&space) {
        let inside = gradients(&cx, &net, &params, &x, &arch);
        let (own, own_params) = subnet::extract(&cx, &net, &params, &arch).unwrap();
        let outside = gradients(&cx, &own, &own_params, &x, &arch);
        for (i, spec) in net.specs().iter().enumerate() {
            let full = cx.download(inside.get(i)).unwrap();
            let Some(j) = own.specs().iter().position(|s| s.name == spec.name) else {
                assert!(full.iter().all(|&g| g == 0.0), "{arch}: {} is not used", spec.name);
                continue;
            };
            let (own_spec, part) = (&own.specs()[j], cx.download(outside.get(j)).unwrap());
            let (mut slice, mut rest) = (Vec::new(), Vec::new());
            for (row, values) in full.chunks_exact(spec.shape.c()).enumerate() {
                let used = if row < own_spec.shape.rows() { own_spec.shape.c() } else { 0 };
                slice.extend_from_slice(&values[..used]);
                rest.extend_from_slice(&values[used..]);
            }
            same(&format!("{arch}: gradient of {}", spec.name), &part, &slice);
            assert!(rest.iter().all(|&g| g == 0.0), "{arch}: {} beyond the slice", spec.name);
        }
    }
}

fn origin() -> Origin {
    Origin {
        preset: small_space(),
        method: "moco".into(),
        step: 7,
        bn_images: 8,
        bn_data: vec!["images".into()],
    }
}

fn settled(cx: &Cx, net: &Supernet, params: &Params, arch: &Arch, x: &Tensor) -> RunningStats {
    recalibrate(cx, net, params, arch, [Ok(x.clone())]).unwrap()
}

#[test]
fn an_export_read_back_is_the_same_net() {
    let cx = Cx::for_tests();
    let dir = tempfile::tempdir().unwrap();
    for space in [small_space(), Space::preset("tiny").unwrap()] {
        let (net, params) = supernet(&cx, &space);
        let x = images(&cx, 8, space.resolution);
        for arch in subnets(&space) {
            let stats = settled(&cx, &net, &params, &arch, &x);
            let subject = SubnetSource {
                net: &net,
                params: &params,
                arch,
                stats: &stats,
                head: None,
                origin: origin(),
            };
            let out = dir.path().join(format!("{}-{arch}", space.name));
            let (config, parity) = export::write(
                &cx,
                &subject,
                std::slice::from_ref(&x),
                &out,
                &Form::plain(1e-4),
                false,
            )
            .unwrap();
            assert!(parity.ok && parity.max_rel <= 1e-4, "{parity:?}");
            assert_eq!(config.macs, space.cost(&arch).macs);
            let written: export::Parity = files::read_json(&out.join("parity.json")).unwrap();
            assert_eq!(written, parity);

            let model = export::load(&cx, &out).unwrap();
            assert_eq!((model.arch, model.config.origin.step), (arch, 7));
            let inside = features(&cx, &net, &params, &x, &arch, &mut BnMode::Frozen(&stats));
            let mut norm = BnMode::Frozen(&model.stats);
            let outside = features(&cx, &model.net, &model.params, &x, &arch, &mut norm);
            for ((f, a), b) in WANTED.iter().zip(&inside).zip(&outside) {
                same(&format!("{arch} {f}"), a, b);
            }
        }
    }
}

/// Kind of the error of opening an export.
fn refused(cx: &Cx, dir: &Path) -> Kind {
    export::load(cx, dir).err().expect("the folder is damaged").kind()
}

#[test]
fn damage_and_folders_in_the_way_are_refused() {
    let cx = Cx::for_tests();
    let dir = tempfile::tempdir().unwrap();
    let space = small_space();
    let (net, params) = supernet(&cx, &space);
    let (arch, x) = (space.min(), images(&cx, 4, space.resolution));
    let stats = settled(&cx, &net, &params, &arch, &x);
    let subject = SubnetSource {
        net: &net,
        params: &params,
        arch,
        stats: &stats,
        head: None,
        origin: origin(),
    };
    let out = dir.path().join("export");
    let write = |tolerance, overwrite| {
        export::write(
            &cx,
            &subject,
            std::slice::from_ref(&x),
            &out,
            &Form::plain(tolerance),
            overwrite,
        )
        .map_err(|e| e.kind())
    };
    write(1e-4, false).unwrap();
    assert_eq!(write(1e-4, false).unwrap_err(), Kind::Usage);
    // Rounding alone is beyond a tolerance of 0: the earlier export stays, nothing else does.
    assert_eq!(write(0.0, true).unwrap_err(), Kind::Parity);
    assert!(export::load(&cx, &out).is_ok());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    write(1e-4, true).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

    let weights = out.join("model.safetensors");
    let good = std::fs::read(&weights).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, &bad).unwrap();
    assert_eq!(refused(&cx, &out), Kind::Data);
    std::fs::write(&weights, &good[..good.len() / 2]).unwrap();
    assert_eq!(refused(&cx, &out), Kind::Data);
    std::fs::write(&weights, &good).unwrap();
    assert!(export::load(&cx, &out).is_ok());
    let config = out.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replacen("\"width\": 4", "\"width\": 3", 1)).unwrap();
    assert_eq!(refused(&cx, &out), Kind::Data);
    std::fs::remove_file(&config).unwrap();
    assert_eq!(refused(&cx, &out), Kind::Data);
    write(1e-4, true).unwrap();
    assert!(export::load(&cx, &out).is_ok());
    std::fs::remove_file(out.join(".engine")).unwrap();
    assert_eq!(write(1e-4, true).unwrap_err(), Kind::Usage, "an export that is not ours");
}

#[test]
fn a_net_that_is_not_the_same_is_noticed() {
    let cx = Cx::for_tests();
    let dir = tempfile::tempdir().unwrap();
    let space = small_space();
    let (net, params) = supernet(&cx, &space);
    let (arch, x) = (space.max(), images(&cx, 4, space.resolution));
    let stats = settled(&cx, &net, &params, &arch, &x);
    let subject = SubnetSource {
        net: &net,
        params: &params,
        arch,
        stats: &stats,
        head: None,
        origin: origin(),
    };
    let out = dir.path().join("export");
    export::write(&cx, &subject, std::slice::from_ref(&x), &out, &Form::plain(1e-4), false)
        .unwrap();
    let mut model = export::load(&cx, &out).unwrap();
    let (named, _) = files::read_safetensors(&out.join("model.safetensors")).unwrap();
    let compare = |model: &export::Model, named: &files::Named| {
        export::parity::compare(&cx, &subject, model, named, std::slice::from_ref(&x), 1e-4)
            .unwrap()
    };
    assert!(compare(&model, &named).require().is_ok());

    let mut wrong = named.clone();
    wrong.get_mut("layer3.1.bn2.running_var").unwrap().1[0] *= 1.5;
    let parity = compare(&model, &wrong);
    assert_eq!(parity.require().unwrap_err().kind(), Kind::Parity);
    assert!(parity.reloaded.features.values().all(|d| d.max_rel <= 1e-4), "{parity:?}");

    let i = model.net.specs().iter().position(|s| s.name == "layer4.0.conv2.weight").unwrap();
    model.params.values_mut()[i].host_mut::<f32>()[0] = f32::NAN;
    assert_eq!(compare(&model, &named).require().unwrap_err().kind(), Kind::Parity);
}
