//! Images whose pixels have labels, as segmentation learns from them and is tested on them.

use std::path::Path;
use std::sync::Arc;

use super::batches;
use crate::config::{Config, Seg};
use crate::cx::Cx;
use crate::data::Image;
use crate::data::annotated::transforms::{Photometric, SegmentationViews};
use crate::data::annotated::{LabelImage, LabelImages, NO_CLASS};
use crate::error::{Error, Result};
use crate::finetune::feed::Room;
use crate::finetune::overlay;
use crate::rng::{Philox, Purpose};
use crate::tensor::Meta;
use crate::train::{Annotated, Feed};

/// Images with labels of their pixels, and the names of the classes.
#[derive(Clone)]
pub struct SegSet {
    images: Arc<LabelImages>,
    names: Vec<String>,
    title: String,
}

/// Images of a run that the report shows.
const EXAMPLES: usize = 6;

impl SegSet {
    /// Opens `PATH` or `PATH#SPLIT`, see [`LabelImages::open`]. Where nothing names the classes, they
    /// are called by their numbers, as many as the labels have.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] for another layout, and for labels that cannot be read.
    pub fn open(source: &str, config: &Config) -> Result<Self> {
        let ignore = u8::try_from(config.seg.ignore).unwrap_or(NO_CLASS);
        let images = LabelImages::open(source, ignore)?;
        let names = match images.names() {
            Some(names) => names.to_vec(),
            None => (0..images.classes()?).map(|class| class.to_string()).collect(),
        };
        if names.len() < 2 {
            return Err(Error::data(format!(
                "{source}: expected labels of at least 2 classes, found {}",
                names.len()
            )));
        }
        Ok(Self { images: Arc::new(images), names, title: source.to_owned() })
    }

    /// Names of the classes.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Name of image `i`, without folder and ending.
    pub fn name(&self, i: usize) -> &str {
        self.images.name(i)
    }

    /// Image `i` and its labels.
    ///
    /// # Errors
    /// Those of [`LabelImages::load`]; a label beyond the classes.
    pub fn load(&self, i: usize) -> Result<(Image, LabelImage)> {
        let (image, labels) = self.images.load(i)?;
        let beyond = |label: &u8| *label != NO_CLASS && usize::from(*label) >= self.names.len();
        match labels.labels.iter().find(|label| beyond(label)) {
            None => Ok((image, labels)),
            Some(label) => Err(Error::data(format!(
                "{}: expected labels of {} classes, found {label}; seg.ignore names a label that is \
                 no class, classes.txt beside the images names the classes",
                self.images.title(i),
                self.names.len()
            ))),
        }
    }

    /// Takes other names where these are but numbers, as those of a set that has no label of its
    /// last classes.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where classes have other names.
    pub fn with_classes(self, names: &[String]) -> Result<Self> {
        let are_numbers = self.images.names().is_none() && self.names.len() <= names.len();
        if self.names == names || are_numbers {
            return Ok(Self { names: names.to_vec(), ..self });
        }
        let first = (0..self.names.len().max(names.len()))
            .find(|&c| self.names.get(c) != names.get(c))
            .unwrap_or(0);
        let shown = |names: &[String]| names.get(first).map_or("none".into(), |n| format!("{n:?}"));
        Err(Error::data(format!(
            "{}: expected the {} classes of the net, found {}: class {first} is {}, not {}; its \
             classes.txt must name the same ones in the same order",
            self.title,
            names.len(),
            self.names.len(),
            shown(&self.names),
            shown(names)
        )))
    }
}

/// How images of `size` are varied in training.
pub(super) fn views(seg: &Seg, image: &Image) -> SegmentationViews {
    SegmentationViews {
        size: match seg.long {
            0 => [image.width, image.height],
            long => [long, seg.short],
        },
        scale: [seg.scale_min, seg.scale_max].map(|scale| scale as f32),
        crop: [seg.crop; 2],
        most_of_class: seg.most_of_class as f32,
        flip_p: 0.5,
        photometric: seg.photometric.then(Photometric::default),
    }
}

impl Annotated for SegSet {
    fn images(&self) -> usize {
        self.images.len()
    }

    fn title(&self) -> String {
        self.title.clone()
    }

    fn classes(&self) -> usize {
        self.names.len()
    }

    fn digest(&self) -> Result<String> {
        self.images.digest()
    }

    fn feed(
        &self,
        cx: &Cx,
        largest: Meta,
        config: &Config,
        first_step: u64,
    ) -> Result<Box<dyn Feed>> {
        let room = Room::of(cx, largest);
        Ok(Box::new(batches::feed(self.clone(), room, config, first_step)?))
    }

    /// `src_i.png`, an image, and `view0_i.png`, `view1_i.png`, crops of it with their labels.
    fn write_examples(&self, dir: &Path, config: &Config) -> Result<()> {
        crate::files::create_dir(dir)?;
        let mut rng = Philox::new(config.seed, Purpose::Subset, u64::MAX, 0);
        for (i, &chosen) in rng.sample(self.images(), EXAMPLES).iter().enumerate() {
            let (image, labels) = self.load(chosen)?;
            let views = views(&config.seg, &image);
            for v in 0..2 {
                let position = (1 << 40) + 2 * i as u64 + v;
                let varied = views.apply((image.clone(), labels.clone()), config.seed, position);
                overlay::write(&dir.join(format!("view{v}_{i}.png")), &varied.0, &varied.1)?;
            }
            overlay::write(&dir.join(format!("src_{i}.png")), &image, &labels)?;
        }
        Ok(())
    }
}
