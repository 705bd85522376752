//! Cells and rows of tables, from cells that are made up.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::space::Space;
use crate::study::cells::{Cell, Kind, Maker, value_of};
use crate::study::dense::AnnotatedSet;
use crate::study::lab::Settings;
use crate::study::plan::Planner;
use crate::study::sizes::{self, Scale, Sizes};
use crate::study::table::Row;

fn source(name: &str, classes: usize) -> Source {
    Source {
        name: name.into(),
        paths: vec![format!("/{name}")],
        digest: name.into(),
        images: 160,
        classes,
    }
}

fn annotated(name: &str, tasks: &'static [Task], have_masks: bool) -> AnnotatedSet {
    let part = |part: &str| Source { digest: format!("{name}-{part}"), ..source(name, 0) };
    let [train, test, images] = ["train", "test", "images"].map(part);
    AnnotatedSet { train, test, images, tasks, have_masks, are_cityscapes: false }
}

/// What a lab borrows.
struct Given {
    sizes: Sizes,
    space: Space,
    train: Source,
    test: Option<Source>,
    domains: Vec<Source>,
    annotated: Vec<AnnotatedSet>,
    settings: Settings,
    seeds: u64,
}

impl Given {
    fn new(scale: Scale) -> Self {
        let sizes = Sizes::new(scale);
        let mut settings = Settings::default();
        for word in ["train.batch=16", "finetune.drop=0.5", "det.fc=64", "seg.channels=16"] {
            settings.push(word);
        }
        Self {
            space: Space::preset(&sizes.preset).unwrap(),
            sizes,
            train: source("data", 4),
            test: Some(source("test data", 4)),
            domains: Vec::new(),
            annotated: vec![
                annotated("signs", &[Task::DetC4, Task::DetFpn], true),
                annotated("roads", &[Task::Seg], false),
            ],
            settings,
            seeds: 1,
        }
    }

    fn lab<'a>(&'a self, maker: &'a dyn Maker) -> Lab<'a> {
        Lab {
            maker,
            sizes: &self.sizes,
            space: &self.space,
            reference: sizes::reference(&self.space).unwrap(),
            train: &self.train,
            test: self.test.as_ref(),
            transfers: &[],
            domains: &self.domains,
            annotated: &self.annotated,
            seeds: (0..self.seeds).collect(),
            settings: &self.settings,
            flags: "",
        }
    }

    /// How many cells of each kind and task a table has.
    fn counts(&self, which: Which) -> BTreeMap<String, usize> {
        let planner = Planner::default();
        which.make(&self.lab(&planner)).unwrap();
        let mut counts = BTreeMap::new();
        for cell in planner.cells() {
            let arguments = cell.arguments();
            let task = value_of(&arguments, "--task").unwrap_or_default();
            *counts.entry(format!("{} {task}", cell.kind).trim().to_owned()).or_insert(0) += 1;
        }
        counts
    }
}

fn expected(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn dense_tables_ask_for_these_cells() {
    let given = Given::new(Scale::Smoke);
    let t3 = [("train", 2), ("search det-fpn", 1), ("dense det-fpn", 5)];
    assert_eq!(given.counts(Which::T3), expected(&t3));
    let t5 = [("train", 2), ("search det-c4", 1), ("dense det-c4", 3)];
    assert_eq!(given.counts(Which::T5), expected(&t5));
    let t6 = [("train", 2), ("search seg", 1), ("dense seg", 3)];
    assert_eq!(given.counts(Which::T6), expected(&t6));
    let all = |kind: &str, count| {
        let tasks = ["det-c4", "det-fpn", "seg"].map(|task| (format!("{kind} {task}"), count));
        tasks.into_iter().collect::<BTreeMap<_, _>>()
    };
    let mut t2 = expected(&[("train", 1), ("search cls", 1), ("score", 1), ("finetune cls", 4)]);
    t2.extend([all("search", 1), all("dense", 4)].into_iter().flatten());
    assert_eq!(given.counts(Which::T2), t2);
    // DenseCL alone has dense rows, and none by det-fpn.
    let found = given.counts(Which::T7);
    assert_eq!((found["train"], found["search cls"], found["finetune cls"]), (9, 3, 9));
    assert_eq!(
        (found["dense det-c4"], found["dense seg"], found.get("dense det-fpn")),
        (3, 3, None)
    );
    // Four features on three sets of images; the stand-ins for their winners are the same net.
    let mut t9 = expected(&[("train", 1), ("search cls", 3), ("finetune cls", 1)]);
    t9.extend([all("search", 3), all("dense", 1)].into_iter().flatten());
    assert_eq!(given.counts(Which::T9), t9);
    // Nets of T2 and one winner; two searches each on the images of --data and on the task's own.
    let mut t10 = expected(&[("train", 1)]);
    t10.extend([all("search", 4), all("dense", 5)].into_iter().flatten());
    assert_eq!(given.counts(Which::T10), t10);
}

#[test]
fn without_annotated_images_nothing_dense_is_asked_for() {
    let given = Given { annotated: Vec::new(), ..Given::new(Scale::Smoke) };
    let lab = given.lab(&Planner::default() as &dyn Maker).missing_of_all();
    assert_eq!(lab["t3"], Some(BOXES));
    assert_eq!((lab["t5"], lab["t6"]), (Some(BOXES), Some(PIXELS)));
    assert!(lab["t10"].is_some_and(|needs| needs.starts_with("--domain NAME=PATH")));
    assert_eq!((lab["t2"], lab["t9"]), (None, None));
    for which in [Which::T2, Which::T7, Which::T9] {
        let counts = given.counts(which);
        assert!(counts.keys().all(|kind| !kind.starts_with("dense")), "{counts:?}");
    }
    let planner = Planner::default();
    let table = ranking::ranking(&given.lab(&planner)).unwrap();
    let needs = table.rows.iter().filter_map(|row| row.note.as_deref());
    let expected = [BOXES, BOXES, PIXELS].map(|flag| format!("needs {flag}"));
    assert_eq!(needs.collect::<Vec<_>>(), expected);
}

#[test]
fn without_classes_the_dense_rows_stand_alone() {
    for (classes, test) in [(0, Some(source("test data", 0))), (4, None)] {
        let train = source("data", classes);
        let mut given = Given { train, test, ..Given::new(Scale::Smoke) };
        let missing = given.lab(&Planner::default() as &dyn Maker).missing_of_all();
        assert_eq!((missing["t2"], missing["t7"], missing["t9"]), (None, None, None));
        for which in ["f3", "t4", "f4", "t8"] {
            assert_eq!(missing[which], Some(CLASSES), "{which}");
        }
        // T9 also searches by z, on the images of each task.
        for (which, kinds) in [(Which::T2, 7), (Which::T7, 5), (Which::T9, 8)] {
            let counts = given.counts(which);
            let of_labels = ["score", "finetune cls"];
            assert!(of_labels.iter().all(|kind| !counts.contains_key(*kind)), "{counts:?}");
            assert_eq!(counts.len(), kinds, "{counts:?}");
        }
        // DenseCL alone: at two rates, and the supernet.
        assert_eq!(given.counts(Which::T7)["train"], 3);
        given.annotated.clear();
        let missing = given.lab(&Planner::default() as &dyn Maker).missing_of_all();
        assert_eq!((missing["t2"], missing["t9"]), (Some(CLASSES), Some(CLASSES)));
    }
}

impl Lab<'_> {
    fn missing_of_all(&self) -> BTreeMap<&'static str, Option<&'static str>> {
        let each = Which::NAMES.iter().map(|name| (*name, name.parse::<Which>().unwrap()));
        each.map(|(name, which)| (name, which.missing(self))).collect()
    }
}

#[test]
fn recipes_follow_the_scale_the_task_and_the_layout() {
    let command = |given: &Given, task: Task| {
        let planner = Planner::default();
        let lab = given.lab(&planner);
        let target = lab.targets_of(task)[0];
        lab.dense(None, &lab.reference, &target, 7).unwrap();
        planner.cells()[0].arguments().join(" ")
    };
    let small = Given::new(Scale::Small);
    let found = command(&small, Task::DetC4);
    assert!(
        found.contains("--recipe small --seed 7 --out run --json finetune.steps=500"),
        "{found}"
    );
    assert!(found.ends_with("finetune.drop=0.5 det.fc=64") && !found.contains("--metric"));
    assert!(command(&small, Task::Seg).ends_with("finetune.drop=0.5 seg.channels=16"));
    let mut full = Given::new(Scale::Full);
    for (task, recipe) in [
        (Task::DetC4, "--metric voc07 --recipe voc-c4 "),
        (Task::DetFpn, "--recipe coco-fpn "),
        (Task::Seg, "--recipe voc-fcn "),
    ] {
        let found = command(&full, task);
        assert!(found.contains(recipe) && !found.contains("finetune.steps"), "{found}");
        assert!(!found.contains("det.mask"), "{found}");
    }
    full.annotated[0].have_masks = false;
    full.annotated[1].are_cityscapes = true;
    assert!(command(&full, Task::DetFpn).contains("det.mask=false"));
    assert!(command(&full, Task::Seg).contains("--recipe cityscapes-fcn "));
    let steps = |words: &str| {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        crate::study::dense::steps(&words).unwrap()
    };
    assert_eq!(steps("finetune --task det-fpn --recipe coco-fpn"), 90_000);
    assert_eq!(steps("finetune --task seg --recipe small finetune.steps=2 finetune.steps=9"), 9);
}

/// Answers by a net's place among those that were asked for: no two nets are worth the same.
#[derive(Default)]
struct Fake(RefCell<Vec<Cell>>);

impl Maker for Fake {
    fn make(&self, cell: &Cell) -> Result<Made> {
        let mut cells = self.0.borrow_mut();
        let place = cells.iter().position(|known| known == cell).unwrap_or_else(|| {
            cells.push(cell.clone());
            cells.len() - 1
        });
        let ap = 0.25 + place as f64 / 1024.0;
        let numbers = json!({ "AP": ap, "AP50": 0.5, "AP75": -1.0, "test_images": 8 });
        let arguments = cell.arguments();
        let result = match value_of(&arguments, "--task").filter(|_| cell.kind == Kind::Dense) {
            Some("seg") => json!({ "miou": ap, "test_images": 8 }),
            Some("det-fpn") if !arguments.iter().any(|word| word == "det.mask=false") => {
                let mut all = numbers.clone();
                all["mask"] = numbers;
                all
            }
            Some(_) => numbers,
            None => json!({ "top1": 0.5, "test_images": 8, "correct": "0f" }),
        };
        Ok(Made { name: cell.name(), dir: Default::default(), result: Ok(result) })
    }

    fn is_plan(&self) -> bool {
        true
    }
}

fn ours(row: &Row, column: &str) -> Option<f64> {
    row.ours.get(column).and_then(Value::as_f64)
}

#[test]
fn rows_of_dense_tables_hold_numbers_beside_the_papers() {
    let mut given = Given::new(Scale::Smoke);
    let fake = Fake::default();
    let t3 = Which::T3.make(&given.lab(&fake)).unwrap();
    let names: Vec<&str> = t3.rows.iter().map(|row| row.name.split(':').next().unwrap()).collect();
    assert_eq!(names[0], "reference, alone on signs");
    assert!(names[1].starts_with("winner of ") && names[1].ends_with("M on signs"), "{names:?}");
    assert_eq!(names[3..], ["smallest on signs", "largest on signs"]);
    let first = &t3.rows[0];
    assert_eq!((&first.paper["ap"], &first.paper["mask_ap75"]), (&json!(0.387), &json!(0.379)));
    assert!(first.against_baseline.is_none() && ours(first, "macs").is_some());
    // What is not defined is no number, and one seed gives no interval.
    assert_eq!((ours(first, "ap75"), ours(first, "mask_ap50")), (None, Some(0.5)));
    assert!(t3.rows.iter().all(|row| row.ci95.is_empty() && row.seeds == 1));
    let gain = t3.rows[1].against_baseline.unwrap();
    let difference = ours(&t3.rows[1], "ap").unwrap() - ours(first, "ap").unwrap();
    assert!((gain.value - difference).abs() < 1e-12 && gain.value != 0.0);
    assert_eq!((gain.ci95, gain.resolved), (None, false));

    given.annotated[0].have_masks = false;
    let t3 = Which::T3.make(&given.lab(&fake)).unwrap();
    assert!(t3.rows.iter().all(|row| row.ours["mask_ap"].is_null() && ours(row, "ap").is_some()));

    given.seeds = 3;
    let t5 = Which::T5.make(&given.lab(&fake)).unwrap();
    let [alone, winner, fresh] = &t5.rows[..] else { panic!("{:?}", t5.rows) };
    assert_eq!((&alone.paper["ap"], &winner.paper["ap75"]), (&json!(0.572), &json!(0.65)));
    assert!(fresh.paper.is_empty() && fresh.name.contains("random weights"));
    assert_eq!((winner.seeds, winner.cells.len()), (3, 3));
    assert!(winner.ci95["ap"].is_array() && winner.deviation["ap"].is_f64());
    assert!(winner.against_baseline.unwrap().ci95.is_some());
    let t6 = Which::T6.make(&given.lab(&fake)).unwrap();
    assert_eq!((&t6.rows[0].paper["miou"], t6.rows.len()), (&json!(0.764), 3));

    given.seeds = 1;
    let t9 = Which::T9.make(&given.lab(&fake)).unwrap();
    assert_eq!(t9.rows.len(), 4 * 4);
    let row = t9.rows.iter().find(|row| row.name.starts_with("det-c4 on signs, C5")).unwrap();
    assert_eq!((&row.paper["ap"], ours(row, "ap50")), (&json!(0.585), Some(0.5)));
    let t7 = Which::T7.make(&given.lab(&fake)).unwrap();
    let papers = t7.rows.iter().filter(|row| row.paper.contains_key("ap"));
    let papers: Vec<&str> = papers.map(|row| row.name.as_str()).collect();
    assert_eq!(papers.len(), 2);
    assert!(papers[0].starts_with("densecl, det-c4 on signs: reference"), "{papers:?}");
    let t10 = Which::T10.make(&given.lab(&fake)).unwrap();
    let row = t10.rows.iter().find(|row| row.name == "seg on roads, searched on its own images");
    let row = row.unwrap();
    assert_eq!((&row.paper["spearman"], &row.paper["miou"]), (&json!(0.63), &json!(0.774)));
    assert!(ours(row, "miou").is_some() && row.ci95.get("miou").is_none());
}

#[test]
fn a_dense_ranking_has_spearmans_rho_over_nets() {
    let given = Given::new(Scale::Smoke);
    let fake = Fake::default();
    let lab = given.lab(&fake);
    let target = lab.targets_of(Task::DetFpn)[0];
    let run = lab.moco(0).unwrap();
    let mut found = lab.search(&run, &lab.ranked(Task::DetFpn, &target.set.images)).unwrap();
    let tested = lab.tested(&run, &found, &target).unwrap();
    // Later nets are worth more; the last two scores are the wrong way round.
    for (candidate, score) in found.candidates.iter_mut().zip([0.1, 0.2, 0.4, 0.3]) {
        candidate.score = score;
    }
    let mut table = Table::new("t2", "", &[]);
    ranking::add_dense(&lab, &mut table, &found, &tested, (&target, ""));
    let row = &table.rows[0];
    assert_eq!(row.name, "score of C2 to C5, AP of det-fpn on signs");
    assert_eq!((&row.paper["spearman"], &row.paper["nets"]), (&json!(0.86), &json!(50.0)));
    assert!((ours(row, "spearman").unwrap() - 0.8).abs() < 1e-12);
    assert_eq!((row.seeds, row.cells.len()), (1, 5));
    let (how, points) = &table.points[0];
    assert_eq!((how.as_str(), points.len()), ("AP of det-fpn on signs", 4));
    assert!(points.iter().all(|point| point.ci95.is_none()));
    // Compute and parameters choose, too; NASWOT looks at other images.
    let by: Vec<&str> = table.worth[0].1.choosers.iter().map(|way| way.by.as_str()).collect();
    assert_eq!(by, ["score", "macs", "params"]);
}
