//! `engine study`: the paper's tables on the user's images.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::Globals;
use super::train::is_word;
use crate::config::parse_duration;
use crate::error::{Error, Kind, Result};
use crate::program::output::table;
use crate::program::{print, print_json};
use crate::progress::human_duration;
use crate::report;
use crate::signals::Signals;
use crate::space::Named;
use crate::study::{self, Request, Row, Scale, Study, Which};

/// Arguments of `engine study`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StudyArgs {
    /// Images to learn from; tables of classification need class folders
    #[arg(long, value_name = "TRAIN", num_args = 1.., required = true)]
    pub data: Vec<String>,
    /// Images in class folders to test on; not needed for --boxes and --pixels
    #[arg(long, value_name = "TEST", num_args = 1..)]
    pub test_data: Vec<String>,
    /// The study's folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Tables and figures of the paper: t2, f3, t3, t4, f4, t5, t6, t7, t8, t9, t10 [default: all for
    /// which there are images]
    #[arg(long, value_name = "T2,F3,...", value_delimiter = ',', hide_possible_values = true)]
    #[arg(ignore_case = true)]
    pub tables: Vec<Which>,
    /// Other labelled images that nets are fine-tuned on, for f4; may be repeated
    #[arg(long, value_name = "NAME=TRAIN,TEST", value_parser = transfer)]
    pub transfer: Vec<(String, String, String)>,
    /// Images of another domain, for t10; may be repeated
    #[arg(long, value_name = "NAME=PATH", value_parser = domain)]
    pub domain: Vec<(String, String)>,
    /// Images with boxes, and perhaps masks (docs/dense.md has the layouts), for t3, t5 and rows of t2,
    /// t7, t9 and t10; may be repeated
    #[arg(long, value_name = "NAME=TRAIN,TEST", value_parser = transfer)]
    pub boxes: Vec<(String, String, String)>,
    /// Images with label images, for t6 and rows of t2, t7, t9 and t10; may be repeated
    #[arg(long, value_name = "NAME=TRAIN,TEST", value_parser = transfer)]
    pub pixels: Vec<(String, String, String)>,
    /// How much of everything: smoke (a minute, measures nothing), small (preset tiny, hours on two
    /// cores) or full (preset data, the paper's settings, for GPUs)
    #[arg(long, value_name = "SCALE", default_value = "small", hide_possible_values = true)]
    pub scale: Scale,
    /// The net that tables compare with [default: ResNet-50, or of other presets the largest net with
    /// 0.27 of MAX's compute]
    #[arg(long, value_name = "ID")]
    pub reference: Option<Named>,
    /// Seeds of pre-training, from --seed on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub seeds: u64,
    /// Fit all into so much time, say 2h: pre-training gets as many steps as that leaves, the same for
    /// all
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub time: Option<Duration>,
    /// Only say what would be done, and how long it takes by a few timed steps of each kind
    #[arg(long)]
    pub plan: bool,
    /// Go on with the study in --out: what is there is not done again
    #[arg(long)]
    pub resume: bool,
    /// Settings of pre-training, such as train.batch=64; finetune.… of fine-tuning, det.… of detection,
    /// seg.… of segmentation; preset=NAME
    #[arg(value_name = "KEY=VALUE")]
    pub words: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  engine study --data train/ --test-data test/ --out study/ --plan
  engine study --data train/ --test-data test/ --out study/ --tables t2,f3 \\
    --time 2h
  engine study --data train/ --test-data test/ --out study/ --resume \\
    --domain night=night/ --transfer signs=signs/train,signs/test
  engine study --data train/ --test-data test/ --out study/ --resume \\
    --boxes coco=coco#train2017,coco#val2017 --tables t3
  engine study --data photos/ --out study/ --pixels roads=roads#train,roads#test
docs/study.md says what each table is.";

/// `NAME=TRAIN,TEST`.
fn transfer(text: &str) -> Result<(String, String, String), String> {
    let (name, paths) = domain(text)?;
    match paths.split_once(',') {
        Some((train, test)) if !train.is_empty() && !test.is_empty() => {
            Ok((name, train.to_owned(), test.to_owned()))
        }
        _ => Err("expected NAME=TRAIN,TEST, such as signs=signs/train,signs/test".into()),
    }
}

/// `NAME=PATH`.
fn domain(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.to_owned()))
        }
        _ => Err("expected NAME=PATH, such as night=images/night".into()),
    }
}

impl StudyArgs {
    fn request(&self, globals: &Globals) -> Result<Request> {
        let split = |values: &[String]| -> (Vec<String>, Vec<String>) {
            values.iter().cloned().partition(|value| !is_word(value))
        };
        let ((data, mut words), (test_data, more)) = (split(&self.data), split(&self.test_data));
        if data.is_empty() || (test_data.is_empty() && !self.test_data.is_empty()) {
            return Err(Error::usage("--data and --test-data: expected at least one path"));
        }
        words.extend(more);
        words.extend(self.words.iter().cloned());
        let device = &globals.device;
        let precision = device.precision.iter().flat_map(|p| ["--precision".into(), p.to_string()]);
        let mut quiet_flags = vec!["--device".to_owned(), device.device.to_string()];
        quiet_flags.extend(["--threads".to_owned(), device.threads.to_string()]);
        Ok(Request {
            data,
            test_data,
            out: self.out.clone(),
            tables: self.tables.clone(),
            transfers: self.transfer.clone(),
            domains: self.domain.clone(),
            boxes: self.boxes.clone(),
            pixels: self.pixels.clone(),
            scale: self.scale,
            reference: self.reference,
            seeds: self.seeds,
            seed: globals.seed(),
            seconds: self.time.map(|time| time.as_secs_f64()),
            resume: self.resume,
            words,
            flags: precision.collect(),
            quiet_flags,
        })
    }
}

/// Studies, or plans to. Exit 4 at the end where a cell diverged or collapsed.
pub fn run(args: &StudyArgs, globals: &Globals) -> Result<()> {
    let request = args.request(globals)?;
    let signals = Signals::listen()?;
    if args.plan {
        let plan = study::plan(&request, signals)?;
        return if globals.json { print_json(&plan) } else { print(&plan.text()) };
    }
    let study = study::run(&request, signals, |out, study| report::study(out, study).map(drop))?;
    match globals.json {
        true => print_json(&study)?,
        false => print(&text(&study, &request.out))?,
    }
    match &study.failed()[..] {
        [] => Ok(()),
        failed => {
            let names: Vec<&str> = failed.iter().map(|cell| cell.name.as_str()).collect();
            Err(Error::new(
                Kind::Diverged,
                format!(
                    "{} of {} cells diverged or collapsed, and stand as entries in the tables: {}",
                    failed.len(),
                    study.cells.len(),
                    names.join(", ")
                ),
            ))
        }
    }
}

/// All tables as text.
fn text(study: &Study, out: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for made in &study.tables {
        let columns = made.rows.iter().flat_map(|row| row.ours.keys()).fold(
            Vec::new(),
            |mut all: Vec<&String>, key| {
                if !all.contains(&key) {
                    all.push(key);
                }
                all
            },
        );
        let head = ["", "paper"].into_iter().chain(columns.iter().map(|c| c.as_str()));
        let mut rows = vec![head.map(str::to_owned).collect::<Vec<_>>()];
        rows.extend(made.rows.iter().map(|row| line(row, &columns)));
        parts.push(format!("{}  {}\n{}", made.table.to_uppercase(), made.title, table(&rows)));
    }
    let seconds = study.cells.iter().map(|cell| cell.seconds).sum();
    parts.push(format!("{} cells, {} in all", study.cells.len(), human_duration(seconds)));
    parts.extend(study.left_out.iter().cloned());
    parts.push(format!("A page to look at: {}", out.join("report.html").display()));
    parts.join("\n")
}

fn line(row: &Row, columns: &[&String]) -> Vec<String> {
    let number = |value: Option<&serde_json::Value>| {
        value.and_then(serde_json::Value::as_f64).map_or(String::new(), |v| match v {
            v if v.abs() >= 1e5 => crate::space::budget::si(v as u64),
            v if v.fract() == 0.0 && v.abs() > 1.0 => format!("{v:.0}"),
            v => format!("{v:.3}"),
        })
    };
    let mut cells = vec![row.name.clone(), number(row.paper.values().next())];
    cells.extend(columns.iter().map(|column| number(row.ours.get(*column))));
    if let Some(note) = &row.note {
        cells[0] = format!("{} ({note})", cells[0]);
    }
    cells
}
