//! `bench search`: what a search does with each subnet, on images drawn by the program itself.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::baseline::BaselineArgs;
use super::filter::Filter;
use super::row::{self, Rounds, Row};
use super::{machine, shapes};
use crate::config::{Config, Precision};
use crate::cx::Cx;
use crate::data::Dataset;
use crate::data::synthetic::{self, Domain};
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::eval::Images;
use crate::nn::{Feature, Outputs, Params, Subnet, Supernet};
use crate::program::args::at_least_two;
use crate::program::output::{fitting_table, print};
use crate::program::{DeviceArgs, open_device};
use crate::progress::human_bytes;
use crate::rng::{Philox, Purpose};
use crate::search::Task;
use crate::search::score::{Criterion, Reference, Target};
use crate::space::{Arch, Space};
use crate::ssl;
use crate::tensor::Tensor;

/// Flags of `bench search`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SearchArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Search space whose subnets are scored, freshly initialised.
    #[arg(long, default_value = "tiny")]
    preset: String,
    /// What nets are for, which decides the features: cls z, det-c4 C5, det-fpn C2 to C5, seg C4
    /// and C5.
    #[arg(long, value_name = "cls|det-c4|det-fpn|seg", default_value = "det-fpn")]
    task: Task,
    /// Subnets, comma-separated: max, min, r50, random, or architectures (default: drawn).
    #[arg(long, value_delimiter = ',')]
    archs: Vec<String>,
    /// How many subnets are drawn.
    #[arg(long, default_value_t = 4, conflicts_with = "archs")]
    subnets: usize,
    /// Images that features are compared and statistics are taken on.
    #[arg(long, default_value_t = 64, value_parser = at_least_two)]
    images: usize,
    /// Timed rounds of each, after one that does not count; on the emulator 1 that is not timed.
    #[arg(long, default_value_t = 5)]
    iterations: usize,
    #[command(flatten)]
    filter: Filter,
    /// Tells a profiler when the timed rounds of each begin and end (`nsys profile
    /// --capture-range=cudaProfilerApi`).
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    baseline: BaselineArgs,
}

const EXAMPLES: &str = "\
Examples:
  bench search --preset tiny --device cpu --task cls
  bench search --preset data --device cuda --images 256 \\
    --json new.json --baseline old.json
A row that is filtered out is neither printed nor written nor compared.";

/// What subnets are scored on.
struct Bench<'a> {
    cx: &'a Cx,
    net: &'a Supernet,
    params: &'a Params,
    criterion: Criterion<'a>,
    rounds: Rounds,
    /// All images, on the device.
    batches: Vec<Tensor>,
}

/// Times and prints.
pub fn run(args: &SearchArgs) -> Result<()> {
    if args.iterations == 0 || args.subnets == 0 {
        return Err(Error::usage("--iterations and --subnets are at least 1; found 0"));
    }
    let cx = open_device(&args.device)?;
    let (config, space) = (Config::for_preset(&args.preset)?, Space::preset(&args.preset)?);
    let archs = if args.archs.is_empty() {
        let mut rng = Philox::new(0, Purpose::Sampler, 0, 0);
        (0..args.subnets).map(|_| space.uniform(&mut rng)).collect()
    } else {
        shapes::archs(&space, &args.archs)?
    };
    let settings = json!({
        "preset": args.preset,
        "precision": Precision::of(cx.compute_dtype()),
        "task": args.task,
        "features": args.task.features(),
        "images": args.images,
        "archs": archs,
    });
    let mut result = machine::about(&cx, settings);
    let old = args.baseline.read(&result, true)?;
    let rows = cx.install(|| measure(args, &cx, &config, &space, &archs))?;
    let total_ms = |what: &str| -> Option<f64> {
        archs.iter().map(|arch| find(&rows, what, arch)?.median_ms()).sum()
    };
    let work = (args.images * archs.len()) as f64;
    let rate = total_ms("scoring").map(|ms| work / ms * 1e3);
    let with_recalibration =
        total_ms("scoring").zip(total_ms("recalibration")).map(|(a, b)| work / (a + b) * 1e3);
    let peak_bytes = cx.memory().peak_bytes;
    let more = json!({
        "images_subnets_per_s": rate,
        "images_subnets_per_s_with_recalibration": with_recalibration,
        "peak_bytes": peak_bytes,
    });
    machine::extend(&mut result, more);
    let rows = row::filtered(rows, &args.filter)?;
    result["benchmarks"] = rows.iter().map(Row::json).collect();
    args.baseline.keep(&result)?;
    let mut text = text(args, &rows, &archs);
    if let (Some(rate), Some(with)) = (rate, with_recalibration) {
        text += &format!(
            "{rate:.1} images x subnets a second are scored, {with:.1} where each subnet is \
             recalibrated on as many\n"
        );
    }
    text += &format!("memory: {} at the peak\n", human_bytes(peak_bytes));
    print(&text)?;
    args.baseline.compare(old, &result)
}

/// A freshly initialised supernet on images: the rows of the teacher, then of each subnet.
fn measure(
    args: &SearchArgs,
    cx: &Cx,
    config: &Config,
    space: &Space,
    archs: &[Arch],
) -> Result<Vec<Row>> {
    let net = Supernet::new(space, Some(&ssl::heads(config)));
    let params = Params::init(cx, net.specs(), config.seed)?.ready(cx)?;
    let dir =
        tempfile::tempdir().map_err(|e| Error::device(format!("no temporary folder: {e}")))?;
    let images = draw(cx, dir.path(), args.images, space)?;
    let timed = args.device.device != DeviceChoice::Emulator;
    let count = if timed { args.iterations } else { 1 };
    let (features, tau) = (args.task.features(), config.search.tau);
    let bench = Bench {
        cx,
        net: &net,
        params: &params,
        criterion: Criterion { features, images: args.images, tau },
        rounds: Rounds { count, timed, profile: args.profile },
        batches: images.tensors(cx, args.images)?.collect::<Result<_>>()?,
    };
    let teacher = bench.recalibrated(space.max())?;
    let prepare = || Target::new(cx, &teacher, &images, bench.criterion, dir.path());
    let mut rows = vec![bench.row("teacher", teacher.arch(), || prepare().map(drop))?];
    let (target, references) = (prepare()?, bench.references(&teacher)?);
    for arch in archs {
        rows.extend(bench.subnet(*arch, &target, &references)?);
    }
    Ok(rows)
}

/// Images that are decoded and kept, as a search keeps them.
fn draw(cx: &Cx, dir: &Path, count: usize, space: &Space) -> Result<Images> {
    synthetic::write(dir, Domain::Shapes, [count, 0], space.resolution, 0)?;
    let dataset = Dataset::open(&[dir.join("train").display().to_string()])?;
    Images::new(Arc::new(dataset), (0..count).collect(), space.input(), cx.threads())
        .cached_for(cx, dir)
}

impl<'a> Bench<'a> {
    fn row(&self, what: &str, arch: &Arch, work: impl FnMut() -> Result<()>) -> Result<Row> {
        let row = Row::measure(self.cx, format!("{what} {arch}"), &self.rounds, work)?;
        Ok(row.of_images(self.criterion.images))
    }

    fn recalibrated(&self, arch: Arch) -> Result<Subnet<'a>> {
        let batches = self.batches.iter().cloned().map(Ok);
        Subnet::recalibrated(self.cx, self.net, self.params, arch, batches)
    }

    /// Features of all images, by batches.
    fn features(&self, subnet: &Subnet) -> Result<Vec<Outputs>> {
        let one = |x: &Tensor| subnet.features(self.cx, x.clone(), self.criterion.features);
        self.batches.iter().map(one).collect()
    }

    /// What the teacher's features come to, as [batch][feature].
    fn references(&self, teacher: &Subnet) -> Result<Vec<Vec<Reference>>> {
        let Criterion { features, tau, .. } = self.criterion;
        let of_batch = |out: Outputs| {
            let one = |f: &Feature| Reference::new(self.cx, *f, out.get(*f).value(), tau);
            features.iter().map(one).collect()
        };
        self.features(teacher)?.into_iter().map(of_batch).collect()
    }

    fn subnet(
        &self,
        arch: Arch,
        target: &Target,
        references: &[Vec<Reference>],
    ) -> Result<Vec<Row>> {
        let cx = self.cx;
        let mut rows =
            vec![self.row("recalibration", &arch, || self.recalibrated(arch).map(drop))?];
        let subnet = self.recalibrated(arch)?;
        let each = || {
            let pass = |x: &Tensor| subnet.features(cx, x.clone(), self.criterion.features);
            self.batches.iter().try_for_each(|x| pass(x).map(drop))
        };
        rows.push(self.row("forward", &arch, each)?);
        let outputs = self.features(&subnet)?;
        for (i, feature) in self.criterion.features.iter().enumerate() {
            let compare = || {
                let mut pairs = references.iter().zip(&outputs);
                pairs.try_for_each(|(reference, out)| {
                    reference[i].compare(cx, out.get(*feature).value())?.read(cx).map(drop)
                })
            };
            rows.push(self.row(&format!("metric {feature}"), &arch, compare)?);
        }
        drop(outputs);
        rows.push(self.row("scoring", &arch, || target.score(cx, &subnet).map(drop))?);
        Ok(rows)
    }
}

fn find<'a>(rows: &'a [Row], what: &str, arch: &Arch) -> Option<&'a Row> {
    let name = format!("{what} {arch}");
    rows.iter().find(|row| row.name == name)
}

/// The table for people: a line for each subnet.
fn text(args: &SearchArgs, rows: &[Row], archs: &[Arch]) -> String {
    let metrics = args.task.features().iter().map(|f| format!("metric {f}"));
    let mut columns = vec!["recalibration".to_owned(), "forward".to_owned()];
    columns.extend(metrics.chain(["scoring".to_owned()]));
    let kept = |what: &String| archs.iter().any(|arch| find(rows, what, arch).is_some());
    columns.retain(kept);
    let scoring = |arch: &Arch| find(rows, "scoring", arch).and_then(Row::median_ms);
    let slowest = archs.iter().filter_map(scoring).fold(0.0, f64::max);
    let timed = rows.iter().any(|row| row.median_ms().is_some());
    let cell = |row: &Row| match (row.median_ms(), row.launches) {
        (Some(ms), _) => row::ms(ms),
        (None, Some(launches)) => launches.to_string(),
        (None, None) => String::new(),
    };
    let head = ["", "subnet"].map(str::to_owned).into_iter().chain(columns.iter().cloned());
    let mut cells = vec![head.chain(["images/s".to_owned()]).collect::<Vec<_>>()];
    for arch in archs {
        let mark = if timed && scoring(arch) == Some(slowest) { "*" } else { "" };
        let mut line = vec![mark.to_owned(), arch.to_string()];
        line.extend(columns.iter().map(|c| find(rows, c, arch).map_or(String::new(), cell)));
        let rate = find(rows, "scoring", arch).and_then(Row::rate);
        line.push(rate.map_or(String::new(), |rate| format!("{rate:.1}")));
        cells.push(line);
    }
    let teacher = rows.iter().find(|row| row.name.starts_with("teacher "));
    let teacher = teacher.map_or(String::new(), |row| {
        let unit = if timed { "ms" } else { "kernels" };
        format!("{}: {} {unit}, once for all subnets\n", row.name, cell(row))
    });
    let images = args.images;
    let unit = if timed {
        format!("ms of {images} images, median of {} rounds; * the slowest", args.iterations)
    } else {
        format!("kernels for {images} images; the emulator's times say nothing about a GPU")
    };
    let may_go: Vec<&str> =
        columns.iter().map(String::as_str).filter(|c| *c != "scoring").collect();
    format!("{}\n{unit}\n{teacher}", fitting_table(&cells, &may_go))
}
