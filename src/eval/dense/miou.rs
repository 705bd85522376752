//! Accuracies of a class for each pixel, from counts over all images at their own sizes.

use serde_json::{Map, Value, json};

use super::{UNDEFINED, mean_of_defined};

/// How often a true class was taken for which class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    classes: usize,
    /// `[true class][predicted class]`
    pixels: Vec<u64>,
}

impl Counts {
    /// None yet, of so many classes.
    pub fn new(classes: usize) -> Self {
        Self { classes, pixels: vec![0; classes * classes] }
    }

    /// Counts the pixels of an image. Those whose true label is no class count nowhere.
    ///
    /// # Errors
    /// The position of the first pixel that counts and whose predicted label is no class.
    pub fn add(&mut self, truth: &[u8], predicted: &[u8]) -> Result<(), usize> {
        for (at, (&truth, &predicted)) in truth.iter().zip(predicted).enumerate() {
            let (truth, predicted) = (usize::from(truth), usize::from(predicted));
            if truth < self.classes {
                if predicted >= self.classes {
                    return Err(at);
                }
                self.pixels[truth * self.classes + predicted] += 1;
            }
        }
        Ok(())
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        self.pixels.iter_mut().zip(&other.pixels).for_each(|(mine, other)| *mine += other);
    }

    /// True class, predicted class and how many pixels have both; pairs without any are left out.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize, u64)> + '_ {
        let met = self.pixels.iter().enumerate().filter(|(_, pixels)| **pixels > 0);
        met.map(|(at, &pixels)| (at / self.classes, at % self.classes, pixels))
    }

    /// Right pixels of a class, its true pixels, and those predicted as it.
    fn of(&self, class: usize) -> [u64; 3] {
        let row = &self.pixels[class * self.classes..][..self.classes];
        let column = self.pixels.iter().skip(class).step_by(self.classes);
        [row[class], row.iter().sum(), column.sum()]
    }

    /// How many classes there are up to the last one that was met.
    pub fn met(&self) -> usize {
        let is_met = |class: &usize| self.of(*class) != [0; 3];
        (0..self.classes).rev().find(is_met).map_or(0, |last| last + 1)
    }

    /// True pixels of a class.
    pub fn truth(&self, class: usize) -> u64 {
        self.of(class)[1]
    }

    /// Intersection over union of a class; −1 where it is neither true nor predicted anywhere.
    pub fn iou(&self, class: usize) -> f64 {
        let [both, truth, predicted] = self.of(class);
        share(both, truth + predicted - both)
    }

    /// Share of a class's true pixels that are right; −1 where it has none.
    pub fn accuracy(&self, class: usize) -> f64 {
        let [both, truth, _] = self.of(class);
        share(both, truth)
    }

    /// The mean intersection over union of all classes for which there is one.
    pub fn miou(&self) -> f64 {
        mean_of_defined((0..self.classes).map(|class| self.iou(class)))
    }

    /// The mean accuracy of all classes that have pixels.
    pub fn macc(&self) -> f64 {
        mean_of_defined((0..self.classes).map(|class| self.accuracy(class)))
    }

    /// Intersection over union by the name of the class.
    pub fn per_class(&self, names: &[String]) -> Map<String, Value> {
        names.iter().enumerate().map(|(c, name)| (name.clone(), json!(self.iou(c)))).collect()
    }

    /// Share of all pixels that are right.
    pub fn aacc(&self) -> f64 {
        let right = (0..self.classes).map(|class| self.of(class)[0]).sum();
        share(right, self.pixels.iter().sum())
    }
}

fn share(part: u64, all: u64) -> f64 {
    if all == 0 { UNDEFINED } else { part as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut counts = Counts::new(4);
        counts.add(&[0, 0, 0, 1, 255], &[0, 0, 1, 1, 200]).unwrap();
        let mut more = Counts::new(4);
        more.add(&[1], &[2]).unwrap();
        counts.merge(&more);
        // Class 2 is predicted once and never true; class 3 is absent.
        assert_eq!([0, 1, 2, 3].map(|c| counts.iou(c)), [2.0 / 3.0, 1.0 / 3.0, 0.0, -1.0]);
        assert_eq!([0, 1, 2, 3].map(|c| counts.accuracy(c)), [2.0 / 3.0, 0.5, -1.0, -1.0]);
        assert_eq!(counts.miou(), (2.0 / 3.0 + 1.0 / 3.0) / 3.0);
        assert_eq!(counts.macc(), (2.0 / 3.0 + 0.5) / 2.0);
        assert_eq!((counts.aacc(), counts.met()), (3.0 / 5.0, 3));
        let pairs: Vec<_> = counts.pairs().collect();
        assert_eq!(pairs, [(0, 0, 2), (0, 1, 1), (1, 1, 1), (1, 2, 1)]);
        assert_eq!(counts.add(&[255, 1], &[9, 4]), Err(1));
        assert_eq!(Counts::new(2).miou(), UNDEFINED);
    }
}
