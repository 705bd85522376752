//! How many pictures a second this machine decodes and augments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use serde::Serialize;

use super::augment::render;
use super::loader::with_scratch;
use super::{Dataset, Image, LoaderOptions, TrainLoader, Views};
use crate::error::{Error, Result};

/// Pictures a second, all workers together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Throughput {
    /// Pictures that were gone through, again and again.
    pub pictures: usize,
    /// Their mean encoded size.
    pub mean_bytes: f64,
    /// Side of a view.
    pub resolution: usize,
    /// Threads.
    pub workers: usize,
    /// Reading and decoding alone.
    pub decode_per_s: f64,
    /// Making two MoCo v2 views of decoded pictures alone.
    pub augment_per_s: f64,
    /// Both, through a [`TrainLoader`] whose batches are taken at once.
    pub both_per_s: f64,
}

/// Times decoding, augmentation and the whole loader for `seconds` each, with MoCo v2's views.
/// `workers` 0 means one a core. Errors: a data set that cannot be opened, pictures that cannot
/// be read.
pub fn bench_throughput(
    paths: &[String],
    resolution: usize,
    seconds: f64,
    workers: usize,
) -> Result<Throughput> {
    let dataset = Arc::new(Dataset::open(paths)?);
    let pool = ThreadPoolBuilder::new()
        .num_threads(workers)
        .build()
        .map_err(|e| Error::device(format!("cannot start {workers} threads: {e}")))?;
    let workers = pool.current_num_threads();
    let pictures = dataset.len().min(500);
    let encoded: usize = (0..pictures).map(|i| Ok(dataset.bytes(i)?.len())).sum::<Result<_>>()?;
    let budget = Duration::from_secs_f64(seconds.max(0.1));
    let decode_per_s = per_second(budget, 8 * workers, |at| {
        pool.install(|| at.into_par_iter().try_for_each(|i| dataset.load(i % pictures).map(drop)))
    })?;
    let decoded: Vec<Image> = pool.install(|| {
        (0..pictures.min(64)).into_par_iter().map(|i| dataset.load(i)).collect::<Result<_>>()
    })?;
    let views = Views::moco_v2();
    let normalise = views.normalise();
    let elems = resolution * resolution * 3;
    let augment_per_s = per_second(budget, 8 * workers, |at| {
        pool.install(|| {
            at.into_par_iter().for_each_init(
                || vec![0.0; elems],
                |out, i| {
                    let image = &decoded[i % decoded.len()];
                    for view in 0..2 {
                        let p = views.draw(0, i as u64, view, image.width, image.height);
                        with_scratch(|s| render(image, &p, &normalise, resolution, s, out));
                    }
                },
            );
        });
        Ok(())
    })?;
    let batch = (16 * workers).min(dataset.len());
    let options = LoaderOptions::moco_v2(resolution, batch, workers);
    let mut loader = TrainLoader::new(dataset, options)?;
    // Until memory and order are there.
    for _ in 0..3 {
        loader.next()?;
    }
    let both_per_s = per_second(budget, batch, |_| loader.next().map(drop))?;
    let mean_bytes = encoded as f64 / pictures as f64;
    Ok(Throughput {
        pictures,
        mean_bytes,
        resolution,
        workers,
        decode_per_s,
        augment_per_s,
        both_per_s,
    })
}

/// Calls `work` on `step` pictures after the other until the time is up, once at least; how many
/// pictures a second that makes.
pub fn per_second(
    budget: Duration,
    step: usize,
    mut work: impl FnMut(std::ops::Range<usize>) -> Result<()>,
) -> Result<f64> {
    let began = Instant::now();
    let mut done = 0;
    while began.elapsed() < budget {
        work(done..done + step)?;
        done += step;
    }
    Ok(done as f64 / began.elapsed().as_secs_f64())
}
