//! The proof that an export is the net of its run: every tensor that was written, read back, has the
//! same bits, and the net that was read back gives the same answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Task;
use crate::cx::Cx;
use crate::data::{Dataset, Image};
use crate::error::{Error, Kind, Result};
use crate::export::Layout;
use crate::finetune::det::{DetModel, Shown};
use crate::finetune::seg::SegModel;
use crate::finetune::tuned_net::TunedNet;
use crate::train::Checkpoint;

/// Images that are compared, at most.
const IMAGES: usize = 4;

/// `parity.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Whether all is the same; else nothing was exported.
    pub ok: bool,
    /// Tensors of each layout's file that have the run's bits.
    pub tensors: BTreeMap<Layout, usize>,
    /// Images on which the net that was read back gives the run's answers.
    pub images: usize,
    /// Objects that were found in them, or classes of pixels.
    pub answers: usize,
}

/// Images to compare on: of these sources, or those that the run shows as examples.
pub(super) fn images(checkpoint: &Checkpoint, sources: &[String]) -> Result<Vec<Image>> {
    let examples = checkpoint.run_dir().map(|run| run.join("examples")).filter(|dir| dir.is_dir());
    let sources = match (sources, examples) {
        ([], None) => {
            return Err(Error::usage(format!(
                "{} shows no examples to compare the export on: expected --bn-data with some images",
                checkpoint.dir.display()
            )));
        }
        ([], Some(dir)) => vec![dir.display().to_string()],
        (sources, _) => sources.to_vec(),
    };
    let dataset = Dataset::open(&sources)?;
    (0..dataset.len().min(IMAGES)).map(|i| dataset.load(i)).collect()
}

/// Exit 4 where the net is none.
pub(super) fn expect_finite(tuned: &TunedNet) -> Result<()> {
    let bad = |(_, (_, values)): &(&String, &(_, Vec<f32>))| values.iter().any(|v| !v.is_finite());
    let Some((name, _)) = tuned.named.iter().find(bad) else { return Ok(()) };
    Err(Error::new(
        Kind::Diverged,
        format!(
            "expected finite weights, found values of {name} in {} that are NaN or infinite; nothing \
             was exported: training had diverged there",
            tuned.origin
        ),
    ))
}

/// Compares all tensors; gives their number.
pub(super) fn compare_tensors(run: &TunedNet, read: &TunedNet, layout: Layout) -> Result<usize> {
    let names = run.tensors()?;
    let same = |name: &&String| {
        let [a, b] = [run, read].map(|net| net.named.get(*name));
        let (Some((shape, a)), Some((other, b))) = (a, b) else { return false };
        shape == other && a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()))
    };
    match names.iter().find(|name| !same(name)) {
        None => Ok(names.len()),
        Some(name) => {
            Err(differ(&format!("layout {layout}: {name}, read back, has not the run's values")))
        }
    }
}

/// Compares what the run's net and the one that was read back say; gives the number of objects, or of
/// classes that were met.
pub(super) fn compare_answers(
    cx: &Cx,
    run: TunedNet,
    read: TunedNet,
    images: &[Image],
) -> Result<usize> {
    let differs = |i: usize| differ(&format!("what it says of image {i} is not what the run says"));
    if run.task == Task::Seg {
        let (a, b) = (SegModel::new(cx, run)?, SegModel::new(cx, read)?);
        let mut met = [false; 256];
        for (i, image) in images.iter().enumerate() {
            let labels = a.predict(cx, image)?;
            if labels != b.predict(cx, image)? {
                return Err(differs(i));
            }
            labels.labels.iter().for_each(|label| met[usize::from(*label)] = true);
        }
        return Ok(met.iter().filter(|met| **met).count());
    }
    let (a, b) = (DetModel::new(cx, run)?, DetModel::new(cx, read)?);
    let mut objects = 0;
    for (i, image) in images.iter().enumerate() {
        let found: Vec<Shown> = a.detect(cx, image)?;
        if found != b.detect(cx, image)? {
            return Err(differs(i));
        }
        objects += found.len();
    }
    Ok(objects)
}

fn differ(what: &str) -> Error {
    Error::new(
        Kind::Parity,
        format!(
            "the export is not the same net: {what}; expected the same bits; nothing was exported. \
             Please report it"
        ),
    )
}
