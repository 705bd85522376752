//! Proposals on any device: bit for bit those of the plain function on the host.

use super::{Level, download, propose};
use crate::cx::Cx;
use crate::device::Backend;
use crate::error::Result;
use crate::geometry::{Anchors, Coder, Corners, LevelOutput, ProposalSettings, proposals};
use crate::ops::check::on_schedules;
use crate::ops::{Check, Outcome};
use crate::rng::{Philox, Purpose};
use crate::tensor::{DType, Shape};

/// What is said of anchors.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    /// Random numbers.
    Numbers,
    /// The same, but a logit in each step of the whole numbers, and both zeros.
    Ties,
    /// All boxes are the image.
    Images,
    /// Boxes beside the image.
    Nothing,
    /// Some logits and deltas are infinite or no numbers, of either sign.
    Broken,
    /// No logit of the second level is a number.
    BrokenLevel,
}

/// Images, sizes of levels, sizes of anchors in powers of 2, and limits.
struct Case {
    name: &'static str,
    images: usize,
    levels: &'static [[usize; 2]],
    powers: usize,
    limits: [usize; 2],
    nms: f32,
    said: Said,
}

const FEW: Case = Case {
    name: "few anchors",
    images: 2,
    levels: &[[5, 7], [3, 4]],
    powers: 1,
    limits: [1000, 1000],
    nms: 0.7,
    said: Said::Numbers,
};
const MANY: Case = Case { name: "more than blocks hold", levels: &[[22, 23], [9, 31]], ..FEW };
const PYRAMID: &[[usize; 2]] = &[[16, 20], [8, 10], [4, 5], [2, 3], [1, 2]];

const CASES: &[Case] = &[
    FEW,
    Case { name: "the best of few", images: 1, levels: &[[2, 1]], limits: [1, 1], ..FEW },
    Case { name: "none are considered", limits: [0, 5], ..FEW },
    Case { name: "none are kept", limits: [5, 0], ..FEW },
    Case { name: "all of one level, some of the other", limits: [36, 40], ..FEW },
    Case { name: "five levels, the best of them", levels: PYRAMID, limits: [200, 150], ..FEW },
    Case { name: "no overlap is allowed", nms: f32::MIN_POSITIVE, ..MANY },
    Case { name: "every overlap is allowed", images: 1, nms: 1.0, ..MANY },
    Case { name: "as many as a word", limits: [64, 64], ..MANY },
    Case { name: "one more than a word", limits: [65, 65], ..MANY },
    Case { name: "as many as a block", limits: [256, 100], nms: 0.9, ..MANY },
    Case { name: "one more than a block", limits: [257, 300], nms: 0.9, ..MANY },
    MANY,
    Case { name: "fifteen anchors a position", levels: &[[11, 13]], powers: 5, ..MANY },
    Case { name: "equal logits", levels: PYRAMID, limits: [70, 120], said: Said::Ties, ..FEW },
    Case { name: "equal logits, all", limits: [2000, 2000], said: Said::Ties, ..MANY },
    Case { name: "one suppresses all others", said: Said::Images, ..MANY },
    Case { name: "no boxes", said: Said::Nothing, ..FEW },
    Case { name: "values that are no numbers", limits: [300, 300], said: Said::Broken, ..MANY },
    Case { name: "one level empty", said: Said::BrokenLevel, ..FEW },
];

/// All checks, as (name, check).
pub fn checks() -> Vec<(String, Check)> {
    let check = |case: &'static Case| -> (String, Check) {
        (format!("proposals/{}", case.name), Box::new(move |cx| agrees(cx, case)))
    };
    let mut all: Vec<(String, Check)> = CASES.iter().map(check).collect();
    all.push(("proposals/twenty runs".into(), Box::new(repeats)));
    all.push(("proposals/misfits".into(), Box::new(refuses)));
    all
}

/// Values of a level and its anchors.
struct Values {
    anchors: Anchors,
    logits: Vec<f32>,
    deltas: Vec<f32>,
}

impl Case {
    fn settings(&self) -> ProposalSettings {
        let [pre, post] = self.limits;
        ProposalSettings { pre, post, nms: self.nms, coder: Coder::RPN }
    }

    /// Heights and widths of the images, the first of which fills the levels.
    fn sizes(&self) -> Vec<[f32; 2]> {
        let [h, w] = self.levels[0].map(|s| (8 * s) as f32);
        (0..self.images).map(|i| [h - 3.0 * i as f32, w - 1.5 * i as f32]).collect()
    }

    fn values(&self) -> Vec<Values> {
        let mut rng = Philox::new(self.powers as u64, Purpose::Check, 0, 0);
        let level = |(level, size): (usize, &[usize; 2])| {
            let sizes: Vec<f64> = (0..self.powers).map(|p| (16 << (level + p)) as f64).collect();
            let anchors = Anchors::new(8 << level, &sizes, &[0.5, 1.0, 2.0], *size);
            let n = self.images * anchors.len();
            let logits = (0..n).map(|_| self.logit(level, &mut rng)).collect();
            let deltas = (0..4 * n).map(|i| self.delta(i % 4, &mut rng)).collect();
            Values { anchors, logits, deltas }
        };
        self.levels.iter().enumerate().map(level).collect()
    }

    fn logit(&self, level: usize, rng: &mut Philox) -> f32 {
        let broken = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        match self.said {
            Said::Ties => [-1.0, -0.0, 0.0, 1.0][rng.below(4)],
            Said::Broken if rng.chance(0.2) => broken[rng.below(4)],
            Said::BrokenLevel if level == 1 => f32::NAN,
            _ => rng.normal(),
        }
    }

    fn delta(&self, which: usize, rng: &mut Philox) -> f32 {
        let broken = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        match self.said {
            Said::Images => [0.0, 0.0, 50.0, 50.0][which],
            Said::Nothing => [-300.0, 0.0, 0.0, 0.0][which],
            Said::Broken if rng.chance(0.05) => broken[rng.below(3)],
            _ => 0.4 * rng.normal(),
        }
    }
}

/// Boxes of each image that a context proposes.
fn run(cx: &Cx, case: &Case, values: &[Values]) -> Result<Vec<Vec<Corners>>> {
    let tensors = values.iter().zip(case.levels).map(|(said, [h, w])| {
        let each = said.anchors.per_position();
        let shape = |c| Shape::nhwc(case.images, *h, *w, c);
        let logits = cx.upload(shape(each), DType::F32, &said.logits)?;
        Ok([logits, cx.upload(shape(4 * each), DType::F32, &said.deltas)?])
    });
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let pairs = values.iter().zip(&tensors);
    let levels: Vec<Level> = pairs
        .map(|(said, [logits, deltas])| Level { anchors: &said.anchors, logits, deltas })
        .collect();
    download(cx, &propose(cx, &levels, &case.sizes(), &case.settings())?)
}

/// The same from the plain function.
fn expected(case: &Case, values: &[Values]) -> Vec<Vec<Corners>> {
    let of_image = |(i, size): (usize, &[f32; 2])| {
        let outputs: Vec<LevelOutput> = values
            .iter()
            .map(|Values { anchors, logits, deltas }| {
                let n = anchors.len();
                let (logits, deltas) = (&logits[i * n..][..n], &deltas[4 * i * n..][..4 * n]);
                LevelOutput { anchors, logits, deltas }
            })
            .collect();
        let found = proposals(&outputs, *size, &case.settings());
        found.into_iter().map(|proposal| proposal.bbox).collect()
    };
    case.sizes().iter().enumerate().map(of_image).collect()
}

fn bits(boxes: &[Vec<Corners>]) -> Vec<Vec<[u32; 4]>> {
    boxes.iter().map(|boxes| boxes.iter().map(|b| b.map(f32::to_bits)).collect()).collect()
}

fn agrees(cx: &Cx, case: &Case) -> Result<Outcome, String> {
    let values = case.values();
    let expected = bits(&expected(case, &values));
    let counts: Vec<usize> = expected.iter().map(Vec::len).collect();
    let is_empty = case.limits.contains(&0) || case.said == Said::Nothing;
    if counts.contains(&0) != is_empty {
        return Err(format!("the host finds {counts:?} boxes"));
    }
    let compare = |cx: &Cx| -> Result<(), String> {
        let found = bits(&run(cx, case, &values).map_err(|e| e.to_string())?);
        let mut pairs = found.iter().flatten().zip(expected.iter().flatten());
        match pairs.position(|(found, expected)| found != expected) {
            Some(at) => Err(format!("box {at} of all images differs from the host's")),
            None if found != expected => {
                let found: Vec<usize> = found.iter().map(Vec::len).collect();
                Err(format!("{found:?} boxes, the host finds {counts:?}"))
            }
            None => Ok(()),
        }
    };
    match cx.backend() {
        Backend::Plan => Ok(Outcome::Skipped),
        Backend::Cpu => compare(cx).map(|()| Outcome::Passed),
        Backend::Driver(_) => on_schedules(cx, compare),
    }
}

/// Twenty runs give the same bits; on the emulator each has another order of threads.
fn repeats(cx: &Cx) -> Result<Outcome, String> {
    if cx.is_plan() {
        return Ok(Outcome::Skipped);
    }
    let case = Case { levels: PYRAMID, limits: [150, 120], said: Said::Ties, ..FEW };
    let values = case.values();
    let expected = bits(&expected(&case, &values));
    for seed in 0..20 {
        let reschedule = |seed| {
            if let Backend::Driver(driver) = cx.backend() {
                driver.reschedule(seed);
            }
        };
        reschedule(seed);
        let found = run(cx, &case, &values);
        reschedule(0);
        if bits(&found.map_err(|e| e.to_string())?) != expected {
            return Err(format!("run {seed} gives other boxes"));
        }
    }
    Ok(Outcome::Passed)
}

fn refuses(cx: &Cx) -> Result<Outcome, String> {
    let run = || -> Result<Vec<bool>> {
        let anchors = Anchors::new(8, &[16.0], &[1.0], [3, 4]);
        let tensor = |shape: [usize; 4]| cx.zeros(Shape(shape), DType::F32);
        let (logits, deltas) = (tensor([2, 3, 4, 1])?, tensor([2, 3, 4, 4])?);
        let refused = |logits, deltas, images: usize| {
            let level = Level { anchors: &anchors, logits, deltas };
            propose(cx, &[level], &vec![[24.0, 32.0]; images], &FEW.settings()).is_err()
        };
        let integers = cx.upload_i32(Shape([2, 3, 4, 1]), &[0; 24])?;
        Ok(vec![
            !refused(&logits, &deltas, 2),
            refused(&logits, &deltas, 1),
            refused(&logits, &tensor([2, 3, 4, 5])?, 2),
            refused(&tensor([2, 4, 3, 1])?, &tensor([2, 4, 3, 4])?, 2),
            refused(&tensor([2, 2, 4, 1])?, &tensor([2, 2, 4, 4])?, 2),
            refused(&integers, &deltas, 2),
        ])
    };
    let right = run().map_err(|e| e.to_string())?;
    if right.iter().all(|r| *r) { Ok(Outcome::Passed) } else { Err(format!("{right:?}")) }
}
