//! `engine embed`: a subnet's features of images, in a file.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value, json};

use super::Globals;
use super::eval::{embed_name, keep_details};
use super::source::{Count, ModelArgs};
use crate::data::Dataset;
use crate::error::Result;
use crate::eval::Images;
use crate::eval::details::Sample;
use crate::eval::embed::{self, Embedded, Output};
use crate::eval::images::draw;
use crate::outside::printable;
use crate::program::args::at_least_two;
use crate::program::output::prepare_file;
use crate::program::{open_device, print, print_json};
use crate::search::Bn;

/// Arguments of `engine embed`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct EmbedArgs {
    /// The subnet.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Images
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    pub data: Vec<String>,
    /// What to write: x (the images as the net sees them), c2, c3, c4, c5, pool, z
    #[arg(long, value_name = "z,c5,...", value_delimiter = ',', default_value = "z")]
    pub features: Vec<Output>,
    /// The file; row i is image i of the metadata's `files`, and entry i of `labels` is its class in
    /// `classes`; images that cannot be read have no row and are listed in `unreadable`
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
    /// Batch norms' statistics: recalibrate computes them on these images, batch takes each batch's
    /// own
    #[arg(long, value_name = "MODE", default_value = "recalibrate", hide_possible_values = true)]
    pub bn: Bn,
    /// Images that statistics are computed from
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = at_least_two)]
    pub bn_images: usize,
    /// Images to embed, the first ones
    #[arg(long, value_name = "N|all", default_value = "all")]
    pub images: Count,
    /// Replace the file
    #[arg(long)]
    pub overwrite: bool,
}

const EXAMPLES: &str = "\
Example:
  engine embed --ckpt runs/a --arch winner --data images/ --features z,c5 \\
    --out features.safetensors";

/// Embeds.
pub fn run(args: &EmbedArgs, globals: &Globals) -> Result<()> {
    embed::check_outputs(&args.features)?;
    prepare_file(&args.out, args.overwrite)?;
    let cx = open_device(&globals.device)?;
    let dataset = Arc::new(Dataset::open(&args.data)?);
    let found = cx.install(|| -> Result<_> {
        let model = args.model.open(&cx)?;
        let (arch, input) = (model.named()?, model.space().input());
        let images = |indices| Images::new(dataset.clone(), indices, input.clone(), cx.threads());
        let seed = globals.seed.unwrap_or(model.seed);
        let bn = images(draw(dataset.len(), Some(args.bn_images), seed));
        let (subnet, statistics) = match args.bn {
            Bn::Batch => (model.batch_normalised(arch), "batch".to_owned()),
            Bn::Recalibrate => {
                let from =
                    model.bn_images(&bn).map_or("the export".into(), |n| format!("{n} images"));
                (model.subnet(&cx, arch, &bn)?, from)
            }
        };
        let all = images((0..args.images.of(dataset.len())).collect());
        let metadata = [
            ("arch", arch.to_string()),
            ("preset", model.preset.clone()),
            ("step", model.step.to_string()),
            ("weights", model.weights.to_owned()),
            ("bn", statistics),
            ("mean", json!(input.mean).to_string()),
            ("std", json!(input.std).to_string()),
        ];
        let mut sample = model.run_dir.is_some().then(|| Sample::new(all.len(), input.channels()));
        let (outputs, out) = (&args.features, &args.out);
        let found = embed::embed(&cx, &subnet, all, outputs, &metadata, out, sample.as_mut())?;
        if let Some(sample) = sample {
            let net = model.describe(arch);
            let details = sample.details(&cx, &net, (&dataset, &args.data), seed)?;
            keep_details(&model, &embed_name(&model, &args.data, &arch), &details)?;
        }
        Ok(found)
    })?;
    report(&found, args, globals)
}

fn report(found: &Embedded, args: &EmbedArgs, globals: &Globals) -> Result<()> {
    let Embedded { tensors, unreadable } = found;
    if globals.json {
        let shapes = tensors.iter().map(|(name, shape)| (name.clone(), json!(shape)));
        let shapes: Map<String, Value> = shapes.collect();
        return print_json(&json!({
            "out": args.out.display().to_string(),
            "tensors": shapes,
            "unreadable": unreadable,
        }));
    }
    let shapes: Vec<String> =
        tensors.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
    let mut text = format!("{}  {}", printable(&args.out), shapes.join("  "));
    if !unreadable.is_empty() {
        let names: Vec<String> =
            unreadable.iter().map(|name| printable(name).to_string()).collect();
        text += &format!(
            "\n{} images cannot be read and have no row: {}",
            names.len(),
            names.join(", ")
        );
    }
    print(&text)
}
