//! Layouts hold the same net, and a file that does not is noticed.

use super::folder::Form;
use super::hub::{self, TIMM, TRANSFORMERS};
use super::layers::Layers;
use super::model::load_with_tensors;
use super::onnx::{self, Graph};
use super::parity::{Probes, TOLERANCE, compare_reloaded};
use super::{Config, Layout, Origin, SubnetSource, write};
use crate::cx::Cx;
use crate::error::Kind;
use crate::files::{self, Column, Named, Numbers};
use crate::nn::{Heads, Mlp, Params, Supernet, recalibrate};
use crate::rng::{Philox, Purpose};
use crate::space::{Space, presets};
use crate::tensor::{DType, Shape, Tensor};

const SIDE: usize = 48;

/// An export in all layouts, and what it is compared with.
struct Exported {
    dir: tempfile::TempDir,
    config: Config,
    named: Named,
    probes: Probes,
}

/// A small net behind the stem of preset data, with every weight away from its initial value;
/// `change` may change the weights.
fn exported(mlp: Mlp, change: impl Fn(&str, &mut [f32])) -> Exported {
    let cx = &Cx::for_tests();
    let arch = "s12-w4.6.8.10-d2.1.2.1".parse().unwrap();
    let space = Space { resolution: SIDE, ..Space::preset("data").unwrap().single(&arch) };
    let net = Supernet::new(&space, Some(&Heads::projector(mlp)));
    let mut params = Params::init(cx, net.specs(), 11).unwrap();
    for (i, t) in params.values_mut().iter_mut().enumerate() {
        let mut rng = Philox::new(12, Purpose::Check, i as u64, 0);
        t.host_mut::<f32>().iter_mut().for_each(|w| *w += 0.2 * rng.normal());
        change(&net.specs()[i].name, t.host_mut::<f32>());
    }
    let mut rng = Philox::new(13, Purpose::Check, 0, 0);
    let pixels: Vec<f32> = (0..4 * SIDE * SIDE * 3).map(|_| rng.normal()).collect();
    let x: Tensor = cx.upload(Shape([4, SIDE, SIDE, 3]), DType::F32, &pixels).unwrap();
    let stats = recalibrate(cx, &net, &params, &arch, [Ok(x.clone())]).unwrap();
    let origin = Origin {
        preset: presets::data(),
        method: "moco".into(),
        step: 7,
        bn_images: 4,
        bn_data: vec!["images".into()],
    };
    let source =
        SubnetSource { net: &net, params: &params, arch, stats: &stats, head: None, origin };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("export");
    let layouts = [Layout::Timm, Layout::Onnx, Layout::Torchvision, Layout::Transformers];
    let form = Form { layouts: layouts.into(), onnx_normalises: false, tolerance: TOLERANCE };
    let images = std::slice::from_ref(&x);
    let (config, parity) = write(cx, &source, images, &out, &form, false).unwrap();
    let levels = vec!["c2", "c3", "c4", "c5", "pool"];
    let with_z = [&levels[..], &["z"]].concat();
    let features = |layout| parity.layouts[&layout].features.keys().collect::<Vec<_>>();
    assert_eq!(parity.layouts.len(), 3);
    assert_eq!(features(Layout::Onnx), with_z);
    assert_eq!(features(Layout::Timm), levels);
    assert_eq!(features(Layout::Transformers), levels);
    let (model, named) = load_with_tensors(cx, &out).unwrap();
    let (_, probes) = compare_reloaded(cx, &source, &model, &named, images).unwrap();
    Exported { dir, config, named, probes }
}

impl Exported {
    fn folder(&self) -> std::path::PathBuf {
        self.dir.path().join("export")
    }

    /// Whether a graph passes as the same net.
    fn passes(&self, graph: &Graph) -> bool {
        let found = self.probes.compare(graph, false).unwrap();
        found.features.values().all(|d| d.max_rel <= TOLERANCE)
    }

    /// A graph of the net that was changed after it was read back.
    fn changed(&self, change: impl Fn(&mut Graph)) -> Graph {
        let mut graph = onnx::read(&self.folder()).unwrap();
        change(&mut graph);
        graph
    }
}

fn moco() -> Mlp {
    Mlp::moco(24, 12, false)
}

#[test]
fn the_file_is_the_graph_that_was_built_and_normalises_where_asked() {
    for mlp in [moco(), Mlp::moco(24, 12, true), Mlp::byol(24, 12)] {
        let e = exported(mlp, |_, _| ());
        let layers = Layers::of(&e.config);
        assert_eq!(onnx::read(&e.folder()).unwrap(), onnx::build(&layers, &e.named, None).unwrap());
        let normalise = onnx::Normalise::of(&e.config);
        let graph = onnx::build(&layers, &e.named, Some(&normalise)).unwrap();
        let found = e.probes.compare(&graph, true).unwrap();
        assert!(found.features.values().all(|d| d.max_rel <= TOLERANCE), "{found:?}");
        let unfit = e.probes.compare(&graph, false).unwrap();
        assert!(unfit.features.values().any(|d| d.max_rel > TOLERANCE));
    }
}

#[test]
fn faults_in_a_graph_are_noticed() {
    let e = exported(moco(), |_, _| ());
    assert!(e.passes(&e.changed(|_| ())));
    let node = |graph: &mut Graph, name: &str| {
        graph.node.iter().position(|node| node.name() == name).unwrap()
    };
    // The stride on the 1×1 convolution in place of the 3×3.
    assert!(!e.passes(&e.changed(|graph| {
        let strides = |graph: &mut Graph, name: &str, stride: i64| {
            let at = node(graph, name);
            let attributes = &mut graph.node[at].attribute;
            let found = attributes.iter_mut().find(|a| a.name() == "strides").unwrap();
            found.ints = vec![stride; 2];
        };
        strides(graph, "layer2.0.conv1", 2);
        strides(graph, "layer2.0.conv2", 1);
    })));
    // A block without its shortcut.
    assert!(!e.passes(&e.changed(|graph| {
        let (add, conv) = (node(graph, "layer1.1.add"), node(graph, "layer1.1.conv3"));
        let sum = graph.node[add].output.clone();
        graph.node[conv].output = sum;
        graph.node.remove(add);
    })));
    // Any weight and bias: one of them changed, and two of one size swapped.
    for at in 0..onnx::read(&e.folder()).unwrap().initializer.len() {
        let graph = e.changed(|graph| {
            let raw = graph.initializer[at].raw_data.as_mut().unwrap();
            let (number, _) = raw.split_at_mut(4);
            let was = f32::from_le_bytes(number.try_into().unwrap());
            number.copy_from_slice(&(was + 0.5).to_le_bytes());
        });
        // Embeddings are never as small as the least norm.
        let name = graph.initializer[at].name().to_owned();
        assert!(name == "z.least" || !e.passes(&graph), "{name}");
    }
    // An operator that an export does not have, and a weight that is not whole.
    let strange = e.changed(|graph| graph.node[0].op_type = Some("ConvTranspose".into()));
    assert_eq!(e.probes.compare(&strange, false).unwrap_err().kind(), Kind::Data);
    let cut = e.changed(|graph| graph.initializer[0].raw_data.as_mut().unwrap().truncate(8));
    assert_eq!(e.probes.compare(&cut, false).unwrap_err().kind(), Kind::Data);
}

#[test]
fn an_embedding_of_zeros_is_divided_by_the_least_norm() {
    let e = exported(moco(), |name, values| {
        if name.starts_with("head.2") {
            values.fill(0.0);
        }
    });
    let without = e.changed(|graph| {
        let clip = graph.node.iter().position(|node| node.op_type() == "Clip").unwrap();
        let (norm, clipped) = (graph.node[clip].input[0].clone(), "z.clipped");
        graph.node.remove(clip);
        let div = graph.node.iter_mut().find(|node| node.input[1..] == [clipped]).unwrap();
        div.input[1] = norm;
    });
    assert!(e.passes(&e.changed(|_| ())) && !e.passes(&without));
}

#[test]
fn a_file_beyond_the_limit_of_protobuf_is_refused() {
    let e = exported(moco(), |_, _| ());
    let model = onnx::model(&e.config, onnx::read(&e.folder()).unwrap(), false);
    let bytes = onnx::encode(&model, onnx::MOST_BYTES).unwrap();
    assert_eq!(std::fs::read(e.folder().join(onnx::FILE)).unwrap(), bytes);
    assert!(onnx::encode(&model, bytes.len()).is_ok());
    let said = onnx::encode(&model, bytes.len() - 1).unwrap_err();
    assert!(said.kind() == Kind::Usage && said.to_string().contains("--layout onnx"), "{said}");
    for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(e.folder().join(onnx::FILE), &bytes[..cut]).unwrap();
        assert_eq!(onnx::read(&e.folder()).unwrap_err().kind(), Kind::Data, "{cut}");
    }
}

/// Changes the values of tensors of a library's file.
fn rewrite(path: &std::path::Path, change: impl Fn(&mut Named)) {
    let (mut named, counters) = files::read_weights(path).unwrap();
    change(&mut named);
    let mut columns: Vec<Column> = counters
        .into_iter()
        .map(|name| Column { name, shape: Vec::new(), numbers: Numbers::I64(vec![0]) })
        .collect();
    columns.extend(named.into_iter().map(|(name, (shape, values))| Column {
        name,
        shape,
        numbers: Numbers::F32(values),
    }));
    files::write_columns(path, &columns, &[]).unwrap();
}

#[test]
fn faults_in_a_librarys_file_are_noticed() {
    let e = exported(moco(), |_, _| ());
    let (layers, found) = hub::read(&TRANSFORMERS, &e.folder(), &e.named).unwrap();
    // The bits of the export, without its head.
    let backbone = |name: &&String| !name.starts_with("head.");
    assert!(found.keys().eq(e.named.keys().filter(backbone)));
    assert!(found.iter().all(|(name, tensor)| *tensor == e.named[name]));
    // Two vectors of a batch norm swapped: the bits say so, and so does the net.
    let norm = "encoder.stages.1.layers.0.layer.1.normalization";
    let file = e.folder().join("transformers/model.safetensors");
    let good = std::fs::read(&file).unwrap();
    let swap = |named: &mut Named, a: &str, b: &str| {
        let (x, y) = (named[a].clone(), named[b].clone());
        named.insert(a.into(), y);
        named.insert(b.into(), x);
    };
    rewrite(&file, |named| {
        swap(named, &format!("{norm}.running_mean"), &format!("{norm}.running_var"));
    });
    let said = hub::read(&TRANSFORMERS, &e.folder(), &e.named).err().unwrap();
    assert!(said.kind() == Kind::Parity && said.to_string().contains(norm), "{said}");
    let mut swapped = found.clone();
    swap(&mut swapped, "layer2.0.bn2.weight", "layer2.0.bn2.bias");
    assert!(e.passes_backbone(&layers, &found) && !e.passes_backbone(&layers, &swapped));
    // A tensor too few, one too many.
    std::fs::write(&file, &good).unwrap();
    for change in [
        (|named: &mut Named| drop(named.remove("embedder.embedder.normalization.bias")))
            as fn(&mut Named),
        |named| drop(named.insert("classifier.weight".into(), (vec![1], vec![1.0]))),
    ] {
        rewrite(&file, change);
        assert_eq!(
            hub::read(&TRANSFORMERS, &e.folder(), &e.named).err().unwrap().kind(),
            Kind::Parity
        );
        std::fs::write(&file, &good).unwrap();
    }
    assert!(hub::read(&TRANSFORMERS, &e.folder(), &e.named).is_ok());
    // A description of another net.
    let config = e.folder().join("transformers/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    for (says, wrong) in [("\"embedding_size\": 12", "\"embedding_size\": 13"), ("40", "44")] {
        std::fs::write(&config, text.replacen(says, wrong, 1)).unwrap();
        let said = hub::read(&TRANSFORMERS, &e.folder(), &e.named).err().unwrap();
        assert!(said.kind() == Kind::Parity, "{said}");
    }
    let deeper = text.replacen("\"depths\": [\n    2", "\"depths\": [\n    1", 1);
    assert_ne!(deeper, text);
    std::fs::write(&config, deeper).unwrap();
    let (layers, found) = hub::read(&TRANSFORMERS, &e.folder(), &e.named).unwrap();
    assert!(!e.passes_backbone(&layers, &found));
}

#[test]
fn padding_is_zero_and_a_fault_in_it_is_noticed() {
    let e = exported(moco(), |_, _| ());
    let (_, found) = hub::read(&TIMM, &e.folder(), &e.named).unwrap();
    let (shape, values) = &found["layer1.0.conv1.weight"];
    assert_eq!(shape, &[4, 64, 1, 1]);
    let ours = e.named["layer1.0.conv1.weight"].1.chunks_exact(12);
    for (row, ours) in values.chunks_exact(64).zip(ours) {
        assert!(row[..12] == *ours && row[12..].iter().all(|w| w.to_bits() == 0));
    }
    for (name, padding) in [("conv1.weight", 0.0), ("bn1.weight", 0.0), ("bn1.running_var", 1.0)] {
        let (ours, theirs) = (&e.named[name].1, &found[name].1);
        assert!(theirs.starts_with(ours) && theirs[ours.len()..].iter().all(|&w| w == padding));
    }
    let file = e.folder().join("timm/model.safetensors");
    rewrite(&file, |named| named.get_mut("layer1.0.conv1.weight").unwrap().1[63] = 1e-3);
    assert_eq!(hub::read(&TIMM, &e.folder(), &e.named).err().unwrap().kind(), Kind::Parity);
}

impl Exported {
    fn passes_backbone(&self, layers: &Layers, named: &Named) -> bool {
        self.passes(&onnx::build(layers, named, None).unwrap())
    }
}

/// The backbone's tensors in torchvision's layout: names and dimensions.
fn tensors(space: &Space) -> Vec<(String, Vec<usize>)> {
    let net = Supernet::new(space, None);
    let params = net.specs().iter().map(|spec| (spec.name.clone(), spec.torch_shape()));
    let channels = |norm: &str| {
        let scale = net.specs().iter().find(|spec| spec.name == format!("{norm}.weight"));
        scale.unwrap().torch_shape()
    };
    let stats = net.norms().iter().flat_map(|norm| {
        ["running_mean", "running_var"].map(|what| (format!("{norm}.{what}"), channels(norm)))
    });
    params.chain(stats).collect()
}

#[test]
fn names_shapes_and_types_are_those_of_the_libraries() {
    type Tensors = std::collections::BTreeMap<String, serde_json::Value>;
    type List<'a> = &'a dyn Fn(&[(String, Vec<usize>)]) -> Tensors;
    let compare = |fixture: &str, list: List| -> usize {
        let fixture: serde_json::Value = serde_json::from_str(fixture).unwrap();
        assert!(!fixture["version"].as_str().unwrap().is_empty());
        let archs = fixture["archs"].as_object().unwrap();
        for (id, expected) in archs {
            let space = Space::preset("data").unwrap().single(&id.parse().unwrap());
            let expected: Tensors = serde_json::from_value(expected.clone()).unwrap();
            let found = list(&tensors(&space));
            for (name, tensor) in &expected {
                assert_eq!(found.get(name), Some(tensor), "{name} of {id}");
            }
            let more = found.keys().find(|name| !expected.contains_key(*name));
            assert_eq!(more, None, "{id}");
        }
        archs.len()
    };
    let typed = |name: &str, shape: &[usize], is_integer: bool| {
        let kind = serde_json::json!(if is_integer { "I64" } else { "F32" });
        let dims = shape.iter().map(|d| serde_json::json!(d));
        (name.to_owned(), serde_json::Value::Array(std::iter::once(kind).chain(dims).collect()))
    };
    for (library, fixture) in [
        (&TRANSFORMERS, include_str!("../../tests/fixtures/interop/transformers.json")),
        (&TIMM, include_str!("../../tests/fixtures/interop/timm.json")),
    ] {
        let archs = compare(fixture, &|ours| {
            library.list(ours).iter().map(|(name, shape, int)| typed(name, shape, *int)).collect()
        });
        assert_eq!(archs, 6);
    }
    // torchvision's counters are the only tensors that our own layout leaves out.
    let fixture = include_str!("../../tests/fixtures/interop/torchvision.json");
    let archs = compare(fixture, &|ours| {
        let counter =
            |name: &str| Some(format!("{}num_batches_tracked", name.strip_suffix("running_var")?));
        let counters = ours.iter().filter_map(|(name, _)| Some(typed(&counter(name)?, &[], true)));
        ours.iter().map(|(name, shape)| typed(name, shape, false)).chain(counters).collect()
    });
    assert_eq!(archs, 1);
}
