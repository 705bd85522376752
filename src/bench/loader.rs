//! `bench loader`: decoding and augmentation, alone and together; and where a device makes the
//! views, decoding, copies and views.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::cli::{DeviceArgs, open_device};
use crate::data::{
    Contents, Dataset, Decoded, Deliver, LoaderOptions, Pictures, Throughput, TrainLoader,
    ViewFormat, bench_throughput, per_second,
};
use crate::device::{Backend, Cx, DeviceChoice, Driver};
use crate::error::{Error, Result};
use crate::files;
use crate::train::Feed;

/// Flags of `bench loader`.
#[derive(clap::Args, Debug)]
pub struct LoaderArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Pictures: anything that `engine train --data` takes.
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    data: Vec<String>,
    /// Side of a view, in pixels.
    #[arg(long, default_value_t = 224)]
    resolution: usize,
    /// Threads that decode and augment; 0 = one a core.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Pictures of a batch on a device (default: 16 a worker).
    #[arg(long)]
    batch: Option<usize>,
    /// Seconds that each of the three, or on a device seven, is timed for.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Writes the result here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What was timed.
#[derive(Serialize)]
struct Timed {
    #[serde(flatten)]
    host: Throughput,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_device: Option<OnDevice>,
}

/// Where a device makes the views: pictures a second.
#[derive(Serialize)]
struct OnDevice {
    device: String,
    /// Pictures of a batch.
    batch: usize,
    /// Mean size of a decoded picture.
    decoded_bytes: f64,
    /// What the host has to do: decoding, and laying batches out in one piece of memory.
    decode_per_s: f64,
    /// Copies to the device alone, through page-locked memory.
    copy_per_s: f64,
    /// Two views of pictures that lie on the device alone.
    views_per_s: f64,
    /// All of it, as a run has it: the next batch is copied while views are made.
    together_per_s: f64,
}

/// Times and prints.
pub fn run(args: &LoaderArgs) -> Result<()> {
    if !(1..=4096).contains(&args.resolution) {
        return Err(Error::usage(format!(
            "--resolution is {}, expected 1 to 4096 pixels",
            args.resolution
        )));
    }
    let cx = open_device(&args.device)?;
    if !(args.seconds > 0.0 && args.seconds <= 86_400.0) {
        return Err(Error::usage(format!(
            "--seconds is {}, expected more than 0, at most a day's 86400",
            args.seconds
        )));
    }
    let t = bench_throughput(&args.data, args.resolution, args.seconds, args.workers)?;
    println!("{} pictures of {:.0} kB, {} worker(s)", t.pictures, t.mean_bytes / 1e3, t.workers);
    println!("decode              {:>9.1} pictures/s", t.decode_per_s);
    println!("two {0}x{0} views   {1:>9.1} pictures/s", t.resolution, t.augment_per_s);
    println!("both, as in a run   {:>9.1} pictures/s", t.both_per_s);
    let mut timed = Timed { host: t, on_device: None };
    if let Backend::Driver(driver) = cx.backend() {
        let d = on_device(&cx, driver.as_ref(), args, timed.host.workers)?;
        let megabytes_per_s = d.copy_per_s * d.decoded_bytes / 1e6;
        println!("on {}, {} pictures of {:.0} kB", d.device, d.batch, d.decoded_bytes / 1e3);
        println!("decode and lay out  {:>9.1} pictures/s", d.decode_per_s);
        println!("copy                {:>9.1} pictures/s, {megabytes_per_s:.0} MB/s", d.copy_per_s);
        println!("two {0}x{0} views   {1:>9.1} pictures/s", args.resolution, d.views_per_s);
        println!("all, as in a run    {:>9.1} pictures/s", d.together_per_s);
        if args.device.device == DeviceChoice::Emulator {
            println!("(copies and views are the emulator's: they tell nothing about a GPU)");
        }
        timed.on_device = Some(d);
    }
    match &args.json {
        Some(path) => files::write_json(path, &timed),
        None => Ok(()),
    }
}

fn on_device(cx: &Cx, driver: &dyn Driver, args: &LoaderArgs, workers: usize) -> Result<OnDevice> {
    let dataset = Arc::new(Dataset::open(&args.data)?);
    let batch = args.batch.unwrap_or(16 * workers);
    let budget = Duration::from_secs_f64(args.seconds.max(0.1));
    let options = LoaderOptions::moco_v2(args.resolution, batch, workers);
    let normalise = options.views[0].normalise();

    let delivered = LoaderOptions { deliver: Deliver::Pictures, ..options.clone() };
    let mut loader = TrainLoader::new(dataset.clone(), delivered)?;
    // Until memory and order are there.
    for _ in 0..3 {
        loader.next()?;
    }
    let decode_per_s = per_second(budget, batch, |_| loader.next().map(drop))?;
    let Contents::Pictures(Decoded { rgb, sizes, params }) = loader.next()?.contents else {
        return Err(Error::device("the loader made views, expected pictures"));
    };
    drop(loader);

    let copied = || cx.landing(rgb.len())?.upload(&rgb)?.arrive();
    let pictures = Pictures::on_device(&sizes, copied()?)?;
    let copy_per_s = per_second(budget, batch, |_| {
        copied()?;
        driver.sync()
    })?;
    let format = ViewFormat { side: args.resolution, channels: 3, dtype: cx.dtype(), normalise };
    let views_per_s = per_second(budget, batch, |_| {
        params.iter().try_for_each(|params| pictures.views(cx, params, &format).map(drop))?;
        driver.sync()
    })?;
    drop(pictures);

    let mut feed = Feed::new(cx, dataset, options)?;
    feed.next(cx)?;
    let together_per_s = per_second(budget, batch, |_| {
        feed.prefetch(cx);
        driver.sync()?;
        feed.next(cx).map(drop)
    })?;
    Ok(OnDevice {
        device: cx.name(),
        batch,
        decoded_bytes: rgb.len() as f64 / batch as f64,
        decode_per_s,
        copy_per_s,
        views_per_s,
        together_per_s,
    })
}
