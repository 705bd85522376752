//! Studies: the paper's tables on anybody's images. A study is made of [`cells`], each an ordinary
//! command of engine in a folder of its own; [`tables`] say which cells are needed and read what they
//! printed. A study that was stopped or killed goes on with what is there.

pub mod cells;
pub mod child;
pub mod dense;
pub mod folder;
pub mod lab;
pub mod measure;
pub mod paper;
pub mod plan;
pub mod sizes;
pub mod table;
pub mod tables;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::cells::{Kind, Record, Source};
use self::child::Program;
use self::dense::AnnotatedSet;
use self::folder::Folder;
use self::lab::{Lab, Settings};
pub use self::plan::Plan;
use self::plan::Planner;
pub use self::sizes::{Scale, Sizes};
pub use self::table::{Point, Row, Table};
use self::tables::CLASSES;
pub use self::tables::Which;
use crate::error::{Error, Result};
use crate::files;
use crate::signals::Signals;
use crate::space::{Named, Space};

/// The file with all of a study.
pub const FILE: &str = "study.json";

/// What is to be studied.
pub struct Request {
    /// Images to learn from.
    pub data: Vec<String>,
    /// Images to test on; none where only annotated images are tested on.
    pub test_data: Vec<String>,
    /// Its folder.
    pub out: PathBuf,
    /// Tables; none means all for which there are images.
    pub tables: Vec<Which>,
    /// Names of other images, their sources to learn from and to test on.
    pub transfers: Vec<(String, String, String)>,
    /// Names of other domains and their images.
    pub domains: Vec<(String, String)>,
    /// Names of images with boxes, their sources to learn from and to test on.
    pub boxes: Vec<(String, String, String)>,
    /// Names of images with label images, likewise.
    pub pixels: Vec<(String, String, String)>,
    /// How large.
    pub scale: Scale,
    /// The net to compare with.
    pub reference: Option<Named>,
    /// Number of seeds of pre-training.
    pub seeds: u64,
    /// The first of them.
    pub seed: u64,
    /// Seconds that all may take.
    pub seconds: Option<f64>,
    /// Whether to go on with what is there.
    pub resume: bool,
    /// `key=value` words.
    pub words: Vec<String>,
    /// Flags of every cell that change results: the precision.
    pub flags: Vec<String>,
    /// Flags of every cell that do not: device and threads.
    pub quiet_flags: Vec<String>,
}

/// What a study found: `study.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Study {
    /// How large it is.
    pub scale: Scale,
    /// In numbers.
    pub sizes: Sizes,
    /// The net to compare with.
    pub reference: String,
    /// Seeds of pre-training.
    pub seeds: Vec<u64>,
    /// Images: what they are called, and how many.
    pub images: Vec<(String, usize)>,
    /// The tables.
    pub tables: Vec<Table>,
    /// What was left out, and what it needs.
    pub left_out: Vec<String>,
    /// All cells.
    pub cells: Vec<Record>,
}

impl Study {
    /// Cells that diverged or collapsed.
    pub fn failed(&self) -> Vec<&Record> {
        self.cells.iter().filter(|cell| cell.reason.is_some()).collect()
    }
}

/// A request of which everything is opened.
struct Opened {
    space: Space,
    reference: crate::space::Arch,
    train: Source,
    test: Option<Source>,
    transfers: Vec<(Source, Source)>,
    domains: Vec<Source>,
    annotated: Vec<AnnotatedSet>,
    sizes: Sizes,
    settings: Settings,
    flags: String,
    seeds: Vec<u64>,
}

/// As much of an earlier `study.json` as counts here.
#[derive(Deserialize)]
struct Earlier {
    sizes: Sizes,
}

/// A preset's name, or the whole path of a file with a space: cells run in folders of their own.
fn anywhere(preset: &str) -> Result<String> {
    if !preset.ends_with(".toml") {
        return Ok(preset.to_owned());
    }
    let path = std::path::absolute(preset).map_err(|e| Error::usage(format!("{preset}: {e}")))?;
    let path = path.to_string_lossy().into_owned();
    match path.contains(char::is_whitespace) {
        true => Err(Error::usage(format!(
            "preset={path:?}: expected a path without spaces, which would end the name in a command"
        ))),
        false => Ok(path),
    }
}

impl Request {
    fn open(&self) -> Result<Opened> {
        let mut sizes = Sizes::new(self.scale);
        let mut settings = Settings::default();
        for word in &self.words {
            // Refused here rather than by the first cell.
            crate::config::word(word)?;
            match word.strip_prefix("preset=") {
                Some(preset) => sizes.preset = anywhere(preset)?,
                None => settings.push(word),
            }
        }
        let space = Space::preset(&sizes.preset)?;
        let no_search = || Err(Error::usage("--reference winner: expected an ID, max, min or r50"));
        let reference = match (self.reference, sizes.preset.as_str()) {
            (Some(named), _) => named.within(&space, no_search)?,
            (None, "data") => Named::R50.within(&space, no_search)?,
            (None, _) => sizes::reference(&space)?,
        };
        let one = |name: &str, path: &String| Source::open(name, std::slice::from_ref(path));
        let transfer = |(name, train, test): &(String, String, String)| {
            Ok((one(name, train)?, one(name, test)?))
        };
        let mut annotated = Vec::new();
        for (name, train, test) in &self.boxes {
            annotated.push(AnnotatedSet::boxes(name, train, test)?);
        }
        for (name, train, test) in &self.pixels {
            annotated.push(AnnotatedSet::pixels(name, train, test)?);
        }
        Ok(Opened {
            reference,
            train: Source::open("data", &self.data)?,
            test: match self.test_data.is_empty() {
                true => None,
                false => Some(Source::open("test data", &self.test_data)?),
            },
            transfers: self.transfers.iter().map(transfer).collect::<Result<_>>()?,
            domains: self.domains.iter().map(|(n, path)| one(n, path)).collect::<Result<_>>()?,
            annotated,
            settings,
            flags: self.flags.join(" "),
            seeds: (self.seed..self.seed.saturating_add(self.seeds)).collect(),
            space,
            sizes,
        })
    }

    /// The tables that can be made, and what is said of those that cannot.
    fn tables(&self, lab: &Lab) -> Result<(Vec<Which>, Vec<String>)> {
        let all: Vec<Which> =
            Which::NAMES.iter().map(|name| name.parse()).collect::<Result<_>>()?;
        let wanted = if self.tables.is_empty() { &all } else { &self.tables };
        let (mut tables, mut left_out) = (Vec::new(), Vec::new());
        for &which in wanted {
            match which.missing(lab) {
                None => tables.push(which),
                Some(needs) if self.tables.is_empty() => {
                    left_out.push(format!("{which} was left out: it needs {needs}"));
                }
                Some(needs) => return Err(Error::usage(format!("--tables {which} needs {needs}"))),
            }
        }
        if tables.is_empty() {
            return Err(Error::data(format!(
                "no table can be made: expected {CLASSES}, or --boxes or --pixels NAME=TRAIN,TEST"
            )));
        }
        Ok((tables, left_out))
    }
}

impl Opened {
    fn lab<'a>(&'a self, maker: &'a dyn cells::Maker) -> Lab<'a> {
        Lab {
            maker,
            sizes: &self.sizes,
            space: &self.space,
            reference: self.reference,
            train: &self.train,
            test: self.test.as_ref(),
            transfers: &self.transfers,
            domains: &self.domains,
            annotated: &self.annotated,
            seeds: self.seeds.clone(),
            settings: &self.settings,
            flags: &self.flags,
        }
    }

    /// The cells of tables, as far as they are known before any is made.
    fn cells(&self, tables: &[Which]) -> Result<Vec<cells::Cell>> {
        let planner = Planner::default();
        let lab = self.lab(&planner);
        tables.iter().try_for_each(|which| which.make(&lab).map(drop))?;
        Ok(planner.cells())
    }

    fn time(&self, cells: &[cells::Cell], program: &Program) -> Result<Plan> {
        let dir = tempfile::tempdir().map_err(|e| Error::write(&std::env::temp_dir(), e))?;
        plan::timed(cells, program, &self.sizes, dir.path())
    }
}

/// The plan: cells, and how long they would take.
///
/// # Errors
/// Those of opening images, of settings, and of the commands that are timed.
pub fn plan(request: &Request, signals: Signals) -> Result<Plan> {
    let mut opened = request.open()?;
    let planner = Planner::default();
    let (tables, left_out) = request.tables(&opened.lab(&planner))?;
    left_out.iter().for_each(|line| tracing::info!("{line}"));
    let program = Program::this(signals, request.quiet_flags.clone())?;
    let plan = opened.time(&opened.cells(&tables)?, &program)?;
    let Some(seconds) = request.seconds else { return Ok(plan) };
    opened.sizes.steps = Some(plan.steps_within(seconds)?);
    opened.time(&opened.cells(&tables)?, &program)
}

/// Makes a study: all cells that are not there, tables, `study.json`. `done` is called after every
/// table, with what there is.
///
/// # Errors
/// Those of opening images and of settings; exit codes of cells but 0 and 4; signals.
pub fn run(
    request: &Request,
    signals: Signals,
    done: impl Fn(&Path, &Study) -> Result<()>,
) -> Result<Study> {
    let mut opened = request.open()?;
    let (tables, left_out) = request.tables(&opened.lab(&Planner::default()))?;
    left_out.iter().for_each(|line| tracing::info!("{line}"));
    let program = || Program::this(signals.clone(), request.quiet_flags.clone());
    let folder = Folder::claim(&request.out, request.resume, program()?)?;
    if let Some(seconds) = request.seconds {
        let path = request.out.join(FILE);
        opened.sizes.steps = match path.exists() && request.resume {
            // As it was begun: other steps would be other cells.
            true => files::read_json::<Earlier>(&path)?.sizes.steps,
            false => None,
        };
        if opened.sizes.steps.is_none() {
            let plan = opened.time(&opened.cells(&tables)?, &program()?)?;
            opened.sizes.steps = Some(plan.steps_within(seconds)?);
        }
    }
    let cells = opened.cells(&tables)?;
    let folder = folder.expecting(cells.len());
    let images = std::iter::once(&opened.train).chain(&opened.test);
    let images = images.chain(opened.transfers.iter().flat_map(|(a, b)| [a, b]));
    let annotated = opened.annotated.iter().flat_map(|set| [&set.train, &set.test]);
    let images = images.chain(&opened.domains).chain(annotated);
    let images = images.map(|s| (s.name.clone(), s.images));
    let mut study = Study {
        scale: request.scale,
        sizes: opened.sizes.clone(),
        reference: opened.reference.to_string(),
        seeds: opened.seeds.clone(),
        images: images.collect(),
        tables: Vec::new(),
        left_out,
        cells: Vec::new(),
    };
    files::write_json(&request.out.join(FILE), &study)?;
    let lab = opened.lab(&folder);
    for which in tables {
        tracing::info!("-- {which}");
        let table = which.make(&lab)?;
        table.write(&request.out)?;
        study.tables.push(table);
        study.cells = folder.records();
        files::write_json(&request.out.join(FILE), &study)?;
        done(&request.out, &study)?;
    }
    Ok(study)
}
