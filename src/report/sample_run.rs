//! Folders of runs that never happened, with everything that a report can show. Numbers are made
//! up; files are written by those who write them in earnest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{self, Resolved};
use crate::cx::Cx;
use crate::data::Dataset;
use crate::eval::record::{self, Net, Setup, Split};
use crate::eval::{Baselines, EvalResult, RawBaselines};
use crate::files;
use crate::files::owned::{Existing, Owned};
use crate::nn::Feature;
use crate::rng::{Philox, Purpose};
use crate::search::journal::Journal;
use crate::search::winners::rank;
use crate::search::{
    Bn, Candidate, Group, Judged, Ranking, Scored, Settings, Task, Teacher, Winners,
};
use crate::space::{Arch, Budget, Metric, Space};
use crate::train::checkpoint::tests::state;
use crate::train::checkpoint::{self, State};
use crate::train::extend::Extension;
use crate::train::folder::{Folder, RUN, Status, StepFacts};
use crate::train::health::Scatter;
use crate::train::objective::Embeddings;
use crate::train::{self, Health, Report};

/// Images that a search compared features on.
const SEARCH_IMAGES: usize = 50;
/// Step of the checkpoint that was searched and evaluated.
pub(crate) const STEP: u64 = 300;

/// The folder of a run of preset `preset`, with more settings, that has taken no step yet.
pub(crate) fn begin(dir: &Path, preset: &str, more: &[&str]) -> (Folder, Resolved) {
    let preset_word = format!("preset={preset}");
    let words = [&[preset_word.as_str(), "train.batch=128", "moco.queue=4096"], more].concat();
    let settings = words.iter().map(|word| config::word(word).unwrap());
    let resolved = config::resolve(&settings.collect::<Vec<_>>()).unwrap();
    let owned = Arc::new(Owned::claim(dir, &RUN, Existing::Refuse).unwrap());
    let folder = Folder::open(owned, 0).unwrap().0;
    let command = format!("engine train --data images --out runs/first --preset {preset}");
    folder.write_origin(&Cx::for_tests(), &resolved.to_toml(), &command).unwrap();
    (folder, resolved)
}

/// Writes a run of so many steps of preset `preset`, with examples, and two searches of about so
/// many candidates.
pub(crate) fn write(dir: &Path, preset: &str, steps: u64, candidates: usize) {
    let space = Space::preset(preset).unwrap();
    let (mut folder, resolved) = begin(dir, preset, &[]);
    metrics(&mut folder, &space, steps);
    folder.write_status(&status(steps)).unwrap();
    cut_off_a_line(dir);
    probes(dir, &space, steps);
    let images = tempfile::tempdir().unwrap();
    let dataset = images_in(images.path());
    train::examples::write(
        &dir.join("examples"),
        &dataset,
        &resolved.config.views(),
        resolved.config.seed,
        space.resolution,
    )
    .unwrap();
    if candidates > 0 {
        evaluations(&dir.join("eval"), &space);
        let search = dir.join("search");
        self::search(&search.join("cls-images"), &space, candidates, &[Feature::Z]);
        let levels = [Feature::C2, Feature::C3, Feature::C4, Feature::C5];
        self::search(&search.join("det-fpn-images"), &space, candidates / 2, &levels);
        ranking(dir, &search.join("cls-images/candidates.jsonl"));
    }
}

/// As a kill does that comes while a line is written.
fn cut_off_a_line(dir: &Path) {
    let path = dir.join("metrics.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let line = text.lines().last().unwrap_or_default();
    fs::write(path, format!("{text}{}", &line[..line.len() / 2])).unwrap();
}

/// A checkpoint of the last step of ten, which were six at first.
pub(crate) fn extended_checkpoint(dir: &Path) {
    let extended = vec![Extension { step: 6, from: 6, to: 10 }];
    let state = State { extended, ..state(10) };
    checkpoint::write(&dir.join("checkpoints"), state, &Vec::new(), 1).unwrap();
}

/// Facts of a step, which took a while and had such a verdict.
pub(crate) fn facts(step: u64, health: Health) -> StepFacts {
    StepFacts {
        step,
        epoch: step as f64 / 10.0,
        time_s: step as f64 * 0.21,
        lr: 0.06,
        images_per_s: 610.0,
        data_wait_ms: 1.0,
        device_mem_bytes: 412_000_000,
        health,
    }
}

/// A report of a step of one student, with embeddings of such a deviation.
pub(crate) fn report(arch: Arch, loss: f64, std: f64) -> Report {
    let scatter = Scatter { std, spread: std / 0.088, rank: 2.0, ..Scatter::default() };
    Report {
        loss,
        losses: vec![(arch.to_string(), loss)],
        archs: vec![arch],
        grad_norm: 1.0,
        ema: Some(0.99),
        embeddings: Some(Embeddings { student: scatter, teacher: scatter }),
        signs: Vec::new(),
        events: Vec::new(),
    }
}

fn status(steps: u64) -> Status {
    Status {
        state: "done",
        step: steps,
        steps,
        eta_s: None,
        loss: None,
        spread: None,
        rank: None,
        health: None,
        images_per_s: None,
        probe: None,
        replaced: 0,
        last_checkpoint: None,
        pid: 1,
    }
}

/// Four images of discs, written into `dir`.
fn images_in(dir: &Path) -> Dataset {
    for i in 0..4 {
        let image = image::RgbImage::from_fn(32, 32, |x, y| {
            let (x, y) = (x as f32 - 9.0, y as f32 - 14.0 - i as f32);
            let inside = (x * x + y * y).sqrt() < 5.0 + 2.0 * i as f32;
            let shade = (x * 3.0 + y * 2.0) as u8;
            image::Rgb(if inside { [230, 120 + 30 * i as u8, 60] } else { [40, shade, 150] })
        });
        image.save(dir.join(format!("{i}.png"))).unwrap();
    }
    Dataset::open(&[dir.display().to_string()]).unwrap()
}

fn random(space: &Space, rng: &mut Philox) -> Arch {
    let mut pick = |v: &[usize]| v[rng.below(v.len())];
    Arch {
        stem: pick(&space.stem.widths),
        widths: std::array::from_fn(|i| pick(&space.stages[i].widths)),
        depths: std::array::from_fn(|i| pick(&space.stages[i].depths)),
    }
}

fn metrics(folder: &mut Folder, space: &Space, steps: u64) {
    let mut rng = Philox::new(1, Purpose::Check, 0, 0);
    let top = space.cost(&space.max()).macs as f64;
    for step in 0..steps {
        let t = step as f64 / steps as f64;
        let archs = [space.max(), random(space, &mut rng), random(space, &mut rng)];
        let fall = 1.0 - (-4.0 * t).exp();
        let mut loss = |a: &Arch| {
            let small = (top / space.cost(a).macs as f64).ln();
            8.6 - 5.2 * fall + 0.18 * small * fall + 0.25 * f64::from(rng.normal())
        };
        let spread = 0.25 + 0.7 * (1.0 - (-6.0 * t).exp());
        let losses: Vec<(String, f64)> = archs.iter().map(|a| (a.to_string(), loss(a))).collect();
        let grad_norm = match step % 97 {
            5 => f64::NAN,
            _ => 2.0 + (-9.0 * t).exp() * 6.0 + f64::from(rng.uniform()),
        };
        let scatter = |spread| Scatter {
            std: 0.088 * spread,
            spread,
            rank: 40.0 * spread,
            ..Scatter::default()
        };
        let (student, teacher) = (scatter(spread), scatter(0.97 * spread));
        let report = Report {
            loss: losses.iter().map(|(_, loss)| loss).sum(),
            losses,
            archs: archs.to_vec(),
            grad_norm,
            embeddings: Some(Embeddings { student, teacher }),
            ..report(archs[0], 0.0, 0.0)
        };
        let dip = if step % 150 == 0 { 250.0 } else { 0.0 };
        let health = if spread < 0.5 { Health::Narrow } else { Health::Healthy };
        let facts = StepFacts {
            epoch: t * 10.0,
            lr: 0.06 * 0.5 * (1.0 + (std::f64::consts::PI * t).cos()),
            images_per_s: 610.0 + 14.0 * f64::from(rng.normal()) - dip,
            data_wait_ms: 1.0 + 3.0 * f64::from(rng.uniform()),
            ..facts(step, health)
        };
        folder.write_metrics(&facts, &report, None).unwrap();
    }
}

/// What `--probe` leaves; the first line is on other images.
fn probes(dir: &Path, space: &Space, steps: u64) {
    let line = |i: u64, data: &str| {
        let net = |arch, least: f64| train::probe::Net {
            arch,
            knn: Some(least + 0.04 * i as f64),
            stderr: Some(0.015),
        };
        train::probe::Line {
            step: i * steps / 10,
            epoch: i as f64,
            data: data.into(),
            images: 2000,
            k: 20,
            chance: 0.125,
            pixels: 0.41,
            nets: vec![net(space.max(), 0.27), net(space.min(), 0.2)],
        }
    };
    let path = dir.join("probe.jsonl");
    train::probe::append(&path, &line(0, "other")).unwrap();
    (0..=10).for_each(|i| train::probe::append(&path, &line(i, "labelled")).unwrap());
}

/// How nets were evaluated on one set of images.
fn setup(name: &str) -> Setup {
    let split = |part: &str, images| Split { data: vec![format!("p/{name}/{part}")], images };
    Setup {
        protocol: "knn".into(),
        features: "pool".into(),
        train: split("train", 2000),
        test: split("test", 500),
        classes: 8,
        chance: 0.125,
        chance_uniform: 0.125,
    }
}

fn raw() -> RawBaselines {
    RawBaselines {
        pixels: EvalResult::Knn(vec![0.413, 0.40]),
        histogram: EvalResult::Knn(vec![0.337, 0.33]),
        train_images: 2000,
        test_images: 500,
    }
}

/// Writes an evaluation by nearest neighbours, as `engine eval knn` does; `name` is that of its
/// images.
pub(crate) fn evaluation(
    dir: &Path,
    (space, arch, step): (&Space, Arch, u64),
    name: &str,
    train_images: usize,
    accuracy: f64,
) -> PathBuf {
    let net = Net::new(arch, space, &space.name, step, "student");
    let mut setup = setup(name);
    setup.train.images = train_images;
    let verdict = EvalResult::Knn(vec![accuracy, accuracy - 0.02]);
    let baselines = Baselines::new(Err("evaluated on its own".into()), raw(), &setup);
    let result = record::of_net(&net, &setup, Some(512), &verdict, Some(&baselines));
    fs::create_dir_all(dir).unwrap();
    let path = dir.join(format!("knn-{name}-{arch}-step-{step:08}-{train_images}.json"));
    files::write_json(&path, &result).unwrap();
    path
}

/// What `engine eval` leaves: nets before and after training on two sets of images.
fn evaluations(dir: &Path, space: &Space) {
    let archs = [space.min(), space.nth(space.count() / 2), space.max()];
    for (i, arch) in archs.into_iter().enumerate() {
        for name in ["shapes", "textures"] {
            evaluation(dir, (space, arch, 0), name, 2000, 0.2);
            evaluation(dir, (space, arch, STEP), name, 2000, 0.6 + 0.08 * i as f64);
        }
    }
}

/// What `engine eval --archs-from` leaves.
fn ranking(dir: &Path, file: &Path) {
    let candidates = crate::search::read_candidates(file).unwrap();
    let mut rng = Philox::new(3, Purpose::Check, 0, 0);
    let accuracy = |c: &Candidate| 0.1 + 0.5 * c.score + 0.01 * f64::from(rng.normal());
    let judge = |accuracy| Judged { accuracy, ..Judged::default() };
    let judged: Vec<Judged> = candidates.iter().map(accuracy).map(judge).collect();
    let ranking = Ranking {
        file,
        candidates: &candidates,
        judged: &judged,
        seed: 0,
        setup: setup("shapes"),
        raw: Some(raw()),
        step: STEP - 100,
        weights: "student",
    };
    let path = dir.join("eval/correlation-knn-cls-images.json");
    files::write_json(&path, &ranking.to_json().unwrap()).unwrap();
}

/// A search's folder.
pub(crate) fn search(dir: &Path, space: &Space, candidates: usize, levels: &[Feature]) {
    fs::create_dir_all(dir).unwrap();
    let mut rng = Philox::new(2, Purpose::Check, 0, 0);
    let top = space.cost(&space.max()).macs as f64;
    let mut scored: Vec<Scored> = Vec::new();
    for _ in 0..candidates {
        let arch = random(space, &mut rng);
        let cost = space.cost(&arch);
        let share = (cost.macs as f64 / top).powf(0.35);
        let mut part = |f: &Feature| {
            (f.name().to_owned(), 0.35 + 0.5 * share + 0.02 * f64::from(rng.normal()))
        };
        let parts: BTreeMap<String, f64> = levels.iter().map(&mut part).collect();
        let score: f64 = parts.values().sum();
        let candidate = Candidate {
            arch,
            macs: cost.macs,
            params: cost.params,
            latency_ms: None,
            score,
            levels: parts,
            ci95: [score - 0.012, score + 0.012],
            images: SEARCH_IMAGES,
            bn_images: 512,
            teacher_step: STEP,
        };
        let scores = (0..SEARCH_IMAGES).map(|_| score + 0.04 * f64::from(rng.normal())).collect();
        scored.push(Scored { candidate, scores });
    }
    let settings = Settings {
        preset: space.clone(),
        step: STEP,
        student: String::new(),
        teacher: String::new(),
        data: vec!["images".into()],
        data_images: 2000,
        digest: String::new(),
        task: Some(Task::Cls),
        features: levels.to_vec(),
        tau: 0.2,
        bn: Bn::Recalibrate,
        bn_images: 512,
        images: SEARCH_IMAGES,
        seed: 7,
        groups: Vec::new(),
        candidates: String::new(),
    };
    let mut journal = Journal::create(dir, &settings).unwrap();
    scored.iter().for_each(|scored| journal.append(scored).unwrap());
    let edges = [0.05, 0.12, 0.25, 0.5, 1.001].map(|share| (top * share / 1e5) as u64 * 100_000);
    let budget = |w: &[u64]| {
        let budget = Budget { metric: Metric::Macs, lo: w[0], hi: w[1] };
        let within = |s: &&Scored| (w[0]..w[1]).contains(&s.candidate.macs);
        let inside: Vec<&Scored> = scored.iter().filter(within).collect();
        let archs = inside.iter().map(|s| s.candidate.arch).collect();
        let (budget, metric) = (budget.to_string(), Metric::Macs);
        let group = Group { budget, metric, population: 1000, archs };
        (!inside.is_empty()).then(|| rank(&group, &inside, 3, settings.seed))
    };
    let teacher = teacher(Health::Healthy, false);
    teacher.write(dir).unwrap();
    let winners = Winners {
        task: settings.task,
        features: settings.features,
        data: settings.data,
        preset: settings.preset.name,
        teacher_step: STEP,
        bn: settings.bn,
        seed: settings.seed,
        images: SEARCH_IMAGES,
        teacher,
        budgets: edges.windows(2).filter_map(budget).collect(),
    };
    journal.finish(&winners).unwrap();
}

/// What a search found of its teacher.
pub(crate) fn teacher(health: Health, untrained: bool) -> Teacher {
    Teacher { spread: 0.31, rank: 4.2, expected_rank: 100.0, images: 500, health, untrained }
}
