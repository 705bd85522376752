//! The commands that export and evaluate a net which a chart shows.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::run::{files_with, json};
use crate::error::Result;
use crate::eval::record::Split;
use crate::outside::in_shell;

/// Commands for a net; the page's script puts other nets in its place.
#[derive(Serialize)]
pub(super) struct Commands {
    arch: String,
    lines: Vec<String>,
}

/// The images of an evaluation.
#[derive(Deserialize)]
struct Sides {
    train: Split,
    test: Split,
}

impl Commands {
    /// For a net of the run in `run`, of which `data` are the images that it was searched or
    /// evaluated on. Labelled images are those of an evaluation of the run, one that learnt from
    /// `data` if there is one; without any, words stand in their places.
    pub(super) fn new(run: &Path, arch: String, data: &[String]) -> Result<Self> {
        let mut found: Option<Sides> = None;
        for path in files_with(&run.join("eval"), "json")? {
            let Ok(sides) = serde_json::from_value::<Sides>(json(&path)?) else { continue };
            if found.is_none() || sides.train.data == data {
                found = Some(sides);
            }
        }
        let (train, test) = found.map_or_else(
            || (vec!["TRAIN".to_owned()], vec!["TEST".to_owned()]),
            |sides| (sides.train.data, sides.test.data),
        );
        let data = if data.is_empty() { &train[..] } else { data };
        let net = ["--ckpt".to_owned(), in_words(run), "--arch".to_owned(), arch.clone()];
        let export = [option("--bn-data", data), option("--out", std::slice::from_ref(&arch))];
        let eval = [option("--data", &train), option("--test-data", &test)];
        let line = |verb: &str, options: &[Vec<String>; 2]| {
            in_shell(verb.split(' ').map(str::to_owned).chain(net.clone()).chain(options.concat()))
        };
        let lines = vec![line("engine export", &export), line("engine eval knn", &eval)];
        Ok(Self { arch, lines })
    }
}

fn option(name: &str, values: &[String]) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(values.iter().cloned()).collect()
}

/// A folder as a command names it.
pub(super) fn in_words(dir: &Path) -> String {
    if dir.as_os_str().is_empty() { ".".into() } else { dir.display().to_string() }
}

/// The run that a search's folder lies in; none where it lies elsewhere.
pub(super) fn run_of(search: &Path) -> Option<PathBuf> {
    let above = |dir: &Path| Some(dir.parent()?.parent()?.to_path_buf());
    let is_run = |dir: &PathBuf| dir.join("config.toml").is_file();
    let given = above(search).filter(is_run);
    given.or_else(|| above(&search.canonicalize().ok()?).filter(is_run))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn paths_are_quoted_and_labelled_images_found() {
        let dir = tempfile::tempdir().unwrap();
        let eval = dir.path().join("a run/eval");
        fs::create_dir_all(&eval).unwrap();
        let net = || "s8-w8".to_owned();
        let new = |data: &[String]| Commands::new(&dir.path().join("a run"), net(), data).unwrap();
        let data = ["my images".to_owned()];
        assert!(new(&data).lines[1].ends_with("--arch s8-w8 --data TRAIN --test-data TEST"));
        for (name, train) in [("a", "other"), ("b", "my images"), ("c", "third")] {
            let of = |data: &str| serde_json::json!({ "data": [data], "images": 9 });
            let text = serde_json::json!({ "train": of(train), "test": of(name) }).to_string();
            fs::write(eval.join(format!("{name}.json")), text).unwrap();
        }
        let lines = new(&data).lines;
        let run = format!("--ckpt '{}/a run'", dir.path().display());
        assert_eq!(
            lines,
            [
                format!("engine export {run} --arch s8-w8 --bn-data 'my images' --out s8-w8"),
                format!("engine eval knn {run} --arch s8-w8 --data 'my images' --test-data b"),
            ]
        );
        assert!(new(&[]).lines[0].ends_with("--bn-data other --out s8-w8"));
    }
}
