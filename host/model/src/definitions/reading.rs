//! Reading a tree: what is wrong is noted with its place, and reading goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::tree::{Key, Node, Value};
use super::{GivenLimits, Named, Table};
use crate::diagnostic::{Diagnostic, Diagnostics, Place};
use crate::error::Code;
use crate::id::Name;
use crate::limits::{ByteSize, Limits, parse_duration};
use crate::secret::SecretSpec;

/// What has been found so far, and where relative paths start.
pub(crate) struct Reading<'a> {
    pub(crate) found: Diagnostics,
    pub(crate) folder: &'a Path,
    /// The secrets of the file, which are read before what refers to them.
    pub(crate) secrets: Table<SecretSpec>,
}

/// The keys of one kind of map.
pub(crate) struct Keys {
    /// What it is, with an article.
    pub(crate) what: &'static str,
    pub(crate) known: &'static [&'static str],
    /// Keys that a later version will know.
    pub(crate) later: &'static [&'static str],
}

/// A map whose keys are known.
pub(crate) struct Fields<'n> {
    place: &'n Place,
    entries: Vec<(&'n Key, &'n Node)>,
}

impl<'n> Fields<'n> {
    pub(crate) fn get(&self, name: &str) -> Option<&'n Node> {
        self.entry(name).map(|(_, node)| node)
    }

    pub(crate) fn entry(&self, name: &str) -> Option<(&'n Key, &'n Node)> {
        self.entries.iter().copied().find(|(key, _)| key.text == name)
    }

    pub(crate) fn require(&self, reading: &mut Reading<'_>, name: &str, help: &str) -> Option<&'n Node> {
        let node = self.get(name);
        if node.is_none() {
            reading.found.push(
                Diagnostic::error(Code::MissingKey, format!("`{name}` is missing")).at(self.place, "here").help(help),
            );
        }
        node
    }
}

impl<'a> Reading<'a> {
    /// Nothing is read yet.
    pub(crate) fn new(folder: &'a Path) -> Self {
        Self { found: Diagnostics::default(), folder, secrets: Table::default() }
    }

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    /// Notes that something is of the wrong kind.
    pub(crate) fn shape<T>(&mut self, node: &Node, what: &str, expected: &str) -> Option<T> {
        self.push(
            Diagnostic::error(Code::WrongShape, format!("{what} is {expected}, not {}", node.value.kind()))
                .at(&node.place, format!("expected {expected}")),
        );
        None
    }

    pub(crate) fn not_supported(&mut self, place: &Place, what: &str) {
        self.push(
            Diagnostic::error(Code::NotSupported, format!("{what} not supported yet by this version"))
                .at(place, "remove this"),
        );
    }

    /// The entries of a map, without those whose key was there before. Nothing at all is an empty map.
    pub(crate) fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Option<Vec<(&'n Key, &'n Node)>> {
        let entries = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => return Some(Vec::new()),
            _ => return self.shape(node, what, "a map"),
        };
        let mut seen: BTreeMap<&str, &Key> = BTreeMap::new();
        let mut unique = Vec::with_capacity(entries.len());
        for (key, item) in entries {
            if let Some(first) = seen.get(key.text.as_str()) {
                self.push(
                    Diagnostic::error(Code::DuplicateName, format!("`{}` is given twice", key.text))
                        .at(&key.place, "given again here")
                        .at(&first.place, "given first here"),
                );
            } else {
                seen.insert(&key.text, key);
                unique.push((key, item));
            }
        }
        Some(unique)
    }

    /// Notes keys that are given twice, however deep: for what is handed on as it is.
    pub(crate) fn unique_keys(&mut self, node: &Node) {
        match &node.value {
            Value::Map(entries) => {
                self.entries(node, "a map");
                entries.iter().for_each(|(_, item)| self.unique_keys(item));
            }
            Value::List(items) => items.iter().for_each(|item| self.unique_keys(item)),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {}
        }
    }

    /// The entries of a map with known keys; others are noted and left out.
    pub(crate) fn fields<'n>(&mut self, node: &'n Node, keys: &Keys) -> Option<Fields<'n>> {
        let entries = self.entries(node, keys.what)?;
        let mut kept = Vec::with_capacity(entries.len());
        for (key, item) in entries {
            let text = key.text.as_str();
            if keys.known.contains(&text) {
                if text == "description" {
                    self.text(item, "`description`");
                }
                kept.push((key, item));
            } else if keys.later.contains(&text) {
                self.not_supported(&key.place, &format!("`{text}` is"));
            } else {
                self.push(
                    Diagnostic::error(Code::UnknownKey, format!("`{text}` means nothing in {}", keys.what))
                        .at(&key.place, "unknown key")
                        .nearest(text, keys.known.iter().copied()),
                );
            }
        }
        Some(Fields { place: &node.place, entries: kept })
    }

    /// A table: entries by name, each read by `read`.
    pub(crate) fn table<T>(
        &mut self,
        node: Option<&Node>,
        what: &str,
        mut read: impl FnMut(&mut Self, &Key, &Node) -> Option<T>,
    ) -> Table<T> {
        let mut table = Table::default();
        for (key, item) in node.and_then(|node| self.entries(node, what)).unwrap_or_default() {
            let name = self.name(&key.text, &key.place);
            let value = read(self, key, item);
            match (name, value) {
                (Some(name), Some(value)) => table.insert(Named { name, place: key.place.clone(), value }),
                _ => table.insert_broken(&key.text),
            }
        }
        table
    }

    pub(crate) fn name(&mut self, text: &str, place: &Place) -> Option<Name> {
        match Name::new(text) {
            Ok(name) => Some(name),
            Err(error) => {
                self.push(
                    Diagnostic::error(Code::BadName, format!("`{}` cannot be a name", short(text)))
                        .at(place, "")
                        .help(format!("a name is {}", error.rule())),
                );
                None
            }
        }
    }

    pub(crate) fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => Some(text),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                self.push(
                    Diagnostic::error(Code::WrongShape, format!("{what} is text, not {}", node.value.kind()))
                        .at(&node.place, "expected text")
                        .help(format!("quote it: \"{}\"", short(node.place.text()))),
                );
                None
            }
            _ => self.shape(node, what, "text"),
        }
    }

    pub(crate) fn name_at(&mut self, node: &Node, what: &str) -> Option<Name> {
        let text = self.text(node, what)?;
        self.name(text, &node.place)
    }

    pub(crate) fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            _ => self.shape(node, what, "a list"),
        }
    }

    pub(crate) fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match &node.value {
            Value::Bool(value) => Some(*value),
            _ => self.shape(node, what, "true or false"),
        }
    }

    pub(crate) fn whole_number(&mut self, node: &Node, what: &str, max: u64) -> Option<u64> {
        let Value::Int(value) = node.value else { return self.shape(node, what, "a whole number") };
        let number = u64::try_from(value).ok().filter(|number| *number <= max);
        if number.is_none() {
            self.push(
                Diagnostic::error(Code::BadQuantity, format!("{what} is out of range"))
                    .at(&node.place, format!("expected 0 to {max}")),
            );
        }
        number
    }

    fn quantity<T>(&mut self, node: &Node, parsed: Result<T, impl std::fmt::Display>) -> Option<T> {
        parsed
            .map_err(|error| {
                self.push(Diagnostic::error(Code::BadQuantity, error.to_string()).at(&node.place, ""));
            })
            .ok()
    }

    /// A duration, as text with a unit. A bare number is told that it lacks one.
    pub(crate) fn duration(&mut self, node: &Node) -> Option<Duration> {
        let parsed = parse_duration(&scalar_text(node));
        self.quantity(node, parsed)
    }

    pub(crate) fn size(&mut self, node: &Node) -> Option<ByteSize> {
        let parsed = scalar_text(node).parse::<ByteSize>();
        self.quantity(node, parsed)
    }

    pub(crate) fn tags(&mut self, node: Option<&Node>) -> BTreeMap<String, String> {
        let mut tags = BTreeMap::new();
        for (key, item) in node.and_then(|node| self.entries(node, "`tags`")).unwrap_or_default() {
            if let Some(value) = self.text(item, "the value of a tag") {
                tags.insert(key.text.clone(), value.to_owned());
            }
        }
        tags
    }

    pub(crate) fn limits(&mut self, node: Option<&Node>) -> GivenLimits {
        let mut given = GivenLimits::default();
        for (key, item) in node.and_then(|node| self.entries(node, "`limits`")).unwrap_or_default() {
            let Some(name) = Limits::FIELDS.iter().map(|(name, _)| *name).find(|name| *name == key.text) else {
                self.push(
                    Diagnostic::error(Code::UnknownKey, format!("there is no limit `{}`", key.text))
                        .at(&key.place, "unknown limit")
                        .nearest(&key.text, Limits::FIELDS.iter().map(|(name, _)| *name)),
                );
                continue;
            };
            self.limit(&mut given, name, item);
        }
        given
    }

    /// Reads one limit by its name.
    pub(crate) fn limit(&mut self, given: &mut GivenLimits, name: &'static str, node: &Node) {
        const MAX_NUMBER: u64 = crate::json::MAX_INTEGER;
        let what = format!("the limit `{name}`");
        let o = &mut given.overrides;
        match name {
            "cpu" => o.cpu = self.duration(node),
            "wall" => o.wall = self.duration(node),
            "memory" => o.memory = self.size(node),
            "host_call_bytes" => o.host_call_bytes = self.size(node),
            "read_bytes" => o.read_bytes = self.size(node),
            "output_bytes" => o.output_bytes = self.size(node),
            "log_bytes" => o.log_bytes = self.size(node),
            "metadata_bytes" => o.metadata_bytes = self.size(node),
            "http_bytes" => o.http_bytes = self.size(node),
            "fuel" => o.fuel = self.whole_number(node, &what, MAX_NUMBER),
            "host_calls" => o.host_calls = self.whole_number(node, &what, MAX_NUMBER),
            other => {
                let number =
                    self.whole_number(node, &what, u32::MAX.into()).and_then(|number| u32::try_from(number).ok());
                match other {
                    "handles" => o.handles = number,
                    "http_calls" => o.http_calls = number,
                    "instances" => o.instances = number,
                    "items" => o.items = number,
                    "log_lines" => o.log_lines = number,
                    "events" => o.events = number,
                    // A limit that is new in `Limits` and unknown here: a test goes through all of them.
                    _ => self.not_supported(&node.place, &format!("{what} is")),
                }
            }
        }
        given.places.push((name, node.place.clone()));
    }
}

/// A scalar as it was written; for what is not a scalar, its kind.
fn scalar_text(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => text.clone(),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => node.place.text().to_owned(),
        other => other.kind().to_owned(),
    }
}

/// At most 80 characters of a text.
pub(crate) fn short(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(79).chain(['…']).collect() }
}
