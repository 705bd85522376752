//! `bench loader`: decoding and augmentation, alone and together.

use std::path::PathBuf;

use crate::data::bench_throughput;
use crate::error::{Error, Result};
use crate::files;

/// Flags of `bench loader`.
#[derive(clap::Args, Debug)]
pub struct LoaderArgs {
    /// Pictures: anything that `engine train --data` takes.
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    data: Vec<String>,
    /// Side of a view, in pixels.
    #[arg(long, default_value_t = 224)]
    resolution: usize,
    /// Threads that decode and augment; 0 = one a core.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Seconds that each of the three is timed for.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Writes the result here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Times and prints.
pub fn run(args: &LoaderArgs) -> Result<()> {
    if !(1..=4096).contains(&args.resolution) {
        return Err(Error::usage(format!(
            "--resolution is {}, expected 1 to 4096 pixels",
            args.resolution
        )));
    }
    let t = bench_throughput(&args.data, args.resolution, args.seconds, args.workers)?;
    println!("{} pictures of {:.0} kB, {} worker(s)", t.pictures, t.mean_bytes / 1e3, t.workers);
    println!("decode              {:>9.1} pictures/s", t.decode_per_s);
    println!("two {0}x{0} views   {1:>9.1} pictures/s", t.resolution, t.augment_per_s);
    println!("both, as in a run   {:>9.1} pictures/s", t.both_per_s);
    match &args.json {
        Some(path) => files::write_json(path, &t),
        None => Ok(()),
    }
}
