//! Names and shapes of whole nets against those that libraries give a ResNet-50.

use std::collections::BTreeMap;

use super::names::{Change, place};
use crate::config::Task;
use crate::export::Layout;
use crate::nn::Supernet;
use crate::nn::dense::{DetNet, Detector};
use crate::space::Space;

type Shapes = BTreeMap<String, Vec<usize>>;

/// A detector of COCO's classes with the widths of ResNet-50.
fn net(task: Task) -> DetNet {
    let space = Space::preset("data").unwrap();
    let space = space.single(&"s64-w64.128.256.512-d3.4.6.3".parse().unwrap());
    let fpn = task == Task::DetFpn;
    let (channels, box_head) = (256, [0, 2, 1024]);
    let detector = Detector {
        classes: 80,
        fpn,
        channels,
        box_head,
        norm: true,
        head_norm: false,
        mask: fpn,
        anchor: 32,
    };
    DetNet::new(&space, detector).unwrap()
}

/// The tensors of a net in a layout. Of the library's extra rows there are none here.
fn ours(layout: Layout, task: Task, net: &Supernet) -> Shapes {
    let mut all = Shapes::new();
    let mut put = |name: &str, mut shape: Vec<usize>| {
        let place = place(layout, task, false, name).unwrap_or_else(|| panic!("{name}"));
        if let Change::Zeros(more) = place.change {
            shape[0] += more;
        }
        assert!(all.insert(place.name, shape).is_none(), "{name}");
    };
    net.specs().iter().for_each(|spec| put(&spec.name, spec.torch_shape()));
    for norm in net.norms() {
        let weight = net.specs().iter().find(|spec| spec.name == format!("{norm}.weight")).unwrap();
        for what in ["running_mean", "running_var"] {
            put(&format!("{norm}.{what}"), weight.torch_shape());
        }
    }
    all
}

fn norm(all: &mut Shapes, name: &str, channels: usize) {
    for what in ["weight", "bias", "running_mean", "running_var"] {
        all.insert(format!("{name}.{what}"), vec![channels]);
    }
}

fn biased(all: &mut Shapes, name: &str, shape: &[usize], biases: usize) {
    all.insert(format!("{name}.weight"), shape.to_vec());
    all.insert(format!("{name}.bias"), vec![biases]);
}

/// detectron2's: a convolution with its norm inside.
fn conv(all: &mut Shapes, name: &str, shape: [usize; 4]) {
    all.insert(format!("{name}.weight"), shape.to_vec());
    norm(all, &format!("{name}.norm"), shape[0]);
}

/// A stage of detectron2's ResNet of bottlenecks.
fn stage(all: &mut Shapes, name: &str, [mut inputs, width, blocks]: [usize; 3]) {
    for b in 0..blocks {
        let out = 4 * width;
        conv(all, &format!("{name}.{b}.conv1"), [width, inputs, 1, 1]);
        conv(all, &format!("{name}.{b}.conv2"), [width, width, 3, 3]);
        conv(all, &format!("{name}.{b}.conv3"), [out, width, 1, 1]);
        if b == 0 {
            conv(all, &format!("{name}.{b}.shortcut"), [out, inputs, 1, 1]);
        }
        inputs = out;
    }
}

const STAGES: [[usize; 3]; 4] = [[64, 64, 3], [256, 128, 4], [512, 256, 6], [1024, 512, 3]];

#[test]
fn mask_rcnn_is_detectron2s() {
    let mut all = Shapes::new();
    conv(&mut all, "backbone.bottom_up.stem.conv1", [64, 3, 7, 7]);
    for (s, sizes) in STAGES.into_iter().enumerate() {
        stage(&mut all, &format!("backbone.bottom_up.res{}", s + 2), sizes);
        conv(&mut all, &format!("backbone.fpn_lateral{}", s + 2), [256, 4 * sizes[1], 1, 1]);
        conv(&mut all, &format!("backbone.fpn_output{}", s + 2), [256, 256, 3, 3]);
    }
    let rpn = "proposal_generator.rpn_head";
    biased(&mut all, &format!("{rpn}.conv"), &[256, 256, 3, 3], 256);
    biased(&mut all, &format!("{rpn}.objectness_logits"), &[3, 256, 1, 1], 3);
    biased(&mut all, &format!("{rpn}.anchor_deltas"), &[12, 256, 1, 1], 12);
    biased(&mut all, "roi_heads.box_head.fc1", &[1024, 12544], 1024);
    biased(&mut all, "roi_heads.box_head.fc2", &[1024, 1024], 1024);
    biased(&mut all, "roi_heads.box_predictor.cls_score", &[81, 1024], 81);
    biased(&mut all, "roi_heads.box_predictor.bbox_pred", &[320, 1024], 320);
    for i in 1..=4 {
        biased(&mut all, &format!("roi_heads.mask_head.mask_fcn{i}"), &[256, 256, 3, 3], 256);
    }
    biased(&mut all, "roi_heads.mask_head.deconv", &[256, 256, 2, 2], 256);
    biased(&mut all, "roi_heads.mask_head.predictor", &[80, 256, 1, 1], 80);
    assert_eq!(ours(Layout::Detectron2, Task::DetFpn, net(Task::DetFpn).net()), all);
}

#[test]
fn faster_rcnn_on_c4_is_detectron2s_with_an_extra_norm() {
    let mut all = Shapes::new();
    conv(&mut all, "backbone.stem.conv1", [64, 3, 7, 7]);
    for (s, sizes) in STAGES[..3].iter().enumerate() {
        stage(&mut all, &format!("backbone.res{}", s + 2), *sizes);
    }
    stage(&mut all, "roi_heads.res5", STAGES[3]);
    norm(&mut all, "roi_heads.res5.norm", 2048);
    let rpn = "proposal_generator.rpn_head";
    biased(&mut all, &format!("{rpn}.conv"), &[1024, 1024, 3, 3], 1024);
    biased(&mut all, &format!("{rpn}.objectness_logits"), &[15, 1024, 1, 1], 15);
    biased(&mut all, &format!("{rpn}.anchor_deltas"), &[60, 1024, 1, 1], 60);
    biased(&mut all, "roi_heads.box_predictor.cls_score", &[81, 2048], 81);
    biased(&mut all, "roi_heads.box_predictor.bbox_pred", &[320, 2048], 320);
    assert_eq!(ours(Layout::Detectron2, Task::DetC4, net(Task::DetC4).net()), all);
}

#[test]
fn mask_rcnn_is_mmdetections_and_torchvisions() {
    let net = net(Task::DetFpn);
    let [torchvision, mmdet] =
        [Layout::Torchvision, Layout::Mmdet].map(|layout| ours(layout, Task::DetFpn, net.net()));
    for (all, names) in [
        (
            &torchvision,
            [
                ("backbone.body.layer2.0.downsample.1.running_var", vec![512]),
                ("backbone.fpn.inner_blocks.3.0.weight", vec![256, 2048, 1, 1]),
                ("backbone.fpn.layer_blocks.0.1.bias", vec![256]),
                ("rpn.head.conv.0.0.weight", vec![256, 256, 3, 3]),
                ("rpn.head.cls_logits.bias", vec![3]),
                ("roi_heads.box_head.fc6.weight", vec![1024, 12544]),
                ("roi_heads.box_predictor.cls_score.weight", vec![81, 1024]),
                ("roi_heads.box_predictor.bbox_pred.bias", vec![324]),
                ("roi_heads.mask_head.3.0.bias", vec![256]),
                ("roi_heads.mask_predictor.conv5_mask.weight", vec![256, 256, 2, 2]),
                ("roi_heads.mask_predictor.mask_fcn_logits.weight", vec![81, 256, 1, 1]),
            ],
        ),
        (
            &mmdet,
            [
                ("backbone.layer2.0.downsample.1.running_var", vec![512]),
                ("neck.lateral_convs.3.conv.weight", vec![256, 2048, 1, 1]),
                ("neck.fpn_convs.0.bn.bias", vec![256]),
                ("rpn_head.rpn_conv.weight", vec![256, 256, 3, 3]),
                ("rpn_head.rpn_cls.bias", vec![3]),
                ("roi_head.bbox_head.shared_fcs.0.weight", vec![1024, 12544]),
                ("roi_head.bbox_head.fc_cls.weight", vec![81, 1024]),
                ("roi_head.bbox_head.fc_reg.bias", vec![320]),
                ("roi_head.mask_head.convs.3.conv.bias", vec![256]),
                ("roi_head.mask_head.upsample.weight", vec![256, 256, 2, 2]),
                ("roi_head.mask_head.conv_logits.weight", vec![80, 256, 1, 1]),
            ],
        ),
    ] {
        for (name, shape) in names {
            assert_eq!(all.get(name), Some(&shape), "{name}");
        }
        assert_eq!(all.len(), torchvision.len());
    }
}
