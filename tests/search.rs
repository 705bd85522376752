//! Search as a whole, on a random tiny net and images made here.

mod tiny_run;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use engine::cx::Cx;
use engine::data::Dataset;
use engine::eval::images::{self, Images};
use engine::nn::{Feature, Params, Subnet};
use engine::search::{self, Bn, Request, Selection, Task, Winners};
use engine::signals::Signals;
use engine::space::{Arch, Budget, Metric, Space};
use engine::tensor::Tensor;
use engine::train::{Checkpoint, Health};
use engine::{Kind, Result};
use tiny_run::{collapse, write_changed, write_checkpoint, write_images};

struct Setting {
    dir: tempfile::TempDir,
    cx: Cx,
    checkpoint: Checkpoint,
    dataset: Arc<Dataset>,
}

impl Setting {
    fn new(threads: usize, teacher_seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_images(&dir.path().join("images"));
        let cx = Cx::cpu(threads).unwrap();
        let path = write_checkpoint(&cx, dir.path(), teacher_seed);
        let checkpoint = Checkpoint::open(&path).unwrap();
        let data = dir.path().join("images").display().to_string();
        Self { cx, checkpoint, dataset: Arc::new(Dataset::open(&[data]).unwrap()), dir }
    }

    /// Its teacher is replaced by another one.
    fn with_teacher(mut self, step: u64, change: impl Fn(&str, &mut [f32])) -> Self {
        let path = write_changed(&self.cx, self.dir.path(), 2, step, change);
        self.checkpoint = Checkpoint::open(&path).unwrap();
        self
    }

    fn request(&self, selection: Selection) -> Request {
        Request {
            data: vec!["images".into()],
            task: Some(Task::DetFpn),
            features: Task::DetFpn.features().to_vec(),
            selection,
            bn: Bn::Recalibrate,
            bn_images: 24,
            images: Some(12),
            top: 3,
            tau: 0.2,
            seed: 5,
            workers: 1,
            out: self.dir.path().join("search"),
            resume: false,
            overwrite: false,
            force: false,
        }
    }

    fn search(&self, request: &Request) -> Result<Winners> {
        let dataset = self.dataset.clone();
        self.cx
            .install(|| search::run(&self.cx, &self.checkpoint, dataset, request, &Signals::none()))
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.path().join("search").join(name)).unwrap()
    }
}

fn macs(lo: u64, hi: u64) -> Budget {
    Budget { metric: Metric::Macs, lo, hi }
}

/// Two groups of three candidates each.
fn two_groups() -> Selection {
    let space = Space::preset("tiny").unwrap();
    let middle = (space.cost(&space.min()).macs + space.cost(&space.max()).macs) / 2;
    Selection::Budgets {
        budgets: vec![macs(0, middle), macs(middle, u64::MAX)],
        metric: Metric::Macs,
        samples: Some(3),
    }
}

fn largest_and_smallest() -> Selection {
    let space = Space::preset("tiny").unwrap();
    Selection::Archs(vec![space.max(), space.min()])
}

#[test]
fn threads_do_not_change_the_result() {
    let files = [1, 3].map(|threads| {
        let setting = Setting::new(threads, 2);
        setting.search(&setting.request(two_groups())).unwrap();
        [setting.file("candidates.jsonl"), setting.file("winners.json"), setting.file("scores.f64")]
    });
    assert!(files[0] == files[1]);
    assert_eq!(files[0][0].iter().filter(|&&b| b == b'\n').count(), 6);
}

#[test]
fn a_killed_search_goes_on_to_the_same_files() {
    let setting = Setting::new(2, 2);
    let mut request = setting.request(two_groups());
    setting.search(&request).unwrap();
    let names = ["candidates.jsonl", "scores.f64", "winners.json"];
    let whole = names.map(|n| setting.file(n));
    let dir = setting.dir.path().join("search");
    let line_ends: Vec<usize> =
        (0..whole[0].len()).filter(|&i| whole[0][i] == b'\n').map(|i| i + 1).collect();
    request.resume = true;
    // Killed while writing a line, between scores and line, and before the first line.
    for (line_bytes, score_bytes) in [
        (line_ends[3] + 10, 5 * 12 * 8),
        (line_ends[1], 2 * 12 * 8 + 5),
        (line_ends[2], 2 * 12 * 8),
        (0, 0),
        (whole[0].len(), whole[1].len()),
    ] {
        fs::write(dir.join(names[0]), &whole[0][..line_bytes]).unwrap();
        fs::write(dir.join(names[1]), &whole[1][..score_bytes]).unwrap();
        fs::remove_file(dir.join(names[2])).unwrap();
        setting.search(&request).unwrap();
        assert!(names.map(|n| setting.file(n)) == whole, "{line_bytes} {score_bytes}");
    }
}

#[test]
fn a_line_says_what_the_contract_promises() {
    let setting = Setting::new(1, 2);
    setting.search(&setting.request(largest_and_smallest())).unwrap();
    let text = String::from_utf8(setting.file("candidates.jsonl")).unwrap();
    let line: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let keys: Vec<&str> = line.keys().map(String::as_str).collect();
    let expected = [
        "arch",
        "macs",
        "params",
        "score",
        "levels",
        "ci95",
        "images",
        "bn_images",
        "teacher_step",
    ];
    assert_eq!(keys, expected);
    let levels: BTreeMap<String, f64> = serde_json::from_value(line["levels"].clone()).unwrap();
    assert_eq!(levels.keys().collect::<Vec<_>>(), ["c2", "c3", "c4", "c5"]);
    let score = line["score"].as_f64().unwrap();
    assert!((levels.values().sum::<f64>() - score).abs() < 1e-12);
    assert!(
        line["ci95"][0].as_f64().unwrap() <= score && score <= line["ci95"][1].as_f64().unwrap()
    );
    assert_eq!((line["images"].as_u64(), line["bn_images"].as_u64()), (Some(12), Some(24)));
    assert_eq!(line["teacher_step"].as_u64(), Some(7));
}

#[test]
fn the_teacher_itself_is_the_most_similar() {
    // Student and teacher have the same weights, so the largest candidate is the teacher.
    let setting = Setting::new(2, 1);
    for (task, bn) in [(Task::Cls, Bn::Recalibrate), (Task::Seg, Bn::Batch)] {
        let features = task.features().to_vec();
        let request = Request {
            task: Some(task),
            features,
            bn,
            overwrite: true,
            ..setting.request(largest_and_smallest())
        };
        let winners = setting.search(&request).unwrap();
        let best = &winners.budgets[0].winners[0];
        assert_eq!(best.candidate.arch, Space::preset("tiny").unwrap().max());
        assert_eq!(best.p_best, Some(1.0));
        assert!(winners.budgets[0].ties.is_empty());
        if task == Task::Cls {
            assert!((best.candidate.score - 1.0).abs() < 1e-6, "{}", best.candidate.score);
        }
        assert_eq!(best.candidate.bn_images, if bn == Bn::Batch { 0 } else { 24 });
    }
}

/// −Σ_j P^t_ij log P^s_ij, mean over i, negated; maps are [position][channel].
fn naive_relation(student: &[Vec<f64>], teacher: &[Vec<f64>], tau: f64) -> f64 {
    let softmax = |map: &[Vec<f64>], i: usize| -> Vec<f64> {
        let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        let cosine = |j: usize| {
            let dot: f64 = map[i].iter().zip(&map[j]).map(|(a, b)| a * b).sum();
            dot / (norm(&map[i]) * norm(&map[j]))
        };
        let e: Vec<f64> = (0..map.len()).map(|j| (cosine(j) / tau).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.iter().map(|e| e / sum).collect()
    };
    let n = teacher.len();
    let row = |i: usize| -> f64 {
        softmax(teacher, i).iter().zip(softmax(student, i)).map(|(t, s)| t * s.ln()).sum()
    };
    (0..n).map(row).sum::<f64>() / n as f64
}

fn maps(t: &Tensor) -> Vec<Vec<Vec<f64>>> {
    let shape = t.shape();
    let rows: Vec<Vec<f64>> = t.to_f64().chunks(shape.c()).map(<[f64]>::to_vec).collect();
    rows.chunks(shape.positions()).map(<[Vec<f64>]>::to_vec).collect()
}

#[test]
fn scores_are_those_of_the_paper() {
    let setting = Setting::new(1, 2);
    let arch: Arch = "s8-w16.24.32.96-d1.2.3.1".parse().unwrap();
    let wanted = [Feature::Z, Feature::C3, Feature::C5];
    let mut request = setting.request(Selection::Archs(vec![arch]));
    request.features = wanted.to_vec();
    let found = setting.search(&request).unwrap().budgets[0].winners[0].candidate.clone();

    let cx = &setting.cx;
    let net = setting.checkpoint.supernet().unwrap();
    let student = setting.checkpoint.student(cx, net.specs()).unwrap();
    let teacher = setting.checkpoint.teacher(cx, net.specs()).unwrap();
    let indices = images::draw(40, Some(24), 5);
    let shown = Images::new(setting.dataset.clone(), indices, engine::data::Input::rgb(32), 1);
    let run = |params: &Params, arch: Arch| {
        let bn = shown.tensors(cx, 24).unwrap();
        let subnet = Subnet::recalibrated(cx, &net, params, arch, bn).unwrap();
        let x = shown.tensors(cx, 12).unwrap().next().unwrap().unwrap();
        subnet.features(cx, x, &wanted).unwrap()
    };
    let (s, t) = (run(&student, arch), run(&teacher, net.space().max()));
    let pairs = |f: Feature| maps(s.get(f).value()).into_iter().zip(maps(t.get(f).value()));
    for feature in [Feature::C3, Feature::C5] {
        let score: f64 =
            pairs(feature).map(|(s, t)| naive_relation(&s, &t, 0.2)).sum::<f64>() / 12.0;
        let found = found.levels[feature.name()];
        assert!((found - score).abs() < 1e-5 * score.abs(), "{feature}: {found} {score}");
    }
    let cosine = |(s, t): (Vec<Vec<f64>>, Vec<Vec<f64>>)| -> f64 {
        s[0].iter().zip(&t[0]).map(|(a, b)| a * b).sum()
    };
    let score = pairs(Feature::Z).map(cosine).sum::<f64>() / 12.0;
    assert!((found.levels["z"] - score).abs() < 1e-6);
    assert!((found.score - found.levels.values().sum::<f64>()).abs() < 1e-12);
}

#[test]
fn a_sample_of_the_candidates_holds_the_winner() {
    let setting = Setting::new(1, 2);
    let space = Space::preset("tiny").unwrap();
    // The winner, which is the teacher's architecture, stands last.
    let others =
        ["s8-w16.24.32.96-d1.2.3.1", "s8-w16.16.32.96-d1.1.3.2"].map(|a| a.parse().unwrap());
    let archs = [&[space.min()][..], &others, &[space.max()]].concat();
    let winners = setting.search(&setting.request(Selection::Archs(archs.clone()))).unwrap();
    let won = winners.budgets[0].winners[0].candidate.arch;
    assert_eq!(won, space.max());
    let file = setting.dir.path().join("search/candidates.jsonl");
    let sample = |limit| -> Vec<Arch> {
        search::sample(&file, limit).unwrap().iter().map(|c| c.arch).collect()
    };
    assert_eq!(sample(None), archs);
    assert_eq!(sample(Some(9)), archs);
    assert_eq!(sample(Some(1)), [won]);
    assert_eq!(sample(Some(2)), [archs[0], won]);
    assert_eq!(sample(Some(3)), [archs[0], archs[1], won]);
}

#[test]
fn wrong_requests_end_with_the_right_kind() {
    let setting = Setting::new(1, 2);
    let base = setting.request(largest_and_smallest());
    let kind = |request: &Request| setting.search(request).unwrap_err().kind();
    let outside = Selection::Archs(vec!["s8-w8.16.32.4096-d1.1.2.1".parse().unwrap()]);
    assert_eq!(kind(&Request { selection: outside, ..base.clone() }), Kind::Usage);
    let impossible =
        Selection::Budgets { budgets: vec![macs(1, 2)], metric: Metric::Macs, samples: None };
    assert_eq!(kind(&Request { selection: impossible, ..base.clone() }), Kind::Usage);
    for features in [vec![Feature::Pool], vec![Feature::Z, Feature::Z], Vec::new()] {
        assert_eq!(kind(&Request { features, ..base.clone() }), Kind::Usage);
    }
    assert_eq!(kind(&Request { tau: 0.0, ..base.clone() }), Kind::Usage);
    assert_eq!(kind(&Request { images: Some(1), ..base.clone() }), Kind::Data);
    assert_eq!(kind(&Request { resume: true, ..base.clone() }), Kind::Resume);
    setting.search(&base).unwrap();
    for other in [
        Request { images: Some(11), ..base.clone() },
        Request { features: vec![Feature::C5], ..base.clone() },
        Request { selection: two_groups(), ..base.clone() },
        Request { seed: 6, ..base.clone() },
    ] {
        assert_eq!(kind(&Request { resume: true, ..other }), Kind::Resume);
    }
    // How many are named does not change what was found.
    setting.search(&Request { resume: true, top: 1, ..base }).unwrap();
}

#[test]
fn latencies_are_measured_once() {
    let setting = Setting::new(1, 2);
    let budget = |lo, hi| Budget { metric: Metric::Latency, lo, hi };
    let within = |lo, hi| Selection::Budgets {
        budgets: vec![budget(lo, hi)],
        metric: Metric::Latency,
        samples: Some(2),
    };
    let minute = 60_000_000_000;
    let request = setting.request(within(1, minute));
    let winners = setting.search(&request).unwrap();
    assert_eq!(winners.budgets[0].candidates, 2);
    let names = ["latency.json", "candidates.jsonl", "winners.json"];
    let files = names.map(|n| setting.file(n));
    setting.search(&Request { resume: true, ..request.clone() }).unwrap();
    assert!(names.map(|n| setting.file(n)) == files);
    // Nothing takes a nanosecond.
    let err = setting.search(&Request { selection: within(1, 2), ..request }).unwrap_err();
    assert_eq!(err.kind(), Kind::Usage);
}

#[test]
fn a_collapsed_teacher_is_refused_unless_forced() {
    let setting = Setting::new(1, 2).with_teacher(7, collapse);
    // Its maps are compared, but it is its embedding that was trained, and that has collapsed.
    let request = setting.request(largest_and_smallest());
    let refused = setting.search(&request).unwrap_err();
    assert_eq!((refused.kind(), refused.exit_code()), (Kind::Diverged, 4));
    let said = refused.to_string();
    for part in ["the teacher has collapsed", "expected at least 0.15", "train.lr", "--force"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    // Nothing is left in the way of another attempt.
    assert!(!request.out.exists());

    let forced = Request { force: true, ..request.clone() };
    let winners = setting.search(&forced).unwrap();
    let teacher = &winners.teacher;
    assert_eq!((teacher.health, teacher.images), (Health::Collapsed, 12));
    assert!(teacher.spread < 0.15 && teacher.rank >= 1.0, "{teacher:?}");
    let kept: serde_json::Value = serde_json::from_slice(&setting.file("winners.json")).unwrap();
    assert_eq!(kept["teacher"]["health"], "collapsed");
    assert_eq!(kept["teacher"]["spread"].as_f64(), Some(teacher.spread));
    engine::report::search(&request.out).unwrap();
    let page = String::from_utf8(setting.file("report.html")).unwrap();
    assert!(page.contains("The teacher has collapsed"));

    // What goes on is the same command, which has to be forced likewise.
    fs::remove_file(request.out.join("winners.json")).unwrap();
    let resumed = Request { resume: true, ..request };
    assert_eq!(setting.search(&resumed).unwrap_err().kind(), Kind::Diverged);
    setting.search(&Request { force: true, ..resumed }).unwrap();
    let again: serde_json::Value = serde_json::from_slice(&setting.file("winners.json")).unwrap();
    assert_eq!(again, kept);
}

#[test]
fn other_teachers_are_told_apart() {
    let whole = Setting::new(1, 2);
    let teacher = |setting: &Setting| {
        let request = setting.request(largest_and_smallest());
        setting.search(&request).unwrap().teacher
    };
    let usual = teacher(&whole);
    assert!(usual.spread > 0.15 && usual.warning().is_some() == (usual.spread < 0.5), "{usual:?}");
    // Without a direction in common: of the hidden units differences alone count.
    let spread = |name: &str, values: &mut [f32]| {
        for row in values.chunks_mut(32).filter(|_| name == "head.2.weight") {
            let mean = row.iter().sum::<f32>() / 32.0;
            row.iter_mut().for_each(|w| *w -= mean);
        }
    };
    let healthy = teacher(&Setting::new(1, 2).with_teacher(7, spread));
    assert!(healthy.spread > usual.spread, "{healthy:?} {usual:?}");
    let untrained = teacher(&Setting::new(1, 2).with_teacher(0, collapse));
    assert_eq!((untrained.untrained, untrained.health), (true, Health::Collapsed));
    assert!(untrained.warning().unwrap().contains("untrained"));
}
