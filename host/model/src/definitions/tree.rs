//! YAML as a tree in which every key and value knows its place, read under a tight budget.
//!
//! The tree is lenient: what is wrong with its shape is found later, all at once. Only what makes the text unreadable as
//! YAML stops the reading.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error as YamlError, Location, MessageFormatter, Spanned, UserMessageFormatter};

use crate::diagnostic::{Diagnostic, Diagnostics, Place, Source};
use crate::error::Code;

/// Deepest nesting of lists and maps.
pub(crate) const MAX_DEPTH: usize = 32;
/// Most keys and values of one file.
pub(crate) const MAX_NODES: usize = 250_000;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// A key of a map and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) place: Place,
}

/// What YAML's core schema can say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; keys may repeat.
    Map(Vec<(Key, Node)>),
}

impl Value {
    /// What kind of thing it is, with an article.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// Reads a text as one YAML document.
pub(crate) fn read(source: &Source) -> Result<Node, Diagnostics> {
    let text = source.text();
    if text.len() > crate::diagnostic::MAX_SOURCE {
        let bound = crate::diagnostic::MAX_SOURCE;
        return Err(
            Diagnostic::error(Code::TooLarge, format!("`{}` is larger than {bound} bytes", source.name())).into()
        );
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_documents: 1,
            max_aliases: 0,
            max_anchors: 0,
            max_merge_keys: 0,
            max_total_scalar_bytes: crate::diagnostic::MAX_SOURCE,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        emit_comments: false,
        with_snippet: false,
    };
    let raw: Spanned<RawValue> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| explain(source, &error))?;
    Ok(Placer::new(source).node(raw))
}

/// Turns the parser's positions into places. Its byte offsets are used where it gives them.
struct Placer<'a> {
    source: &'a Source,
}

impl<'a> Placer<'a> {
    fn new(source: &'a Source) -> Self {
        Self { source }
    }

    fn place(&self, location: Location) -> Place {
        let span = location.span();
        let byte = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok());
        let text = self.source.text();
        // Errors come without byte offsets.
        let start = byte(span.byte_offset()).filter(|at| *at > 0 || location.line() <= 1 && location.column() <= 1);
        let start = start.unwrap_or_else(|| {
            let line = usize::try_from(location.line().saturating_sub(1)).unwrap_or(usize::MAX);
            let line_start = text.match_indices('\n').map(|(at, _)| at + 1).nth(line.saturating_sub(1));
            let line_start = if line == 0 { 0 } else { line_start.unwrap_or(text.len()) };
            let column = usize::try_from(location.column().saturating_sub(1)).unwrap_or(usize::MAX);
            let rest = &text[line_start..];
            line_start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
        });
        let length = byte(span.byte_len()).unwrap_or(0);
        let rest = text.get(start..start.saturating_add(length).min(text.len())).unwrap_or("");
        self.source.place(start..start + rest.trim_end().len().max(1))
    }

    /// The place of a map or list: from its start to the end of its last item, but of the first line only. Carets under
    /// twenty lines help nobody.
    fn extent(&self, start: &Place, last: Option<&Place>) -> Place {
        let text = self.source.text();
        let start = start.range().start;
        let mut end = last.map_or(start + 1, |last| last.range().end).clamp(start, text.len());
        let open = text[start..].chars().next();
        let rest = &text[end..];
        let closing = rest.trim_start_matches([' ', ',', '\n', '\r']);
        if (open == Some('{') && closing.starts_with('}')) || (open == Some('[') && closing.starts_with(']')) {
            end += rest.len() - closing.len() + 1;
        }
        let first_line = text[start..end].lines().next().unwrap_or("").trim_end().len();
        self.source.place(start..start + first_line.max(1))
    }

    fn node(&self, raw: Spanned<RawValue>) -> Node {
        let place = self.place(raw.referenced);
        match raw.value {
            RawValue::Null => Node { value: Value::Null, place },
            RawValue::Bool(value) => Node { value: Value::Bool(value), place },
            RawValue::Int(value) => Node { value: Value::Int(value), place },
            RawValue::Float(value) => Node { value: Value::Float(value), place },
            RawValue::Text(value) => Node { value: Value::Text(value), place },
            RawValue::List(items) => {
                let items: Vec<_> = items.into_iter().map(|item| self.node(item)).collect();
                Node { place: self.extent(&place, items.last().map(|item| &item.place)), value: Value::List(items) }
            }
            RawValue::Map(entries) => {
                let entries: Vec<_> = entries.into_iter().map(|(key, item)| self.entry(key, item)).collect();
                let last = entries.last().map(|(_, item)| &item.place);
                Node { place: self.extent(&place, last), value: Value::Map(entries) }
            }
        }
    }

    fn entry(&self, key: Spanned<String>, item: Spanned<RawValue>) -> (Key, Node) {
        let key = Key { place: self.place(key.referenced), text: key.value };
        let mut node = self.node(item);
        // `key:` with nothing after it has its place somewhere behind; the key's is better.
        if node.value == Value::Null && !matches!(node.place.text(), "null" | "Null" | "NULL" | "~") {
            node.place = key.place.clone();
        }
        (key, node)
    }
}

enum RawValue {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Spanned<RawValue>>),
    Map(Vec<(Spanned<String>, Spanned<RawValue>)>),
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = RawValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }
            fn visit_unit<E>(self) -> Result<RawValue, E> {
                Ok(RawValue::Null)
            }
            fn visit_none<E>(self) -> Result<RawValue, E> {
                Ok(RawValue::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawValue, D::Error> {
                RawValue::deserialize(deserializer)
            }
            fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
                Ok(RawValue::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
                Ok(RawValue::Int(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
                Ok(RawValue::Int(value.into()))
            }
            fn visit_i128<E>(self, value: i128) -> Result<RawValue, E> {
                Ok(RawValue::Int(value))
            }
            fn visit_u128<E>(self, value: u128) -> Result<RawValue, E> {
                Ok(RawValue::Int(i128::try_from(value).unwrap_or(i128::MAX)))
            }
            fn visit_f64<E>(self, value: f64) -> Result<RawValue, E> {
                Ok(RawValue::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<RawValue, E> {
                Ok(RawValue::Text(value.to_owned()))
            }
            fn visit_string<E>(self, value: String) -> Result<RawValue, E> {
                Ok(RawValue::Text(value))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawValue, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(RawValue::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawValue, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(RawValue::Map(entries))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// One clear message for whatever the parser stumbled over.
fn explain(source: &Source, error: &YamlError) -> Diagnostics {
    use serde_saphyr::budget::BudgetBreach;

    let place = error.location().map(|location| Placer::new(source).place(location));
    let at = |diagnostic: Diagnostic, label: &str| match &place {
        Some(place) => diagnostic.at(place, label),
        None => diagnostic,
    };
    if let Some(tab) = tab_in_indentation(source, place.as_ref()) {
        return Diagnostic::error(Code::Syntax, "a tab in the indentation")
            .at(&tab, "YAML allows only spaces here")
            .help("replace the tab by spaces")
            .into();
    }
    let syntax = |message: &str| Diagnostic::error(Code::Syntax, message);
    let diagnostic = match error {
        YamlError::Budget { breach, .. } => match breach {
            BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } | BudgetBreach::MergeKeys { .. } => {
                at(syntax("anchors and aliases (`&name`, `*name`, `<<`) are not read"), "here")
                    .help("quote the text if it was meant to start with `&` or `*`; write things out where they repeat")
            }
            BudgetBreach::Depth { .. } => {
                at(Diagnostic::error(Code::TooLarge, format!("nested more than {MAX_DEPTH} deep")), "")
            }
            BudgetBreach::Documents { .. } => one_document(at(syntax("a second YAML document"), "starts here")),
            _ => at(Diagnostic::error(Code::TooLarge, format!("more than {MAX_NODES} keys and values")), ""),
        },
        YamlError::MultipleDocuments { .. } => one_document(at(syntax("a second YAML document"), "starts here")),
        YamlError::MergeKeyNotAllowed { .. } => {
            at(syntax("merge keys (`<<`) are not read"), "here").help("write things out where they repeat")
        }
        YamlError::UnknownAnchor { .. } => at(syntax("anchors and aliases (`&name`, `*name`) are not read"), "here")
            .help("quote the text if it was meant to start with `*`"),
        other => {
            let message = UserMessageFormatter.format_message(other).into_owned();
            if message.contains("recursion limit") || message.contains("nesting") {
                at(Diagnostic::error(Code::TooLarge, format!("nested more than {MAX_DEPTH} deep")), "")
            } else {
                at(Diagnostic::error(Code::Syntax, format!("not well-formed YAML: {message}")), "")
            }
        }
    };
    diagnostic.into()
}

fn one_document(diagnostic: Diagnostic) -> Diagnostic {
    diagnostic.help("a file holds one document: remove the `---`")
}

/// A tab among the leading white space of the line at `place`, or of the line before it.
fn tab_in_indentation(source: &Source, place: Option<&Place>) -> Option<Place> {
    let text = source.text();
    let at = place?.range().start;
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let before = text[..line_start.saturating_sub(1)].rfind('\n').map_or(0, |newline| newline + 1);
    [line_start, before].into_iter().find_map(|start| {
        let indent = text[start..].len() - text[start..].trim_start_matches([' ', '\t']).len();
        let tab = text[start..start + indent].find('\t')?;
        Some(source.place(start + tab..start + tab + 1))
    })
}
