//! Architectures as users name them: by ID, or by what they are.

use std::fmt;
use std::str::FromStr;

use super::{Arch, Block, Space};
use crate::error::{Error, Result, nearest};

/// ResNet-50.
pub const RESNET_50: Arch = Arch { stem: 64, widths: [64, 128, 256, 512], depths: [3, 4, 6, 3] };

/// An architecture's name, which means something only in a space, and `winner` only in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// An ID.
    Id(Arch),
    /// The space's largest.
    Max,
    /// The space's smallest.
    Min,
    /// ResNet-50, where the space contains it.
    R50,
    /// The winner of the run's search.
    Winner,
}

/// The names that are no IDs.
const NAMES: [(&str, Named); 4] =
    [("max", Named::Max), ("min", Named::Min), ("r50", Named::R50), ("winner", Named::Winner)];

impl FromStr for Named {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        if let Some((_, named)) = NAMES.iter().find(|(name, _)| *name == s) {
            return Ok(*named);
        }
        s.parse().map(Self::Id).map_err(|e: Error| {
            let names = NAMES.map(|(name, _)| name);
            e.and(&format!("or max, min, r50 or winner{}", nearest(s, names)))
        })
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(arch) => arch.fmt(f),
            other => {
                let name = NAMES.iter().find(|(_, named)| named == other);
                f.write_str(name.map_or("", |(name, _)| name))
            }
        }
    }
}

impl Named {
    /// The architecture itself. `winner` is asked only where the name is that.
    ///
    /// # Errors
    /// Exit 2 for an architecture that does not fit in the space; those of `winner`.
    pub fn within(self, space: &Space, winner: impl FnOnce() -> Result<Arch>) -> Result<Arch> {
        let arch = match self {
            Self::Id(arch) => arch,
            Self::Max => space.max(),
            Self::Min => space.min(),
            Self::R50 if space.block != Block::Bottleneck => {
                return Err(Error::usage(format!(
                    "r50 is of bottlenecks, and space {} has {} blocks: expected an ID, max or min",
                    space.name, space.block
                )));
            }
            Self::R50 => RESNET_50,
            Self::Winner => winner()?,
        };
        space.check(&arch).map_err(|e| match self {
            Self::Id(_) => e,
            _ => e.context(self),
        })?;
        Ok(arch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_they_say() {
        let space = Space::preset("data").unwrap();
        let none = || Err(Error::usage("no run"));
        let find = |name: &str| name.parse::<Named>()?.within(&space, none);
        assert_eq!(find("max").unwrap(), space.max());
        assert_eq!(find("min").unwrap(), space.min());
        assert_eq!(find("r50").unwrap().to_string(), "s64-w64.128.256.512-d3.4.6.3");
        assert_eq!(find(&space.min().to_string()).unwrap(), space.min());
        assert_eq!(find("winner").unwrap_err().to_string(), "no run");
        let won = "winner".parse::<Named>().unwrap().within(&space, || Ok(space.max()));
        assert_eq!(won.unwrap(), space.max());
        let wrong = find("winer").unwrap_err();
        assert!(wrong.exit_code() == 2 && wrong.to_string().contains("\"winner\""), "{wrong}");
        let small = Space::preset("cifar").unwrap();
        let outside = Named::R50.within(&small, none).unwrap_err().to_string();
        assert!(
            outside.starts_with("r50: s64-w64") && outside.contains("space cifar"),
            "{outside}"
        );
        let basic = Space { block: Block::Basic, ..space };
        let no_bottlenecks = Named::R50.within(&basic, none).unwrap_err().to_string();
        assert!(no_bottlenecks.contains("has basic blocks"), "{no_bottlenecks}");
        for (name, named) in NAMES {
            assert_eq!((name.parse::<Named>().unwrap(), named.to_string().as_str()), (named, name));
        }
    }
}
