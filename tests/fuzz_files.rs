//! Readers of our own files, given valid ones that were changed at random, with the digest taken
//! out so that what lies behind it is tried as well: no panic, no more memory than a file of that
//! size is worth, and a value or an error of exit code 2, 3 or 6. See `tests/common/fuzz.rs`.

mod common;
mod tiny_run;

use std::fs;
use std::path::Path;

use common::fuzz::{Answer, Counting, Fuzz};
use common::{expect, images, s};
use engine::config::{read_file, resolve};
use engine::cx::Cx;
use engine::space::{Block, Space, presets};
use engine::train::Checkpoint;
use engine::{Result, export, files, search};

#[global_allocator]
static COUNTING: Counting = Counting;

/// What an error or a small value may take beside the file.
const BESIDE_BYTES: u64 = 4 << 20;

/// Writes each input to `path` and reads it.
fn fuzz(name: &str, path: &Path, seeds: Vec<Vec<u8>>, read: impl Fn() -> Result<()>) {
    let longest = seeds.iter().map(Vec::len).max().unwrap_or(0) as u64;
    let most_bytes = 8 * longest + BESIDE_BYTES;
    Fuzz { name, seeds, inputs: 300, repair: None, most_bytes }.run(|bytes| {
        fs::write(path, bytes).unwrap();
        match read() {
            Ok(()) => Answer::Taken,
            Err(e) => {
                assert!(matches!(e.exit_code(), 2 | 3 | 6), "{e}");
                Answer::Refused(e.to_string())
            }
        }
    });
}

/// A sealed file without its digest, as earlier versions wrote it.
fn unsealed(path: &Path) -> Vec<u8> {
    let mut value: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    value.remove("blake3").unwrap();
    serde_json::to_vec_pretty(&value).unwrap()
}

#[test]
fn tensors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let tensor = |name: &str, shape: Vec<usize>| {
        let elems = shape.iter().product::<usize>();
        (name.to_owned(), shape, vec![0.5; elems])
    };
    let tensors = [tensor("conv1.weight", vec![2, 3, 3, 3]), tensor("bn1.bias", vec![5])];
    files::write_safetensors(&path, &tensors, &[("step", "7".into())]).unwrap();
    let seed = fs::read(&path).unwrap();
    fuzz("safetensors", &path, vec![seed.clone()], || files::read_safetensors(&path).map(drop));
    fuzz("weights", &path, vec![seed], || files::read_weights(&path).map(drop));
}

#[test]
fn settings() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.toml");
    let seed = resolve(&[]).unwrap().to_toml().into_bytes();
    let small =
        b"preset = \"tiny\"\n[train]\nlr = 0.5\nbatch = 64\n[ckpt]\nevery = \"5ep\"\n".to_vec();
    fuzz("config", &path, vec![seed, small], || resolve(&read_file(&path)?).map(drop));
}

#[test]
fn search_spaces() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.toml");
    let space = Space { name: "own".into(), block: Block::Basic, ..presets::tiny() };
    let whole = toml::to_string(&space).unwrap().into_bytes();
    let small =
        b"name = \"own\"\nlike = \"cifar\"\nchannels = 1\nmean = [0.4]\nstd = [0.2]\n".to_vec();
    fuzz("space", &path, vec![whole, small], || Space::preset(s(&path)).map(drop));
}

#[test]
fn checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let folder = tiny_run::write_step(&Cx::for_tests(), dir.path(), 7, [1, 2]);
    let path = folder.join("state.json");
    let read = || Checkpoint::open(&folder)?.supernet().map(drop);
    fuzz("state", &path, vec![unsealed(&path)], read);
}

#[test]
fn searches_and_exports() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 8);
    let cx = Cx::for_tests();
    tiny_run::write_step(&cx, dir.path(), 7, [1, 2]);
    let (run, found, net) = (s(dir.path()), dir.path().join("found"), dir.path().join("net"));
    let given = ["--images", "8", "--bn-images", "8"];
    let archs = ["s8-w8.16.32.64-d1.1.2.1", "s16-w16.32.64.128-d2.3.6.2"];
    let base = ["search", "--ckpt", run, "--data", s(&data), "--task", "cls", "--force"];
    let rest = ["--out", s(&found), "--arch", archs[0], archs[1]];
    expect(0, &[&base[..], &given, &rest].concat());
    let path = found.join("candidates.jsonl");
    let seed = fs::read(&path).unwrap();
    fuzz("candidates", &path, vec![seed], || search::read_candidates(&path).map(drop));
    let path = found.join("winners.json");
    let seed = fs::read(&path).unwrap();
    fuzz("winners", &path, vec![seed], || search::winners::read(&found).map(drop));

    let base = ["export", "--ckpt", run, "--arch", archs[0], "--bn-data", s(&data)];
    expect(0, &[&base[..], &["--bn-images", "8", "--out", s(&net)]].concat());
    let path = net.join("config.json");
    let read = || export::load(&cx, &net).map(drop);
    fuzz("export", &path, vec![unsealed(&path)], read);
}
