//! Errors as part of the product: a code with a page, whose move it is, and what happened.
//!
//! A [`Failure`] is data: it is stored in the event log and outlives the process. Errors of libraries (`StoreError`, ...)
//! become failures at the edge of their crate. Texts are lower-case fragments without a full stop.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::metadata::MetadataEntry;

/// Whose move it is after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The op's: its code failed, or went beyond its limits.
    Op,
    /// The author's of the definitions: something written there is wrong.
    Author,
    /// The operator's: the surroundings (disk, network, database) failed, or a grant is missing.
    Operator,
    /// Ours: a bug of Opyard.
    Opyard,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Op => "op",
            Self::Author => "author",
            Self::Operator => "operator",
            Self::Opyard => "opyard",
        })
    }
}

macro_rules! codes {
    ($($number:literal $name:ident $summary:literal;)*) => {
        /// What kind of thing went wrong. Printed `OPY-nnn`; each has a page under `docs/errors/`.
        ///
        /// 1nn: the op's move; 2nn: the author's; 3nn: the operator's; 4nn: ours.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Code { $(#[doc = $summary] $name = $number,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// One line that says what the code means.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self { $(Code::$name => $summary,)* }
            }
        }
    };
}

codes! {
    101 OpFailed "the op said that it failed";
    102 Trapped "the op stopped by a trap (a panic, a division by zero, a wild read)";
    104 FuelExhausted "the op used up its fuel";
    105 CpuExceeded "the op used more CPU time than it may";
    106 WallExceeded "the step took longer than it may";
    107 MemoryExceeded "the op needed more memory, tables or instances than it may";
    108 StackOverflow "the op's calls nested too deep";
    109 HostCallLimit "the op handed over too much in one host call, or made too many";
    110 HandleLimit "the op held too many handles open, or used one that is not there";
    112 OutputMissing "the op succeeded without a required output";
    113 OutputInvalid "an output is not what its type says";
    114 RetriesExhausted "the op asked for another try when none was left";
    115 ForbiddenImport "the op called an interface that it does not list";
    116 BadDescription "the component describes itself in a way that cannot be used";
    117 RetryPointless "the op asked for another try, which could only end the same way";
    118 TypeCheckFailed "a value does not pass the check of its type";
    119 TooManyItems "a run with more steps for items of dynamic outputs than one may have";
    121 RunWallExceeded "the run took longer than its job may";
    122 RunCpuExceeded "the steps of the run used more CPU time than its job may";
    131 IoManagerFailed "an IO manager could not keep or load a value";
    201 Syntax "the definitions file is not well-formed YAML";
    202 UnknownKey "a key that means nothing here";
    203 WrongShape "a value of the wrong kind (text for a list, say)";
    204 DuplicateName "a name that is given twice";
    205 UnknownOp "no component ships this op";
    206 UnknownPort "the op has no such input or output";
    207 UnknownStep "no step of that name in this graph";
    208 UnknownGraph "no graph of that name";
    209 UnknownType "no type of that name";
    210 UnknownResource "no resource of that name";
    211 UnknownComponent "no component of that name";
    212 UnknownIoManager "no IO manager of that name";
    213 UnknownEnvironment "no environment of that name";
    214 UnknownJob "no job of that name";
    215 Cycle "steps that wait for each other";
    216 MissingInput "a required input is not connected";
    217 TypeMismatch "an output and the input it goes to are of different types";
    218 MediaTypeMismatch "an input cannot read the media type that the output is written in";
    219 ConfigInvalid "a config that the op's schema does not allow";
    220 ResourceKindMismatch "a resource of a kind that does not fit the interface";
    221 NotGranted "an op needs a resource that it was not granted";
    222 AboveCeiling "a limit above what the tenant may have";
    223 BadName "a name that is not allowed";
    224 BadCron "a cron expression that cannot be used";
    225 BadTimeZone "no time zone of that name";
    226 BadReference "an input reference that cannot be understood";
    227 BadSelection "a selection that cannot be understood, or matches nothing";
    228 BadSetting "a '--set', '--config' or '--tag' that cannot be used";
    229 BadMapping "a dynamic output used in a way that has no meaning";
    230 ComponentUnreadable "a component file that cannot be read";
    231 ComponentInvalid "a file that is not a component for Opyard";
    232 ContractVersion "a component of another version of the contract";
    233 UnknownImport "a component that asks for an interface nobody here knows";
    234 TooLarge "a file, or something in it, beyond its bound";
    235 BadQuantity "a text that is not a size, duration or number in range";
    236 BadUrl "an address that cannot be used";
    237 PointlessPolicy "a policy that can never have an effect";
    238 UnknownRun "no run of that id";
    239 BadQuery "a query that cannot be run";
    240 UnknownOutput "no output of that name in this run";
    241 NotSupported "something that this version does not do yet";
    242 MissingKey "a key that has to be there is not";
    243 NoDefinitions "no definitions file where one was looked for";
    244 BadCall "a call that cannot be answered as it was made";
    245 UnknownExtension "no component ships this type checker, hook or IO manager";
    246 BadSchema "a JSON Schema of the definitions that cannot be used";
    247 ValueInvalid "a value of the definitions does not pass the check of its type";
    248 InputMayBeAbsent "a required input of a step that may run without it";
    249 RunEnded "the run has ended already";
    250 NothingYet "a value of the latest run of a job that has not run";
    257 BadTemplate "a text of a hook that cannot be used";
    261 UnknownAsset "nothing was ever said of an asset or series of that name";
    271 TagMoved "a reference names another component than the one that is pinned";
    272 Downgrade "an older version of a component than the one that is pinned";
    273 LockUnusable "a lock file that cannot be read";
    274 Untrusted "a component without a signature that is trusted";
    275 UnknownNamespace "no registry is known for a namespace";
    276 KeyUnusable "a key that cannot be used";
    284 BadCondition "a condition that cannot be understood";
    285 UnknownPool "no pool of that name";
    290 CompileLimit "a component that takes more time or memory to compile than it may";
    301 StoreUnavailable "the yard's database or object store does not answer";
    302 StoreFull "no space left";
    303 YardLocked "another process holds the yard's database";
    304 ArtifactMissing "an artifact is not where it was put";
    305 ArtifactCorrupt "an artifact's bytes are not the ones that were put";
    306 ResourceUnavailable "a resource does not answer";
    307 ResourceDenied "a resource refused what the op asked";
    308 YardVersion "the yard was made by a newer version";
    309 Canceled "stopped on request";
    310 ExecutorLost "what ran the step is gone";
    311 NotOwner "another process owns this run now";
    312 CacheIntegrity "a file of the code cache was altered";
    313 FileUnreadable "a file cannot be read or written";
    314 BackupUnusable "a folder is not a whole backup";
    318 YardDamaged "the yard's database is damaged, or is not one of Opyard's";
    319 SecretMissing "a secret is not where it should be";
    330 CompilerFailed "what compiles components could not do its work";
    332 RegistryUnavailable "a registry does not answer, or refuses";
    333 RegistryInvalid "a registry answers with something that it must not";
    401 IllegalTransition "an event that cannot follow the ones before it";
    402 HostPanic "a panic inside Opyard";
    403 Invariant "something that was taken to be always true was not";
}

impl Code {
    /// Whose move it is.
    #[must_use]
    pub const fn blame(self) -> Blame {
        match self as u16 / 100 {
            1 => Blame::Op,
            2 => Blame::Author,
            3 => Blame::Operator,
            _ => Blame::Opyard,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("OPY-{}", *self as u16))
    }
}

impl FromStr for Code {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.to_string() == text)
            .ok_or_else(|| format!("'{}' is not an error code", text.chars().take(40).collect::<String>()))
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a step or a run did not succeed. Plain data, stored in the event log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of thing went wrong; also says whose move it is.
    pub code: Code,
    /// One line: what happened. May quote guest-controlled text, truncated to 4 KiB and with control characters escaped.
    pub description: String,
    /// What the op, or the sandbox, added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<MetadataEntry>,
    /// False when the op said that its retry policy must not retry this.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub allow_retries: bool,
}

fn yes() -> bool {
    true
}

/// Longest description of a failure, in bytes.
pub const MAX_DESCRIPTION: usize = 4 << 10;

impl Failure {
    /// A failure with a code and one line.
    #[must_use]
    pub fn new(code: Code, description: impl Into<String>) -> Self {
        Self { code, description: description.into(), metadata: Vec::new(), allow_retries: true }
    }

    /// Whose move it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        self.code.blame()
    }

    /// What the surroundings did, rather than the op: another try may end differently, even for a hermetic op.
    #[must_use]
    pub fn is_of_the_surroundings(&self) -> bool {
        matches!(
            self.code,
            Code::WallExceeded
                | Code::StoreUnavailable
                | Code::StoreFull
                | Code::YardLocked
                | Code::ArtifactMissing
                | Code::ArtifactCorrupt
                | Code::ResourceUnavailable
                | Code::IoManagerFailed
                | Code::SecretMissing
                | Code::ExecutorLost
                | Code::CompilerFailed
                | Code::HostPanic
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.description)
    }
}

/// Makes guest-controlled text fit to be stored and shown: control characters (but for line ends and tabs) are escaped,
/// so that it cannot drive a terminal, and it is cut at `max` bytes.
#[must_use]
pub fn sanitize(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        let before = out.len();
        match c {
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
        if out.len() > max {
            out.truncate(before);
            out.push('…');
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_and_has_a_page() {
        let pages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        for code in Code::ALL {
            assert_eq!(code.to_string().parse::<Code>().unwrap(), *code);
            assert!(pages.join(format!("{code}.md")).is_file(), "docs/errors/{code}.md is missing");
        }
    }

    #[test]
    fn guest_text_cannot_drive_a_terminal() {
        assert_eq!(sanitize("a\u{1b}[2J\u{202e}b", 100), "a\\u{1b}[2J\\u{202e}b");
        assert_eq!(sanitize("ααα", 4), "αα…");
    }
}
