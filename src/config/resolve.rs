//! From layers of settings to one validated [`Config`]: the defaults of the preset, then a
//! file, then words of the command line, each key with its origin.

use std::collections::BTreeMap;

use clap::ValueEnum;
use toml::{Table, Value};

use super::allowed::Allowed;
use super::keys::{KEYS, key};
use super::setting::{Origin, Setting, flatten, word};
use super::{Config, Method, check};
use crate::error::{Error, Result, nearest};
use crate::space::{Space, presets};

impl Config {
    /// All keys with their values, in the order in which they are documented.
    pub fn entries(&self) -> Vec<(String, Value)> {
        let mut entries = Vec::new();
        flatten(&self.table(), "", &mut entries);
        entries
    }

    fn table(&self) -> Table {
        // A seed past 63 bits is refused by the check; until then it is shown as the largest.
        let c = Self { seed: self.seed.min(i64::MAX as u64), ..self.clone() };
        Table::try_from(c).expect("settings are plain numbers, words and sections")
    }

    /// All keys with their values as plain text, without quotes.
    pub fn flat(&self) -> BTreeMap<String, String> {
        flat(&self.table())
    }

    /// Exit 2 with the key, its value and what was expected where a value is out of its range.
    pub fn validate(&self) -> Result<()> {
        self.check_with(|_| String::new())
    }

    fn check_with(&self, origin: impl Fn(&str) -> String) -> Result<()> {
        check::check(self).map_err(|(key, expected)| {
            let found = self.flat().remove(key).unwrap_or_default();
            Error::usage(format!("{key} = {found}{}: {expected}", origin(key)))
        })
    }
}

/// All keys of a table with their values as plain text, without quotes.
pub fn flat(table: &Table) -> BTreeMap<String, String> {
    let mut entries = Vec::new();
    flatten(table, "", &mut entries);
    entries.into_iter().map(|(key, value)| (key, plain(&value))).collect()
}

/// A value without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A validated configuration, and where each value came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The values.
    pub config: Config,
    origins: BTreeMap<String, Origin>,
}

/// Lays settings over the defaults, later ones over earlier ones, and validates the result.
/// Exit 2 for an unknown key (naming the nearest), a value of the wrong type or out of range.
pub fn resolve(settings: &[Setting]) -> Result<Resolved> {
    let preset = settings.iter().rev().find(|s| s.key == PRESET).map(space).transpose()?;
    let space = preset.unwrap_or_else(presets::data);
    let of_preset = Config::defaults(&space, Method::Moco);
    let method = settings.iter().rev().find(|s| s.key == "method");
    let method = method.map(|s| apply(&of_preset, s)).transpose()?;
    let method = method.map_or(of_preset.method, |config| config.method);
    let mut config = Config::defaults(&space, method);
    let mut origins = default_origins(&config);
    for setting in settings {
        if setting.key != PRESET {
            config = apply(&config, setting)?;
        }
        origins.insert(setting.key.clone(), setting.origin.clone());
    }
    config.check_with(|key| origins.get(key).map_or(String::new(), |o| format!(" ({o})")))?;
    Ok(Resolved { config, origins })
}

/// The key of the search space.
const PRESET: &str = "preset";

/// The search space that a setting names, or is.
fn space(setting: &Setting) -> Result<Space> {
    match &setting.value {
        Value::Table(whole) => {
            whole.clone().try_into().map_err(|e: toml::de::Error| setting.wrong(e.message()))
        }
        value => Space::preset(&plain(value)).map_err(|e| setting.wrong(e)),
    }
}

fn default_origins(config: &Config) -> BTreeMap<String, Origin> {
    let table = |space: &Space, method: Method| -> Table {
        Config::defaults(space, method).entries().into_iter().collect()
    };
    let same = |key: &str, value: &Value, others: &[Table]| {
        others.iter().all(|other| other.get(key) == Some(value))
    };
    let presets = [presets::data(), presets::cifar(), presets::tiny()];
    let presets: Vec<Table> = presets.iter().map(|p| table(p, config.method)).collect();
    let methods: Vec<Table> =
        Method::value_variants().iter().map(|m| table(&config.preset, *m)).collect();
    let origin = |key: &str, value: &Value| {
        let preset = config.preset.like.clone();
        match (same(key, value, &presets), same(key, value, &methods)) {
            _ if ["preset", "method"].contains(&key) => Origin::Default,
            (true, true) => Origin::Default,
            (false, true) => Origin::Preset(preset),
            (true, false) => Origin::Method(config.method),
            (false, false) => Origin::PresetAndMethod(preset, config.method),
        }
    };
    config.entries().into_iter().map(|(k, v)| (k.clone(), origin(&k, &v))).collect()
}

/// `config` with one value replaced.
fn apply(config: &Config, setting: &Setting) -> Result<Config> {
    let mut table = config.table();
    let (section, name) = match setting.key.split_once('.') {
        Some((section, name)) => (table.get_mut(section).and_then(Value::as_table_mut), name),
        None => (Some(&mut table), setting.key.as_str()),
    };
    let slot = section.and_then(|s| s.get_mut(name)).ok_or_else(|| unknown(setting))?;
    if key(&setting.key).is_none() {
        return Err(unknown(setting));
    }
    let before = std::mem::replace(slot, setting.value.clone());
    let allowed = key(&setting.key).map(|key| key.allowed);
    table.try_into().map_err(|e: toml::de::Error| match (allowed, before) {
        (Some(Allowed::Interval { .. } | Allowed::SameOr(_) | Allowed::Id | Allowed::File), _) => {
            setting.wrong(e.message())
        }
        (_, before @ Value::Integer(_)) => {
            setting.wrong(format!("expected a whole number of at least 0, such as {before}"))
        }
        (_, before @ Value::Float(_)) => {
            setting.wrong(format!("expected a number, such as {before}"))
        }
        (Some(Allowed::Preset), _) => setting.wrong(e.message()),
        (Some(Allowed::Switch), _) => setting.wrong("expected true or false"),
        (_, before) if !setting.value.is_str() => {
            setting.wrong(format!("expected a word, such as {before}"))
        }
        _ => setting.wrong(e.message()),
    })
}

fn unknown(setting: &Setting) -> Error {
    let keys: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    let section = format!("{}.", setting.key);
    if let Some(inside) = keys.iter().find(|k| k.starts_with(&section)) {
        return setting.wrong(format!("this is a section; expected a key in it, such as {inside}"));
    }
    Error::usage(format!(
        "unknown key {:?} ({}){}: engine config show --explain lists all keys",
        setting.key,
        setting.origin,
        nearest(&setting.key, &keys)
    ))
}

impl Resolved {
    /// A key's value as plain text; empty for an unknown key.
    pub(super) fn value(&self, key: &str) -> String {
        self.config.flat().remove(key).unwrap_or_default()
    }

    /// Sets a key, whatever it was before. Exit 2 where the value cannot be used.
    pub(super) fn replace(&mut self, key: &str, value: Value, origin: Origin) -> Result<()> {
        let setting = Setting { key: key.to_owned(), value, origin };
        self.config = apply(&self.config, &setting)?;
        self.origins.insert(setting.key, setting.origin);
        Ok(())
    }

    /// Sets a number that was the best of those tried on some images.
    ///
    /// # Errors
    /// Exit 2 where the value cannot be used.
    pub fn take_best(&mut self, key: &str, value: f64, on: &'static str) -> Result<()> {
        self.replace(key, value.into(), Origin::Tried(on))
    }

    /// Gives the keys that the user has not set the values that a run began with, for going on
    /// with it: defaults may be others today, or follow other images.
    ///
    /// # Errors
    /// Exit 2 where a value cannot be used.
    pub fn inherit(&mut self, began_with: &BTreeMap<String, String>) -> Result<()> {
        for key in self.origins.keys().cloned().collect::<Vec<_>>() {
            if let Some(text) = began_with.get(&key).filter(|_| !self.is_set(&key)) {
                let value = word(&format!("{key}={text}"))?.value;
                self.replace(&key, value, Origin::Checkpoint)?;
            }
        }
        self.config.validate()
    }

    /// Where a key's value came from; none for an unknown key.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.origins.get(key)
    }

    /// The configuration as a TOML file, each line with its origin as a comment; reading it
    /// back gives the same configuration.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut section = String::new();
        for (key, value) in self.config.entries() {
            let (head, name) = key.rsplit_once('.').unwrap_or(("", &key));
            if head != section {
                out += &format!("\n[{head}]\n");
                section = head.to_owned();
            }
            let line = format!("{name} = {value}");
            match self.origin(&key) {
                Some(origin) => out += &format!("{line:<28} # {origin}\n"),
                None => out += &(line + "\n"),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::setting::{flag, read_file};
    use super::*;

    fn words(words: &[&str]) -> Result<Resolved> {
        resolve(&words.iter().map(|w| word(w)).collect::<Result<Vec<_>>>()?)
    }

    #[test]
    fn the_written_file_resolves_to_the_same_configuration() {
        for preset in presets::NAMES {
            let made = words(&[
                &format!("preset={preset}"),
                "ckpt.every=5ep",
                "probe.every=7",
                "train.lr=1",
                "seed=9",
            ])
            .unwrap();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("config.toml");
            std::fs::write(&path, made.to_toml()).unwrap();
            let again = resolve(&read_file(&path).unwrap()).unwrap();
            assert_eq!(again.config, made.config);
            assert!(made.to_toml().contains("# command line"));
            assert!(matches!(again.origin("train.lr"), Some(Origin::File(_, line)) if *line > 5));
        }
    }

    #[test]
    fn later_layers_win() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.toml");
        std::fs::write(&path, "preset = \"cifar\"\n[train]\nlr = 0.5\nbatch = 64\n").unwrap();
        let mut settings = read_file(&path).unwrap();
        settings.push(word("train.batch=32").unwrap());
        settings.push(flag("--seed", "seed", 4));
        let r = resolve(&settings).unwrap();
        let c = &r.config;
        assert_eq!((c.train.lr, c.train.batch, c.seed, c.moco.hidden), (0.5, 32, 4, 512));
        let origins = ["train.lr", "train.batch", "seed", "moco.hidden", "moco.dim"];
        let origins = origins.map(|k| r.origin(k).unwrap().to_string());
        assert_eq!(origins[0], format!("{path:?} line 3"));
        assert_eq!(origins[1..], ["command line", "--seed", "default of preset cifar", "default"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (bad, says) in [
            ("train.bach=4", "\"train.batch\""),
            ("batch=4", "unknown key"),
            ("train=4", "section"),
            ("train.batch.x=4", "unknown key"),
            ("train.batch=1", "expected 2 to"),
            ("train.batch=many", "whole number"),
            ("train.batch=-3", "whole number"),
            ("train.lr=nan", "expected 0 to"),
            ("train.lr=", "a number"),
            ("train.accum=3", "divisor"),
            ("moco.tau=0", "more than 0"),
            ("moco.queue=0", "expected 1 to"),
            ("sampling.policy=papier", "\"paper\""),
            ("sampling.policy=3", "expected a word"),
            ("train.precision=fp16", "bf16"),
            ("ckpt.every=soon", "30m"),
            ("ckpt.every=0", "30m"),
            ("ckpt.every=[1]", "30m"),
            ("probe.every=[1]", "or auto"),
            ("probe.every=often", "or auto"),
            ("probe.images=1", "expected 4 to"),
            ("guard.collapse=maybe", "true or false"),
            ("preset=cifra", "\"cifar\""),
            ("preset=3", "expected"),
            ("seed=-1", "whole number"),
            ("=3", "unknown key"),
            ("nonsense", "key=value"),
        ] {
            let e = words(&[bad]).unwrap_err();
            assert_eq!(e.exit_code(), 2);
            assert!(e.to_string().contains(says), "{bad}: {e}");
        }
    }

    #[test]
    fn no_value_of_any_key_panics() {
        let big = "9".repeat(400);
        let values = [
            "0",
            "-0",
            "1",
            "-1",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            &big,
            "0.0",
            "-0.0",
            "1e-320",
            "1e308",
            "-1e308",
            "1e999",
            "nan",
            "-nan",
            "inf",
            "-inf",
            "",
            " ",
            "\"\"",
            "true",
            "false",
            "word",
            "[]",
            "[1, 2]",
            "{}",
            "{a=1}",
            "1979-05-27",
            "'1'",
            "1ep",
            "18446744073709551615ep",
            "9223372036854775807ep",
            "1000000000ep",
            "1s",
            "1000d",
            "1001d",
            "18446744073709551615d",
            "-1s",
            "1.5h",
            "\u{0}",
            "é",
            "0x7f",
            "1_0",
        ];
        let check = |made: Result<Resolved>, key: &str, value: &str| match made {
            Ok(made) => {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("config.toml");
                std::fs::write(&path, made.to_toml()).unwrap();
                let again = resolve(&read_file(&path).unwrap()).unwrap();
                assert_eq!(again.config, made.config, "{key}={value}");
                made.config.validate().unwrap();
            }
            Err(e) => assert_eq!(e.exit_code(), 2, "{key}={value}: {e}"),
        };
        for (key, _) in Config::for_preset("tiny").unwrap().entries() {
            for value in values {
                check(words(&["preset=tiny", &format!("{key}={value}")]), &key, value);
                // As a file's text, and as what a run began with.
                let origin = Origin::File("run.toml".into(), 1);
                let text = Setting { key: key.clone(), value: Value::from(value), origin };
                check(resolve(&[text]), &key, value);
                let mut made = words(&["preset=tiny"]).unwrap();
                let began = BTreeMap::from([(key.clone(), value.to_owned())]);
                let inherited = made.inherit(&began).map(|()| made);
                check(inherited, &key, value);
            }
        }
    }
}
