//! A study's folder: cells are made in it, and found again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::cells::{Cell, Made, Maker, RUN, Record};
use super::child::Program;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::files::owned::{Existing, Kind as FolderKind, MARK, Owned};
use crate::outside::{in_shell, printable};

/// The folder of all cells.
pub const CELLS: &str = "cells";
const RECORD: &str = "cell.json";
/// What a cell's command printed.
const RESULT: &str = "result.json";
/// Written last: the cell is complete.
const DONE: &str = "DONE";

/// A study's folder as [`crate::files::owned`] sees it. What commands write inside is theirs.
pub static STUDY: FolderKind = FolderKind {
    name: "study",
    ours: &[&[
        "study.json",
        "report.html",
        "tables/*.json",
        "tables/*.csv",
        "cells/*/cell.json",
        "cells/*/result.json",
        "cells/*/printed.json",
        "cells/*/log",
        "cells/*/DONE",
    ]],
    flags: "--resume to go on with the study in it",
    is_older: |_| false,
};

/// Makes cells in a folder.
pub struct Folder {
    root: PathBuf,
    program: Program,
    /// Cells to make in all, for the log.
    expected: usize,
    made: RefCell<BTreeMap<String, (Record, Made)>>,
    _owned: Owned,
}

impl Folder {
    /// Takes the folder.
    ///
    /// # Errors
    /// [`Kind::Usage`] where it holds something and `resume` is not given.
    pub fn claim(root: &Path, resume: bool, program: Program) -> Result<Self> {
        let existing = if resume { Existing::Continue } else { Existing::Refuse };
        let owned = Owned::claim(root, &STUDY, existing)?;
        Ok(Self {
            root: root.to_path_buf(),
            program,
            expected: 0,
            made: RefCell::default(),
            _owned: owned,
        })
    }

    /// The same, with the number of cells that will be made as far as that is known.
    pub fn expecting(self, cells: usize) -> Self {
        Self { expected: cells, ..self }
    }

    /// What came of all cells of this study, by name.
    pub fn records(&self) -> Vec<Record> {
        self.made.borrow().values().map(|(record, _)| record.clone()).collect()
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.join(CELLS).join(name)
    }

    /// A cell that is complete.
    fn find(&self, name: &str) -> Result<Option<(Record, Made)>> {
        let dir = self.dir(name);
        if !dir.join(DONE).exists() {
            return Ok(None);
        }
        let record: Record = files::read_json(&dir.join(RECORD))?;
        let result = match &record.reason {
            Some(reason) => Err(reason.clone()),
            None => Ok(files::read_json::<Value>(&dir.join(RESULT))?),
        };
        Ok(Some((record, Made { name: name.to_owned(), dir, result })))
    }

    /// Runs a cell's command.
    fn run(&self, cell: &Cell, name: &str) -> Result<(Record, Made)> {
        let dir = self.dir(name);
        files::create_dir(&dir)?;
        let mut arguments = cell.arguments();
        let command = in_words(&arguments);
        let number = self.made.borrow().len() + 1;
        tracing::info!("cell {number} of {}, {name}: {command}", self.expected.max(number));
        let earlier = match dir.join(RECORD).exists() {
            true => files::read_json::<Record>(&dir.join(RECORD)).map_or(0.0, |r| r.seconds),
            false => 0.0,
        };
        if dir.join(RUN).join(MARK).exists() {
            // It was stopped or killed.
            arguments.push("--resume".into());
        }
        let ended = self.program.run(&dir, &arguments)?;
        let failed = ended.code != 0;
        let record = Record {
            name: name.to_owned(),
            kind: cell.kind,
            command: command.clone(),
            parents: cell.parents().map(str::to_owned).collect(),
            exit_code: ended.code,
            seconds: earlier + ended.seconds,
            reason: failed.then(|| ended.last_words.clone()),
        };
        files::write_json(&dir.join(RECORD), &record)?;
        let result = match ended.code {
            0 => {
                let value: Value = serde_json::from_slice(&ended.printed).map_err(|e| {
                    Error::data(format!("{command}: what it printed is not JSON: {e}"))
                })?;
                files::write_json(&dir.join(RESULT), &value)?;
                Ok(value)
            }
            code if code == Kind::Diverged.exit_code() => {
                tracing::warn!("{name}: {}; the study goes on without it", ended.last_words);
                Err(ended.last_words)
            }
            code => {
                return Err(Error::new(
                    Kind::of_exit_code(code),
                    format!(
                        "{}; that is what `{command}` said in {}; --resume tries it again",
                        ended.last_words,
                        printable(&dir)
                    ),
                ));
            }
        };
        files::write_text(&dir.join(DONE), "")?;
        Ok((record, Made { name: name.to_owned(), dir, result }))
    }
}

impl Maker for Folder {
    fn make(&self, cell: &Cell) -> Result<Made> {
        let name = cell.name();
        if let Some((_, made)) = self.made.borrow().get(&name) {
            return Ok(made.clone());
        }
        let found = match self.find(&name)? {
            Some(found) => found,
            None => self.run(cell, &name)?,
        };
        let made = found.1.clone();
        self.made.borrow_mut().insert(name, found);
        Ok(made)
    }

    fn is_plan(&self) -> bool {
        false
    }
}

/// A command as a shell takes it.
pub fn in_words(arguments: &[String]) -> String {
    in_shell(std::iter::once("engine".to_owned()).chain(arguments.iter().cloned()))
}
