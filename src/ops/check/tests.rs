use super::super::{Saved, add_to_front, expect_inputs};
use super::*;
use crate::error::{Error, Result as OpResult};
use crate::ops::{Grad, Measured};
use crate::tensor::{Real, Tensor};

/// What is wrong with a [`Scale`].
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Nothing,
    WrongGradient,
    Overwrites,
    TouchesInactive,
    CountsThreads,
    Imprecise,
    LeavesOutput,
    PlansLess,
    AnnouncesOther,
    TakesAnything,
    PanicsOnMisfit,
}

/// y = x·w for each channel, with a fault.
#[derive(Debug)]
struct Scale(Fault);

impl Op for Scale {
    const NAME: &'static str = "scale";

    fn infer(&self, inputs: &[Meta]) -> OpResult<Meta> {
        match self.0 {
            Fault::TakesAnything => return Ok(Meta::new(Shape::vector(1), DType::F32)),
            Fault::PanicsOnMisfit => {
                assert_eq!(inputs[0].shape.h() * inputs[1].shape.n(), 3);
            }
            _ => {}
        }
        expect_inputs(inputs, &["x", "w"])?;
        let (x, w) = (inputs[0].shape, inputs[1].shape);
        if w.rows() != 1 || w.c() < x.c() {
            return Err(Error::usage("w does not fit x"));
        }
        let transposed = Shape::nhwc(x.n(), x.w(), x.h(), x.c());
        let shape = if self.0 == Fault::AnnouncesOther { transposed } else { x };
        Ok(Meta::new(shape, inputs[0].dtype))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> OpResult<(Tensor, Saved)> {
        let (x, w) = (inputs[0], inputs[1]);
        let mut y = cx.alloc(x.meta())?;
        if self.0 == Fault::PlansLess && !cx.is_plan() {
            cx.alloc(Meta::new(Shape::vector(1 << 20), DType::F32))?;
        }
        cx.run_native(Self::NAME, || {
            let c = x.shape().c();
            crate::dispatch!(x.dtype(), T => {
                let (x, w, y) = (x.host::<T>(), w.host::<T>(), y.host_mut::<T>());
                let last = if self.0 == Fault::LeavesOutput { x.len() - 1 } else { x.len() };
                for i in 0..last {
                    y[i] = x[i] * w[i % c];
                    if self.0 == Fault::Imprecise && size_of::<T>() == 4 {
                        y[i] += ((i % 2) as f32 * 2e-5) as T;
                    }
                }
                if self.0 == Fault::CountsThreads {
                    y[0] += rayon::current_num_threads() as T * 1e-6;
                }
            });
            Ok(())
        })?;
        Ok((y, vec![x.clone(), w.clone()]))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> OpResult<()> {
        let (x, w) = (&saved[0], &saved[1]);
        let c = x.shape().c();
        let mut sums = vec![0.0; if self.0 == Fault::TouchesInactive { w.shape().c() } else { c }];
        sums[c..].fill(1.0);
        let mut gx = cx.alloc(x.meta())?;
        cx.run_native(Self::NAME, || {
            crate::dispatch!(x.dtype(), T => {
                let (x, w, gy) = (x.host::<T>(), w.host::<T>(), gy.host::<T>());
                let gx = gx.host_mut::<T>();
                for i in 0..x.len() {
                    let factor = if self.0 == Fault::WrongGradient { 1.0 + 1e-5 } else { 1.0 };
                    gx[i] = gy[i] * w[i % c] * factor as T;
                    sums[i % c] += (gy[i] * x[i]).f64();
                }
            });
            Ok(())
        })?;
        match self.0 {
            Fault::Overwrites => grads[0] = Grad::wanted(Some(gx)),
            _ => grads[0].put(cx, gx)?,
        }
        add_to_front(cx, &mut grads[1], w.meta(), &sums)
    }

    fn cases() -> Vec<Case<Self>> {
        Vec::new()
    }
}

impl Measured for Scale {}

type CheckFn = fn(&Case<Scale>, &Cx) -> Result<Outcome>;

/// The checks that fail on an op.
fn failing(fault: Fault) -> Vec<&'static str> {
    let shape = Shape::nhwc(2, 3, 4, 5);
    let inputs = vec![Input::normal(shape), Input::normal(Shape::vector(7))];
    let case = Case { name: "case".into(), op: Scale(fault), inputs };
    let cx = Cx::cpu(2).unwrap();
    let checks: [(&str, CheckFn); 5] = [
        ("finite differences", finite_differences),
        ("accumulation", accumulation),
        ("f32", |case, cx| precision(case, cx, DType::F32)),
        ("order", order),
        ("shapes", shapes),
    ];
    let fails =
        |check: &fn(&Case<Scale>, &Cx) -> Result<Outcome>| guarded(|| check(&case, &cx)).is_err();
    checks.iter().filter(|(_, check)| fails(check)).map(|(name, _)| *name).collect()
}

#[test]
fn every_check_can_fail() {
    let all = ["finite differences", "accumulation", "f32", "order", "shapes"];
    assert_eq!(failing(Fault::Nothing), [""; 0]);
    assert_eq!(failing(Fault::WrongGradient), ["finite differences"]);
    assert_eq!(failing(Fault::Overwrites), ["accumulation"]);
    assert_eq!(failing(Fault::TouchesInactive), ["finite differences"]);
    assert_eq!(failing(Fault::CountsThreads), ["order"]);
    assert_eq!(failing(Fault::Imprecise), ["f32"]);
    assert!(failing(Fault::LeavesOutput).contains(&"f32"));
    assert_eq!(failing(Fault::PlansLess), ["shapes"]);
    assert_eq!(failing(Fault::AnnouncesOther), all);
    assert_eq!(failing(Fault::TakesAnything), all);
    assert_eq!(failing(Fault::PanicsOnMisfit), ["shapes"]);
}

#[test]
fn whole_numbers_must_be_exact() {
    let whole = Fill::Integers { lo: -4, hi: 4 };
    let inputs = [Shape::nhwc(2, 3, 4, 5), Shape::vector(7)].map(|s| Input::normal(s).fill(whole));
    let case = |fault| Case { name: "case".into(), op: Scale(fault), inputs: inputs.to_vec() };
    let cx = Cx::for_tests();
    assert_eq!(precision(&case(Fault::Nothing), &cx, DType::F32), Ok(Outcome::Passed));
    assert!(precision(&case(Fault::CountsThreads), &cx, DType::F32).is_err());
}

#[test]
fn fills_are_what_they_say() {
    let shape = Shape::matrix(30, 7);
    let mut x = values(shape, Fill::Distinct, 1);
    x.sort_by(f32::total_cmp);
    assert!(x.windows(2).all(|w| w[1] - w[0] > 0.01) && x.iter().all(|x| x.abs() > 0.01));
    for row in values(shape, Fill::UnitRows, 1).chunks(7) {
        assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-6);
    }
    let whole = values(shape, Fill::Integers { lo: -2, hi: 3 }, 1);
    assert!((-2..=3).all(|i| whole.contains(&(i as f32))));
    assert!(whole.iter().all(|x| x.fract() == 0.0 && (-2.0..=3.0).contains(x)));
    let mut order = values(shape, Fill::Permutation { end: 210 }, 1);
    assert_ne!(order, values(shape, Fill::Permutation { end: 210 }, 2));
    order.sort_by(f32::total_cmp);
    assert!(order.iter().enumerate().all(|(i, x)| *x == i as f32));
    let rois = values(Shape::matrix(60, 6), Fill::Rois { images: 2, levels: 3, side: 40 }, 1);
    let rois: Vec<&[f32]> = rois.chunks(6).collect();
    assert!(rois.windows(2).all(|w| w[0][..2] <= w[1][..2]));
    assert!((0..6).all(|g| rois.iter().any(|r| r[..2] == [(g / 3) as f32, (g % 3) as f32])));
    assert!(rois.iter().all(|r| r[2] <= r[4] && r[3] <= r[5]) && rois[0][2..4] == rois[0][4..]);
    assert!(rois.iter().any(|r| r[2] < 0.0) && rois.iter().any(|r| r[5] > 40.0));
    assert_eq!(values(shape, Fill::Normal, 1), values(shape, Fill::Normal, 1));
    assert_ne!(values(shape, Fill::Normal, 1), values(shape, Fill::Normal, 2));
}
