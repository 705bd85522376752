//! Folders that other libraries load with one call: the backbone under their names, beside the
//! `config.json` that builds it. [`write`] makes one, [`read`] reads it back as the library will.

mod timm;
mod transformers;

use std::path::Path;

use serde_json::Value;

pub(super) use self::timm::{TIMM, family, first_conv};
pub(super) use self::transformers::TRANSFORMERS;
use super::config::{CONFIG, Config, WEIGHTS};
use super::layers::Layers;
use super::layout::Layout;
use crate::error::{Error, Kind, Result};
use crate::files::{self, Column, Named, Numbers};
use crate::space::{Arch, Block, STAGES, presets};

/// A library that loads backbones from folders.
pub(super) struct Library {
    layout: Layout,
    /// Its name for one of our tensors, and the dimensions there; none where it has no such tensor.
    place: fn(&str, &[usize]) -> Option<Place>,
    /// Its `config.json`.
    config: fn(&Config) -> Value,
    /// The net that it builds from its `config.json`.
    builds: fn(&Value) -> Option<(Block, Arch)>,
    /// Further files: names and contents.
    more: fn(&Config) -> Vec<(&'static str, Value)>,
}

/// Where a tensor is in another library's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub name: String,
    /// The same as ours, or more outputs and inputs, which are padding.
    pub shape: Vec<usize>,
}

/// What follows a batch norm's name in our files and in theirs.
const VARIANCE: &str = "running_var";
const COUNTER: &str = "num_batches_tracked";

impl Library {
    /// Name of the folder.
    fn folder(&self) -> &'static str {
        self.layout.as_str()
    }

    /// Name of the counter that PyTorch's batch norms have, where a tensor is the variance of one.
    fn counter(&self, name: &str) -> Option<String> {
        let norm = name.strip_suffix(VARIANCE)?;
        (self.place)(&format!("{norm}{COUNTER}"), &[]).map(|place| place.name)
    }

    /// All tensors of the library's file for ours: names, dimensions, and whether they are integers.
    #[cfg(test)]
    pub(super) fn list(&self, ours: &[(String, Vec<usize>)]) -> Vec<(String, Vec<usize>, bool)> {
        let placed = ours.iter().filter_map(|(name, shape)| (self.place)(name, shape));
        let counters = ours.iter().filter_map(|(name, _)| self.counter(name));
        let placed = placed.map(|place| (place.name, place.shape, false));
        placed.chain(counters.map(|name| (name, Vec::new(), true))).collect()
    }
}

/// Writes the library's folder into an export's.
pub(super) fn write(library: &Library, dir: &Path, config: &Config, named: &Named) -> Result<()> {
    let dir = dir.join(library.folder());
    files::create_dir(&dir)?;
    let counters: Vec<String> = named.keys().filter_map(|name| library.counter(name)).collect();
    // Before numbers of 4 bytes, so that those of 8 are aligned.
    let mut columns: Vec<Column> = counters
        .iter()
        .map(|name| Column {
            name: name.clone(),
            shape: Vec::new(),
            numbers: Numbers::I64(vec![0]),
        })
        .collect();
    for (name, (shape, values)) in named {
        let Some(place) = (library.place)(name, shape) else { continue };
        let numbers = Numbers::F32(pad(values, shape, &place.shape, padding(name)));
        columns.push(Column { name: place.name, shape: place.shape, numbers });
    }
    files::write_columns(&dir.join(WEIGHTS), &columns, &[("arch", config.arch.to_string())])?;
    files::write_json(&dir.join(CONFIG), &(library.config)(config))?;
    for (name, value) in (library.more)(config) {
        files::write_json(&dir.join(name), &value)?;
    }
    files::sync_dir(&dir)
}

/// Reads the library's folder back: the layers of the net that the library builds, and the file's
/// tensors under torchvision's names.
///
/// # Errors
/// [`Kind::Parity`] where the file does not hold the bits of `named`, and padding beside them.
pub(super) fn read(library: &Library, dir: &Path, named: &Named) -> Result<(Layers, Named)> {
    let dir = dir.join(library.folder());
    let path = dir.join(WEIGHTS);
    let wrong = |what: String| {
        let message =
            format!("{} is not the same net: {what}; nothing was exported", path.display());
        Error::new(Kind::Parity, message)
    };
    let (mut theirs, counters) = files::read_weights(&path)?;
    let mut expected: Vec<String> = named.keys().filter_map(|name| library.counter(name)).collect();
    expected.sort_unstable();
    if counters != expected {
        let (found, most) = (counters.len(), expected.len());
        return Err(wrong(format!("expected {most} integers {COUNTER:?}, found {found}")));
    }
    let mut found = Named::new();
    for (name, (shape, values)) in named {
        let Some(place) = (library.place)(name, shape) else { continue };
        let Some((their_shape, padded)) = theirs.remove(&place.name) else {
            return Err(wrong(format!("it has no {}", place.name)));
        };
        let bits = |x: &[f32]| -> Vec<u32> { x.iter().map(|x| x.to_bits()).collect() };
        let ours = pad(values, shape, &place.shape, padding(name));
        if their_shape != place.shape || bits(&padded) != bits(&ours) {
            return Err(wrong(format!("{} differs from {name}", place.name)));
        }
        found.insert(name.clone(), (their_shape, padded));
    }
    if let Some(name) = theirs.keys().next() {
        return Err(wrong(format!("it has a tensor {name} that the net has not")));
    }
    let config: Value = files::read_json(&dir.join(CONFIG))?;
    let built = (library.builds)(&config);
    let (block, built) =
        built.ok_or_else(|| wrong(format!("{CONFIG} does not say how large it is")))?;
    let outputs = |conv: &str| found.get(&format!("{conv}.weight")).map(|(shape, _)| shape[0]);
    let widths = std::array::from_fn(|s| outputs(&format!("layer{}.0.conv1", s + 1)));
    if (outputs("conv1"), widths) != (Some(built.stem), built.widths.map(Some)) {
        return Err(wrong(format!("{CONFIG} says {built}, its tensors have other sizes")));
    }
    Ok((Layers::backbone((2, true), block, built.depths, presets::STRIDES), found))
}

/// The value of channels that are padding.
fn padding(name: &str) -> f32 {
    // A batch norm divides by the root of its variance.
    if name.ends_with(VARIANCE) { 1.0 } else { 0.0 }
}

/// A tensor with more outputs and inputs, its first two dimensions.
fn pad(values: &[f32], from: &[usize], to: &[usize], padding: f32) -> Vec<f32> {
    let size = |shape: &[usize], i: usize| shape.get(i).copied().unwrap_or(1);
    let taps: usize = from.iter().skip(2).product();
    let mut out = vec![padding; to.iter().product()];
    for o in 0..size(from, 0) {
        let row = size(from, 1) * taps;
        let at = o * size(to, 1) * taps;
        out[at..at + row].copy_from_slice(&values[o * row..(o + 1) * row]);
    }
    out
}

/// Four numbers of a list, of a file's JSON.
fn four(value: &Value) -> Option<[usize; STAGES]> {
    let numbers = value.as_array()?.iter().map(|n| usize::try_from(n.as_u64()?).ok());
    numbers.collect::<Option<Vec<_>>>()?.try_into().ok()
}
