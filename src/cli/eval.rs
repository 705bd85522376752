//! `engine eval`: how good a frozen subnet's features are, by labelled images.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::Globals;
use super::eval_cls::{self, ClsArgs};
use super::eval_dense::{self, DetArgs, SegArgs};
use super::eval_many;
use super::source::{Count, ModelArgs};
use crate::cx::Cx;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::eval::answers;
use crate::eval::details::Side;
use crate::eval::evaluate::{self, Beside, evaluate_all};
use crate::eval::record::{self, Setup, domain};
use crate::eval::{BaselineCache, Baselines, Details, EvalResult, Protocol, RawBaselines, Splits};
use crate::export::LoadedModel;
use crate::files;
use crate::nn::Subnet;
use crate::program::args::{at_least_one, at_least_two};
use crate::program::output::table;
use crate::program::{open_device, print, print_json};
use crate::space::Arch;

/// Arguments of `engine eval`.
#[derive(Args, Clone, Debug)]
#[command(subcommand_value_name = "knn|linear|cls|det|seg")]
pub struct EvalVerbArgs {
    /// How to measure.
    #[command(subcommand)]
    pub verb: EvalVerb,
}

/// Verbs of `engine eval`.
#[derive(Subcommand, Clone, Debug)]
pub enum EvalVerb {
    /// By the votes of the nearest training images, weighted by their similarity
    #[command(after_help = KNN_EXAMPLES)]
    Knn(EvalArgs),
    /// By a linear classifier, trained on the frozen features
    #[command(after_help = LINEAR_EXAMPLES)]
    Linear {
        /// What both ways have in common.
        #[command(flatten)]
        args: EvalArgs,
        /// Epochs of the linear classifier
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
        epochs: usize,
    },
    /// By the classifier that a net was fine-tuned with
    Cls(ClsArgs),
    /// By the objects that a fine-tuned net or a file of results finds
    Det(DetArgs),
    /// By the class that a fine-tuned net or a folder of label images gives each pixel
    Seg(SegArgs),
}

/// What is measured, and on which images.
#[derive(Args, Clone, Debug)]
pub struct EvalArgs {
    /// The subnet.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Labelled images to learn from: class folders, inside an archive or not
    #[arg(long, value_name = "TRAIN", num_args = 1.., required = true)]
    pub data: Vec<String>,
    /// Labelled images to test on
    #[arg(long, value_name = "TEST", num_args = 1.., required = true)]
    pub test_data: Vec<String>,
    /// Which features: pool (C5 averaged over positions) or z
    #[arg(long, value_name = "FEATURE", value_parser = ["pool", "z"], hide_possible_values = true)]
    #[arg(default_value = "pool")]
    pub features: String,
    /// Training images that batch norms' statistics are computed from
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = at_least_two)]
    pub bn_images: usize,
    /// Training images to use
    #[arg(long, value_name = "N|all", default_value = "all")]
    pub images: Count,
    /// Only the net: no untrained net, pixels or colour histograms beside its accuracy
    #[arg(long)]
    pub no_baselines: bool,
    /// Evaluate the subnets of a search's candidates.jsonl too, and how their ranks agree
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "arch"])]
    pub archs_from: Option<PathBuf>,
    /// At most so many of them: the winners, and others spread over the file
    #[arg(long, value_name = "N", requires = "archs_from", value_parser = at_least_one)]
    pub limit: Option<usize>,
}

/// What stands below the help of one of the two protocols.
macro_rules! examples {
    ($verb:literal, $arch:literal) => {
        concat!(
            "Examples:\n  engine eval ",
            $verb,
            " --ckpt runs/a --arch ",
            $arch,
            " --data train/ --test-data test/\n  engine eval ",
            $verb,
            " --model exported/ --data cifar10.tar.zst#train \\\n    --test-data \
             cifar10.tar.zst#test\nBaselines stand beside the accuracy and its standard error: the \
             same net untrained, raw pixels,\ncolour histograms and guessing. docs/evaluation.md \
             explains them."
        )
    };
}

const KNN_EXAMPLES: &str = examples!("knn", "winner");
const LINEAR_EXAMPLES: &str = examples!("linear", "max");

/// What is measured, and how.
pub struct Evaluation<'a> {
    /// What, and on which images.
    pub args: &'a EvalArgs,
    /// How.
    pub protocol: Protocol,
    /// Epochs of a linear classifier.
    pub epochs: usize,
}

/// Evaluates.
pub fn run(args: &EvalVerbArgs, globals: &Globals) -> Result<()> {
    let how = match &args.verb {
        EvalVerb::Cls(args) => return eval_cls::run(args, globals),
        EvalVerb::Det(args) => return eval_dense::det(args, globals),
        EvalVerb::Seg(args) => return eval_dense::seg(args, globals),
        EvalVerb::Knn(args) => Evaluation { args, protocol: Protocol::Knn, epochs: 0 },
        EvalVerb::Linear { args, epochs } => {
            Evaluation { args, protocol: Protocol::Linear, epochs: *epochs }
        }
    };
    let cx = open_device(&globals.device)?;
    cx.install(|| {
        let model = how.args.model.open(&cx)?;
        match &how.args.archs_from {
            None => one(&cx, &how, globals, &model),
            Some(file) => eval_many::run(&cx, &how, globals, &model, file),
        }
    })
}

impl EvalArgs {
    /// The images to learn from and to test on.
    pub fn sets(&self, globals: &Globals, model: &LoadedModel, workers: usize) -> Result<Splits> {
        Splits::new(
            Dataset::open(&self.data)?,
            Dataset::open(&self.test_data)?,
            self.images.limit(),
            self.bn_images,
            globals.seed.unwrap_or(model.seed),
            &model.space().input(),
            workers,
        )
    }
}

impl Evaluation<'_> {
    /// How to evaluate.
    pub(super) fn options(
        &self,
        globals: &Globals,
        model: &LoadedModel,
    ) -> Result<evaluate::Options> {
        Ok(evaluate::Options {
            protocol: self.protocol,
            feature: self.args.features.parse()?,
            epochs: self.epochs,
            seed: globals.seed.unwrap_or(model.seed),
        })
    }

    /// What an evaluation is made with.
    pub(super) fn setup(&self, options: &evaluate::Options, sets: &Splits) -> Setup {
        Setup::new(options, sets, &self.args.data, &self.args.test_data)
    }
}

/// `knn-<images>-<arch>-step-00000100.json`, with `-teacher` for the teacher's weights.
pub(super) fn file_name(what: &str, model: &LoadedModel) -> String {
    let teacher = if model.weights == "teacher" { "-teacher" } else { "" };
    format!("{what}-step-{:08}{teacher}.json", model.step)
}

/// The same of embeddings that nobody judged.
pub(super) fn embed_name(model: &LoadedModel, data: &[String], arch: &Arch) -> String {
    file_name(&format!("embed-{}-{arch}", domain(data)), model)
}

/// Writes a result into the run's `eval` folder, where there is one.
pub(super) fn keep(model: &LoadedModel, name: &str, result: &Map<String, Value>) -> Result<()> {
    let Some(run) = &model.run_dir else { return Ok(()) };
    let path = run.join("eval").join(name);
    files::create_dir(&run.join("eval"))?;
    files::write_json(&path, result)?;
    tracing::info!("written to {}", path.display());
    Ok(())
}

/// Writes what the report shows of a result beside it, where there is a run.
pub(super) fn keep_details(model: &LoadedModel, name: &str, details: &Details) -> Result<()> {
    model.run_dir.as_ref().map_or(Ok(()), |run| details.write(run, name))
}

/// One subnet's evaluation.
pub struct Evaluated {
    /// Of the net.
    pub verdict: EvalResult,
    /// Beside it, unless they are not wanted.
    pub baselines: Option<Baselines>,
    /// All of it, as it is written.
    pub result: Map<String, Value>,
    /// What the run's report shows of it.
    details: Option<Details>,
    /// Name of the file in the run's `eval` folder.
    name: String,
}

impl Evaluated {
    /// Writes the result into the run's `eval` folder, where there is one.
    pub fn keep(&self, model: &LoadedModel) -> Result<()> {
        keep(model, &self.name, &self.result)?;
        self.details.as_ref().map_or(Ok(()), |details| keep_details(model, &self.name, details))
    }
}

/// Judges one subnet, with its baselines. `raw` are what pixels and colours of these sets are worth: computed by
/// the first call, for the next ones.
pub fn evaluate(
    cx: &Cx,
    how: &Evaluation,
    globals: &Globals,
    model: &LoadedModel,
    sets: &Splits,
    arch: Arch,
    raw: &mut Option<RawBaselines>,
) -> Result<Evaluated> {
    let options = how.options(globals, model)?;
    let wanted = !how.args.no_baselines;
    let params = wanted.then(|| model.untrained(cx)).transpose()?;
    let before = match &params {
        Some(Ok(params)) => Some(model.subnet_of(cx, params, arch, &sets.bn)?),
        _ => None,
    };
    let subnet = model.subnet(cx, arch, &sets.bn)?;
    let subnets: Vec<&Subnet> = std::iter::once(&subnet).chain(&before).collect();
    let kept = baseline_cache(cx, model, sets, &options, wanted && raw.is_none())?;
    *raw = raw.take().or_else(|| kept.as_ref()?.read());
    // They are shown by the run's report, and there is none without a run.
    let beside = Beside { raw: wanted && raw.is_none(), details: model.run_dir.is_some() };
    let mut done = evaluate_all(cx, &subnets, sets, &options, beside)?;
    if let (Some(kept), Some(found)) = (&kept, &done.raw) {
        kept.write(found);
    }
    *raw = done.raw.take().or(raw.take());
    let verdict = done.nets.remove(0);
    let setup = how.setup(&options, sets);
    let baselines = params.zip(raw.clone()).map(|(params, raw)| {
        let untrained = done.nets.pop().ok_or_else(|| params.err().unwrap_or_default());
        Baselines::new(untrained, raw, &setup)
    });
    let (net, bn_images) = (model.describe(arch), model.bn_images(&sets.bn));
    let mut result = record::of_net(&net, &setup, bn_images, &verdict, baselines.as_ref());
    result.insert("correct".into(), answers::to_digits(&done.correct[0]).into());
    let what = format!("{}-{}-{arch}", how.protocol, domain(&how.args.test_data));
    let sides = (
        Side::of(&sets.train, &done.shown[0], &how.args.data),
        Side::of(&sets.test, &done.shown[1], &how.args.test_data),
    );
    let details = done.seen.take().map(|seen| {
        Details::new(&net, &setup.protocol, verdict.accuracy(), seen, (&sides.0, &sides.1))
    });
    let details = details.transpose()?;
    Ok(Evaluated { verdict, baselines, result, details, name: file_name(&what, model) })
}

/// Where what pixels and colours are worth is kept, where it is `wanted` and the net lies in a run's
/// folder.
pub(super) fn baseline_cache(
    cx: &Cx,
    model: &LoadedModel,
    sets: &Splits,
    options: &evaluate::Options,
    wanted: bool,
) -> Result<Option<BaselineCache>> {
    let run = model.run_dir.as_ref().filter(|_| wanted);
    run.map(|run| BaselineCache::new(&run.join("eval"), cx, sets, options)).transpose()
}

/// One subnet.
fn one(cx: &Cx, how: &Evaluation, globals: &Globals, model: &LoadedModel) -> Result<()> {
    let arch = model.named()?;
    let sets = how.args.sets(globals, model, cx.threads())?;
    let found = evaluate(cx, how, globals, model, &sets, arch, &mut None)?;
    if globals.json {
        print_json(&found.result)?;
        return found.keep(model).map_err(printed);
    }
    let mut text = format!("{arch}, {} of step {}\n\n", model.weights, model.step);
    text += &accuracy_table(&found, &sets);
    text += &format!(
        "\n{} on {}: {} training images, {} test images; ± is the standard error\n",
        how.protocol,
        how.args.features,
        sets.train.len(),
        sets.test.len()
    );
    if let EvalResult::Linear(probe) = &found.verdict {
        text += &format!(
            "Learning rate {}, {} on the training images\n",
            probe.lr,
            percent(probe.train)
        );
    }
    if let Some(baselines) = &found.baselines {
        if let Err(reason) = &baselines.untrained {
            text += &format!("The untrained net is absent: {reason}.\n");
        }
        text.extend(baselines.remarks(&found.verdict).iter().map(|remark| format!("{remark}\n")));
    }
    print(&text)?;
    found.keep(model).map_err(printed)
}

/// Results are printed before they are written: a folder that cannot be written loses nothing.
pub(super) fn printed(e: Error) -> Error {
    e.and("the result stands on stdout")
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// The net's accuracies, and its baselines' in rows below.
fn accuracy_table(found: &Evaluated, sets: &Splits) -> String {
    let row = |name: &str, verdict: &EvalResult, tests: usize| {
        let cell = |(_, a): (String, f64)| {
            format!("{} ±{:.2}", percent(a), 100.0 * evaluate::standard_error(a, tests))
        };
        let cells = verdict.accuracies().into_iter().map(cell);
        std::iter::once(name.to_owned()).chain(cells).collect::<Vec<_>>()
    };
    let tests = sets.test.len();
    let names =
        found.verdict.accuracies().into_iter().map(|(key, _)| match key.strip_prefix('k') {
            Some(k) => format!("k = {k}"),
            None if key == "linear" => "accuracy".into(),
            None => "top-5".into(),
        });
    let mut rows = vec![std::iter::once("net".to_owned()).chain(names).collect::<Vec<_>>()];
    rows.push(row("this net", &found.verdict, tests));
    if let Some(baselines) = &found.baselines {
        let raw = &baselines.raw;
        rows.extend(baselines.untrained.iter().map(|v| row("the same, untrained", v, tests)));
        rows.push(row("raw pixels", &raw.pixels, raw.test_images));
        rows.push(row("colour histogram", &raw.histogram, raw.test_images));
    }
    // As wide as accuracies with their errors, so that numbers stand below numbers.
    let chance = |name: &str, value: f64| vec![name.into(), format!("{}      ", percent(value))];
    rows.push(chance("guessing the largest class", sets.chance()));
    if sets.chance() != sets.uniform_chance() {
        rows.push(chance("guessing at random", sets.uniform_chance()));
    }
    table(&rows)
}
