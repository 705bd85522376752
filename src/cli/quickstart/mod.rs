//! `engine quickstart`: the whole job on a small scale, with the library that the other verbs
//! use: images, training, search, evaluation, export, report.

mod domains;
mod evaluate;
mod results;
mod sizes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use super::Globals;
use crate::config::{self, Config, Resolved};
use crate::cx::Cx;
use crate::data::Dataset;
use crate::error::{Error, Kind, Result};
use crate::files::owned::{Existing, Kind as FolderKind, Owned};
use crate::program::{open_device, print, print_json};
use crate::search::{self, Bn, Request, Selection, Task};
use crate::signals::Signals;
use crate::space::{Budget, Metric, Space};
use crate::train::{self, Checkpoint, RUN, RUN_FILES, Resume};
use crate::{export, files, report};
use domains::Domain;
use results::{Exported, Found, Trained, Won};
use sizes::Sizes;

/// What is trained.
const PRESET: &str = "tiny";
/// Of checkpoints the first, of the untrained net, and the last are of use.
const SETTINGS: [&str; 1] = ["ckpt.every=1000000"];
/// Drawn images are easy to tell apart and bear a higher learning rate, which shows more in two
/// minutes. A user's own images get the preset's recipe.
const OF_DRAWN: [&str; 1] = ["train.lr=0.02"];
/// Budgets that are searched.
const BUDGETS: [&str; 2] = ["3M..5M", "7M..10M"];
/// Tasks that are searched for.
const TASKS: [Task; 2] = [Task::Cls, Task::DetFpn];
/// Made first and filled last: by it a quickstart's folder is known.
const MARKER: &str = "quickstart.json";

/// Its folder: a run's, with more in it.
static QUICKSTART: FolderKind = FolderKind {
    ours: &[
        RUN_FILES,
        &[
            MARKER,
            "images/*/train/*.png",
            "images/*/train/*/*.png",
            "images/*/test/*/*.png",
            "winner/.engine",
            "winner/model.safetensors",
            "winner/config.json",
            "winner/parity.json",
            "winner/model.py",
            "winner/README.md",
            "winner/model.onnx",
            "winner/transformers/config.json",
            "winner/transformers/model.safetensors",
            "winner/transformers/preprocessor_config.json",
            "winner/timm/config.json",
            "winner/timm/model.safetensors",
            "winner/detectron2/model.safetensors",
            "winner/mmdet/model.safetensors",
        ],
    ],
    flags: "--overwrite to replace it",
    ..RUN
};

/// Arguments of `engine quickstart`.
#[derive(Args, Clone, Debug)]
pub struct QuickstartArgs {
    /// Your own images instead of drawn ones; up to 4,000 of them are taken
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<String>,
    /// Where everything is written
    #[arg(long, value_name = "DIR", default_value = "runs/quickstart")]
    pub out: PathBuf,
    /// Replace an earlier quickstart
    #[arg(long)]
    pub overwrite: bool,
    /// Share of images, steps and candidates to take, up to 1; a small share only shows that
    /// everything works, say on the emulator
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    pub scale: f64,
}

/// Does the whole job.
pub fn run(args: &QuickstartArgs, globals: &Globals) -> Result<()> {
    let started = Instant::now();
    if !(args.scale > 0.0 && args.scale <= 1.0) {
        return Err(Error::usage(format!(
            "--scale {}: expected a share above 0, at most 1",
            args.scale
        )));
    }
    let sizes = Sizes::new(args.scale);
    let owned = claim(args)?;
    let cx = open_device(&globals.device)?;
    let signals = Signals::listen()?;
    if !args.data.is_empty() {
        check(args)?;
    }
    owned.clear()?;
    files::write_json(&args.out.join(MARKER), &serde_json::json!({ "state": "running" }))?;
    let (out, data) = (&args.out, &args.data);
    let job = Job { cx: &cx, out, owned: &owned, data, sizes, globals, signals: &signals };
    let mut found = cx.install(|| job.run()).map_err(|e| job.starts_again(e))?;
    found.seconds = started.elapsed().as_secs_f64();
    files::write_json(&args.out.join(MARKER), &found)?;
    if globals.json { print_json(&found) } else { print(&found.text()) }
}

/// Takes the folder. One that holds a run of another kind is not replaced.
fn claim(args: &QuickstartArgs) -> Result<Arc<Owned>> {
    let existing = if args.overwrite { Existing::Replace } else { Existing::Refuse };
    let owned = Owned::claim(&args.out, &QUICKSTART, existing)?;
    if !owned.was_empty() && !args.out.join(MARKER).exists() {
        return Err(Error::usage(format!(
            "--overwrite replaces a quickstart, but {} holds a run (it has no {MARKER}), so nothing \
             in it is deleted; give another --out",
            args.out.display()
        )));
    }
    Ok(Arc::new(owned))
}

/// Refuses images that cannot be opened, or that lie in the folder that is to be replaced.
fn check(args: &QuickstartArgs) -> Result<()> {
    Dataset::open(&args.data)?;
    let real = |path: &Path| path.canonicalize().ok();
    let path = |source: &String| PathBuf::from(source.split('#').next().unwrap_or(source));
    let inside = |source: &&String| {
        real(&path(source)).zip(real(&args.out)).is_some_and(|(data, out)| data.starts_with(out))
    };
    match args.data.iter().find(inside) {
        Some(data) => Err(Error::usage(format!(
            "--data {data} lies in --out {}, which quickstart replaces: give another --out",
            args.out.display()
        ))),
        None => Ok(()),
    }
}

/// What all parts need.
struct Job<'a> {
    cx: &'a Cx,
    out: &'a Path,
    owned: &'a Arc<Owned>,
    data: &'a [String],
    sizes: Sizes,
    globals: &'a Globals,
    signals: &'a Signals,
}

impl Job<'_> {
    fn run(&self) -> Result<Found> {
        let space = Space::preset(PRESET)?;
        self.say(1, "images");
        let domains = self.domains(&space)?;
        self.say(2, "training, without labels");
        self.go_on()?;
        let trained = self.train(&domains)?;
        self.say(3, "searches, without labels");
        let won = self.search_all(&domains)?;
        self.say(4, "what the nets are worth, by labels");
        self.go_on()?;
        let ends = [space.max(), space.min()];
        let accuracies = self.evaluate_all(&domains, &won, &ends)?;
        self.say(5, "export");
        self.go_on()?;
        let exported = self.export(&domains, &won)?;
        let report = report::run(self.out)?;
        self.go_on()?;
        Ok(Found {
            out: self.out.to_path_buf(),
            report,
            domains,
            trained,
            won,
            accuracies,
            exported,
            seconds: 0.0,
        })
    }

    /// Ends the job where a signal has come.
    fn go_on(&self) -> Result<()> {
        self.signals.stop().map_or(Ok(()), |kind| Err(Error::new(kind, "stopped")))
    }

    /// Says of a job that was stopped what can be done, which is not what its parts say of
    /// themselves: it cannot be resumed.
    fn starts_again(&self, e: Error) -> Error {
        if !matches!(e.kind(), Kind::Stopped | Kind::Interrupted) {
            return e;
        }
        let out = self.out.display();
        Error::new(
            e.kind(),
            format!("stopped; engine quickstart --out {out} --overwrite starts again"),
        )
    }

    fn say(&self, part: u8, what: &str) {
        tracing::info!("-- {part}/5 {what}");
    }

    /// Where a part writes.
    fn place(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    fn domains(&self, space: &Space) -> Result<Vec<Domain>> {
        let (dir, seed) = (self.place("images"), self.globals.seed());
        match self.data {
            [] => domains::draw(&dir, self.sizes.drawn, space.resolution, seed),
            own => {
                let most = self.sizes.own;
                Ok(vec![domains::take(own, &dir, most, space.resolution, seed)?])
            }
        }
    }

    /// The settings: the preset's, and as many epochs as make the wanted steps.
    fn settings(&self, images: usize) -> Result<Resolved> {
        let Sizes { steps, batch, .. } = self.sizes;
        let epochs = steps as f64 / (images / batch).max(1) as f64;
        let mut words = vec![
            format!("preset={PRESET}"),
            format!("train.epochs={epochs:.4}"),
            format!("train.batch={batch}"),
        ];
        words.extend(SETTINGS.map(str::to_owned));
        if self.data.is_empty() {
            words.extend(OF_DRAWN.map(str::to_owned));
        }
        let mut settings = words.iter().map(|w| config::word(w)).collect::<Result<Vec<_>>>()?;
        settings.extend(self.globals.settings());
        config::resolve(&settings)
    }

    fn train(&self, domains: &[Domain]) -> Result<Trained> {
        let started = Instant::now();
        let images = domains.iter().map(|d| d.images).sum();
        let settings = self.settings(images)?;
        let options = train::Options {
            settings,
            command: std::env::args().collect::<Vec<_>>().join(" "),
            data: domains.iter().map(|d| d.train.clone()).collect(),
            out: self.out.to_path_buf(),
            init: None,
            // The folder holds the images already, and no run.
            resume: Resume::Auto,
            overwrite: false,
            claimed: Some(self.owned.clone()),
            max_steps: None,
            time_limit: None,
            dump_steps: Vec::new(),
            dump_dir: None,
            probe: None,
            quiet: self.globals.quiet,
        };
        let outcome = train::run(self.cx, &options, self.signals)?;
        if let Some(kind) = outcome.stopped {
            return Err(Error::new(kind, "stopped"));
        }
        let standing = outcome.standing.ok_or_else(|| Error::usage("training took no step"))?;
        Ok(Trained {
            preset: PRESET,
            steps: outcome.step,
            images,
            spread: standing.spread,
            rank: standing.rank,
            health: standing.health,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Every task on every domain, both budgets in one search.
    fn search_all(&self, domains: &[Domain]) -> Result<Vec<Won>> {
        let checkpoint = Checkpoint::open(self.out)?;
        let mut won = Vec::new();
        for domain in domains {
            let dataset = Arc::new(Dataset::open(std::slice::from_ref(&domain.train))?);
            for task in TASKS {
                tracing::info!("{task} on {}", domain.name);
                let request = self.request(&checkpoint, domain, task)?;
                let winners =
                    search::run(self.cx, &checkpoint, dataset.clone(), &request, self.signals)?;
                report::search(&request.out)?;
                won.extend(
                    winners.budgets.iter().filter_map(|b| Won::of(domain, task, &winners, b)),
                );
            }
        }
        Ok(won)
    }

    fn request(&self, checkpoint: &Checkpoint, domain: &Domain, task: Task) -> Result<Request> {
        let parse = |b: &&str| Budget::parse(b, Metric::Macs);
        Ok(Request {
            data: vec![domain.train.clone()],
            task: Some(task),
            features: task.features().to_vec(),
            selection: Selection::Budgets {
                budgets: BUDGETS.iter().map(parse).collect::<Result<_>>()?,
                metric: Metric::Macs,
                samples: Some(self.sizes.samples),
            },
            bn: Bn::Recalibrate,
            bn_images: self.sizes.images,
            images: Some(self.sizes.images),
            top: 5,
            tau: Config::for_preset(PRESET)?.search.tau,
            seed: checkpoint.state.seed,
            workers: self.cx.threads(),
            out: self.place("search").join(format!("{task}-{}", domain.name)),
            resume: false,
            overwrite: false,
            // What is wrong with the teacher is said instead: the rest of the job has its use.
            force: true,
        })
    }

    /// The winner of the first search's larger budget.
    fn export(&self, domains: &[Domain], won: &[Won]) -> Result<Exported> {
        let (Some(domain), Some(best)) = (
            domains.first(),
            won.iter().rfind(|w| w.domain == won[0].domain && w.task == TASKS[0]),
        ) else {
            return Err(Error::usage(format!(
                "the searches found no net within {}: expected at least one",
                BUDGETS.join(" and ")
            )));
        };
        let out = self.place("winner");
        let options = export::Options {
            ckpt: self.out.to_path_buf(),
            arch: best.arch,
            bn_data: vec![domain.train.clone()],
            bn_images: self.sizes.export_images,
            out: out.clone(),
            overwrite: false,
            form: export::Form::plain(export::parity::TOLERANCE),
            seed: self.globals.seed,
            workers: self.cx.threads(),
        };
        let (_, parity) = export::export(self.cx, &options)?;
        Ok(Exported {
            arch: best.arch,
            dir: out,
            max_rel: parity.max_rel,
            images: parity.reloaded.images,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::folder::EXPORT;

    #[test]
    fn what_it_makes_is_its_own() {
        for name in EXPORT.ours.iter().copied().flatten() {
            assert!(QUICKSTART.owns(&format!("winner/{name}")), "{name}");
        }
        let dir = tempfile::tempdir().unwrap();
        let drawn = domains::draw(&dir.path().join("images"), [9, 9], 32, 1).unwrap();
        let shapes = &drawn[0].train;
        domains::take(std::slice::from_ref(shapes), &dir.path().join("images"), 9, 32, 1).unwrap();
        let mut folders = vec![dir.path().to_path_buf()];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(dir.path()).unwrap().to_str().unwrap();
                assert!(QUICKSTART.owns(name), "{name}");
                files += 1;
            }
        }
        assert!(files > 36, "{files}");
        // A run's folder may hold images of its owner's.
        assert!(!RUN.owns("images/mine/train/cat/1.png"));
    }
}
