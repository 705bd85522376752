//! Images drawn by the program itself, to try everything without any data: domains of eight
//! classes each. What tells classes apart is form; colours, contrast and the share of the
//! image that each colour covers are drawn the same way for every class. Colours differ
//! little within a domain, so that a net finds little else to go by than form. [`scenes`] are
//! images of several shapes, with annotations.

mod fields;
pub mod scenes;

use std::f32::consts::TAU;
use std::path::Path;

use image::RgbImage;
use rayon::prelude::*;

use self::fields::{hand_field, shape_field, texture_field};
use crate::error::{Error, Result};
use crate::files::create_dir;
use crate::rng::{Philox, Purpose};

/// What kind of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// One shape on a plain ground; the class is the shape.
    Shapes,
    /// Two colours woven over the whole image in uneven light; the class is the pattern.
    Textures,
    /// A hand, always in the middle of a plain ground; the class is which fingers are stretched.
    /// All images look alike, which is hard to learn from without labels.
    Hands,
}

impl Domain {
    /// All of them.
    pub const ALL: [Domain; 3] = [Domain::Shapes, Domain::Textures, Domain::Hands];

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Domain::Shapes => "shapes",
            Domain::Textures => "textures",
            Domain::Hands => "hands",
        }
    }

    /// Names of its classes.
    pub fn classes(self) -> [&'static str; 8] {
        match self {
            Domain::Shapes => {
                ["bar", "crescent", "cross", "disc", "ring", "square", "star", "triangle"]
            }
            Domain::Textures => {
                ["cells", "checks", "clouds", "grain", "rings", "spots", "stripes", "waves"]
            }
            Domain::Hands => ["call", "fist", "five", "four", "gun", "point", "rock", "victory"],
        }
    }
}

/// Draws `counts` = [training, test] images of `side`×`side` pixels into
/// `dir/train/<class>/NNNN.png` and `dir/test/<class>/NNNN.png`, the classes in turn. Every
/// image is a function of domain, split, number, size and seed. Errors: a folder or file
/// that cannot be written.
pub fn write(dir: &Path, domain: Domain, counts: [usize; 2], side: usize, seed: u64) -> Result<()> {
    let classes = domain.classes();
    for (split, (name, count)) in ["train", "test"].into_iter().zip(counts).enumerate() {
        for class in classes {
            create_dir(&dir.join(name).join(class))?;
        }
        (0..count).into_par_iter().try_for_each(|i| {
            let file = format!("{:04}.png", i / classes.len());
            let path = dir.join(name).join(classes[i % classes.len()]).join(file);
            let image = draw(domain, split, i, side, seed);
            image.save(&path).map_err(|e| Error::write(&path, e))
        })?;
    }
    Ok(())
}

/// Image `i` of a split (0: training, 1: test); its class is `i` modulo 8.
fn draw(domain: Domain, split: usize, i: usize, side: usize, seed: u64) -> RgbImage {
    let stream = (domain as u16) << 1 | split as u16;
    let mut rng = Philox::new(seed, Purpose::Synthetic, i as u64, stream);
    let class = domain.classes()[i % 8];
    let (field, share, softness) = match domain {
        Domain::Shapes => {
            let share = rng.range(0.12, 0.22);
            (shape_field(class, share, side, &mut rng), share, 1.0 / (side as f32 * share.sqrt()))
        }
        Domain::Textures => (texture_field(class, side, &mut rng), 0.5, 0.08),
        Domain::Hands => (hand_field(class, side, &mut rng), 0.26, 1.5 / side as f32),
    };
    // The field is cut where exactly `share` of the pixels lie below.
    let mut sorted = field.clone();
    let rank = ((field.len() as f32 * share) as usize).min(field.len() - 1);
    let (_, &mut level, _) = sorted.select_nth_unstable_by(rank, f32::total_cmp);
    let paint = Paint::new(domain, &mut rng);
    RgbImage::from_fn(side as u32, side as u32, |x, y| {
        let (x, y) = (x as usize, y as usize);
        let inside = (0.5 + (level - field[y * side + x]) / softness).clamp(0.0, 1.0);
        let at = [x, y].map(|v| (v as f32 + 0.5) / side as f32 - 0.5);
        image::Rgb(paint.at(at, inside, &mut rng))
    })
}

/// Colours of an image, which know nothing of its class.
struct Paint {
    colours: [[f32; 3]; 2],
    /// Direction and strength of the light.
    light: [f32; 2],
    noise: f32,
}

impl Paint {
    fn new(domain: Domain, rng: &mut Philox) -> Self {
        let near = |colour: [f32; 3], rng: &mut Philox| colour.map(|c| c + rng.range(-0.1, 0.1));
        let palette = match domain {
            Domain::Shapes => [[0.93, 0.72, 0.25], [0.16, 0.26, 0.45]],
            Domain::Textures => [[0.78, 0.62, 0.45], [0.22, 0.38, 0.24]],
            Domain::Hands => [[0.78, 0.6, 0.5], [0.84, 0.83, 0.8]],
        };
        let colours = palette.map(|colour| near(colour, rng));
        let (strength, noise) = match domain {
            Domain::Shapes => (0.1, 0.01),
            Domain::Textures => (0.6, 0.04),
            Domain::Hands => (0.25, 0.01),
        };
        let (angle, strength) = (rng.range(0.0, TAU), rng.range(0.0, strength));
        Self { colours, light: [angle.cos() * strength, angle.sin() * strength], noise }
    }

    fn at(&self, [x, y]: [f32; 2], inside: f32, rng: &mut Philox) -> [u8; 3] {
        let light = 1.0 + self.light[0] * x + self.light[1] * y;
        std::array::from_fn(|c| {
            let [shape, ground] = [self.colours[0][c], self.colours[1][c]];
            let v = (ground + inside * (shape - ground)) * light + self.noise * rng.normal();
            (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 32;

    fn set(domain: Domain, split: usize, n: usize) -> Vec<RgbImage> {
        (0..n).map(|i| draw(domain, split, i, SIDE, 3)).collect()
    }

    /// Share of test images whose nearest training image is of their class.
    fn nearest_neighbour(domain: Domain, features: impl Fn(&RgbImage) -> Vec<f32>) -> f64 {
        let train: Vec<_> = set(domain, 0, 640).iter().map(&features).collect();
        let test: Vec<_> = set(domain, 1, 320).iter().map(&features).collect();
        let apart =
            |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum() };
        let right = test.iter().enumerate().filter(|(i, t)| {
            let near = (0..train.len())
                .min_by(|&a, &b| apart(&train[a], t).total_cmp(&apart(&train[b], t)))
                .unwrap();
            near % 8 == i % 8
        });
        right.count() as f64 / test.len() as f64
    }

    fn colours(image: &RgbImage) -> Vec<f32> {
        let mut features = vec![0.0; 6];
        for p in image.pixels() {
            for c in 0..3 {
                let v = f32::from(p.0[c]) / 255.0;
                features[c] += v / (SIDE * SIDE) as f32;
                features[3 + c] += v * v / (SIDE * SIDE) as f32;
            }
        }
        for c in 0..3 {
            features[3 + c] = (features[3 + c] - features[c] * features[c]).max(0.0).sqrt();
        }
        features
    }

    /// How much pixels differ some way apart, over how much any two do: least, mean and most of
    /// four directions.
    fn forms(image: &RgbImage) -> Vec<f32> {
        let at = |x: usize, y: usize| image.get_pixel(x as u32, y as u32).0.map(f32::from);
        let apart = |a: [f32; 3], b: [f32; 3]| -> f32 { (0..3).map(|c| (a[c] - b[c]).abs()).sum() };
        let mut features = Vec::new();
        for d in [1, 2, 3, 4, 6, 8, 11] {
            let mut along = [(d, 0), (0, d), (d, d), (d, usize::MAX)].map(|(dx, dy)| {
                let (mut sum, mut n) = (0.0, 0.0);
                for y in 0..SIDE {
                    for x in 0..SIDE - dx {
                        let other = if dy == usize::MAX { y.checked_sub(d) } else { Some(y + dy) };
                        if let Some(other) = other.filter(|&o| o < SIDE) {
                            sum += apart(at(x, y), at(x + dx, other));
                            n += 1.0;
                        }
                    }
                }
                sum / n
            });
            along.sort_by(f32::total_cmp);
            features.extend([along[0], along.iter().sum::<f32>() / 4.0, along[3]]);
        }
        let scale = features.iter().sum::<f32>() / features.len() as f32;
        features.iter().map(|f| f / scale).collect()
    }

    #[test]
    fn colour_says_nothing_of_the_class_and_form_says_much() {
        for domain in Domain::ALL {
            let (colour, form) =
                (nearest_neighbour(domain, colours), nearest_neighbour(domain, forms));
            println!("{}: colour {colour:.3}, form {form:.3}", domain.name());
            assert!(colour < 0.2, "{}: {colour} by colour, chance is 0.125", domain.name());
            assert!(form > 0.35, "{}: {form} by form, chance is 0.125", domain.name());
        }
    }

    #[test]
    fn files_lie_in_folders_of_their_class() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), Domain::Shapes, [16, 8], 8, 1).unwrap();
        let open = |part| {
            let path = format!("{}#{part}", dir.path().display());
            crate::data::Dataset::open(&[path]).unwrap()
        };
        let (train, test) = (open("train"), open("test"));
        assert_eq!((train.len(), test.len()), (16, 8));
        assert_eq!(train.classes(), Domain::Shapes.classes());
        assert_eq!(train.classes(), test.classes());
        assert_ne!(train.load(0).unwrap(), train.load(1).unwrap());
        assert_ne!(train.load(0).unwrap(), test.load(0).unwrap());
    }
}
