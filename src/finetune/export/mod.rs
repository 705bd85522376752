//! Export of nets that were fine-tuned for segmentation or detection.
//!
//! The folder holds `model.safetensors` (torchvision's names, of segmentation MMSegmentation's),
//! `config.json` ([`Description`]), `parity.json` ([`Proof`]), `README.md`, and `model.py`, which runs
//! the net in PyTorch. [`Layout::Detectron2`] and [`Layout::Mmdet`] add the weights under the names of
//! these libraries.

mod config;
mod names;
mod proof;
mod readme;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use config::Description;
pub use proof::Proof;

use self::names::{Place, place};
use crate::config::{BoxHead, Task};
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::export::Layout;
use crate::export::config::{CONFIG, WEIGHTS};
use crate::export::folder::{EXPORT, PARITY};
use crate::files::staged::Staged;
use crate::files::{self, Named, sealed};
use crate::finetune::tuned_net::TunedNet;
use crate::space::{STAGES, Space, presets};
use crate::tensor::DType;
use crate::train::Checkpoint;

const MODEL_PY: &str = include_str!("model.py");
/// All tasks whose nets are exported so.
const TASKS: [Task; 3] = [Task::Seg, Task::DetC4, Task::DetFpn];

/// What to export from where.
pub struct Options {
    /// A run's folder, or its last checkpoint.
    pub ckpt: PathBuf,
    /// Images that the exported net is compared on; none: those that the run shows as examples.
    pub images: Vec<String>,
    /// The folder to make.
    pub out: PathBuf,
    /// Whether an export that is there already may be replaced.
    pub overwrite: bool,
    /// Layouts beside torchvision's, which is always there.
    pub layouts: BTreeSet<Layout>,
}

/// Exports the net of a run that has come to its end, and compares what was written with the run. All
/// of it in f32, whatever the context's type.
///
/// # Errors
/// [`crate::Kind::Usage`] for a run that has not ended, a folder in the way or a layout that cannot hold the
/// net; [`crate::Kind::Data`] for images that cannot be read; [`crate::Kind::Parity`], leaving no folder, where the
/// export is not the same net.
pub fn export(cx: &Cx, options: &Options) -> Result<(Description, Proof)> {
    let cx = &cx.computing_in(DType::F32);
    let staged = Staged::begin(&options.out, &EXPORT, options.overwrite)?;
    let made = fill(cx, options, staged.dir());
    match made {
        Ok(made) => staged.commit().map(|()| made),
        Err(e) => {
            // The first error is the one that matters.
            let _ = staged.abandon();
            Err(e)
        }
    }
}

fn fill(cx: &Cx, options: &Options, dir: &Path) -> Result<(Description, Proof)> {
    let checkpoint = Checkpoint::open(&options.ckpt)?;
    let tuned = TunedNet::of_run(&checkpoint, &TASKS)?;
    proof::expect_finite(&tuned)?;
    let mut layouts = options.layouts.clone();
    layouts.insert(Layout::Torchvision);
    for &layout in &layouts {
        if let Some(obstacle) = obstacle(layout, &tuned)? {
            return Err(Error::usage(format!(
                "--layout {layout} cannot hold this net for {}: {obstacle}; expected torchvision{}",
                tuned.task,
                others(&tuned, layout)?
            )));
        }
    }
    let images = proof::images(&checkpoint, &options.images)?;
    let mut description = Description::of(&tuned)?;
    for &layout in &layouts {
        let path = dir.join(file(layout));
        if let Some(parent) = path.parent() {
            files::create_dir(parent)?;
        }
        write(&path, layout, &tuned)?;
        description.hashes.insert(file(layout), files::hash(&path)?);
    }
    sealed::write_json(&dir.join(CONFIG), &description)?;
    let mut tensors = BTreeMap::new();
    for &layout in &layouts {
        tensors.insert(layout, proof::compare_tensors(&tuned, &open_layout(dir, layout)?, layout)?);
    }
    let answers = proof::compare_answers(cx, tuned, open(dir)?, &images)?;
    let proof = Proof { ok: true, tensors, images: images.len(), answers };
    files::write_json(&dir.join(PARITY), &proof)?;
    files::write_text(&dir.join("model.py"), MODEL_PY)?;
    files::write_text(&dir.join("README.md"), &readme::readme(&description, &proof))?;
    Ok((description, proof))
}

/// The file of a layout's weights in the folder.
fn file(layout: Layout) -> String {
    match layout {
        Layout::Torchvision => WEIGHTS.to_owned(),
        other => format!("{other}/model.safetensors"),
    }
}

/// What an export's `config.json` says.
///
/// # Errors
/// [`crate::Kind::Data`] where it is missing, damaged, or of a net for no dense task.
pub fn describe(dir: &Path) -> Result<Description> {
    let path = dir.join(CONFIG);
    if !path.is_file() {
        return Err(Error::data(format!(
            "{} is not an export: it has no {CONFIG}; expected the --out folder of engine export",
            dir.display()
        )));
    }
    sealed::read_json(&path).map_err(|e| {
        e.and("expected the export of a run of engine finetune --task seg, det-c4 or det-fpn")
    })
}

/// Opens an export.
///
/// # Errors
/// [`crate::Kind::Data`] where a file is missing, was changed after the export, or does not fit the
/// description.
pub fn open(dir: &Path) -> Result<TunedNet> {
    open_layout(dir, Layout::Torchvision)
}

fn open_layout(dir: &Path, layout: Layout) -> Result<TunedNet> {
    let description = describe(dir)?;
    let (name, path) = (file(layout), dir.join(file(layout)));
    let (expected, found) = (description.hashes.get(&name), files::hash(&path)?);
    if expected != Some(&found) {
        return Err(Error::data(format!(
            "{} is damaged or was changed: its BLAKE3 is {found}, {CONFIG} says {}; export the run \
             again",
            path.display(),
            expected.map_or("nothing", |h| h)
        )));
    }
    let (theirs, _) = files::read_safetensors(&path)?;
    let mut tuned = description.net(Named::new(), path.display().to_string())?;
    let mut named = Named::new();
    for ours in tuned.tensors()? {
        let tensor = place_of(layout, &tuned, &ours).and_then(|Place { name, change }| {
            theirs.get(&name).and_then(|(shape, values)| change.undo(shape, values))
        });
        let tensor = tensor.ok_or_else(|| {
            Error::data(format!(
                "{} lacks the tensor that {ours} is made of, or has it in another shape; export the \
                 run again",
                path.display()
            ))
        })?;
        named.insert(ours, tensor);
    }
    tuned.named = named;
    Ok(tuned)
}

fn place_of(layout: Layout, tuned: &TunedNet, ours: &str) -> Option<Place> {
    place(layout, tuned.task, tuned.config.det.box_head == BoxHead::FourConvOneFc, ours)
}

fn write(path: &Path, layout: Layout, tuned: &TunedNet) -> Result<()> {
    let mut entries = Vec::new();
    for ours in tuned.tensors()? {
        let place = place_of(layout, tuned, &ours);
        let (Some(Place { name, change }), Some((shape, values))) = (place, tuned.named.get(&ours))
        else {
            return Err(Error::data(format!(
                "{} has no tensor {ours:?} that layout {layout} could hold",
                tuned.origin
            )));
        };
        let (shape, values) = change.apply(shape, values);
        entries.push((name, shape, values));
    }
    let metadata = [
        ("task", tuned.task.to_string()),
        ("arch", tuned.arch.to_string()),
        ("layout", layout.to_string()),
        ("step", tuned.step.to_string()),
    ];
    files::write_safetensors(path, &entries, &metadata)
}

/// Why a layout cannot hold a net, in words.
fn obstacle(layout: Layout, tuned: &TunedNet) -> Result<Option<String>> {
    let space = tuned.space()?;
    let library = match layout {
        Layout::Torchvision => return Ok(None),
        Layout::Detectron2 if tuned.task == Task::Seg => {
            return Ok(Some("detectron2 has no such head".into()));
        }
        Layout::Detectron2 => "detectron2",
        Layout::Mmdet if tuned.task == Task::Seg => "MMSegmentation",
        Layout::Mmdet => "MMDetection",
        _ => return Ok(Some(format!("{layout} holds backbones"))),
    };
    if let Some(ours) =
        tuned.tensors()?.into_iter().find(|ours| place_of(layout, tuned, ours).is_none())
    {
        return Ok(Some(format!("{library} has no place for {ours}")));
    }
    Ok(unlike_resnet(&space, library))
}

/// Why a library's ResNet is not the backbone of a space of one point.
fn unlike_resnet(space: &Space, library: &str) -> Option<String> {
    let (arch, stem) = (space.max(), &space.stem);
    if (stem.kernel, stem.stride, stem.maxpool) != (7, 2, true) {
        return Some(format!(
            "its stem is not a 7×7 convolution of stride 2 and a max-pool, as {library}'s is"
        ));
    }
    if space.strides() != presets::STRIDES {
        return Some(format!("its stages do not have {library}'s strides {:?}", presets::STRIDES));
    }
    // A stride makes MMDetection project too, but not detectron2.
    let inputs = |s: usize| if s == 0 { arch.stem } else { space.outputs(&arch, s - 1) };
    let same = (0..STAGES).find(|&s| inputs(s) == space.outputs(&arch, s))?;
    Some(format!(
        "its stage {} projects {n} channels to {n}, where {library} adds them as they are",
        same + 1,
        n = inputs(same)
    ))
}

/// ` or X` for each further layout that can hold a net.
fn others(tuned: &TunedNet, refused: Layout) -> Result<String> {
    let mut text = String::new();
    for layout in [Layout::Detectron2, Layout::Mmdet] {
        if layout != refused && obstacle(layout, tuned)?.is_none() {
            text += &format!(" or {layout}");
        }
    }
    Ok(text)
}
