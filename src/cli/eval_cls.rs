//! `engine eval cls`: the accuracy of a fine-tuned net on labelled images.

use std::sync::Arc;

use clap::Args;

use super::Globals;
use super::eval::{keep, keep_details, printed};
use super::finetune::in_words;
use super::source::ModelArgs;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::eval::classes::ask;
use crate::eval::details::Side;
use crate::eval::record::{self, Split};
use crate::eval::{Details, Images};
use crate::finetune::cls::{chance, file_name};
use crate::program::{open_device, print, print_json};

/// Arguments of `engine eval cls`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ClsArgs {
    /// The net.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Labelled images to test on
    #[arg(long, value_name = "VAL", num_args = 1.., required = true)]
    pub data: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  engine eval cls --ckpt runs/finetuned --data test/
  engine eval cls --model exported/ --data cifar10.tar.zst#test --json
The net is one that engine finetune has trained to the end, or an export of it.";

/// Tests.
pub fn run(args: &ClsArgs, globals: &Globals) -> Result<()> {
    let cx = open_device(&globals.device)?;
    let (model, name, answers, result, details) = cx.install(|| -> Result<_> {
        let model = args.model.open(&cx)?;
        let head = model.head.as_ref().ok_or_else(|| {
            Error::usage(
                "this net has no classifier: expected a run that engine finetune has brought to its \
                 end (--resume goes on with one that was stopped), or an export of it; engine eval \
                 knn and linear measure nets without one",
            )
        })?;
        let mut dataset = Dataset::open(&args.data)?;
        if dataset.classes().is_empty() {
            return Err(Error::data(format!(
                "{}: its images have no classes; expected a folder for each class, such as \
                 test/<class>/<image>",
                dataset.title()
            )));
        }
        dataset.relabel(&head.classes)?;
        let every = (0..dataset.len()).collect();
        let input = model.space().input();
        let images = Images::new(Arc::new(dataset), every, input, cx.threads());
        let arch = model.named()?;
        // Its statistics came with it.
        let subnet = model.subnet(&cx, arch, &images)?;
        let answers = ask(&cx, &subnet, &head.classifier, &images)?;
        let (net, test) =
            (model.describe(arch), Split { data: args.data.clone(), images: images.len() });
        let classes = head.classes.len();
        let chance = chance(&images, classes);
        let result = record::of_answers(&net, &head.learnt, &test, classes, chance, &answers);
        let name = file_name(&net, &test);
        let side = Side::of(&images, images.indices(), &args.data);
        let details = Details::of_answers(&net, &head.learnt.train_data, &side, &answers);
        Ok((model, name, answers, result, details))
    })?;
    match globals.json {
        true => print_json(&result)?,
        false => print(&in_words(&answers, &result))?,
    }
    let kept = keep(&model, &name, &result);
    kept.and_then(|()| keep_details(&model, &name, &details)).map_err(printed)
}
