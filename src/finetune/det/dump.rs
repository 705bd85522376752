//! What is kept of a step of detection for a replay elsewhere.

use super::objective::Detect;
use super::regions::{self, Region};
use crate::cx::Cx;
use crate::data::annotated::ImageTargets;
use crate::error::Result;
use crate::geometry::AnchorSample;
use crate::tensor::Tensor;
use crate::train::dump::Dump;

impl Detect {
    /// Keeps what went into a step and came out of it, for a replay elsewhere.
    pub(super) fn dump(
        &self,
        cx: &Cx,
        images: &Tensor,
        targets: &[ImageTargets],
        regions: &[Region],
        losses: &[(String, f64)],
        dump: &mut Dump,
    ) -> Result<()> {
        dump.images(cx, "x", images)?;
        // A row for each: image, level, index, whether it is an object, deltas.
        let mut anchors = Vec::new();
        for (i, targets) in targets.iter().enumerate() {
            for AnchorSample { level, index, deltas } in &targets.anchors {
                anchors.extend([i as f32, *level as f32, *index as f32]);
                anchors.push(if deltas.is_some() { 1.0 } else { 0.0 });
                anchors.extend(deltas.unwrap_or([0.0; 4]));
            }
        }
        dump.values("anchors", vec![anchors.len() / 8, 8], anchors);
        let sizes = targets.iter().flat_map(|t| t.size).map(|side| side as f32).collect();
        dump.values("sizes", vec![targets.len(), 2], sizes);
        let classes = self.net.detector().classes;
        // A row for each: image, level, box, class (the background's is the last), deltas.
        let row = |region: &Region| {
            let class = region.object.map_or(classes, |(_, class, _)| class) as f32;
            let deltas = region.object.map_or([0.0; 4], |(.., deltas)| deltas);
            region.row().into_iter().chain([class]).chain(deltas)
        };
        let rows: Vec<f32> = regions.iter().flat_map(row).collect();
        dump.values("regions", vec![regions.len(), 11], rows);
        if let Some(side) = self.net.mask_side() {
            let masks = regions::masks(targets, regions, side)?;
            let rows = masks.iter().flat_map(|(region, _)| row(region)).collect();
            let cells = masks.iter().flat_map(|(_, cells)| cells).copied().collect();
            dump.values("mask_regions", vec![masks.len(), 11], rows);
            dump.values("masks", vec![masks.len(), side, side], cells);
        }
        self.learner.dump(cx, self.net.net(), losses, dump)?;
        let det = self.net.detector();
        let strides: Vec<String> = self.net.strides().iter().map(usize::to_string).collect();
        for (key, value) in [
            ("task", if det.fpn { "det-fpn" } else { "det-c4" }.to_owned()),
            ("classes", classes.to_string()),
            ("channels", det.channels.to_string()),
            ("norm", det.norm.to_string()),
            ("head_norm", det.head_norm.to_string()),
            ("rpn_batch", self.config.det.rpn_batch.to_string()),
            ("rpn_pre", self.config.det.rpn_pre.to_string()),
            ("rpn_post", self.config.det.rpn_post.to_string()),
            ("rpn_nms", self.config.det.rpn_nms.to_string()),
            ("anchor", det.anchor.to_string()),
            ("strides", strides.join(",")),
        ] {
            dump.note(key, value);
        }
        Ok(())
    }
}
