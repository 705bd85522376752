//! `engine config`: the settings of a run, and where each comes from.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Globals;
use crate::config::{Method, Resolved, Setting, explain, flag, markdown, read_file, resolve, word};
use crate::error::Result;
use crate::program::output::{PROSE, columns, fill, print_file};
use crate::program::{print, print_json};

/// Arguments that make up a run's settings.
#[derive(Args, Clone, Debug, Default)]
pub struct SettingArgs {
    /// A TOML file of settings; later words and flags override it
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Search space and defaults: data, cifar, tiny, or a file *.toml with your own [default: data]
    #[arg(long, value_name = "NAME|FILE")]
    pub preset: Option<String>,
    /// Self-supervised method: moco, byol, ressl or densecl [default: moco]
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    pub method: Option<Method>,
    /// Settings, such as train.lr=0.06; `engine config show --explain` has all
    #[arg(value_name = "KEY=VALUE")]
    pub words: Vec<String>,
}

impl SettingArgs {
    /// The settings, in order of precedence, lowest first.
    pub fn settings(&self) -> Result<Vec<Setting>> {
        let mut settings = match &self.config {
            Some(path) => read_file(path)?,
            None => Vec::new(),
        };
        for text in &self.words {
            settings.push(word(text)?);
        }
        settings.extend(self.preset.as_ref().map(|p| flag("--preset", "preset", p.as_str())));
        settings.extend(self.method.map(|m| flag("--method", "method", m.as_str())));
        Ok(settings)
    }
}

/// Arguments of `engine config`.
#[derive(Args, Clone, Debug)]
pub struct ConfigVerbArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

/// Verbs of `engine config`.
#[derive(Subcommand, Clone, Debug)]
pub enum ConfigVerb {
    /// Print all settings with their origins, as a file that -c takes
    Show {
        /// The settings
        #[command(flatten)]
        settings: SettingArgs,
        /// Say what each key is: meaning, unit, allowed values, defaults, source
        #[arg(long)]
        explain: bool,
        /// As docs/settings.md, which is made by this
        #[arg(long, hide = true, requires = "explain", conflicts_with = "json")]
        markdown: bool,
    },
    /// Check a file of settings
    Validate {
        /// The TOML file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Shows or validates settings.
pub fn run(args: &ConfigVerbArgs, globals: &Globals) -> Result<()> {
    match &args.verb {
        ConfigVerb::Show { markdown: true, .. } => print_file(&markdown()?),
        ConfigVerb::Show { settings, explain, .. } => {
            let mut settings = settings.settings()?;
            settings.extend(globals.settings());
            let resolved = resolve(&settings)?;
            match explain {
                true => show_explained(&resolved, globals.json),
                false => show(&resolved, globals.json),
            }
        }
        ConfigVerb::Validate { file } => {
            let settings = read_file(file)?;
            let resolved = resolve(&settings)?;
            let preset = &resolved.config.preset.name;
            if globals.json {
                let file = file.display().to_string();
                return print_json(&json!({
                    "file": file, "valid": true, "preset": preset, "keys": settings.len(),
                }));
            }
            let n = settings.len();
            print(&format!("{}: valid, {n} settings over preset {preset}", file.display()))
        }
    }
}

fn show(resolved: &Resolved, json: bool) -> Result<()> {
    if !json {
        return print_file(&resolved.to_toml());
    }
    let origins: Map<String, Value> = resolved
        .config
        .entries()
        .into_iter()
        .filter_map(|(key, _)| Some((key.clone(), json!(resolved.origin(&key)?.to_string()))))
        .collect();
    print_json(&json!({ "config": resolved.config, "origins": origins }))
}

/// What each key is.
fn show_explained(resolved: &Resolved, json: bool) -> Result<()> {
    let all = explain(resolved)?;
    if json {
        return print_json(&json!({ "settings": all }));
    }
    let columns = columns(std::io::stdout()).unwrap_or(PROSE).min(PROSE);
    let paragraphs = all.iter().map(|key| key.text(|line| fill(line, columns, "    ", "    ")));
    print_file(&paragraphs.collect::<Vec<_>>().join("\n"))
}
