//! Where the images of annotated objects lie.

use std::collections::BTreeMap;
use std::iter::once;
use std::path::Path;

use super::digest;
use super::layouts::stems;
use super::tree::Tree;
use super::{Kind, Objects};
use crate::data::source::split_fragment;
use crate::data::{Format, Image};
use crate::error::{Error, Result};

/// The images of [`Objects`], in their order.
pub struct ImageFiles {
    /// What the annotations and the folder of the images are called in messages.
    title: String,
    folder: String,
    tree: Tree,
    /// As annotations call them, and as the tree does.
    names: Vec<String>,
    files: Vec<String>,
    /// Height and width, where the annotations tell them.
    sizes: Vec<Option<(u32, u32)>>,
}

impl ImageFiles {
    /// Finds the images of `objects`, which were opened from `source`: in the folder or archive
    /// `images` (`PATH` or `PATH#FOLDER`) where one is given; else beside the annotations in
    /// `SPLIT/`, `images/SPLIT/`, `images/`, `JPEGImages/`, or the folder itself, the first of these
    /// that has the first image.
    ///
    /// # Errors
    /// No such file of an image; annotations that do not name an image's file.
    pub fn find(objects: &Objects, source: &str, images: Option<&str>) -> Result<Self> {
        let found = Self::look_for(objects, source, images)?;
        match (0..found.len()).find_map(|i| found.missing(i)) {
            Some(e) => Err(e),
            None => Ok(found),
        }
    }

    /// The same where images may be [missing](Self::missing), even the first one: then the folder is
    /// the first that has any.
    ///
    /// # Errors
    /// Annotations that do not name an image's file; no folder that has one.
    pub fn look_for(objects: &Objects, source: &str, images: Option<&str>) -> Result<Self> {
        let title = &objects.title;
        let name = |i: usize| {
            let image = &objects.images[i];
            image.file.as_deref().ok_or_else(|| {
                Error::data(format!(
                    "{title}: expected the \"file_name\" of image {}, found none",
                    image.id
                ))
            })
        };
        let names = (0..objects.images.len()).map(name).collect::<Result<Vec<_>>>()?;
        let first = names.first().copied().unwrap_or_default();
        let mut with_some = None;
        for folder in folders(objects, source, images)? {
            let (tree, folder) = folder?;
            // Pascal VOC's label images are called like its images.
            if objects.kind == Kind::Voc && folder.is_empty() && images.is_none() {
                continue;
            }
            let found = Names::of(&tree, &folder, objects.kind)?;
            let has = |name: &str| tree.has_file(&found.file(name));
            let has_first = has(first);
            if has_first || (with_some.is_none() && names.iter().any(|name| has(name))) {
                let files = names.iter().map(|name| found.file(name)).collect();
                let sizes = objects.images.iter().map(|image| image.size).collect();
                let (title, folder) = (title.clone(), tree.title_of(&folder));
                let names = names.iter().map(|name| (*name).to_owned()).collect();
                with_some = Some(Self { title, folder, tree, names, files, sizes });
            }
            if has_first {
                break;
            }
        }
        with_some.ok_or_else(|| {
            Error::data(format!(
                "{title}: expected its image {first} in {}, found none; --images names the folder of \
                 images",
                images.unwrap_or("a folder called like the split, images/, JPEGImages/ or beside it")
            ))
        })
    }

    /// That image `i` has no file, where it has none.
    pub fn missing(&self, i: usize) -> Option<Error> {
        (!self.tree.has_file(&self.files[i])).then(|| {
            Error::data(format!(
                "{}: expected its image {} in {}, found none; --images names the folder of images",
                self.title, self.names[i], self.folder
            ))
        })
    }

    /// Bytes of image `i`.
    pub(in crate::data) fn bytes(&self, i: usize) -> u64 {
        self.tree.bytes(&self.files[i])
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What image `i` is called in messages.
    pub fn title(&self, i: usize) -> String {
        self.tree.title_of(&self.files[i])
    }

    /// The folder that holds them, as a source of images without annotations names it.
    pub fn folder(&self) -> String {
        self.tree.folder_of(self.files.iter().map(String::as_str))
    }

    /// Digest of `objects` and of the images.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn digest(&self, objects: &Objects) -> Result<String> {
        let annotations = format!("{:?} {:?}", objects.categories, objects.objects);
        let names = self.files.iter().map(String::as_str);
        digest::of(&annotations, names, self.len(), |i| self.tree.read(&self.files[i]))
    }

    /// Image `i`, of the size that its annotations say: rotated as EXIF asks for, unless only the file's
    /// own size is that.
    ///
    /// # Errors
    /// With the file: it cannot be read, is damaged, or has another size.
    pub fn load(&self, i: usize) -> Result<Image> {
        self.tree.image(&self.files[i], self.sizes[i])
    }
}

/// Folders that may have the images: trees, and folders within.
type Folders = Box<dyn Iterator<Item = Result<(Tree, String)>>>;

fn folders(objects: &Objects, source: &str, images: Option<&str>) -> Result<Folders> {
    if let Some(images) = images {
        let (path, folder) = split_fragment(images);
        return Ok(Box::new(once(Ok((Tree::open(&path)?, folder.unwrap_or_default())))));
    }
    let (path, split) = split_fragment(source);
    let Some(tree) = objects.tree.clone() else {
        // Its own folder, or the one above `annotations`; `.` stands for the empty path.
        let beside = path.parent().unwrap_or(&path);
        let above = beside.parent().filter(|_| beside.ends_with("annotations"));
        let root = Path::new(".").join(above.unwrap_or(beside));
        let name = path.file_name().and_then(|name| name.to_str()).and_then(split_of);
        // Not all of the folder is looked through: anything may lie beside a file.
        let paths = usual(name).into_iter().map(move |folder| root.join(folder));
        let paths = paths.filter(|path| path.is_dir());
        return Ok(Box::new(paths.map(|path| Ok((Tree::open(&path)?, String::new())))));
    };
    let file = tree.only_file("annotations", ".json").ok();
    let split = split.or_else(|| split_of(file.as_deref()?).map(str::to_owned));
    let all = usual(split.as_deref());
    Ok(Box::new(all.into_iter().map(move |folder| Ok((tree.clone(), folder)))))
}

/// Folders beside annotations, in the order in which they are tried.
fn usual(split: Option<&str>) -> Vec<String> {
    let of_split = split.into_iter().flat_map(|split| [split.into(), format!("images/{split}")]);
    of_split.chain(["images", "JPEGImages", ""].map(str::to_owned)).collect()
}

/// `train` of `annotations/instances_train.json`.
fn split_of(file: &str) -> Option<&str> {
    file.rsplit('/').next()?.strip_prefix("instances_")?.strip_suffix(".json")
}

/// How annotations name the files of a folder.
enum Names {
    /// With their endings.
    Whole(String),
    /// Without.
    Stems { folder: String, files: BTreeMap<String, String> },
}

impl Names {
    fn of(tree: &Tree, folder: &str, kind: Kind) -> Result<Self> {
        let within = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        Ok(match kind {
            Kind::Coco => Self::Whole(within),
            Kind::Voc => {
                let files = stems(tree, folder, "", Format::is_image_name)?;
                Self::Stems { folder: within, files }
            }
        })
    }

    /// The file of an image, whether it is there or not.
    fn file(&self, name: &str) -> String {
        match self {
            Self::Whole(folder) => format!("{folder}{name}"),
            Self::Stems { folder, files } => {
                files.get(name).cloned().unwrap_or_else(|| format!("{folder}{name}"))
            }
        }
    }
}
