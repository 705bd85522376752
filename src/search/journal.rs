//! What a search has found so far, on disk: a search that was killed goes on where it was,
//! and ends with the same files as one that was not.
//!
//! ```text
//! search.json       the settings; a search goes on only with the same ones
//! teacher.json      whether the teacher can rank anything, from before the first candidate
//! candidates.jsonl  a line a candidate, flushed as soon as it is scored
//! scores.f64        for each line, the scores of all images, 64-bit little-endian, and the
//!                   BLAKE3 of the line and of them
//! winners.json      written at the end
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Settings, latency, teacher};
use crate::error::{Error, Kind, Result};
use crate::files::owned::Kind as FolderKind;
use crate::files::{self, disk, sealed};
use crate::space::Arch;

/// The file by which a search's folder is known.
pub const SETTINGS: &str = "search.json";
const CANDIDATES: &str = "candidates.jsonl";
const SCORES: &str = "scores.f64";
pub(super) const WINNERS: &str = "winners.json";

/// One line of `candidates.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Architecture.
    pub arch: Arch,
    /// Multiply-accumulates of the backbone's convolutions for one image.
    pub macs: u64,
    /// Parameters of the backbone, convolutions and batch norms.
    pub params: u64,
    /// Milliseconds of a forward pass of one image, stem to C5; only in a search by latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// Similarity to the teacher, higher is better: the sum over the levels.
    pub score: f64,
    /// Similarity of each feature.
    pub levels: BTreeMap<String, f64>,
    /// 95 % confidence interval of the score, by bootstrap over the search images: of the mean
    /// score that more such images would give, not of accuracy.
    pub ci95: [f64; 2],
    /// Images it was scored on.
    pub images: usize,
    /// Images that its batch norm statistics were computed from; 0 with batch statistics.
    pub bn_images: usize,
    /// Training step of the checkpoint.
    pub teacher_step: u64,
}

/// A candidate and its score on each image.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Its line.
    pub candidate: Candidate,
    /// Scores per image, in the images' order.
    pub scores: Vec<f64>,
}

/// A search's folder as [`crate::files::owned`] sees it.
pub static SEARCH: FolderKind = FolderKind {
    name: "search",
    ours: &[&[
        SETTINGS,
        teacher::FILE,
        CANDIDATES,
        SCORES,
        latency::FILE,
        WINNERS,
        "agreement.json",
        "report.html",
    ]],
    flags: "--resume to go on with the search in it, --overwrite to replace it",
    is_older: |root| root.join(SETTINGS).is_file(),
};

/// A search's folder.
pub struct Journal {
    dir: PathBuf,
    candidates: File,
    scores: File,
}

impl Journal {
    /// Begins in a folder that holds no search.
    pub fn create(dir: &Path, settings: &Settings) -> Result<Self> {
        sealed::write_json(&dir.join(SETTINGS), settings)?;
        Self::open(dir)
    }

    /// Goes on in the folder of a search with the same settings; returns what it has found.
    /// What was being written when it ended is dropped, and so is everything from the first
    /// damaged line or score on, with a warning: it is computed again.
    ///
    /// # Errors
    /// [`Kind::Resume`] where the folder holds no search or one with other settings.
    pub fn resume(dir: &Path, settings: &Settings) -> Result<(Self, Vec<Scored>)> {
        check_settings(dir, settings)?;
        let (done, bytes) = read(dir, settings.images)?;
        let journal = Self::open(dir)?;
        let score_bytes = (done.len() * record_bytes(settings.images)) as u64;
        for (file, name, len) in
            [(&journal.candidates, CANDIDATES, bytes), (&journal.scores, SCORES, score_bytes)]
        {
            let path = dir.join(name);
            if file.metadata().map_err(|e| Error::read(&path, e))?.len() != len {
                disk::set_len(file, &path, len).map_err(|e| Error::write(&path, e))?;
            }
        }
        Ok((journal, done))
    }

    fn open(dir: &Path) -> Result<Self> {
        let open = |name: &str| {
            let path = dir.join(name);
            disk::append(&path).map_err(|e| Error::write(&path, files::disk_hint(&e)))
        };
        Ok(Self { dir: dir.to_path_buf(), candidates: open(CANDIDATES)?, scores: open(SCORES)? })
    }

    /// Appends a candidate: its scores, then its line, which makes it count.
    pub fn append(&mut self, scored: &Scored) -> Result<()> {
        let path = |name: &str| self.dir.join(name);
        let fail = |name: &str, e: std::io::Error| Error::write(&path(name), files::disk_hint(&e));
        let line = serde_json::to_string(&scored.candidate)
            .map_err(|e| fail(CANDIDATES, e.into()))?
            + "\n";
        let mut scores: Vec<u8> = scored.scores.iter().flat_map(|s| s.to_le_bytes()).collect();
        scores.extend(digest(line.as_bytes(), &scores));
        disk::write_all(&self.scores, &path(SCORES), &scores).map_err(|e| fail(SCORES, e))?;
        disk::write_all(&self.candidates, &path(CANDIDATES), line.as_bytes())
            .map_err(|e| fail(CANDIDATES, e))
    }

    /// Makes the candidates last and writes `winners.json`.
    pub fn finish(&self, winners: &impl Serialize) -> Result<()> {
        for (file, name) in [(&self.scores, SCORES), (&self.candidates, CANDIDATES)] {
            let path = self.dir.join(name);
            disk::sync(file, &path).map_err(|e| Error::write(&path, files::disk_hint(&e)))?;
        }
        files::write_json(&self.dir.join(WINNERS), winners)
    }
}

const DIGEST_BYTES: usize = 32;

/// What follows a candidate's scores: the BLAKE3 of its line and of them.
fn digest(line: &[u8], scores: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(line).update(scores);
    *hasher.finalize().as_bytes()
}

/// The complete lines of a `candidates.jsonl`; a half-written last line is left out.
pub fn read_candidates(path: &Path) -> Result<Vec<Candidate>> {
    let text = files::read(path)?;
    let candidate = |(i, line): (usize, &[u8])| {
        serde_json::from_slice(line).map_err(|e| {
            Error::data(format!(
                "{}, line {}: not a candidate ({e}); remove the line or search again with \
                 --overwrite",
                path.display(),
                i + 1
            ))
        })
    };
    files::whole_lines(&text).enumerate().map(candidate).collect()
}

/// What the search in a folder has found, with the scores of all images.
///
/// # Errors
/// [`Kind::Data`] where its files cannot be read.
pub fn read_scored(dir: &Path) -> Result<Vec<Scored>> {
    let images = read_candidates(&dir.join(CANDIDATES))?.first().map_or(0, |c| c.images);
    Ok(read(dir, images)?.0)
}

/// What a folder's search has found, and how many bytes of `candidates.jsonl` say so: the lines
/// before the first that is damaged, or whose scores are.
fn read(dir: &Path, images: usize) -> Result<(Vec<Scored>, u64)> {
    let (lines, path) = (dir.join(CANDIDATES), dir.join(SCORES));
    if !lines.exists() || !path.exists() {
        return Ok((Vec::new(), 0));
    }
    let text = files::read(&lines)?;
    let bytes = files::read_large(&path)?;
    let mut records = bytes.chunks_exact(record_bytes(images));
    let mut end = 0;
    let mut done = Vec::new();
    for (i, line) in files::whole_lines(&text).enumerate() {
        let sealed = records.next().and_then(|record| {
            let (scores, seal) = record.split_at(images * 8);
            (seal == digest(line, scores)).then_some(scores)
        });
        let candidate = serde_json::from_slice(line).ok();
        let Some((candidate, scores)) = candidate.zip(sealed) else {
            tracing::warn!(
                "{}, line {} or its scores in {SCORES} are damaged: computed again from there on",
                lines.display(),
                i + 1
            );
            break;
        };
        let score = |b: &[u8]| f64::from_le_bytes(std::array::from_fn(|i| b[i]));
        done.push(Scored { candidate, scores: scores.chunks_exact(8).map(score).collect() });
        end += line.len() as u64;
    }
    Ok((done, end))
}

/// Bytes of a candidate in `scores.f64`.
fn record_bytes(images: usize) -> usize {
    images * 8 + DIGEST_BYTES
}

/// Settings that are digests, of which people can read nothing.
const DIGESTS: [(&str, &str); 2] =
    [("candidates", "other candidates (--samples, --arch, --seed)"), ("digest", "other images")];

fn check_settings(dir: &Path, settings: &Settings) -> Result<()> {
    let path = dir.join(SETTINGS);
    if !path.exists() {
        return Err(Error::new(
            Kind::Resume,
            format!(
                "{} holds no search to go on with (no {SETTINGS}); leave out --resume",
                dir.display()
            ),
        ));
    }
    let mut found: serde_json::Map<String, serde_json::Value> =
        sealed::read_json(&path).map_err(|e| e.and("search again with --overwrite"))?;
    found.remove(sealed::FIELD);
    let wanted = serde_json::to_value(settings).map_err(|e| Error::read(&path, e))?;
    let wanted = wanted.as_object().cloned().unwrap_or_default();
    let differs = |key: &&String| found.get(*key) != wanted.get(*key);
    let different: Vec<&String> = wanted.keys().chain(found.keys()).filter(differs).collect();
    let show = |v: Option<&serde_json::Value>| v.map_or("nothing".into(), |v| v.to_string());
    let in_words = |key: &str| DIGESTS.iter().find(|(digest, _)| *digest == key).map(|d| d.1);
    let readable = different.iter().find(|key| in_words(key).is_none());
    let then = match readable.or(different.first()) {
        None => return Ok(()),
        Some(key) => match in_words(key) {
            Some(words) => words.to_owned(),
            None => {
                format!("{key} = {}, now it is {}", show(found.get(*key)), show(wanted.get(*key)))
            }
        },
    };
    Err(Error::new(
        Kind::Resume,
        format!(
            "the search in {} was started with {then}; use the same, or --overwrite, or another \
             --out",
            dir.display()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::RUN;

    #[test]
    fn a_search_inside_a_run_is_the_runs() {
        for name in SEARCH.ours[0] {
            assert!(RUN.owns(&format!("search/cls-x/{name}")), "{name}");
        }
    }
}
