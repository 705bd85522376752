//! A table: rows with the paper's numbers and ours, as JSON and as CSV.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::cells::Made;
use super::lab::Column;
use super::measure::{Difference, Mean, defined, difference, over_seeds, test_images};
use super::paper::Number;
use crate::error::Result;
use crate::files;
use crate::search::Choosing;
use crate::search::consistency::Consistency;

/// Several cells' numbers under one name.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// The paper's numbers.
    pub paper: Map<String, Value>,
    /// Ours, means over seeds; null where there is none.
    pub ours: Map<String, Value>,
    /// 95 % intervals of ours.
    pub ci95: Map<String, Value>,
    /// Seeds that the means are over.
    pub seeds: usize,
    /// The cells that the numbers are from.
    pub cells: Vec<String>,
    /// Deviations over seeds, of two or more.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub deviation: Map<String, Value>,
    /// Less the table's baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against_baseline: Option<Difference>,
    /// What is to be said of the row: why it has no numbers, say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A net of a chart.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Its ID.
    pub arch: String,
    /// Its compute.
    pub macs: u64,
    /// Its score by the search.
    pub score: f64,
    /// The score's interval.
    pub score_ci95: [f64; 2],
    /// Accuracy.
    pub accuracy: f64,
    /// The accuracy's interval, where it has one.
    pub ci95: Option<[f64; 2]>,
}

/// A table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    /// `t2`, `f3`, ….
    pub table: String,
    /// What it shows.
    pub title: String,
    /// What is measured, and what differs from the paper.
    pub notes: Vec<String>,
    /// The rows.
    pub rows: Vec<Row>,
    /// Dots of its charts, by how nets were evaluated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<(String, Vec<Point>)>,
    /// What a search is worth, by how nets were evaluated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub worth: Vec<(String, Choosing)>,
    /// How rankings agree: over what, and how well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub consistency: Vec<(String, Consistency)>,
}

impl Table {
    /// Without rows.
    pub fn new(table: &str, title: &str, notes: &[&str]) -> Self {
        Self {
            table: table.into(),
            title: title.into(),
            notes: notes.iter().map(|note| (*note).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// Writes `tables/<table>.json` and `.csv` below a folder.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&self, root: &Path) -> Result<()> {
        let dir = root.join("tables");
        files::create_dir(&dir)?;
        files::write_json(&dir.join(format!("{}.json", self.table)), self)?;
        files::write_text(&dir.join(format!("{}.csv", self.table)), &self.csv())
    }

    /// A line a number: `name,column,paper,ours,ci95_lo,ci95_hi,deviation,seeds`.
    fn csv(&self) -> String {
        let mut lines = vec!["name,column,paper,ours,ci95_lo,ci95_hi,deviation,seeds".to_owned()];
        for row in &self.rows {
            let extra = row.paper.keys().filter(|key| !row.ours.contains_key(*key));
            for column in row.ours.keys().chain(extra) {
                let cell = |map: &Map<String, Value>| match map.get(column) {
                    None | Some(Value::Null) => String::new(),
                    Some(value) => value.to_string(),
                };
                let end = |i: usize| row.ci95.get(column).and_then(|ci| ci[i].as_f64());
                let ends = [0, 1].map(|i| end(i).map_or(String::new(), |v| v.to_string()));
                let name = format!("\"{}\"", row.name.replace('"', "\"\""));
                let numbers = [cell(&row.paper), cell(&row.ours), ends[0].clone(), ends[1].clone()];
                lines.push(format!(
                    "{name},{column},{},{},{}",
                    numbers.join(","),
                    cell(&row.deviation),
                    row.seeds
                ));
            }
        }
        lines.join("\n") + "\n"
    }
}

impl Row {
    /// Without numbers.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The same with a number of the paper's.
    pub fn paper(mut self, column: &str, value: f64) -> Self {
        self.paper.insert(column.into(), json!(value));
        self
    }

    /// The same with numbers of the paper's.
    pub fn papers(self, numbers: &[Number]) -> Self {
        numbers.iter().fold(self, |row, (column, value)| row.paper(column, *value))
    }

    /// The same with a number of ours.
    pub fn ours(mut self, column: &str, value: Option<f64>, ci95: Option<[f64; 2]>) -> Self {
        self.ours.insert(column.into(), json!(value));
        if let Some(ci95) = ci95 {
            self.ci95.insert(column.into(), json!(ci95));
        }
        self
    }

    /// The same with a remark.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// The same with cells that numbers are from.
    pub fn cells<'a>(mut self, cells: impl IntoIterator<Item = &'a Made>) -> Self {
        for made in cells {
            if !self.cells.contains(&made.name) {
                self.cells.push(made.name.clone());
            }
            if let (Err(reason), None) = (&made.result, &self.note) {
                self.note = Some(format!("failed ({}): {reason}", made.name));
            }
        }
        self
    }

    /// The same with shares of the test images, from one cell a seed.
    pub fn measured(self, cells: &[Made], columns: &[Column]) -> Self {
        self.means(cells, columns, test_images)
    }

    /// The same with numbers that are no shares of the test images, as AP and mIoU: for one seed they
    /// have no interval.
    pub fn scored(self, cells: &[Made], columns: &[Column]) -> Self {
        self.means(cells, columns, |_| None)
    }

    fn means(
        mut self,
        cells: &[Made],
        columns: &[Column],
        tests: impl Fn(&Value) -> Option<u64>,
    ) -> Self {
        let results: Vec<&Value> = cells.iter().filter_map(|m| m.result.as_ref().ok()).collect();
        let tests = results.first().and_then(|r| tests(r));
        for (column, keys) in columns {
            let values: Vec<f64> = results.iter().filter_map(|r| defined(r, keys)).collect();
            let mean = Mean::of(&values, tests);
            self = self.ours(
                column,
                mean.as_ref().map(|m| m.value),
                mean.as_ref().and_then(|m| m.ci95),
            );
            if let Some(deviation) = mean.and_then(|m| m.deviation) {
                self.deviation.insert((*column).into(), json!(deviation));
            }
        }
        self.seeds = self.seeds.max(results.len());
        self.cells(cells)
    }

    /// The same beside the baseline's cells.
    pub fn against(mut self, cells: &[Made], baseline: &[Made], seed: u64) -> Self {
        self.against_baseline = difference(cells, baseline, seed);
        self
    }

    /// The same beside the baseline's cells, by a number that is no share of the test images.
    pub fn against_by(mut self, cells: &[Made], baseline: &[Made], (_, keys): Column) -> Self {
        self.against_baseline = over_seeds(cells, baseline, keys);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(result: Result<Value, String>) -> Made {
        Made { name: "finetune-1".into(), dir: Default::default(), result }
    }

    #[test]
    fn rows_hold_means_intervals_and_failures() {
        let cells = [
            made(Ok(json!({"top1": 0.5, "test_images": 8, "correct": "0f"}))),
            made(Ok(json!({"top1": 0.25, "test_images": 8, "correct": "03"}))),
            made(Err("collapsed".into())),
        ];
        let row = Row::new("a, \"b\"").paper("top1", 0.9).measured(&cells, &[("top1", &["top1"])]);
        let row = row.against(&cells[..1], &cells[1..2], 1);
        assert_eq!((row.ours["top1"].as_f64(), row.seeds), (Some(0.375), 2));
        assert!(row.note.as_ref().unwrap().contains("collapsed"));
        let against = row.against_baseline.unwrap();
        assert!(against.value == 0.25 && against.ci95.unwrap()[0] <= 0.25, "{against:?}");
        let table = Table { rows: vec![row], ..Table::new("t4", "x", &[]) };
        let csv = table.csv();
        assert!(csv.contains("\"a, \"\"b\"\"\",top1,0.9,0.375,,,0.1767766952966369,2"), "{csv}");
        let failed = Row::new("c").measured(&cells[2..], &[("top1", &["top1"])]);
        assert_eq!((failed.ours["top1"].clone(), failed.seeds), (Value::Null, 0));
    }
}
