//! The layers of settings: defaults, beneath the file, beneath the environment, beneath the flags.

use std::collections::BTreeMap;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};
use serde::Deserialize;
use toml::{Table, Value};

use super::problem::{Origin, Problem};
use super::raw::Raw;

/// The one setting that is a table: volume options by their keys.
const TABLE: &str = "default";

/// Settings as they were written, each with its source, and what could not be read at all.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    values: BTreeMap<String, (Value, Origin)>,
    pub(super) problems: Vec<Problem>,
}

/// The names of all settings, in the order of their definition.
#[must_use]
pub fn names() -> Vec<String> {
    let command = Raw::augment_args(Command::new("settings"));
    let ids = command.get_arguments().map(|arg| arg.get_id().as_str().replace('_', "-"));
    ids.chain(["socket".to_owned()]).collect()
}

impl Inputs {
    /// Flags, environment and defaults, as clap has read them.
    #[must_use]
    pub fn from_matches(matches: &ArgMatches) -> Self {
        let mut inputs = Self::default();
        for name in names() {
            let id = name.replace('-', "_");
            let given = matches.try_get_many::<String>(&id).ok().flatten();
            let texts: Vec<&str> = given.into_iter().flatten().map(String::as_str).collect();
            let Some(first) = texts.first() else { continue };
            let origin = match matches.value_source(&id) {
                Some(ValueSource::CommandLine) => Origin::Flag,
                // A managed plugin's variables are always set; the empty one is "not given".
                Some(ValueSource::EnvVariable) if !first.is_empty() => Origin::Environment,
                _ => continue,
            };
            match &name[..] {
                TABLE => inputs.add_pairs(&texts, &origin),
                _ => inputs.put(name, Value::String((*first).to_owned()), origin),
            }
        }
        inputs.add_defaults();
        inputs
    }

    /// The same with the file at `path` beneath flags and environment, and above the defaults.
    #[must_use]
    pub fn over_file(mut self, path: &Path, text: &str) -> Self {
        let origin = Origin::File(path.to_owned());
        let table = match text.parse::<Table>() {
            Ok(table) => table,
            Err(error) => {
                self.complain("", "", &origin, error.to_string().trim_end());
                return self;
            }
        };
        for (name, value) in table {
            if let Err(reason) = try_alone(&name, &value) {
                self.complain(&name, &shown(&value), &origin, &reason);
            } else if let (TABLE, Value::Table(options)) = (&name[..], &value) {
                self.add_options(options.clone(), &origin);
            } else if matches!(self.origin(&name), Origin::Default) {
                self.values.insert(name, (value, origin.clone()));
            }
        }
        self
    }

    /// Where a setting was written.
    pub(super) fn origin(&self, name: &str) -> Origin {
        self.values.get(name).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// A setting's text, where it is one.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.values.get(name).and_then(|(value, _)| value.as_str()).map(str::to_owned)
    }

    /// All layers as one. Every value has been tried alone, so that they fit together.
    pub(super) fn raw(&self) -> Raw {
        let table = self.values.iter().map(|(name, (value, _))| (name.clone(), value.clone()));
        Raw::deserialize(Value::Table(table.collect())).unwrap_or_default()
    }

    pub(super) fn complain(&mut self, name: &str, value: &str, origin: &Origin, reason: &str) {
        self.problems.push(Problem {
            setting: name.to_owned(),
            value: value.to_owned(),
            origin: origin.clone(),
            reason: reason.to_owned(),
        });
    }

    fn put(&mut self, name: String, value: Value, origin: Origin) {
        self.values.insert(name, (value, origin));
    }

    fn add_defaults(&mut self) {
        let command = Raw::augment_args(Command::new("settings"));
        for arg in command.get_arguments() {
            let name = arg.get_id().as_str().replace('_', "-");
            if let Some(text) = arg.get_default_values().first().and_then(|text| text.to_str()) {
                let value = (Value::String(text.to_owned()), Origin::Default);
                self.values.entry(name).or_insert(value);
            }
        }
        let socket = (Value::String(super::raw::DEFAULT_SOCKET.to_owned()), Origin::Default);
        self.values.entry("socket".to_owned()).or_insert(socket);
    }

    fn add_pairs(&mut self, texts: &[&str], origin: &Origin) {
        let pairs = match origin {
            Origin::Environment => split_list(texts.first().copied().unwrap_or_default()),
            _ => texts.iter().map(|text| (*text).to_owned()).collect(),
        };
        let mut options = Table::new();
        for pair in pairs {
            match pair.split_once('=') {
                Some((key, value)) if !key.trim().is_empty() => {
                    options.insert(key.trim().to_owned(), Value::String(value.to_owned()));
                }
                _ => self.complain(TABLE, &pair, origin, "write KEY=VALUE, such as size=10G"),
            }
        }
        self.add_options(options, origin);
    }

    /// Adds volume options beneath those that are there.
    fn add_options(&mut self, options: Table, origin: &Origin) {
        let slot = self.values.entry(TABLE.to_owned());
        let (value, _) = slot.or_insert_with(|| (Value::Table(Table::new()), origin.clone()));
        if let Value::Table(above) = value {
            for (key, option) in options {
                above.entry(key).or_insert(option);
            }
        }
    }
}

/// Is it a setting, and of the right kind?
fn try_alone(name: &str, value: &Value) -> Result<(), String> {
    let known = names();
    if !known.iter().any(|known| known == name) {
        let nearest = known.iter().max_by(|a, b| alike(a, name).total_cmp(&alike(b, name)));
        return Err(match nearest {
            Some(nearest) if alike(nearest, name) > 0.8 => {
                format!("there is no such setting; is it {nearest}?")
            }
            _ => format!("there is no such setting; there are {}", known.join(", ")),
        });
    }
    let alone = Table::from_iter([(name.to_owned(), value.clone())]);
    match Raw::deserialize(Value::Table(alone)) {
        Ok(_) => Ok(()),
        Err(_) if name == TABLE => Err("write a table of words and numbers: [default], then \
                                        lines such as size = \"10G\""
            .to_owned()),
        Err(_) => Err("write it as a text in quotes".to_owned()),
    }
}

/// How much of two words is the same, from both ends: 1 is all of it.
fn alike(a: &str, b: &str) -> f64 {
    let common = |a: &mut dyn Iterator<Item = char>, b: &mut dyn Iterator<Item = char>| {
        a.zip(b).take_while(|(a, b)| a == b).count()
    };
    let start = common(&mut a.chars(), &mut b.chars());
    let end = common(&mut a.chars().rev(), &mut b.chars().rev());
    let longest = a.chars().count().max(b.chars().count()).max(1);
    (start + end).min(longest) as f64 / longest as f64
}

/// Splits `size=10G,mount-options=noatime,nodiratime`: a piece without `=` belongs to the one
/// before it.
fn split_list(text: &str) -> Vec<String> {
    let mut pairs: Vec<String> = Vec::new();
    for piece in text.split(',') {
        match pairs.last_mut() {
            Some(last) if !piece.contains('=') => {
                last.push(',');
                last.push_str(piece);
            }
            _ => pairs.push(piece.to_owned()),
        }
    }
    pairs
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_the_environment_may_hold_values_with_commas() {
        assert_eq!(
            split_list("size=10G,mount-options=noatime,nodiratime,fs-type=xfs"),
            ["size=10G", "mount-options=noatime,nodiratime", "fs-type=xfs"]
        );
    }

    #[test]
    fn every_setting_is_one_word_as_flag_variable_and_key() {
        let command = Raw::augment_args(Command::new("settings"));
        for arg in command.get_arguments() {
            let name = arg.get_long().expect("a long flag");
            assert_eq!(arg.get_id().as_str(), name.replace('-', "_"));
            let variable = arg.get_env().and_then(|name| name.to_str()).expect("a variable");
            assert_eq!(variable, super::super::problem::environment_name(name));
            let value = match name {
                TABLE => Value::Table(Table::new()),
                _ => Value::String("x".to_owned()),
            };
            assert_eq!(try_alone(name, &value), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_misspelt_setting_is_told_the_right_word() {
        let reason = try_alone("mount-rot", &Value::String("x".into())).expect_err("unknown");
        assert!(reason.ends_with("is it mount-root?"), "{reason}");
        let reason = try_alone("colour", &Value::String("x".into())).expect_err("unknown");
        assert!(reason.contains("ceph-conf, client-id"), "{reason}");
    }
}
