//! `bench loader`: decoding and augmentation, alone and together; and where a device makes the
//! views, decoding, copies and views.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::{Value, json};

use super::filter::Filter;
use super::row::{noise, quantile};
use super::{baseline, machine};
use crate::cx::Cx;
use crate::data::{
    Dataset, Decoded, Deliver, Image, Images, LoaderOptions, RgbImages, Scratch, TrainLoader,
    ViewFormat, Views, render,
};
use crate::device::{Backend, DeviceChoice};
use crate::error::{Error, Result};
use crate::program::output::{fitting_table, print};
use crate::program::{DeviceArgs, open_device};
use crate::train::{Batches, Feed};

/// Images that are gone through, again and again; of these, those that are kept decoded.
const MOST_IMAGES: usize = 500;
const MOST_DECODED: usize = 64;
/// Slices of a row's time; the noise is theirs.
const SLICES: u32 = 5;

/// Flags of `bench loader`.
#[derive(clap::Args, Debug)]
pub struct LoaderArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Images: anything that `engine train --data` takes.
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    data: Vec<String>,
    /// Side of a view, in pixels.
    #[arg(long, default_value_t = 224)]
    resolution: usize,
    /// Threads that decode and augment; 0 = one a core.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Images of a batch (default: 16 a worker).
    #[arg(long)]
    batch: Option<usize>,
    /// Seconds that each row is timed for.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    baseline: baseline::BaselineArgs,
}

/// Times and prints.
pub fn run(args: &LoaderArgs) -> Result<()> {
    let cx = open_device(&args.device)?;
    let bench = Bench::new(args)?;
    let mut result = machine::about(&cx, bench.settings());
    let old = args.baseline.read(&result, true)?;
    let mut rows = bench.host()?;
    if cx.is_device() {
        rows.extend(bench.device(&cx)?);
    }
    if rows.is_empty() {
        return Err(Error::usage("--filter matches no row"));
    }
    // By their keys, too: what other programs read.
    let rates = rows.iter().map(|row| (row.key.to_owned(), json!(row.per_s))).collect();
    machine::extend(&mut result, Value::Object(rates));
    result["benchmarks"] = rows.iter().map(Row::json).collect();
    args.baseline.keep(&result)?;
    let mut text = vec![["part", "images/s", "noise"].map(str::to_owned).to_vec()];
    text.extend(rows.iter().map(Row::cells));
    let note = match args.device.device {
        DeviceChoice::Emulator => {
            "\nCopies and views on the device are the emulator's: they tell nothing about a GPU.\n"
        }
        _ => "",
    };
    print(&format!("{bench}\n\n{}{note}", fitting_table(&text, &["noise"])))?;
    args.baseline.compare(old, &result)
}

/// A part of a loader's work.
struct Row {
    key: &'static str,
    name: String,
    /// Images a second.
    per_s: f64,
    /// Distance of its slices' quartiles over their median.
    noise: f64,
}

impl Row {
    fn json(&self) -> Value {
        let Self { name, per_s, noise, .. } = self;
        json!({"name": name, "per_s": per_s, "time_ms": 1e3 / per_s, "noise": noise})
    }

    fn cells(&self) -> Vec<String> {
        let noise = format!("{:.1} %", 100.0 * self.noise);
        vec![self.name.clone(), format!("{:.1}", self.per_s), noise]
    }
}

struct Bench<'a> {
    args: &'a LoaderArgs,
    dataset: Arc<Dataset>,
    pool: ThreadPool,
    images: usize,
    /// Of an image, encoded.
    mean_bytes: f64,
    batch: usize,
}

impl std::fmt::Display for Bench<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { images, mean_bytes, batch, .. } = self;
        let (kb, workers) = (mean_bytes / 1e3, self.pool.current_num_threads());
        write!(f, "{images} images of {kb:.0} kB, batches of {batch}, {workers} worker(s)")
    }
}

impl<'a> Bench<'a> {
    fn new(args: &'a LoaderArgs) -> Result<Self> {
        let within = |what: &str, fits: bool, expected: &str| match fits {
            true => Ok(()),
            false => Err(Error::usage(format!("{what}: expected {expected}"))),
        };
        let LoaderArgs { resolution, seconds, workers, .. } = *args;
        within("--resolution", (1..=4096).contains(&resolution), "1 to 4096 pixels")?;
        within("--seconds", seconds > 0.0 && seconds <= 86_400.0, "more than 0, at most 86400")?;
        within("--batch", args.batch != Some(0), "at least 1 image")?;
        let dataset = Arc::new(Dataset::open(&args.data)?);
        let pool = ThreadPoolBuilder::new()
            .num_threads(workers)
            .build()
            .map_err(|e| Error::device(format!("cannot start {workers} threads: {e}")))?;
        let images = dataset.len().min(MOST_IMAGES);
        let bytes: usize = (0..images).map(|i| Ok(dataset.bytes(i)?.len())).sum::<Result<_>>()?;
        let usual = (16 * pool.current_num_threads()).min(dataset.len());
        let (mean_bytes, batch) = (bytes as f64 / images as f64, args.batch.unwrap_or(usual));
        Ok(Self { args, dataset, pool, images, mean_bytes, batch })
    }

    fn settings(&self) -> Value {
        json!({
            "resolution": self.args.resolution,
            "workers": self.pool.current_num_threads(),
            "batch": self.batch,
            "images": self.images,
            "mean_bytes": self.mean_bytes,
        })
    }

    fn options(&self) -> LoaderOptions {
        let workers = self.pool.current_num_threads();
        LoaderOptions::moco_v2(self.args.resolution, self.batch, workers)
    }

    /// Calls `work` on `step` images after the other until the row's time is up, unless the
    /// filter leaves it out.
    fn row(
        &self,
        (key, name): (&'static str, &str),
        step: usize,
        mut work: impl FnMut(Range<usize>) -> Result<()>,
    ) -> Result<Option<Row>> {
        if !self.args.filter.matches(name) {
            return Ok(None);
        }
        let slice = Duration::from_secs_f64(self.args.seconds) / SLICES;
        let (mut rates, mut done) = (Vec::new(), 0);
        for _ in 0..SLICES {
            let (began, first) = (Instant::now(), done);
            while done == first || began.elapsed() < slice {
                work(done..done + step)?;
                done += step;
            }
            rates.push((done - first) as f64 / began.elapsed().as_secs_f64());
        }
        let (per_s, noise) = (quantile(&rates, 0.5), noise(&rates));
        Ok(Some(Row { key, name: name.to_owned(), per_s, noise }))
    }

    /// On the host: reading and decoding, two MoCo v2 views of decoded images, and both through
    /// a [`TrainLoader`] whose batches are taken at once.
    fn host(&self) -> Result<Vec<Row>> {
        let (dataset, pool, side) = (&self.dataset, &self.pool, self.args.resolution);
        let at_once = 8 * pool.current_num_threads();
        let load = |i: usize| dataset.load(i % self.images);
        let decode = self.row(("decode_per_s", "decode"), at_once, |at| {
            pool.install(|| at.into_par_iter().try_for_each(|i| load(i).map(drop)))
        })?;

        let decoded: Vec<Image> = pool.install(|| {
            (0..self.images.min(MOST_DECODED)).into_par_iter().map(load).collect::<Result<_>>()
        })?;
        let views = Views::moco_v2();
        let normalise = views.normalise();
        let two_views = |(scratch, out): &mut (Scratch, Vec<f32>), i: usize| {
            let image = &decoded[i % decoded.len()];
            for view in 0..2 {
                let p = views.draw(0, i as u64, view, image.width, image.height);
                render(image, &p, &normalise, side, scratch, out);
            }
        };
        let memory = || (Scratch::default(), vec![0.0; side * side * 3]);
        let name = format!("two {side}x{side} views");
        let augment = self.row(("augment_per_s", &name), at_once, |at| {
            pool.install(|| at.into_par_iter().for_each_init(memory, two_views));
            Ok(())
        })?;

        let mut loader = started(dataset.clone(), self.options())?;
        let both =
            self.row(("both_per_s", "both, as in a run"), self.batch, |_| loader.next().map(drop))?;
        Ok([decode, augment, both].into_iter().flatten().collect())
    }

    /// Where a device makes the views: what the host has to do (decoding, and laying batches out
    /// in one piece of memory), copies through page-locked memory, two views of images that
    /// lie there, and all of it as a run has it, where the next batch is copied while views are
    /// made.
    fn device(&self, cx: &Cx) -> Result<Vec<Row>> {
        let Backend::Driver(driver) = cx.backend() else { return Ok(Vec::new()) };
        let (batch, options) = (self.batch, self.options());
        let delivered = LoaderOptions { deliver: Deliver::Decoded, ..options.clone() };
        let mut loader = started(self.dataset.clone(), delivered)?;
        let decode = self.row(("lay_out_per_s", "device: decode, lay out"), batch, |_| {
            loader.next().map(drop)
        })?;
        let Images::Decoded(Decoded { rgb, sizes, params }) = loader.next()?.views else {
            return Err(Error::device("the loader made views, expected images"));
        };
        drop(loader);

        let copied = || cx.staging_slot(rgb.len())?.upload(&rgb)?.arrive();
        let images = RgbImages::on_device(&sizes, copied()?)?;
        let copy = self.row(("copy_per_s", "device: copy"), batch, |_| {
            copied()?;
            driver.sync()
        })?;
        let (side, normalise) = (self.args.resolution, options.views[0].normalise());
        let format = ViewFormat { side, channels: 3, dtype: cx.dtype(), normalise };
        let views = self.row(("views_per_s", "device: two views"), batch, |_| {
            params.iter().try_for_each(|params| images.views(cx, params, &format).map(drop))?;
            driver.sync()
        })?;
        drop(images);

        let mut batches = Batches::new(cx, self.dataset.clone(), options)?;
        batches.next(cx)?;
        let together = self.row(("together_per_s", "device: all, as in a run"), batch, |_| {
            batches.prefetch(cx);
            driver.sync()?;
            batches.next(cx).map(drop)
        })?;
        Ok([decode, copy, views, together].into_iter().flatten().collect())
    }
}

/// A loader that has its memory and its order.
fn started(dataset: Arc<Dataset>, options: LoaderOptions) -> Result<TrainLoader> {
    let mut loader = TrainLoader::new(dataset, options)?;
    for _ in 0..3 {
        loader.next()?;
    }
    Ok(loader)
}
