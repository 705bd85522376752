//! Weights that a run starts from: torchvision-named tensors of a checkpoint, an export or any
//! other safetensors file, put into the first channels and first blocks of the supernet. What is
//! smaller than the supernet's tensor fills its leading slice, and the rest keeps its fresh
//! initialisation; what does not fit or has no place is said.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::objective::Objective;
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::files::{self, Entry, Named};
use crate::nn::{CLASSIFIER, Params, dense};

/// Names that a message lists, at most.
const SHOWN: usize = 5;

/// What a run started from: `init` in `state.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The file.
    pub path: PathBuf,
    /// Its BLAKE3.
    pub blake3: String,
}

/// Weights to start from.
pub(super) struct Init {
    pub(super) origin: Origin,
    named: Named,
    /// Tensors that hold no real numbers.
    unread: Vec<String>,
}

/// What came of them.
#[derive(Default)]
struct Filled {
    /// Whether larger tensors give their first channels.
    cuts: bool,
    whole: usize,
    /// Larger tensors that did.
    cut: usize,
    partly: usize,
    /// Tensors of the supernet that kept their fresh values.
    fresh: Vec<String>,
    /// Tensors that are larger than the supernet's, or of another kind.
    too_large: Vec<String>,
    /// Tensors that the supernet has not.
    no_place: Vec<String>,
    /// Running statistics of batch norms.
    statistics: usize,
}

impl Init {
    /// Reads the weights at `path`: a safetensors file, the folder of an export, or the folder of
    /// a checkpoint or run, of which the (newest) student is taken, as search, evaluation and
    /// export do.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where nothing of the kind is there or the file is damaged.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = find(path)?;
        let (named, unread) = files::read_weights(&file)?;
        Ok(Self { origin: Origin { blake3: files::hash(&file)?, path: file }, named, unread })
    }

    /// Puts the weights into what is freshly initialised: all of it, or, in a `tuning`, all but the
    /// classifier, from larger tensors too where that says true. Gives what the log is to say.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where no tensor fits, or one holds a value that is not finite.
    pub(super) fn fill(
        &self,
        cx: &Cx,
        it: &mut dyn Objective,
        tuning: Option<bool>,
    ) -> Result<Vec<String>> {
        let mut filled = Filled { cuts: tuning == Some(true), ..Filled::default() };
        let mut entries = it.params().to_torch(cx)?;
        // Another task's classes are no beginning for these.
        let own = |name: &str| tuning.is_some() && is_of_classifier(name);
        for entry in &mut entries {
            match own(&entry.0) {
                true => filled.fresh.push(entry.0.clone()),
                false => filled.put(entry, &self.named),
            }
        }
        let has_place = |name: &&String| entries.iter().any(|(own, ..)| own == *name);
        for name in self.named.keys().chain(&self.unread).filter(|name| !has_place(name)) {
            match is_statistic(name) {
                true => filled.statistics += 1,
                false => filled.no_place.push(name.clone()),
            }
        }
        if filled.whole + filled.partly + filled.cut == 0 {
            return Err(self.nothing_fits(&filled, &entries));
        }
        if let Some((name, ..)) =
            entries.iter().find(|(.., values)| values.iter().any(|v| !v.is_finite()))
        {
            return Err(Error::data(format!(
                "--init {}: expected finite weights, found NaN or infinity in {name}: the run that \
                 made them had diverged, or the file is damaged; take an earlier checkpoint",
                self.origin.path.display()
            )));
        }
        let specs = it.net().specs().to_vec();
        let named: Named =
            entries.into_iter().map(|(name, shape, values)| (name, (shape, values))).collect();
        let origin = self.origin.path.display().to_string();
        it.start_from(cx, Params::from_torch(cx, &specs, &named, &origin)?)?;
        Ok(filled.lines(&self.origin))
    }

    fn nothing_fits(&self, filled: &Filled, own: &[Entry]) -> Error {
        let names: Vec<String> = self.named.keys().chain(&self.unread).cloned().collect();
        let expected: Vec<String> = own.iter().map(|(name, ..)| name.clone()).collect();
        let large = match filled.too_large.is_empty() {
            true => String::new(),
            false => format!("; larger than the supernet's: {}", list(&filled.too_large)),
        };
        Error::data(format!(
            "--init {}: none of its {} tensor(s) fits the supernet: expected torchvision's names \
             ({}), found {}{large}; rename the tensors, or leave out --init",
            self.origin.path.display(),
            names.len(),
            list(&expected),
            list(&names)
        ))
    }
}

/// The file of weights that a path stands for.
fn find(path: &Path) -> Result<PathBuf> {
    let weights = path.join(files::EXPORTED_WEIGHTS);
    // What is no regular file is refused when it is read.
    if path.exists() && !path.is_dir() {
        Ok(path.to_path_buf())
    } else if weights.is_file() {
        Ok(weights)
    } else if path.is_dir() {
        let found = Checkpoint::open(path).map_err(|e| {
            e.context(format!(
                "--init {}: expected a safetensors file, the folder of an export ({}), a \
                 checkpoint or a run",
                path.display(),
                files::EXPORTED_WEIGHTS
            ))
        })?;
        found.verified("student")
    } else {
        Err(Error::data(format!(
            "--init {}: nothing is there; expected a safetensors file, or the folder of an \
             export, a checkpoint or a run",
            path.display()
        )))
    }
}

fn is_statistic(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    ["running_mean", "running_var", "num_batches_tracked"].contains(&last)
}

fn is_of_classifier(name: &str) -> bool {
    let layer = name.rsplit_once('.').map_or(name, |(layer, _)| layer);
    layer == CLASSIFIER || dense::CLASSIFIERS.contains(&layer)
}

/// Whether a tensor fills a leading slice of another: no dimension is empty or, unless it may be
/// `cut`, larger, and the windows of convolutions (the dimensions behind the first two) are the same.
fn fits(given: &[usize], own: &[usize], cut: bool) -> bool {
    given.len() == own.len()
        && given.iter().zip(own).all(|(g, o)| 1 <= *g && (cut || g <= o))
        && given.iter().zip(own).skip(2).all(|(g, o)| g == o)
}

impl Filled {
    /// Puts the tensor of the same name, if there is one that fits, into the first channels.
    fn put(&mut self, (name, shape, values): &mut Entry, named: &Named) {
        let Some((given, from)) = named.get(name) else {
            self.fresh.push(name.clone());
            return;
        };
        if !fits(given, shape, self.cuts) {
            self.too_large.push(format!("{name} {given:?} (here {shape:?})"));
            self.fresh.push(name.clone());
            return;
        }
        if given == shape {
            self.whole += 1;
        } else if fits(given, shape, false) {
            self.partly += 1;
        } else {
            self.cut += 1;
        }
        // Rows of inputs, each with its window.
        let window: usize = shape.iter().skip(2).product();
        let row = |shape: &[usize]| shape.get(1).copied().unwrap_or(1) * window;
        let (given, own) = (row(given), row(shape));
        let both = given.min(own);
        for (from, to) in from.chunks_exact(given).zip(values.chunks_exact_mut(own)) {
            to[..both].copy_from_slice(&from[..both]);
        }
    }

    fn lines(&self, origin: &Origin) -> Vec<String> {
        let cut = match self.cut {
            0 => String::new(),
            cut => format!("{cut} from the first channels of larger ones, "),
        };
        let mut lines = vec![format!(
            "weights to start from: {} (BLAKE3 {}); {} tensor(s) filled whole, {cut}{} in their first \
             channels, {} left as initialised",
            origin.path.display(),
            origin.blake3,
            self.whole,
            self.partly,
            self.fresh.len()
        )];
        let mut say = |what: &str, names: &[String]| {
            if !names.is_empty() {
                lines.push(format!("--init: {} {what}: {}", names.len(), list(names)));
            }
        };
        say("tensor(s) are left as initialised", &self.fresh);
        say("tensor(s) do not fit", &self.too_large);
        say("tensor(s) have no place in the net", &self.no_place);
        if self.statistics > 0 {
            lines.push(format!(
                "--init: {} running statistic(s) of batch norms are ignored: they are computed again",
                self.statistics
            ));
        }
        lines
    }
}

/// The first names.
fn list(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "none".into(),
        n if n > SHOWN => format!("{shown} and {} more", n - SHOWN),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::space::Space;
    use crate::ssl::Begin;
    use crate::train::objective::Setup;
    use crate::train::pretrain::Pretrain;

    fn pretrain(cx: &Cx) -> Pretrain {
        let mut config = Config::for_preset("tiny").unwrap();
        (config.moco.hidden, config.moco.dim, config.moco.queue) = (16, 8, 10);
        config.moco.head_norm = false;
        let space = &Space::preset("tiny").unwrap();
        let setup = Setup { config: &config, space, classes: 0, begin: Begin::Seeded };
        Pretrain::new(cx, &setup).unwrap()
    }

    fn init(tensors: &[Entry]) -> Init {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        files::write_safetensors(&path, tensors, &[]).unwrap();
        Init::open(&path).unwrap()
    }

    #[test]
    fn smaller_tensors_fill_the_first_channels() {
        let cx = Cx::for_tests();
        let mut it = pretrain(&cx);
        let fresh = it.student.to_torch(&cx).unwrap();
        let tensor = |name: &str, shape: &[usize]| -> Entry {
            let n = shape.iter().product::<usize>();
            (name.into(), shape.to_vec(), (0..n).map(|i| 100.0 + i as f32).collect())
        };
        let given = [
            tensor("conv1.weight", &[2, 3, 3, 3]),
            tensor("layer1.0.conv1.weight", &[3, 2, 1, 1]),
            tensor("bn1.weight", &[2]),
            tensor("head.2.bias", &[8]),
            tensor("bn1.running_mean", &[2]),
            tensor("layer1.0.conv2.weight", &[2, 2, 5, 5]),
            tensor("bn1.bias", &[4096]),
            tensor("fc.weight", &[10, 2]),
        ];
        let said = init(&given).fill(&cx, &mut it, None).unwrap().join("\n");
        for part in [
            "1 tensor(s) filled whole, 3 in their first channels",
            "2 tensor(s) do not fit: bn1.bias [4096] (here [",
            "1 tensor(s) have no place in the net: fc.weight",
            "1 running statistic(s)",
        ] {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
        let filled = it.student.to_torch(&cx).unwrap();
        for ((name, shape, now), (_, _, before)) in filled.iter().zip(&fresh) {
            let of = given.iter().take(4).find(|(n, ..)| n == name);
            for (i, (now, before)) in now.iter().zip(before).enumerate() {
                // Index in each dimension, then in the given tensor where it lies in that.
                let mut rest = i;
                let mut at = vec![0; shape.len()];
                for (at, n) in at.iter_mut().zip(shape).rev() {
                    (*at, rest) = (rest % n, rest / n);
                }
                let inside = of.filter(|(_, s, _)| at.iter().zip(s).all(|(a, n)| a < n));
                let expected = inside.map_or(*before, |(_, s, values)| {
                    values[at.iter().zip(s).fold(0, |i, (a, n)| i * n + a)]
                });
                assert_eq!(*now, expected, "{name} {at:?}");
            }
        }
        assert_eq!(it.teacher.to_torch(&cx).unwrap(), filled);
    }

    #[test]
    fn nothing_that_fits_is_an_error() {
        let cx = Cx::for_tests();
        let mut it = pretrain(&cx);
        let other = [
            ("encoder.stem.weight".to_owned(), vec![2], vec![0.0; 2]),
            ("bn1.bias".to_owned(), vec![512], vec![0.0; 512]),
        ];
        let err = init(&other).fill(&cx, &mut it, None).unwrap_err();
        assert_eq!(err.kind(), crate::Kind::Data);
        let said = err.to_string();
        for part in ["conv1.weight", "encoder.stem.weight", "bn1.bias [512]"] {
            assert!(said.contains(part), "{said}");
        }
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_path_buf(), dir.path().join("nothing")] {
            let err = Init::open(&path).err().unwrap();
            assert_eq!(err.kind(), crate::Kind::Data);
            assert!(err.to_string().contains("expected a safetensors file"), "{err}");
        }
    }
}
