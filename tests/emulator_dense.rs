//! Nets for dense tasks as a device computes them in bf16.
#![cfg(feature = "emulator")]

use std::sync::Arc;

use engine::cx::Cx;
use engine::device::emulator::Emulator;
use engine::nn::dense::{DetNet, Detector, Fcn, SegNet};
use engine::nn::{BnMode, Params};
use engine::ops::Fill;
use engine::ops::check::values;
use engine::space::Space;
use engine::tape::{Tape, Var};
use engine::tensor::{DType, Shape};

fn narrow() -> Cx {
    Cx::device(Arc::new(Emulator::new(1).unwrap()), 1).unwrap().computing_in(DType::BF16)
}

/// A space with one net.
fn space() -> Space {
    let whole = Space::preset("tiny").unwrap();
    whole.single(&whole.min())
}

fn image(cx: &Cx, tape: &mut Tape) -> Var {
    let shape = Shape::nhwc(1, 64, 64, 3);
    tape.constant(cx.upload(shape, DType::BF16, &values(shape, Fill::Normal, 1)).unwrap())
}

/// Of few values most are between those that bf16 has.
fn expect_f32(cx: &Cx, predicted: &Var) {
    let value = predicted.value();
    assert_eq!(value.dtype(), DType::F32, "{value:?}");
    let found = cx.download(value).unwrap();
    let coarse = found.iter().filter(|v| v.to_bits().trailing_zeros() >= 16).count();
    assert!(8 * coarse < found.len().max(8), "{coarse} of {value:?} are in bf16");
}

/// What is predicted is compared: rounded to bf16, many anchors would have equal logits.
#[test]
fn detectors_predict_in_f32_beside_tensors_of_bf16() {
    let cx = narrow();
    for fpn in [false, true] {
        let detector = Detector {
            classes: 3,
            fpn,
            channels: 16,
            box_head: [0, 1, 16],
            norm: true,
            head_norm: false,
            mask: fpn,
            anchor: 8,
        };
        let net = DetNet::new(&space(), detector).unwrap();
        let params = Params::init(&cx, net.net().specs(), 1).unwrap().ready(&cx).unwrap();
        let mut tape = Tape::inference(&cx);
        let x = image(&cx, &mut tape);
        let mut norm = BnMode::Batch { group: 0 };
        let levels = net.levels(&mut tape, &params, x, &mut norm, None).unwrap();
        assert!(levels.iter().all(|level| level.value().dtype() == DType::BF16));
        for level in net.proposals(&mut tape, &params, &levels).unwrap() {
            expect_f32(&cx, &level.logits);
            expect_f32(&cx, &level.deltas);
        }
        let rois = [0.0, 0.0, 4.0, 4.0, 40.0, 50.0, 0.0, 0.0, 9.0, 1.0, 60.0, 33.0];
        let rois = cx.upload(Shape::matrix(2, 6), DType::F32, &rois).unwrap();
        let boxes = net.boxes(&mut tape, &params, &levels, &rois, &mut norm, None).unwrap();
        expect_f32(&cx, &boxes.scores);
        expect_f32(&cx, &boxes.deltas);
        if fpn {
            expect_f32(&cx, &net.masks(&mut tape, &params, &levels, &rois, &mut norm).unwrap());
        }
    }
}

#[test]
fn segmentation_predicts_in_f32_beside_tensors_of_bf16() {
    let cx = narrow();
    let net = SegNet::new(&space(), Fcn { classes: 5, channels: 8, aux: false }, 8).unwrap();
    let params = Params::init(&cx, net.net().specs(), 1).unwrap().ready(&cx).unwrap();
    let mut tape = Tape::inference(&cx);
    let x = image(&cx, &mut tape);
    let mut norm = BnMode::Batch { group: 0 };
    let scores = net.forward(&mut tape, &params, x, &mut norm, None, None).unwrap();
    expect_f32(&cx, &scores.main);
}
