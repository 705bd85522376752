//! Search spaces of a user's own, in files:
//!
//! ```toml
//! name = "grey18"            # what reports call it
//! like = "tiny"              # what the file leaves out, and the defaults of training
//! resolution = 64
//! mean = [0.45]              # one for each channel, as `engine data stats` prints them
//! std = [0.25]
//! block = "basic"            # or "bottleneck"
//! [stem]
//! kernel = 3
//! stride = 1
//! maxpool = false
//! widths = [16, 32]
//! [[stages]]                 # four of them
//! widths = [16, 24, 32]
//! depths = [1, 2]
//! stride = 1
//! ```

use std::fmt;
use std::path::Path;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Block, STAGES, Space, StageSpace, StemSpace, presets};
use crate::data::decimals;
use crate::error::{Error, Result};
use crate::outside::{printable, read_at_most};

/// How names of such files end.
pub(super) const ENDING: &str = ".toml";
/// Bytes of a file, at most.
const MOST_BYTES: u64 = 1 << 16;
/// Channels of images, at most.
const MOST_CHANNELS: usize = 16;
/// Height and width of images.
const RESOLUTIONS: [usize; 2] = [8, 1024];
/// Images of at most this side are trained on as preset `tiny` does, larger ones as `data`.
const SMALL_SIDE: usize = 64;
/// A width, at most.
const MOST_WIDTH: usize = 8192;
/// Blocks of a stage, at most.
const MOST_BLOCKS: usize = 100;
/// Architectures, at most: a search by budget goes through all of them.
const MOST_ARCHS: usize = 2_000_000;

/// What a file says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    name: String,
    like: Option<String>,
    resolution: Option<usize>,
    channels: Option<usize>,
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
    block: Option<Block>,
    stem: Option<StemSpace>,
    stages: Option<Vec<StageSpace>>,
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Space> {
    let wrong =
        |e: &dyn std::fmt::Display| Error::usage(format!("search space {}: {e}", printable(path)));
    let bytes = read_at_most(path, MOST_BYTES, "a search space").map_err(|e| wrong(&e))?;
    let text = String::from_utf8(bytes).map_err(|e| wrong(&e))?;
    let described: Described =
        toml::from_str(&text).map_err(|e: toml::de::Error| wrong(&e.to_string().trim_end()))?;
    described.space().map_err(|e| wrong(&e))
}

impl Described {
    fn space(self) -> Result<Space> {
        let like = self.like.as_deref().map(presets::by_name).transpose()?;
        let base = like.as_ref();
        let missing = |key: &str| {
            let about = "give it, or like = \"tiny\" for what that preset has";
            Error::usage(format!("{key} is missing: {about}"))
        };
        let resolution = self.resolution.or(base.map(|b| b.resolution));
        let resolution = resolution.ok_or_else(|| missing("resolution"))?;
        let by_size = if resolution <= SMALL_SIDE { "tiny" } else { "data" };
        let [mean, std] = pixels(self.channels, [self.mean, self.std])?;
        let space = Space {
            like: base.map_or(by_size, |b| &b.name).to_owned(),
            name: self.name,
            resolution,
            mean,
            std,
            block: self.block.unwrap_or_default(),
            stem: self.stem.or(base.map(|b| b.stem.clone())).ok_or_else(|| missing("[stem]"))?,
            stages: match self.stages {
                None => base.map(|b| b.stages.clone()).ok_or_else(|| missing("[[stages]]"))?,
                Some(stages) => stages.try_into().map_err(|all: Vec<_>| {
                    expected("[[stages]]", &format!("{STAGES} of them"), all.len())
                })?,
            },
        };
        check(&space)?;
        Ok(space)
    }
}

fn expected(key: &str, wanted: &str, found: impl std::fmt::Display) -> Error {
    Error::usage(format!("{key}: expected {wanted}, found {found}"))
}

/// Mean and deviation of each channel: ImageNet's where there are three and the file has none.
fn pixels(channels: Option<usize>, given: [Option<Vec<f64>>; 2]) -> Result<[Vec<f32>; 2]> {
    let count = channels.or(given[0].as_ref().map(Vec::len)).unwrap_or(3);
    if !(1..=MOST_CHANNELS).contains(&count) {
        return Err(expected("channels", &format!("1 to {MOST_CHANNELS}"), count));
    }
    let usual = presets::data();
    let [mean, std] = given;
    let one = |key: &str, given: Option<Vec<f64>>, usual: Vec<f32>| match given {
        Some(values) => Ok(values.into_iter().map(|v| v as f32).collect()),
        None if count == usual.len() => Ok(usual),
        None => Err(Error::usage(format!(
            "{key} is missing, of each of {count} channels: `engine data stats PATH --channels \
             {count}` prints what to write"
        ))),
    };
    let (mean, std) = (one("mean", mean, usual.mean)?, one("std", std, usual.std)?);
    for (key, values, least) in [("mean", &mean, -f32::INFINITY), ("std", &std, 0.0)] {
        let fine = |v: &f32| v.is_finite() && *v > least && v.abs() <= 1e3;
        if values.len() != count || !values.iter().all(fine) {
            let above = if least == 0.0 { " above 0" } else { "" };
            let wanted = format!("{count} numbers{above}, one for each channel");
            return Err(expected(key, &wanted, format!("{values:?}")));
        }
    }
    Ok([mean, std])
}

fn check(space: &Space) -> Result<()> {
    let name = &space.name;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !(1..=40).contains(&name.len()) || !name.bytes().all(plain) {
        let wanted = "1 to 40 letters, digits, dots, - or _";
        return Err(expected("name", wanted, format!("{name:?}")));
    }
    if presets::by_name(name).is_ok_and(|preset| preset != *space) {
        return Err(Error::usage(format!("name: {name:?} is a preset's, which has other values")));
    }
    let within = |key: &str, value: usize, [lo, hi]: [usize; 2]| match (lo..=hi).contains(&value) {
        true => Ok(()),
        false => Err(expected(key, &format!("{lo} to {hi}"), value)),
    };
    within("resolution", space.resolution, RESOLUTIONS)?;
    let StemSpace { kernel, stride, .. } = space.stem;
    if ![1, 3, 5, 7].contains(&kernel) {
        return Err(expected("stem.kernel", "1, 3, 5 or 7", kernel));
    }
    within("stem.stride", stride, [1, 4])?;
    let options = |key: String, values: &[usize], most: usize| {
        let rising = values.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = values.iter().all(|v| (1..=most).contains(v));
        match rising && inside && !values.is_empty() {
            true => Ok(()),
            false => {
                let wanted = format!("rising whole numbers of 1 to {most}");
                Err(expected(&key, &wanted, format!("{values:?}")))
            }
        }
    };
    options("stem.widths".into(), &space.stem.widths, MOST_WIDTH)?;
    for (i, stage) in space.stages.iter().enumerate() {
        let key = |key: &str| format!("stages[{}].{key}", i + 1);
        options(key("widths"), &stage.widths, MOST_WIDTH)?;
        options(key("depths"), &stage.depths, MOST_BLOCKS)?;
        within(&key("stride"), stage.stride, [1, 2])?;
    }
    let sizes = space.options().map(<[usize]>::len);
    let count = sizes.into_iter().try_fold(1_usize, |all, n| all.checked_mul(n));
    match count.filter(|n| *n <= MOST_ARCHS) {
        Some(_) => Ok(()),
        None => Err(Error::usage(format!(
            "there are {} architectures, expected at most {MOST_ARCHS}: give fewer widths or depths",
            count.map_or("too many".into(), |n| n.to_string())
        ))),
    }
}

impl Space {
    /// Whether it comes with the program.
    fn is_preset(&self) -> bool {
        presets::by_name(&self.name).is_ok_and(|preset| preset == *self)
    }

    fn describe(&self) -> Described {
        Described {
            name: self.name.clone(),
            like: Some(self.like.clone()),
            resolution: Some(self.resolution),
            channels: Some(self.channels()),
            mean: Some(decimals(&self.mean)),
            std: Some(decimals(&self.std)),
            block: Some(self.block),
            stem: Some(self.stem.clone()),
            stages: Some(self.stages.to_vec()),
        }
    }
}

impl From<&Space> for toml::Value {
    fn from(space: &Space) -> Self {
        toml::Value::try_from(space).expect("a space is words and numbers")
    }
}

impl Serialize for Space {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.is_preset() { to.serialize_str(&self.name) } else { self.describe().serialize(to) }
    }
}

/// Reads a space as it is written: a preset's name, or the whole. Never the name of a file.
struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = Space;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "a search space: {}, or a table with name, stem and stages",
            presets::NAMES.join(", ")
        )
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Space, E> {
        presets::by_name(name).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Space, A::Error> {
        let described = Described::deserialize(MapAccessDeserializer::new(map))?;
        described.space().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Space {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Method, read_file, resolve, word};

    const WHOLE: &str = "
        name = 'grey18'
        resolution = 64
        channels = 1
        mean = [0.45]
        std = [0.25]
        block = 'basic'
        [stem]
        kernel = 3
        stride = 1
        maxpool = false
        widths = [16, 32]
        [[stages]]
        widths = [16, 24, 32]
        depths = [1, 2]
        stride = 1
        [[stages]]
        widths = [32, 64]
        depths = [1, 2]
        stride = 2
        [[stages]]
        widths = [64, 128]
        depths = [1, 2]
        stride = 2
        [[stages]]
        widths = [128, 256]
        depths = [2]
        stride = 2";

    fn of(text: &str) -> Result<Space> {
        toml::from_str::<Described>(text).unwrap().space()
    }

    #[test]
    fn what_a_file_leaves_out_is_the_other_presets() {
        let whole = of(WHOLE).unwrap();
        assert_eq!(
            (whole.count(), whole.channels(), whole.like.as_str()),
            (2 * 3 * 8 * 8, 1, "tiny")
        );
        let larger = of(&WHOLE.replace("64\n        channels", "65\n        channels")).unwrap();
        assert_eq!(larger.like, "data");
        let basic = of("name = 'basic'\nlike = 'cifar'\nblock = 'basic'").unwrap();
        let cifar = presets::cifar();
        let expected = Space { name: "basic".into(), block: Block::Basic, ..cifar.clone() };
        assert_eq!(basic, expected);
        // A preset by another way is that preset.
        assert_eq!(of("name = 'cifar'\nlike = 'cifar'").unwrap(), cifar);
    }

    #[test]
    fn a_basic_block_costs_what_resnet_18_does() {
        // torchvision's ResNet-18 without its classifier, and the projection of stage 1.
        let mut space = Space { block: Block::Basic, ..presets::data() };
        space.stages[0].widths = vec![64];
        let net = "s64-w64.128.256.512-d2.2.2.2".parse().unwrap();
        let cost = space.cost(&net);
        assert_eq!(cost.params, 11_176_512 + 64 * 64 + 128);
        assert_eq!(cost.macs, 1_814_073_344 - 512_000 + 64 * 64 * 56 * 56);
    }

    #[test]
    fn a_space_is_written_whole_and_a_preset_by_its_name() {
        let space = of(WHOLE).unwrap();
        let json = serde_json::to_string(&space).unwrap();
        assert_eq!(serde_json::from_str::<Space>(&json).unwrap(), space);
        assert_eq!(serde_json::to_string(&presets::tiny()).unwrap(), "\"tiny\"");
        // Of a run's settings it is one.
        let config = Config::defaults(&space, Method::Ressl);
        assert_eq!((config.views.hue, config.views2.grey_p.or(1.0)), (0.0, 0.0));
        let text = toml::Value::from(&space).to_string();
        let made = resolve(&[word(&format!("preset={text}")).unwrap()]).unwrap();
        assert_eq!(made.config, Config::defaults(&space, Method::Moco));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, made.to_toml()).unwrap();
        assert_eq!(resolve(&read_file(&path).unwrap()).unwrap().config, made.config);
        // Settings and checkpoints name no files.
        let named = serde_json::from_str::<Space>("\"x.toml\"").unwrap_err().to_string();
        assert!(named.contains("unknown preset \"x.toml\""), "{named}");
    }
}
