//! The step dump: everything that went into one iteration and came out of it, so that anyone
//! can replay it elsewhere.

use std::path::Path;

use super::pretrain::{Pretrain, Step};
use crate::cx::Cx;
use crate::error::Result;
use crate::files::{self, Entry};
use crate::nn::{Feature, Gradients, ParamSpec, Params};
use crate::optim::Exempt;
use crate::ssl::{Method, Targets};
use crate::tensor::{Tensor, to_nchw};

/// Collects the tensors of one step, in PyTorch's layouts.
#[derive(Default)]
pub struct Dump {
    entries: Vec<Entry>,
    metadata: Vec<(&'static str, String)>,
}

impl Dump {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn before(&mut self, cx: &Cx, it: &Pretrain, s: &Step) -> Result<()> {
        match (it.method.passes(), it.method.teacher_views()) {
            ([[student]], [teacher]) => {
                self.entries.push(nchw(cx, "x_student", &s.views[*student])?);
                self.entries.push(nchw(cx, "x_teacher", &s.views[*teacher])?);
            }
            _ => {
                for (v, view) in s.views.iter().enumerate() {
                    self.entries.push(nchw(cx, &format!("view.{v}"), view)?);
                }
            }
        }
        self.params(cx, "before", &it.student)?;
        self.params(cx, "teacher_before", &it.teacher)?;
        let archs: Vec<String> = s.archs.iter().map(ToString::to_string).collect();
        let sgd = it.optimizer.settings();
        self.metadata.extend([
            ("archs", archs.join(",")),
            ("bn_group", it.bn_group().to_string()),
            ("lr", s.at.lr.to_string()),
            ("momentum", sgd.momentum.to_string()),
            ("weight_decay", sgd.weight_decay.to_string()),
            ("decay_exempt", (sgd.exempt == Exempt::NormsAndBiases).to_string()),
            ("trust", sgd.trust.map_or("0".into(), |trust| trust.to_string())),
            ("method", it.method.name().to_owned()),
            ("ema", it.method.ema(s.moment()).to_string()),
        ]);
        let constants = it.method.constants().into_iter();
        self.metadata.extend(constants.map(|(name, value)| (name, value.to_string())));
        self.metadata.extend([
            ("preset", it.net.space().name.clone()),
            ("step", s.at.step.to_string()),
            ("seed", it.seed().to_string()),
            ("accum", it.accum().to_string()),
        ]);
        Ok(())
    }

    pub(super) fn teacher(
        &mut self,
        cx: &Cx,
        targets: &Targets,
        method: &dyn Method,
    ) -> Result<()> {
        let z = method.reads().teacher.iter().position(|f| *f == Feature::Z);
        for (v, features) in targets.iter().enumerate() {
            if let Some(z) = z.and_then(|z| features.get(z)) {
                self.matrix(cx, &numbered("z_teacher", v, targets.len()), z)?;
            }
        }
        self.entries.extend(method.state(cx)?.tensors);
        Ok(())
    }

    pub(super) fn student(&mut self, cx: &Cx, k: usize, z: &[Tensor], loss: f64) -> Result<()> {
        for (v, one) in z.iter().enumerate() {
            self.matrix(cx, &numbered(&format!("z_student.{k}"), v, z.len()), one)?;
        }
        self.entries.push((format!("loss.{k}"), vec![1], vec![loss as f32]));
        Ok(())
    }

    /// All gradients, as `grad.NAME`.
    pub(crate) fn gradients(
        &mut self,
        cx: &Cx,
        grads: &Gradients,
        specs: &[ParamSpec],
    ) -> Result<()> {
        for (i, spec) in specs.iter().enumerate() {
            self.param(cx, "grad", spec, grads.get(i))?;
        }
        Ok(())
    }

    pub(super) fn after(&mut self, cx: &Cx, it: &Pretrain) -> Result<()> {
        self.params(cx, "after", &it.student)?;
        self.params(cx, "teacher_after", &it.teacher)?;
        for (spec, v) in it.net.specs().iter().zip(it.optimizer.velocity()) {
            self.param(cx, "momentum", spec, v)?;
        }
        Ok(())
    }

    /// All parameters, as `PREFIX.NAME`.
    pub(crate) fn params(&mut self, cx: &Cx, prefix: &str, params: &Params) -> Result<()> {
        let all = params.specs().iter().zip(params.values());
        all.into_iter().try_for_each(|(spec, t)| self.param(cx, prefix, spec, t))
    }

    fn param(&mut self, cx: &Cx, prefix: &str, spec: &ParamSpec, t: &Tensor) -> Result<()> {
        let values = spec.to_torch(&cx.download(t)?);
        self.entries.push((format!("{prefix}.{}", spec.name), spec.torch_shape(), values));
        Ok(())
    }

    /// Images or maps [N, H, W, C], as [N, C, H, W].
    pub(crate) fn images(&mut self, cx: &Cx, name: &str, t: &Tensor) -> Result<()> {
        self.entries.push(nchw(cx, name, t)?);
        Ok(())
    }

    /// Values of the host.
    pub(crate) fn values(&mut self, name: &str, shape: Vec<usize>, values: Vec<f32>) {
        self.entries.push((name.into(), shape, values));
    }

    /// A setting.
    pub(crate) fn note(&mut self, key: &'static str, value: String) {
        self.metadata.push((key, value));
    }

    fn matrix(&mut self, cx: &Cx, name: &str, t: &Tensor) -> Result<()> {
        self.entries.push((name.into(), vec![t.shape().n(), t.shape().c()], cx.download(t)?));
        Ok(())
    }

    /// Writes `step-00000000.safetensors` into a folder.
    pub fn write(&self, dir: &Path, step: u64) -> Result<()> {
        files::create_dir(dir)?;
        let path = dir.join(format!("step-{step:08}.safetensors"));
        files::write_safetensors(&path, &self.entries, &self.metadata)
    }
}

/// The name of view `v` of `count`: with a number only where there are several.
fn numbered(name: &str, v: usize, count: usize) -> String {
    if count == 1 { name.to_owned() } else { format!("{name}.{v}") }
}

/// A tensor [N, H, W, C] as an entry [N, C, H, W].
fn nchw(cx: &Cx, name: &str, t: &Tensor) -> Result<Entry> {
    let [n, h, w, c] = t.shape().0;
    Ok((name.into(), vec![n, c, h, w], to_nchw(&cx.download(t)?, h * w, c)))
}
