//! `engine space`: search spaces, their sizes and costs.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Globals;
use crate::data::decimals;
use crate::error::{Error, Result};
use crate::program::output::table;
use crate::program::{print, print_json};
use crate::space::budget::{macs, si};
use crate::space::{Arch, Budget, Metric, Named, Space, presets};

/// Arguments of `engine space`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SpaceArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: SpaceVerb,
}

const EXAMPLES: &str = "\
Examples:
  engine space count data --groups 1G..8G:1G
  engine space cost s64-w64.128.256.512-d3.4.6.3 --res 192
  engine space cost max --preset tiny
  engine space show own.toml
Costs are multiply-accumulates (MACs) of the backbone's convolutions for one image.";

/// Verbs of `engine space`.
#[derive(Subcommand, Clone, Debug)]
pub enum SpaceVerb {
    /// Name the presets
    List,
    /// Print a space's dimensions
    Show {
        /// A preset, or a file *.toml with a space of your own
        #[arg(value_name = "PRESET")]
        preset: String,
    },
    /// Count a space's architectures by compute
    Count {
        /// A preset, or a file *.toml with a space of your own
        #[arg(value_name = "PRESET")]
        preset: String,
        /// Groups of MACs: lo..hi:step, hi itself outside [default: round groups that cover
        /// the space]
        #[arg(long, value_name = "1G..8G:1G")]
        groups: Option<String>,
    },
    /// Print what an architecture costs
    Cost {
        /// The architecture: an ID, on the preset's grid or not, max, min or r50
        #[arg(value_name = "ARCH")]
        arch: Named,
        /// The space that it belongs to [default: the preset that has it]
        #[arg(long, value_name = "PRESET")]
        preset: Option<String>,
        /// Height and width of the image [default: the preset's]
        #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(1..=16384))]
        res: Option<u16>,
    },
}

/// Runs a verb on search spaces.
pub fn run(args: &SpaceArgs, globals: &Globals) -> Result<()> {
    let (value, text) = match &args.verb {
        SpaceVerb::List => list()?,
        SpaceVerb::Show { preset } => show(&Space::preset(preset)?),
        SpaceVerb::Count { preset, groups } => count(&Space::preset(preset)?, groups.as_deref())?,
        SpaceVerb::Cost { arch, preset, res } => {
            let (space, arch) = find(*arch, preset.as_deref())?;
            cost(&space, &arch, *res)
        }
    };
    if globals.json { print_json(&value) } else { print(&text) }
}

fn row<const N: usize>(cells: [&dyn ToString; N]) -> Vec<String> {
    cells.iter().map(|c| c.to_string()).collect()
}

fn list() -> Result<(Value, String)> {
    let mut rows =
        vec![row([&"preset", &"pixels", &"architectures", &"MACs", &"", &"parameters", &""])];
    let mut all = Vec::new();
    for name in presets::NAMES {
        let s = Space::preset(name)?;
        let [least, most] = [s.min(), s.max()].map(|a| s.cost(&a));
        rows.push(row([
            &name,
            &s.resolution,
            &s.count(),
            &si(least.macs),
            &format!("to {}", si(most.macs)),
            &si(least.params),
            &format!("to {}", si(most.params)),
        ]));
        all.push(json!({
            "preset": name, "resolution": s.resolution, "count": s.count(),
            "min": s.min(), "max": s.max(),
            "macs": [least.macs, most.macs], "params": [least.params, most.params],
        }));
    }
    Ok((json!({ "presets": all }), table(&rows)))
}

fn show(s: &Space) -> (Value, String) {
    let (stem, count, min, max) = (&s.stem, s.count(), s.min(), s.max());
    let stages: Vec<Value> = s
        .stages
        .iter()
        .map(|t| json!({ "widths": t.widths, "depths": t.depths, "stride": t.stride }))
        .collect();
    let value = json!({
        "preset": s.name,
        "resolution": s.resolution,
        "stem": {
            "kernel": stem.kernel, "stride": stem.stride, "maxpool": stem.maxpool,
            "widths": stem.widths,
        },
        "stages": stages,
        "channels": s.channels(),
        "mean": decimals(&s.mean),
        "std": decimals(&s.std),
        "block": s.block,
        "expansion": s.block.expansion(),
        "count": count,
        "min": min,
        "max": max,
    });
    let words = |v: &[usize]| v.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
    let mut rows = vec![
        row([&"", &"stride", &"widths", &"depths"]),
        row([&"stem", &stem.stride, &words(&stem.widths), &""]),
    ];
    for (i, t) in s.stages.iter().enumerate() {
        let name = format!("stage {}", i + 1);
        rows.push(row([&name, &t.stride, &words(&t.widths), &words(&t.depths)]));
    }
    let [least, most] = [min, max].map(|a| s.cost(&a));
    let k = stem.kernel;
    let text = format!(
        "preset {}: {count} architectures for {r}x{r} pixels of {} channels\n\n{}\n\
         stem: {k}x{k} convolution{}; stages: {} blocks whose output has {} times their width\n\
         smallest {min}: {}, {} parameters\nlargest  {max}: {}, {} parameters",
        s.name,
        s.channels(),
        table(&rows),
        if stem.maxpool { " and 3x3 max-pool of stride 2" } else { ", no max-pool" },
        s.block,
        s.block.expansion(),
        macs(least.macs),
        si(least.params),
        macs(most.macs),
        si(most.params),
        r = s.resolution,
    );
    (value, text)
}

fn count(s: &Space, groups: Option<&str>) -> Result<(Value, String)> {
    let groups = match groups {
        Some(text) => Budget::parse_groups(text, Metric::Macs)?,
        None => s.default_groups(Metric::Macs)?,
    };
    let counts = s.count_groups(&groups)?;
    let total = s.count();
    let listed: Vec<Value> = groups
        .iter()
        .zip(&counts)
        .map(|(g, n)| json!({ "lo": g.lo, "hi": g.hi, "count": n }))
        .collect();
    let mut rows = vec![row([&"MACs", &"architectures"])];
    rows.extend(groups.iter().zip(&counts).map(|(g, n)| vec![format!("[{g})"), n.to_string()]));
    let inside: usize = counts.iter().sum();
    if inside < total {
        rows.push(row([&"outside", &(total - inside)]));
    }
    rows.push(row([&"total", &total]));
    Ok((json!({ "preset": s.name, "total": total, "groups": listed }), table(&rows)))
}

/// An architecture and its space: the preset that was named, else the one that has it.
fn find(named: Named, preset: Option<&str>) -> Result<(Space, Arch)> {
    let space = match (preset, named) {
        (Some(name), _) => Space::preset(name)?,
        (None, Named::Max | Named::Min) => {
            return Err(Error::usage(format!(
                "{named} of which space? Expected --preset, one of {}",
                presets::NAMES.join(", ")
            )));
        }
        (None, Named::Id(arch)) => match Space::preset_of(&arch) {
            Some(space) => space,
            // Says what does not fit in the largest.
            None => Space::preset(presets::NAMES[0])?,
        },
        (None, _) => Space::preset(presets::NAMES[0])?,
    };
    let no_run = || {
        Err(Error::usage("winner means something in a run alone: expected an ID, max, min or r50"))
    };
    let arch = named.within(&space, no_run)?;
    Ok((space, arch))
}

fn cost(s: &Space, arch: &Arch, res: Option<u16>) -> (Value, String) {
    let resolution = res.map_or(s.resolution, usize::from);
    let cost = s.cost_at(arch, resolution);
    let value = json!({
        "arch": arch, "preset": s.name, "resolution": resolution,
        "macs": cost.macs, "conv_params": cost.conv_params, "params": cost.params,
    });
    let note = if s.on_grid(arch) { "" } else { " (off the grid, inside the largest)" };
    let text = format!(
        "{arch} in space {} at {resolution}x{resolution}{note}\n{}",
        s.name,
        table(&[
            row([&"MACs", &cost.macs, &si(cost.macs)]),
            row([&"parameters of convolutions", &cost.conv_params, &si(cost.conv_params)]),
            row([&"with batch norms", &cost.params, &si(cost.params)]),
        ])
    );
    (value, text)
}
