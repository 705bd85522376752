//! What a study would make: its cells, and how long they would take by a few timed steps of each
//! kind.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::cells::{Cell, Kind, Made, Maker, RUN, Word, value_of};
use super::child::Program;
use super::dense;
use super::folder::in_words;
use super::sizes::Sizes;
use crate::error::{Error, Result};

/// Notes cells instead of making them. Where a search would name winners, nets from the middle of each
/// budget stand in.
#[derive(Default)]
pub struct Planner {
    cells: RefCell<Vec<Cell>>,
}

impl Maker for Planner {
    fn make(&self, cell: &Cell) -> Result<Made> {
        let mut cells = self.cells.borrow_mut();
        if !cells.contains(cell) {
            cells.push(cell.clone());
        }
        Ok(Made { name: cell.name(), dir: Default::default(), result: Ok(Value::Null) })
    }

    fn is_plan(&self) -> bool {
        true
    }
}

impl Planner {
    /// All cells, in the order in which they would be made.
    pub fn cells(self) -> Vec<Cell> {
        self.cells.into_inner()
    }
}

/// A cell that would be made.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// Its name; that of a cell which depends on a search's winner may be another one in the end.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// Its command.
    pub command: String,
    /// Seconds that it would take; null where nothing was timed.
    pub seconds: Option<f64>,
}

/// A study's cells and their time.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// All of them.
    pub cells: Vec<Planned>,
    /// Seconds of all.
    pub seconds: f64,
    /// Seconds of pre-training, of these.
    pub training_seconds: f64,
    /// Seconds of a step of pre-training, added over all such cells.
    pub step_seconds: f64,
}

/// Times a kind of cell twice, with different numbers of steps or nets: the seconds that each takes,
/// and those that it takes without any.
#[derive(Clone, Copy, Debug)]
struct Pace {
    fixed: f64,
    each: f64,
}

/// Numbers of steps, nets or epochs that are timed.
const TIMED: [usize; 2] = [2, 6];
/// Images that timed evaluations learn from.
const TIMED_IMAGES: usize = 512;

impl Pace {
    fn of(seconds: [f64; 2], counts: [usize; 2]) -> Self {
        let each = ((seconds[1] - seconds[0]) / (counts[1] - counts[0]) as f64).max(0.0);
        Self { fixed: (seconds[0] - each * counts[0] as f64).max(0.0), each }
    }

    fn seconds(&self, count: usize) -> f64 {
        self.fixed + self.each * count as f64
    }
}

/// Runs small versions of cells in a folder that is thrown away.
struct Stopwatch<'a> {
    program: &'a Program,
    dir: &'a Path,
    sizes: &'a Sizes,
    /// Pre-training whose images a run of one step learns from.
    first: Option<&'a Cell>,
    /// Pre-training that was timed, by its command without the seed.
    trained: BTreeMap<String, (f64, u64)>,
    /// Other cells that were timed, by kind and task.
    paced: BTreeMap<String, Pace>,
}

/// Plans with an honest clock: a few steps of each kind of cell are run in `dir`, on a net that one
/// step has trained.
///
/// # Errors
/// Those of the commands, and of a signal.
pub fn timed(cells: &[Cell], program: &Program, sizes: &Sizes, dir: &Path) -> Result<Plan> {
    let (trained, paced) = (BTreeMap::new(), BTreeMap::new());
    let first = cells.iter().find(|cell| cell.kind == Kind::Train);
    let mut watch = Stopwatch { program, dir, sizes, first, trained, paced };
    let mut plan =
        Plan { cells: Vec::new(), seconds: 0.0, training_seconds: 0.0, step_seconds: 0.0 };
    for cell in cells {
        let seconds = match cell.kind {
            Kind::Train => {
                let (step, steps) = watch.training(cell)?;
                plan.step_seconds += step;
                plan.training_seconds += step * steps as f64;
                step * steps as f64
            }
            _ => watch.other(cell)?,
        };
        plan.seconds += seconds;
        plan.cells.push(planned(cell, Some(seconds)));
    }
    Ok(plan)
}

/// The cells alone.
pub fn planned(cell: &Cell, seconds: Option<f64>) -> Planned {
    let command = in_words(&cell.arguments());
    Planned { name: cell.name(), kind: cell.kind, command, seconds }
}

impl Stopwatch<'_> {
    /// Runs a command to its end; returns what it printed and its seconds.
    fn run(&self, arguments: &[String]) -> Result<(Value, f64)> {
        let ended = self.program.run(self.dir, arguments)?;
        if ended.code != 0 {
            let what = format!("timing `{}`: {}", in_words(arguments), ended.last_words);
            return Err(Error::new(crate::Kind::of_exit_code(ended.code), what));
        }
        let printed = serde_json::from_slice(&ended.printed);
        let printed = printed.map_err(|e| Error::data(format!("{}: {e}", in_words(arguments))))?;
        Ok((printed, ended.seconds))
    }

    /// Seconds of a step of a pre-training, and its steps.
    fn training(&mut self, cell: &Cell) -> Result<(f64, u64)> {
        let mut arguments = without(cell.arguments(), &[], &["--seed", "--out"]);
        let key = arguments.join(" ");
        if let Some(known) = self.trained.get(&key) {
            return Ok(*known);
        }
        arguments.push("--dry-run".into());
        tracing::info!("timing a few steps: {}", in_words(&arguments));
        let (plan, _) = self.run(&arguments)?;
        let step = plan["step_ms"].as_f64().or(plan["least_step_ms"].as_f64()).unwrap_or(0.0) / 1e3;
        let found = (step, plan["steps"].as_u64().unwrap_or(0));
        self.trained.insert(key, found);
        Ok(found)
    }

    /// A run of one step, for what needs one.
    fn untrained(&self) -> Result<()> {
        if self.dir.join(RUN).exists() {
            return Ok(());
        }
        let data = self.first.and_then(|cell| cell.sources().next());
        let data = data.into_iter().flat_map(|source| source.paths.iter().cloned());
        let mut arguments: Vec<String> =
            ["train", "--preset", &self.sizes.preset, "--data"].map(str::to_owned).to_vec();
        arguments.extend(data);
        arguments.extend(["--max-steps", "1", "--json", "--out", RUN].map(str::to_owned));
        self.run(&arguments).map(drop)
    }

    /// Seconds of any other cell.
    fn other(&mut self, cell: &Cell) -> Result<f64> {
        self.untrained()?;
        let count = self.count(cell)?;
        let task = value_of(&cell.arguments(), "--task").unwrap_or_default().to_owned();
        let mut key = format!("{}-{task}", cell.kind);
        if cell.kind == Kind::Dense {
            // Its test takes as long as its images are many.
            key += &format!("-{}", cell.sources().map(|s| s.digest.as_str()).collect::<String>());
        }
        if !self.paced.contains_key(&key) {
            let mut seconds = [0.0; 2];
            for (seconds, count) in seconds.iter_mut().zip(TIMED) {
                let arguments = self.small(cell, count)?;
                tracing::info!("timing {count}: {}", in_words(&arguments));
                *seconds = self.run(&arguments)?.1;
            }
            self.paced.insert(key.clone(), Pace::of(seconds, TIMED));
        }
        let pace = self.paced[&key];
        let whole = pace.seconds(count);
        // Neighbours and linear classifiers are timed on fewer images.
        Ok(match cell.kind {
            Kind::Score => pace.fixed + (whole - pace.fixed) * self.images(cell),
            Kind::Linear => whole * self.images(cell),
            _ => whole,
        })
    }

    /// How many times more images a cell looks at than its timed version.
    fn images(&self, cell: &Cell) -> f64 {
        let mut sources = cell.sources();
        let train = sources.next().map_or(0, |s| s.images);
        let test = sources.next().map_or(0, |s| s.images);
        let most = self.sizes.probe_images.unwrap_or(usize::MAX);
        (train.min(most) + test) as f64 / (train.min(most).min(TIMED_IMAGES) + test) as f64
    }

    /// How many steps, nets or epochs a cell has.
    fn count(&self, cell: &Cell) -> Result<usize> {
        let arguments = cell.arguments();
        let number = |flag: &str| value_of(&arguments, flag).and_then(|v| v.parse::<usize>().ok());
        Ok(match cell.kind {
            Kind::Search => {
                let groups = value_of(&arguments, "--groups").unwrap_or_default();
                let metric = crate::space::Metric::Macs;
                let groups = crate::space::Budget::parse_groups(groups, metric);
                number("--samples").unwrap_or(1) * groups.map_or(1, |groups| groups.len())
            }
            Kind::Score => self.sizes.ranked,
            Kind::Linear => number("--epochs").unwrap_or(1),
            Kind::Finetune => {
                let own = self.sizes.tune_steps.unwrap_or_else(|| {
                    let labels = value_of(&arguments, "--labels");
                    let labels = labels.and_then(|v| v.parse().ok()).unwrap_or(1.0);
                    let images = cell.sources().next().map_or(0, |s| s.images);
                    // The recipe: 20 epochs of batches of 256. A timed step holds its grid.
                    20 * ((images as f64 * labels / 256.0).ceil() as usize).max(1)
                });
                own.max(1)
            }
            Kind::Dense => dense::steps(&arguments)?,
            Kind::Train => 0,
        })
    }

    /// A cell's command on the run of one step, with so many steps, nets or epochs.
    fn small(&self, cell: &Cell, count: usize) -> Result<Vec<String>> {
        let flags: &[&str] = match cell.kind {
            Kind::Search => &["--samples", "--groups", "--out", "--ckpt"],
            Kind::Score => &["--limit", "--images", "--archs-from", "--ckpt"],
            Kind::Linear => &["--epochs", "--images", "--ckpt"],
            _ => &["--out", "--ckpt", "--preset"],
        };
        let mut words = without(cell.arguments(), &["--scratch", "--force"], flags);
        let add = |words: &mut Vec<String>, text: String| {
            words.extend(text.split_whitespace().map(str::to_owned));
        };
        add(&mut words, format!("--ckpt {RUN}"));
        let whole = format!("1..{0}:{0}", u64::MAX >> 12);
        match cell.kind {
            Kind::Search => {
                let task = value_of(&words, "--task").unwrap_or_default().to_owned();
                let flags = format!("--samples {count} --groups {whole} --force");
                add(&mut words, format!("{flags} --out search-{task}-{count}"));
            }
            Kind::Score => {
                let file = format!("search-cls-{}/candidates.jsonl", TIMED[1]);
                if !self.dir.join(&file).exists() {
                    let data = value_of(&words, "--data").unwrap_or_default().to_owned();
                    let search = format!(
                        "search --ckpt {RUN} --task cls --samples {0} --groups {whole} --images 16 \
                         --bn-images 16 --force --json --out search-cls-{0} --data",
                        TIMED[1]
                    );
                    let search = search.split_whitespace().map(str::to_owned);
                    self.run(&search.chain([data]).collect::<Vec<_>>())?;
                }
                let flags = format!("--archs-from {file} --limit {count}");
                add(&mut words, format!("{flags} --images {TIMED_IMAGES}"));
            }
            Kind::Linear => {
                add(&mut words, format!("--epochs {count} --images {TIMED_IMAGES}"));
            }
            _ => {
                let out = format!("tuned-{}-{count}", self.paced.len());
                add(&mut words, format!("--out {out} finetune.steps={count}"));
            }
        }
        Ok(words)
    }
}

/// Words without some flags: those of `alone` have no value, those of `valued` have one.
fn without(words: Vec<String>, alone: &[&str], valued: &[&str]) -> Vec<String> {
    let mut kept = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if valued.contains(&word.as_str()) {
            words.next();
        } else if !alone.contains(&word.as_str()) && !word.starts_with("finetune.steps=") {
            kept.push(word);
        }
    }
    kept
}

impl Cell {
    /// The images that it names.
    fn sources(&self) -> impl Iterator<Item = &super::cells::Source> {
        self.all().iter().filter_map(|word| match word {
            Word::Images(source) => Some(source),
            _ => None,
        })
    }
}

impl Plan {
    /// Steps for every pre-training, so that all cells end in so many seconds.
    ///
    /// # Errors
    /// Exit 2 where the other cells alone take longer.
    pub fn steps_within(&self, seconds: f64) -> Result<u64> {
        let others = self.seconds - self.training_seconds;
        let steps = (seconds - others) / self.step_seconds.max(1e-9);
        if steps < 1.0 {
            return Err(Error::usage(format!(
                "--time {seconds:.0}s: searches and tests alone take about {others:.0} s; give more \
                 time, or fewer --tables"
            )));
        }
        Ok(steps as u64)
    }

    /// A table with the sums below it.
    pub fn text(&self) -> String {
        let human = crate::progress::human_duration;
        let mut rows = vec![["cell", "about", "command"].map(str::to_owned).to_vec()];
        rows.extend(self.cells.iter().map(|cell| {
            let about = cell.seconds.map_or("not timed".into(), human);
            vec![cell.name.clone(), about, cell.command.clone()]
        }));
        format!(
            "{}\n{} cells, about {}, of which pre-training takes {}. Commands behind a search name \
             stand-ins for its winners.",
            crate::program::output::table(&rows),
            self.cells.len(),
            human(self.seconds),
            human(self.training_seconds)
        )
    }
}
