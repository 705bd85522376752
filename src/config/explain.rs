//! The reference of the settings: for a terminal, as data, and as `docs/settings.md`.

use std::fmt::Write;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Method;
use super::adapt::FOLLOWING;
use super::allowed::{Allowed, Key};
use super::keys::{Config, KEYS, SECTIONS};
use super::resolve::Resolved;
use crate::error::Result;
use crate::space::{Space, presets};

/// All that is known of a key, and its value in some settings.
#[derive(Serialize)]
pub struct Explained {
    /// Its name.
    pub key: &'static str,
    /// Its value.
    pub value: Value,
    /// Where the value comes from.
    pub origin: String,
    /// What it is.
    pub about: &'static str,
    /// Unit of its values; empty where they have none.
    pub unit: &'static str,
    /// The values that it may have.
    pub allowed: String,
    /// What its words mean, where it takes words.
    pub words: Map<String, Value>,
    /// Its default in each preset.
    pub defaults: Map<String, Value>,
    /// How its default follows the images, in the presets of small images; null where it does not.
    pub follows: Option<&'static str>,
    /// Where its default comes from; empty where it is engine's own.
    pub source: &'static str,
}

/// Explains all keys, with their values in `resolved`, in order.
///
/// # Errors
/// None: the presets are the program's own.
pub fn explain(resolved: &Resolved) -> Result<Vec<Explained>> {
    let presets: Vec<(&str, _)> = presets::NAMES
        .iter()
        .map(|name| {
            let space = Space::preset(name)?;
            Ok((*name, Config::defaults(&space, resolved.config.method).entries()))
        })
        .collect::<Result<_>>()?;
    let values = resolved.config.entries();
    let one = |(key, (_, value)): (&'static Key, &(String, toml::Value))| {
        let words = match key.allowed.explained() {
            Some((names, about)) => {
                names.iter().zip(about).map(|(n, a)| ((*n).to_owned(), json!(a.trim()))).collect()
            }
            None => Map::new(),
        };
        let default = |entries: &[(String, toml::Value)]| {
            entries.iter().find(|(name, _)| name == key.name).map_or(Value::Null, |(_, v)| json!(v))
        };
        Explained {
            key: key.name,
            value: json!(value),
            origin: resolved.origin(key.name).map_or(String::new(), ToString::to_string),
            about: key.about.trim(),
            unit: key.unit,
            allowed: allowed(key, value),
            words,
            defaults: presets.iter().map(|(p, all)| ((*p).to_owned(), default(all))).collect(),
            follows: FOLLOWING.iter().find(|(name, _)| *name == key.name).map(|(_, how)| *how),
            source: key.source,
        }
    };
    Ok(KEYS.iter().zip(&values).map(one).collect())
}

/// The values that a key may have, whole numbers called so.
fn allowed(key: &Key, value: &toml::Value) -> String {
    let whole = if value.is_integer() { "whole number, " } else { "" };
    match key.allowed {
        Allowed::Within(..) | Allowed::PositiveUpTo(_) | Allowed::HalfOpen(..) => {
            format!("{whole}{}", key.allowed.words())
        }
        other => other.words(),
    }
}

/// A value without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Explained {
    /// Its default in words: one value, or one for each preset.
    fn default_words(&self, code: &str) -> String {
        let value = |v: &Value| format!("{code}{}{code}", plain(v));
        let mut all = self.defaults.values();
        let first = all.next().map(value).unwrap_or_default();
        match all.all(|v| value(v) == first) || self.key == "preset" {
            true => first,
            false => {
                let each = self.defaults.iter().map(|(preset, v)| format!("{preset} {}", value(v)));
                each.collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// What it is, with its unit and the meaning of its words.
    fn meaning(&self) -> String {
        let words = self.words.iter().map(|(word, about)| {
            let about = about.as_str().unwrap_or_default();
            format!(" {word}: {about}")
        });
        format!("{}{}", self.about, words.collect::<String>())
    }

    /// Its paragraph on a terminal: name, value and origin; below, indented, what it is.
    pub fn text(&self, wrap: impl Fn(&str) -> String) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        let mut out = format!("{} = {}{unit}   ({})\n", self.key, plain(&self.value), self.origin);
        let mut line = |text: &str| out += &(wrap(text) + "\n");
        line(&self.meaning());
        line(&format!("Allowed: {}.", self.allowed));
        let follows = self.follows.map_or(String::new(), |how| {
            format!("; where it is not set, cifar and tiny take {how}")
        });
        line(&format!("Default: {}{follows}.", self.default_words("")));
        if !self.source.is_empty() {
            line(&format!("Source: {}.", self.source));
        }
        out
    }
}

/// `docs/settings.md`.
///
/// # Errors
/// None: the presets are the program's own.
pub fn markdown() -> Result<String> {
    let all = explain(&super::resolve(&[])?)?;
    let mut out = String::from(
        "<!-- Written by `engine config show --explain --markdown > docs/settings.md`; do not edit. -->\n\n\
         # Settings\n\n\
         Every key of a run's settings. Defaults depend on the preset and the method; a file (`-c run.toml`) overrides them, and \
         `key=value`\nwords on the command line override both. `engine config show` prints the values of a run with \
         their origins, and with\n`--explain` this page. Where a default *follows the images*, presets `cifar` and `tiny` \
         replace it by a value measured on\nthe images before training, unless it is set; the log says what and why \
         ([training.md](training.md)). A blank source is\nengine's own choice.\n",
    );
    let mut section = None;
    for key in &all {
        let (head, name) = key.key.split_once('.').unwrap_or(("", key.key));
        if section != Some(head) {
            let about = SECTIONS.iter().find(|(name, _)| *name == head).map(|(_, about)| *about);
            let title = match about {
                Some(about) => format!("`[{head}]`: {}", about.trim().trim_end_matches('.')),
                None => "Without a section".into(),
            };
            let _ = write!(
                out,
                "\n## {title}\n\n| key | meaning | unit | allowed | default | source |\n\
                 |---|---|---|---|---|---|\n"
            );
            section = Some(head);
        }
        let follows =
            key.follows.map_or(String::new(), |how| format!("; follows the images: {how}"));
        let _ = writeln!(
            out,
            "| `{name}` | {} | {} | {} | {}{follows} | {} |",
            key.meaning(),
            key.unit,
            key.allowed,
            key.default_words("`"),
            key.source
        );
    }
    out += &methods()?;
    Ok(out)
}

/// The defaults that methods change.
fn methods() -> Result<String> {
    let mut out = String::from(
        "\n## What a method changes\n\n\
         The defaults above are MoCo's. Those of `--method byol`, `ressl` and `densecl` differ in:\n\n\
         | method | preset | key | default | with MoCo |\n|---|---|---|---|---|\n",
    );
    for method in Method::value_variants() {
        for preset in presets::NAMES {
            let space = Space::preset(preset)?;
            let moco = Config::defaults(&space, Method::Moco).flat();
            for (key, value) in Config::defaults(&space, *method).flat() {
                if key != "method" && moco.get(&key) != Some(&value) {
                    let before = moco.get(&key).map_or("", String::as_str);
                    let _ =
                        writeln!(out, "| {method} | {preset} | `{key}` | `{value}` | `{before}` |");
                }
            }
        }
    }
    Ok(out)
}
