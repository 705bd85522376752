//! The part of the page that shows what nets make of images: nearest neighbours, which classes are
//! taken for which, and a map of the embeddings.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::confusion::{self, Confusion, Pair, class_name};
use super::numbers;
use super::run::{files_with, json};
use super::scatter::{Point, Scatter};
use super::svg::{Size, key};
use super::training::Panel;
use crate::error::Result;
use crate::eval::Details;
use crate::eval::details::{Map, Query, Shown};
use crate::files::read_json;

/// Sets of images on the page: more would make it heavy.
const MOST_SETS: usize = 3;
/// Colours and forms of classes: the first five differ in both.
const MARKS: [&str; 25] = [
    "c1 f1", "c2 f2", "c3 f3", "c4 f4", "c5 f5", "c1 f2", "c2 f3", "c3 f4", "c4 f5", "c5 f1",
    "c1 f3", "c2 f4", "c3 f5", "c4 f1", "c5 f2", "c1 f4", "c2 f5", "c3 f1", "c4 f2", "c5 f3",
    "c1 f5", "c2 f1", "c3 f2", "c4 f3", "c5 f4",
];

/// What a net makes of one set of images.
#[derive(Serialize)]
pub(super) struct Card {
    id: String,
    title: String,
    facts: Vec<String>,
    neighbours: Vec<Row>,
    confusion: Option<Confusion>,
    pairs: Vec<Pair>,
    map: Option<Panel>,
    legend: Vec<(String, String)>,
}

impl Card {
    /// Its heading's place and text, for the page's contents.
    pub(super) fn place(&self) -> (String, String) {
        (self.id.clone(), self.title.clone())
    }
}

/// An image and its neighbours.
#[derive(Serialize)]
struct Row {
    image: Picture,
    /// Whether its answer is right, and in words.
    is_right: Option<bool>,
    answer: String,
    near: Vec<Neighbour>,
}

#[derive(Serialize)]
struct Picture {
    png: String,
    name: String,
    class: Option<String>,
}

#[derive(Serialize)]
struct Neighbour {
    image: Picture,
    similarity: String,
    /// Whether it has the image's class.
    is_same: Option<bool>,
}

/// Of each set of images the net that names most of them right; of those without labels the newest.
pub(super) fn cards(run: &Path) -> Result<Vec<Card>> {
    let mut best: BTreeMap<Vec<String>, Details> = BTreeMap::new();
    let rank = |d: &Details| (d.accuracy.unwrap_or(-1.0), d.step, usize::from(d.protocol == "knn"));
    for path in files_with(&run.join("eval/details"), "json")? {
        // Those of annotated images have a section of their own.
        if json(&path)?.get("task").is_some() {
            continue;
        }
        let found: Details = read_json(&path)?;
        let result = json(&run.join("eval").join(path.file_name().unwrap_or_default()))?;
        // What belongs to a result goes with it, and with no other one of its name.
        let of_result = |share: f64| {
            let known = result["accuracy"].as_object();
            known.is_some_and(|all| all.values().any(|value| value.as_f64() == Some(share)))
        };
        if !found.accuracy.is_none_or(of_result) {
            continue;
        }
        let better = |known: &Details| rank(&found) > rank(known);
        if best.get(&found.data).is_none_or(better) {
            best.insert(found.data.clone(), found);
        }
    }
    Ok(best
        .into_values()
        .take(MOST_SETS)
        .enumerate()
        .map(|(i, details)| card(i, details))
        .collect())
}

fn card(i: usize, details: Details) -> Card {
    let name = super::evals::short_name(&details.data);
    let mut facts = vec![
        details.arch.clone(),
        format!("{} of step {}", details.weights, numbers::count(details.step)),
    ];
    facts.extend(
        details
            .accuracy
            .map(|share| format!("{}: {} named right", details.protocol, numbers::percent(share))),
    );
    let counts: Vec<_> = details.confusion.iter().map(|&(a, b, n)| (a, b, n as u64)).collect();
    Card {
        id: format!("images-{i}"),
        title: format!("What the net makes of {name}"),
        facts,
        neighbours: details.neighbours.iter().map(|q| row(q, &details.classes)).collect(),
        confusion: confusion::table(&details.classes, &counts),
        pairs: confusion::pairs(&details.classes, &counts),
        map: details.map.as_ref().and_then(|map| drawn(map, &details.classes)),
        legend: legend(&details),
    }
}

fn picture(image: &Shown, classes: &[String]) -> Picture {
    let class = image.class.map(|class| class_name(classes, class));
    Picture { png: image.png.clone(), name: image.name.clone(), class }
}

fn row(query: &Query, classes: &[String]) -> Row {
    let is_right = query.answer.zip(query.image.class).map(|(answer, class)| answer == class);
    let named = query.answer.map(|answer| class_name(classes, answer));
    let near = query.near.iter().map(|(similarity, image)| Neighbour {
        image: picture(image, classes),
        similarity: numbers::fixed(f64::from(*similarity), 2),
        is_same: image.class.zip(query.image.class).map(|(a, b)| a == b),
    });
    Row {
        image: picture(&query.image, classes),
        is_right,
        answer: named.unwrap_or_default(),
        near: near.collect(),
    }
}

/// Classes with a mark of their own, where there are enough marks.
fn legend(details: &Details) -> Vec<(String, String)> {
    let Some(map) = &details.map else { return Vec::new() };
    let shown = |class: &usize| map.classes.contains(&Some(*class));
    let classes = (0..details.classes.len()).filter(shown);
    let few = details.classes.len() <= MARKS.len();
    let entry = |class: usize| {
        let key = key(&format!("dot {}", MARKS[class]));
        (key, details.classes[class].clone())
    };
    classes.filter(|_| few).map(entry).collect()
}

fn drawn(map: &Map, classes: &[String]) -> Option<Panel> {
    let few = classes.len() <= MARKS.len();
    let point = |([x, y], class): (&[f64; 2], &Option<usize>)| Point {
        x: *x,
        y: *y,
        ci95: None,
        title: class.map_or("no class".into(), |class| class_name(classes, class)),
        class: match class {
            Some(class) if few => MARKS[*class % MARKS.len()],
            _ if classes.is_empty() => "c1",
            _ => "c0",
        },
        mark: None,
    };
    let points: Vec<Point> = map.places.iter().zip(&map.classes).map(point).collect();
    let [first, second] = map.explained.map(numbers::percent);
    let svg = Scatter {
        label: "Map of the embeddings",
        size: Size::MAP,
        x_label: &format!("first component, {first} of the variance"),
        points: &points,
        bands: &[],
        frontier: false,
        references: &[],
    }
    .draw()?;
    let some = if points.len() < map.images {
        format!(" {} of {} images, taken evenly.", points.len(), numbers::count(map.images as u64))
    } else {
        String::new()
    };
    let many = if few { "" } else { " There are too many classes for marks of their own." };
    let note = format!(
        "The two directions along which the features differ most (principal components): {first} and \
         {second} of their variance. Images that lie together here may lie apart in the other \
         directions, but not the other way round.{some}{many}"
    );
    Some(Panel { title: "Map of the embeddings".into(), note, svg, wide: true })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::files::write_json;

    fn shown(class: Option<usize>) -> Shown {
        Shown { name: "a/b.png".into(), class, png: "data:image/png;base64,AAAA".into() }
    }

    /// Of a net that names three of four images of two classes right.
    fn labelled(accuracy: f64) -> Details {
        let near = vec![(0.91, shown(Some(0))), (0.5, shown(Some(1)))];
        Details {
            arch: "s8-w8".into(),
            step: 300,
            weights: "student".into(),
            protocol: "knn".into(),
            data: vec!["p/shapes#test".into()],
            among: vec!["p/shapes#train".into()],
            classes: vec!["<cat>".into(), "dog".into()],
            accuracy: Some(accuracy),
            confusion: vec![(0, 0, 1), (0, 1, 1), (1, 1, 2)],
            neighbours: vec![Query { image: shown(Some(0)), answer: Some(1), near }],
            map: Some(Map {
                explained: [0.5, 0.25],
                images: 4,
                places: vec![[0.0, 1.0], [2.0, 3.0], [-1.0, 0.5], [0.0, -2.0]],
                classes: vec![Some(0), Some(0), Some(1), Some(1)],
            }),
        }
    }

    fn write(run: &Path, name: &str, details: &Details) {
        details.write(run, name).unwrap();
        let result = serde_json::json!({ "accuracy": { "k20": details.accuracy, "k200": 0.1 } });
        write_json(&run.join("eval").join(name), &result).unwrap();
    }

    #[test]
    fn the_best_net_of_a_set_of_images_is_shown() {
        let run = tempfile::tempdir().unwrap();
        write(run.path(), "a.json", &labelled(0.75));
        write(run.path(), "b.json", &labelled(0.5));
        // What belongs to no result any more, and what belongs to an earlier one.
        write(run.path(), "c.json", &labelled(1.0));
        fs::remove_file(run.path().join("eval/c.json")).unwrap();
        write(run.path(), "d.json", &labelled(0.4));
        labelled(0.9).write(run.path(), "d.json").unwrap();
        let cards = cards(run.path()).unwrap();
        let [card] = &cards[..] else { panic!("{} cards", cards.len()) };
        assert!(card.title.ends_with("shapes") && card.facts[2] == "knn: 75.0 % named right");
        let row = &card.neighbours[0];
        assert_eq!((row.is_right, row.answer.as_str()), (Some(false), "dog"));
        assert_eq!((row.near[0].is_same, row.near[1].is_same), (Some(true), Some(false)));
        let confusion = card.confusion.as_ref().unwrap();
        assert_eq!(confusion.rows[0].right, "50.0 %");
        assert_eq!(
            (&*confusion.rows[0].cells[1].count, &*confusion.rows[0].cells[1].share),
            ("1", "50")
        );
        let map = &card.map.as_ref().unwrap().svg.wide;
        assert_eq!(
            (map.matches("dot soft c1 f1").count(), map.matches("dot soft c2 f2").count()),
            (2, 2)
        );
        assert!(map.contains("&lt;cat&gt;") && card.legend.len() == 2 && card.pairs.is_empty());
    }

    #[test]
    fn many_classes_are_listed_by_pairs() {
        let run = tempfile::tempdir().unwrap();
        let classes = (0..1000).map(|i| format!("class {i}")).collect();
        let confusion = (0..1000).map(|i| (i, (i + i % 2) % 1000, 1 + i % 7)).collect();
        write(run.path(), "a.json", &Details { classes, confusion, ..labelled(0.5) });
        let card = cards(run.path()).unwrap().remove(0);
        assert!(card.confusion.is_none() && card.legend.is_empty());
        assert_eq!(
            (card.pairs.len(), &*card.pairs[0].count, &*card.pairs[0].share),
            (20, "7", "100.0 %")
        );
    }

    #[test]
    fn images_without_classes_are_shown_too() {
        let run = tempfile::tempdir().unwrap();
        let mut details = labelled(0.5);
        details.neighbours[0].answer = None;
        details.neighbours[0].image.class = None;
        let map = details.map.take().map(|map| Map { classes: vec![None; 4], ..map });
        let (classes, confusion, accuracy) = (Vec::new(), Vec::new(), None);
        let details = Details { classes, confusion, accuracy, map, ..details };
        details.write(run.path(), "embed-a.json").unwrap();
        let card = cards(run.path()).unwrap().remove(0);
        assert!(
            card.neighbours[0].is_right.is_none() && card.neighbours[0].near[0].is_same.is_none()
        );
        assert!(card.map.is_some() && card.legend.is_empty() && card.facts.len() == 2);
    }
}
