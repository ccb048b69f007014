//! What one step may use, and what it used.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A number of bytes; written `256MiB` in a definitions file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// A text is not a size or a duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{text}' is not {what}: expected {expected}")]
pub struct QuantityError {
    text: String,
    what: &'static str,
    expected: &'static str,
}

const SIZES: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let wrong = || QuantityError {
            text: text.chars().take(40).collect(),
            what: "a size",
            expected: "a whole number and a unit: B, KiB, MiB, GiB, TiB, kB, MB or GB, as in '256MiB'",
        };
        let (digits, factor) =
            SIZES.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor))).ok_or_else(wrong)?;
        let count: u64 = digits.trim_end().parse().map_err(|_| wrong())?;
        count.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    /// The largest binary unit that divides it, else one decimal: `256 MiB`, `1.5 KiB`, `17 B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
            .into_iter()
            .find(|(_, factor)| self.0 >= *factor)
            .unwrap_or(("B", 1));
        if self.0.is_multiple_of(factor) {
            write!(f, "{} {unit}", self.0 / factor)
        } else {
            let tenths = u128::from(self.0) * 10 / u128::from(factor);
            write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

/// Parses a duration of a definitions file: a whole number and `ms`, `s`, `m`, `h` or `d`.
///
/// # Errors
/// When `text` is anything else, or too large to hold in milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let wrong = || QuantityError {
        text: text.chars().take(40).collect(),
        what: "a duration",
        expected: "a whole number and a unit: ms, s, m, h or d, as in '30s'",
    };
    let (digits, factor) = [("ms", 1u64), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]
        .into_iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
        .filter(|(digits, _)| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
        .ok_or_else(wrong)?;
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    count.checked_mul(factor).map(Duration::from_millis).ok_or_else(wrong)
}

macro_rules! limits {
    ($($(#[$doc:meta])* $field:ident : $type:ty = $default:expr, $text:literal;)*) => {
        /// The limits of one step. Every field is enforced by the sandbox; what happens at a limit is in its text.
        ///
        /// A limit that a stored plan does not know is the default: plans of older versions lack the newer ones.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Limits { $($(#[$doc])* pub $field: $type,)* }

        impl Default for Limits {
            /// Safe for strangers' code on a shared machine.
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        /// Limits as a definitions file gives them: what is absent is left to whoever comes next.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct LimitOverrides { $($(#[$doc])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)* }

        impl LimitOverrides {
            /// `base` with what is given here in its place.
            #[must_use]
            pub fn over(&self, base: &Limits) -> Limits {
                Limits { $($field: self.$field.unwrap_or(base.$field),)* }
            }
        }

        impl Limits {
            /// Name, meaning and unit of every limit, in the order of the struct.
            pub const FIELDS: &'static [(&'static str, &'static str)] = &[$((stringify!($field), $text),)*];

            /// The names of the limits of `self` that are above those of `ceiling`.
            #[must_use]
            pub fn above(&self, ceiling: &Limits) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.$field > ceiling.$field { names.push(stringify!($field)); })*
                names
            }
        }
    };
}

limits! {
    /// CPU time of the guest. The step is stopped (`OPY-105`).
    cpu: Duration = Duration::from_secs(60), "CPU time of the guest (duration)";
    /// Wall time of the step, host calls included. The step is stopped (`OPY-106`).
    wall: Duration = Duration::from_secs(300), "wall time of one try (duration)";
    /// Units of wasmtime fuel, about one per wasm instruction. Deterministic. The step is stopped (`OPY-104`).
    fuel: u64 = 100_000_000_000, "wasm instructions, in fuel (number)";
    /// Bytes of all linear memories and tables (8 bytes an element) of the step, summed. Growth beyond traps (`OPY-107`).
    memory: ByteSize = ByteSize(256 << 20), "memories and tables, summed (size)";
    /// Handles (readers, writers, resources) open at one time. Opening one more traps (`OPY-110`). As many as the items of
    /// a dynamic output that a step may collect, and some more.
    handles: u32 = 12_000, "open handles (number)";
    /// Core and component instances of the step's component. More are refused at start (`OPY-107`).
    instances: u32 = 64, "core instances (number)";
    /// Bytes that may cross in one host call, beyond the 1 MiB of a chunk. More traps (`OPY-109`).
    host_call_bytes: ByteSize = ByteSize(4 << 20), "bytes of one host call (size)";
    /// Host calls of one step. More traps (`OPY-109`).
    host_calls: u64 = 10_000_000, "host calls (number)";
    /// Bytes read from inputs and resources. The call answers `limit` (and the step is not memoised).
    read_bytes: ByteSize = ByteSize(16 << 30), "bytes read (size)";
    /// Bytes of all outputs and written to resources. The call answers `limit`.
    output_bytes: ByteSize = ByteSize(4 << 30), "bytes written (size)";
    /// HTTP requests that the op makes; redirects that the host follows are part of the request. The call answers `limit`.
    http_calls: u32 = 1_000, "HTTP requests (number)";
    /// Bytes of HTTP requests and answers, headers included. The call answers `limit`.
    http_bytes: ByteSize = ByteSize(1 << 30), "bytes of HTTP requests and answers (size)";
    /// Items of all dynamic outputs. The call answers `limit`.
    items: u32 = 10_000, "items of dynamic outputs (number)";
    /// Log lines. More are dropped and counted.
    log_lines: u32 = 1_000, "log lines (number)";
    /// Bytes of log lines. More are dropped and counted.
    log_bytes: ByteSize = ByteSize(1 << 20), "bytes of log lines (size)";
    /// Asset events, expectations, metrics and progress reports. More are dropped and counted; the step is not memoised.
    events: u32 = 10_000, "metrics, observations and the like (number)";
    /// Bytes of metadata, of the step's outputs and asset events. More answers `limit`, or drops the event.
    metadata_bytes: ByteSize = ByteSize(1 << 20), "bytes of metadata (size)";
}

impl Limits {
    /// What no step of a tenant may go beyond when nobody has set its quota.
    #[must_use]
    pub fn ceiling() -> Self {
        Self {
            cpu: Duration::from_secs(24 * 3_600),
            wall: Duration::from_secs(7 * 24 * 3_600),
            fuel: 1 << 53,
            memory: ByteSize(1 << 30),
            handles: 100_000,
            instances: 64,
            host_call_bytes: ByteSize(64 << 20),
            host_calls: 1 << 40,
            read_bytes: ByteSize(16 << 40),
            output_bytes: ByteSize(4 << 40),
            http_calls: 1_000_000,
            http_bytes: ByteSize(1 << 40),
            items: 100_000,
            log_lines: 1_000_000,
            log_bytes: ByteSize(1 << 30),
            events: 1_000_000,
            metadata_bytes: ByteSize(64 << 20),
        }
    }
}

/// What one try of a step used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Fuel consumed.
    pub fuel: u64,
    /// CPU time of the guest and of the host calls that it made, as far as it is measured per step.
    pub cpu: Duration,
    /// Wall time from instantiation to the end.
    pub wall: Duration,
    /// Largest sum of memories and tables, in bytes.
    pub peak_memory: u64,
    /// Bytes read from inputs and resources.
    pub read_bytes: u64,
    /// Bytes written to outputs and resources.
    pub written_bytes: u64,
    /// Host calls.
    pub host_calls: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_parse_strictly() {
        assert_eq!("256MiB".parse(), Ok(ByteSize(256 << 20)));
        assert_eq!("10 kB".parse(), Ok(ByteSize(10_000)));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("5ms"), Ok(Duration::from_millis(5)));
        for wrong in ["", "MiB", "1.5MiB", "-1MiB", "1", "99999999999TiB", "1 mib"] {
            assert!(wrong.parse::<ByteSize>().is_err(), "{wrong}");
        }
        for wrong in ["", "s", "1.5s", "-1s", "+1s", "1", "1 s", "99999999999999999999d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(ByteSize(256 << 20).to_string(), "256 MiB");
        assert_eq!(ByteSize(1536).to_string(), "1.5 KiB");
    }

    #[test]
    fn overrides_and_ceiling() {
        let given = LimitOverrides { fuel: Some(7), memory: Some(ByteSize(1 << 40)), ..LimitOverrides::default() };
        let limits = given.over(&Limits::default());
        assert_eq!((limits.fuel, limits.handles), (7, Limits::default().handles));
        assert_eq!(limits.above(&Limits::default()), ["memory"]);
        let text = serde_json::to_string(&given).unwrap();
        assert_eq!(serde_json::from_str::<LimitOverrides>(&text).unwrap(), given);
    }

    #[test]
    fn limits_of_an_older_version_are_read() {
        let mut old = serde_json::to_value(Limits { fuel: 7, ..Limits::default() }).unwrap();
        old.as_object_mut().unwrap().remove("http_calls");
        assert_eq!(serde_json::from_value::<Limits>(old).unwrap(), Limits { fuel: 7, ..Limits::default() });
        assert!(serde_json::from_str::<Limits>("{ \"fuels\": 7 }").is_err());
    }
}
