//! `model.onnx`: an export as an ONNX graph, IR version 8 and opset 17, which runtimes since 2022
//! read.

mod arithmetic;
mod graph;
mod interpreter;
mod messages;

use std::path::Path;

use prost::Message;

pub(super) use self::graph::build;
pub(super) use self::interpreter::Interpreter;
pub(super) use self::messages::Graph;
use self::messages::{Entry, Model, Opset};
use super::config::Config;
use super::layers::Layers;
use crate::error::{Error, Result};
use crate::files::{self, Named};

/// Name of the file.
pub(super) const FILE: &str = "model.onnx";
/// Name of the graph's input: images, f32 `[n, 3, h, w]`.
pub(super) const INPUT: &str = "pixel_values";
/// Name of a classifier's output.
pub(super) const LOGITS: &str = "logits";

const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;
/// What readers of protobuf take at most.
pub(super) const MOST_BYTES: usize = i32::MAX as usize;

/// Mean and deviation of each channel, of values in 0..1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Normalise {
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
}

impl Normalise {
    /// What an export's images are normalised by.
    pub(super) fn of(config: &Config) -> Self {
        Self { mean: config.mean.clone(), std: config.std.clone() }
    }
}

/// Writes an export as `model.onnx` into its folder. With `normalises` the graph takes values in
/// 0..1 and normalises them itself.
///
/// # Errors
/// [`crate::Kind::Usage`] where the file would be too large for readers of protobuf.
pub(super) fn write(dir: &Path, config: &Config, named: &Named, normalises: bool) -> Result<()> {
    let normalise = normalises.then(|| Normalise::of(config));
    let graph = build(&Layers::of(config), named, normalise.as_ref())?;
    let bytes = encode(&model(config, graph, normalises), MOST_BYTES)?;
    files::write_atomic(&dir.join(FILE), |out| out.write_all(&bytes))
}

/// Reads the graph of an export's `model.onnx` back.
///
/// # Errors
/// [`crate::Kind::Data`] where it is no such file.
pub(super) fn read(dir: &Path) -> Result<Graph> {
    let path = dir.join(FILE);
    let wrong =
        |what: String| Error::data(format!("{}: {what}; export the subnet again", path.display()));
    let model = Model::decode(&files::read_large(&path)?[..]).map_err(|e| wrong(e.to_string()))?;
    let opsets: Vec<_> = model.opset_import.iter().map(|o| (o.domain(), o.version())).collect();
    if (model.ir_version(), &opsets[..]) != (IR_VERSION, &[("", OPSET)]) {
        return Err(wrong(format!(
            "expected IR version {IR_VERSION} and opset {OPSET}, found {} and {opsets:?}",
            model.ir_version()
        )));
    }
    model.graph.ok_or_else(|| wrong("it holds no graph".into()))
}

pub(super) fn encode(model: &Model, most_bytes: usize) -> Result<Vec<u8>> {
    let bytes = model.encoded_len();
    if bytes > most_bytes {
        return Err(Error::usage(format!(
            "--layout onnx: {FILE} would have {bytes} bytes, expected at most {most_bytes}, which \
             protobuf can hold: leave onnx out, or choose a smaller subnet"
        )));
    }
    Ok(model.encode_to_vec())
}

pub(super) fn model(config: &Config, graph: Graph, normalises: bool) -> Model {
    let list = |x: &[f32]| x.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
    let mut props = vec![
        ("arch", config.arch.to_string()),
        ("preset", config.origin.preset.name.clone()),
        ("method", config.origin.method.clone()),
        ("step", config.origin.step.to_string()),
        ("resolution", config.resolution.to_string()),
        ("macs", config.macs.to_string()),
        ("params", config.params.to_string()),
        ("mean", list(&config.mean)),
        ("std", list(&config.std)),
        ("input", if normalises { "0..1" } else { "normalised" }.to_owned()),
    ];
    props.extend(config.hashes.values().map(|hash| ("source_blake3", hash.clone())));
    if let Some(classifier) = &config.classifier {
        props.push(("classes", serde_json::json!(classifier.classes).to_string()));
    }
    let entry = |(key, value): (&str, String)| Entry { key: Some(key.into()), value: Some(value) };
    Model {
        ir_version: Some(IR_VERSION),
        producer_name: Some(env!("CARGO_PKG_NAME").into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        graph: Some(graph),
        opset_import: vec![Opset { domain: Some(String::new()), version: Some(OPSET) }],
        metadata_props: props.into_iter().map(entry).collect(),
    }
}
