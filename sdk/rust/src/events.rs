//! What a step says while it runs. None of it changes what the step computes.
//!
//! In a component these go to the host; in a unit test on the author's machine they go to standard error.

use serde::Serialize;

use crate::bindings::opyard::op::events as host;
pub use crate::bindings::opyard::op::events::Level;
use crate::metadata::{MetadataEntry, MetadataValue, entry};

/// Whether there is a host to talk to; without one this is a native unit test.
const HOSTED: bool = cfg!(target_family = "wasm");

/// Logs one line with named fields. The macros ([`info!`](crate::info) and so on) are the short way.
pub fn log(level: Level, message: &str, fields: &[(String, String)]) {
    if HOSTED {
        host::log(level, message, fields);
    } else {
        eprintln!("{level:?}: {message} {fields:?}");
    }
}

/// One field of a log line: its name and its value as JSON (null when the value has no JSON form).
#[doc(hidden)]
#[must_use]
pub fn field(name: &str, value: &impl Serialize) -> (String, String) {
    (name.to_owned(), serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()))
}

/// Logs a line at a given [`Level`]: `log!(Level::Info, rows = rows.len(); "cleaned {name}")`.
#[macro_export]
macro_rules! log {
    ($level:expr, $($name:ident = $value:expr),+ ; $($text:tt)+) => {
        $crate::events::log($level, &::std::format!($($text)+), &[$($crate::events::field(stringify!($name), &$value)),+])
    };
    ($level:expr, $($text:tt)+) => { $crate::events::log($level, &::std::format!($($text)+), &[]) };
}

/// Logs a line that helps whoever debugs the op: `debug!(rows = n; "read {name}")`.
#[macro_export]
macro_rules! debug { ($($line:tt)+) => { $crate::log!($crate::events::Level::Debug, $($line)+) }; }

/// Logs a line: `info!("cleaned {n} rows")`, with fields `info!(rows = n, dropped = m; "cleaned")`.
#[macro_export]
macro_rules! info { ($($line:tt)+) => { $crate::log!($crate::events::Level::Info, $($line)+) }; }

/// Logs a line about something odd that the op could live with.
#[macro_export]
macro_rules! warning { ($($line:tt)+) => { $crate::log!($crate::events::Level::Warning, $($line)+) }; }

/// Logs a line about something that went wrong. To fail, return a [`Failure`](crate::Failure).
#[macro_export]
macro_rules! error { ($($line:tt)+) => { $crate::log!($crate::events::Level::Error, $($line)+) }; }

/// Says how far the step is: `done` of `total`.
pub fn progress(done: u64, total: Option<u64>, message: Option<&str>) {
    if HOSTED {
        host::progress(done, total, message);
    } else {
        eprintln!("progress: {done}/{total:?} {message:?}");
    }
}

/// Records a number of this run: `metric("accuracy", 0.98)`.
pub fn metric(name: &str, value: f64) {
    record(name, value, None);
}

/// Records one point of a series of this run: `metric_at("loss", 0.12, epoch)`.
pub fn metric_at(name: &str, value: f64, step: u64) {
    record(name, value, Some(step));
}

fn record(name: &str, value: f64, step: Option<u64>) {
    if HOSTED {
        host::metric(name, value, step);
    } else {
        eprintln!("metric: {name} = {value} at {step:?}");
    }
}

/// Something that the step made or saw outside the run: `Asset::new(["lake", "penguins"]).description("…").materialize()`.
#[derive(Debug, Clone)]
pub struct Asset {
    key: Vec<String>,
    partition: Option<String>,
    description: Option<String>,
    metadata: Vec<MetadataEntry>,
    tags: Vec<(String, String)>,
}

impl Asset {
    /// Names the asset by the parts of its key.
    #[must_use]
    pub fn new<S: Into<String>>(key: impl IntoIterator<Item = S>) -> Self {
        let key = key.into_iter().map(Into::into).collect();
        Self { key, partition: None, description: None, metadata: Vec::new(), tags: Vec::new() }
    }

    /// Names the partition of the asset.
    #[must_use]
    pub fn partition(mut self, partition: impl Into<String>) -> Self {
        self.partition = Some(partition.into());
        self
    }

    /// Says what happened, in words.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// Attaches a value.
    #[must_use]
    pub fn with_metadata(mut self, label: impl Into<String>, value: impl Into<MetadataValue>) -> Self {
        self.metadata.push(entry(label, value));
        self
    }

    /// Attaches a tag.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// Says that this step made the asset, or a new version of it.
    pub fn materialize(self) {
        if HOSTED {
            host::materialize(&self.into_event());
        } else {
            eprintln!("materialize: {self:?}");
        }
    }

    /// Says what this step saw of the asset.
    pub fn observe(self) {
        if HOSTED {
            host::observe(&self.into_event());
        } else {
            eprintln!("observe: {self:?}");
        }
    }

    fn into_event(self) -> host::AssetEvent {
        host::AssetEvent {
            asset_key: self.key,
            partition: self.partition,
            description: self.description,
            metadata: self.metadata,
            tags: self.tags,
        }
    }
}

/// Records whether something that was expected of the data holds; does not fail the step.
pub fn expect(label: &str, success: bool, description: Option<&str>, metadata: Vec<MetadataEntry>) {
    if HOSTED {
        let description = description.map(str::to_owned);
        host::expect(&host::Expectation { label: label.to_owned(), success, description, metadata });
    } else {
        eprintln!("expectation: {label} {success} {description:?} {metadata:?}");
    }
}
