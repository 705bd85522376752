//! Images with boxes, and perhaps masks, as detection learns from them and is tested on them.

use std::path::Path;
use std::sync::Arc;

use super::batches;
use super::grid::Grid;
use crate::config::Config;
use crate::cx::Cx;
use crate::data::Image;
use crate::data::annotated::transforms::{DetectionViews, Sample};
use crate::data::annotated::{ImageFiles, Objects};
use crate::error::{Error, Result};
use crate::finetune::feed::Room;
use crate::finetune::overlay;
use crate::rng::{Philox, Purpose};
use crate::tensor::Meta;
use crate::train::{Annotated, Feed};

/// Images with objects.
#[derive(Clone)]
pub struct DetSet {
    pub(super) objects: Arc<Objects>,
    files: Arc<ImageFiles>,
    /// Numbers of the objects of each image.
    pub(super) of_image: Arc<Vec<Vec<usize>>>,
    /// Images that are learnt from: those with an object that is no crowd.
    pub(super) learnt: Arc<Vec<usize>>,
    names: Vec<String>,
    pub(super) grid: Grid,
}

/// Images of a run that the report shows.
const EXAMPLES: usize = 6;

impl DetSet {
    /// Opens annotations ([`Objects::open`]) and their images, in the folder `images` where one is
    /// named.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] for annotations or images that are missing or damaged.
    pub(super) fn open(source: &str, images: Option<&str>, grid: Grid) -> Result<Self> {
        let objects = Objects::open(source)?;
        let files = ImageFiles::find(&objects, source, images)?;
        let of_image = objects.by_image();
        let is_learnt = |i: &usize| of_image[*i].iter().any(|&o| !objects.objects[o].crowd);
        let learnt = (0..objects.images.len()).filter(is_learnt).collect();
        let names = objects.categories.iter().map(|category| category.name.clone()).collect();
        Ok(Self {
            objects: Arc::new(objects),
            files: Arc::new(files),
            of_image: Arc::new(of_image),
            learnt: Arc::new(learnt),
            names,
            grid,
        })
    }

    /// The same to learn from.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where no image has an object.
    pub fn to_learn_from(self) -> Result<Self> {
        match self.learnt.is_empty() {
            false => Ok(self),
            true => Err(Error::data(format!(
                "{}: expected images with objects, found none",
                self.objects.title
            ))),
        }
    }

    /// Names of the classes.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// All images, also those without objects.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Image `i`, as it is tested.
    ///
    /// # Errors
    /// Those of [`ImageFiles::load`].
    pub fn load(&self, i: usize) -> Result<Image> {
        self.files.load(i)
    }

    /// The file of image `i` as annotations call it, else its id.
    pub(super) fn name(&self, i: usize) -> String {
        let image = &self.objects.images[i];
        image.file.clone().unwrap_or_else(|| image.id.to_string())
    }

    /// Height and width of image `i`, where annotations tell them.
    pub(super) fn size(&self, i: usize) -> Option<(u32, u32)> {
        self.objects.images[i].size
    }

    /// Image `i` with what is learnt of it.
    pub(super) fn sample(&self, i: usize) -> Result<Sample> {
        Sample::new(self.files.load(i)?, &self.objects, &self.of_image[i])
    }

    /// For each class of a net the number of the class with that name here.
    ///
    /// # Errors
    /// [`crate::Kind::Data`] where this has a class that the net has not.
    pub fn numbers_of(&self, classes: &[String]) -> Result<Vec<Option<usize>>> {
        if let Some(other) = self.names.iter().find(|name| !classes.contains(name)) {
            return Err(Error::data(format!(
                "{}: its class {other:?} is none of the net's: expected {}",
                self.objects.title,
                classes.join(", ")
            )));
        }
        Ok(classes.iter().map(|class| self.names.iter().position(|name| name == class)).collect())
    }
}

/// How images are varied in training.
pub(super) fn views(config: &Config) -> DetectionViews {
    let det = &config.det;
    DetectionViews {
        short: (det.short_min..=det.short_max).step_by(det.short_step).collect(),
        longest: det.long,
        flip_p: 0.5,
    }
}

impl Annotated for DetSet {
    fn images(&self) -> usize {
        self.learnt.len()
    }

    fn title(&self) -> String {
        self.objects.title.clone()
    }

    fn classes(&self) -> usize {
        self.names.len()
    }

    fn digest(&self) -> Result<String> {
        self.files.digest(&self.objects)
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

    /// `src_i.png`, an image, and `view0_i.png`, `view1_i.png`, as training sees it.
    fn write_examples(&self, dir: &Path, config: &Config) -> Result<()> {
        crate::files::create_dir(dir)?;
        let views = views(config);
        let mut rng = Philox::new(config.seed, Purpose::Subset, u64::MAX, 0);
        for (i, &chosen) in rng.sample(self.learnt.len(), EXAMPLES).iter().enumerate() {
            let sample = self.sample(self.learnt[chosen])?;
            overlay::write_sample(&dir.join(format!("src_{i}.png")), &sample)?;
            for v in 0..2 {
                let mut varied = sample.clone();
                views.apply(&mut varied, config.seed, (1 << 40) + 2 * i as u64 + v)?;
                overlay::write_sample(&dir.join(format!("view{v}_{i}.png")), &varied)?;
            }
        }
        Ok(())
    }
}
