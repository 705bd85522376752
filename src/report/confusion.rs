//! Which classes are taken for which: a table of all pairs where there are few classes, else a list of
//! the most frequent ones.

use std::collections::BTreeMap;

use serde::Serialize;

use super::numbers;

/// Past so many classes a table of all pairs can no longer be read.
const MOST_CLASSES: usize = 20;
/// Pairs of classes that are listed instead.
const MOST_PAIRS: usize = 20;

/// Class, answer, and how many had both.
pub(super) type Counts = [(usize, usize, u64)];

/// Classes down, answers across.
#[derive(Serialize)]
pub(super) struct Confusion {
    classes: Vec<String>,
    pub(super) rows: Vec<Row>,
}

#[derive(Serialize)]
pub(super) struct Row {
    class: String,
    pub(super) cells: Vec<Cell>,
    pub(super) right: String,
}

#[derive(Serialize)]
pub(super) struct Cell {
    pub(super) count: String,
    /// Share of the row, in per cent.
    pub(super) share: String,
    is_right: bool,
}

/// A class that is taken for another.
#[derive(Serialize)]
pub(super) struct Pair {
    class: String,
    answer: String,
    pub(super) count: String,
    pub(super) share: String,
}

pub(super) fn class_name(classes: &[String], class: usize) -> String {
    classes.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
}

fn is_few(classes: &[String]) -> bool {
    classes.len() <= MOST_CLASSES
}

/// How many each class has.
fn totals(counts: &Counts) -> BTreeMap<usize, u64> {
    let mut totals = BTreeMap::new();
    for (class, _, count) in counts {
        *totals.entry(*class).or_default() += count;
    }
    totals
}

/// All pairs; none where there are too many classes, or no counts.
pub(super) fn table(classes: &[String], counts: &Counts) -> Option<Confusion> {
    if counts.is_empty() || !is_few(classes) {
        return None;
    }
    let known: BTreeMap<(usize, usize), u64> =
        counts.iter().map(|(class, answer, n)| ((*class, *answer), *n)).collect();
    let totals = totals(counts);
    let row = |(class, name): (usize, &String)| {
        let all = totals.get(&class).copied().unwrap_or(0);
        let share = |n: u64| n as f64 / all.max(1) as f64;
        let cell = |answer: usize| {
            let n = known.get(&(class, answer)).copied().unwrap_or(0);
            Cell {
                count: numbers::count(n),
                share: numbers::fixed(100.0 * share(n), 0),
                is_right: class == answer,
            }
        };
        let right = known.get(&(class, class)).copied().unwrap_or(0);
        Row {
            class: name.clone(),
            cells: (0..classes.len()).map(cell).collect(),
            right: if all == 0 { "–".into() } else { numbers::percent(share(right)) },
        }
    };
    let rows = classes.iter().enumerate().map(row).collect();
    Some(Confusion { classes: classes.to_vec(), rows })
}

/// Pairs of different classes, the most frequent first; none where there is a table.
pub(super) fn pairs(classes: &[String], counts: &Counts) -> Vec<Pair> {
    if is_few(classes) {
        return Vec::new();
    }
    let totals = totals(counts);
    let mut wrong: Vec<&(usize, usize, u64)> =
        counts.iter().filter(|(class, answer, _)| class != answer).collect();
    wrong.sort_by_key(|(class, answer, n)| (u64::MAX - n, *class, *answer));
    let pair = |(class, answer, n): &(usize, usize, u64)| Pair {
        class: class_name(classes, *class),
        answer: class_name(classes, *answer),
        count: numbers::count(*n),
        share: numbers::percent(*n as f64 / totals.get(class).copied().unwrap_or(1) as f64),
    };
    wrong.into_iter().take(MOST_PAIRS).map(pair).collect()
}
