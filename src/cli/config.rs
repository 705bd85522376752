//! `engine config`: the settings of a run, and where each comes from.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{Globals, print, print_json};
use crate::config::{Method, Resolved, Setting, flag, read_file, resolve, word};
use crate::error::Result;

/// Arguments that make up a run's settings.
#[derive(Args, Clone, Debug, Default)]
pub struct SettingArgs {
    /// A TOML file of settings; later words and flags override it
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Search space and defaults: data, cifar or tiny [default: data]
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Self-supervised method [default: moco]
    #[arg(long, value_name = "NAME")]
    pub method: Option<Method>,
    /// Settings, such as train.lr=0.06
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
    Show(SettingArgs),
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
        ConfigVerb::Show(args) => {
            let mut settings = args.settings()?;
            settings.extend(globals.settings());
            show(&resolve(&settings)?, globals.json)
        }
        ConfigVerb::Validate { file } => {
            let settings = read_file(file)?;
            let resolved = resolve(&settings)?;
            let preset = &resolved.config.preset;
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
        return print(&resolved.to_toml());
    }
    let origins: Map<String, Value> = resolved
        .config
        .entries()
        .into_iter()
        .filter_map(|(key, _)| Some((key.clone(), json!(resolved.origin(&key)?.to_string()))))
        .collect();
    print_json(&json!({ "config": resolved.config, "origins": origins }))
}
