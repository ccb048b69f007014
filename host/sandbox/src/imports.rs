//! Every interface that a component may import, and whether anything stands behind it here.

/// What a host does for an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    /// The linker of [`crate::host`] answers; the doors of a call say whether it may.
    Host,
    /// Nothing: [`crate::host::closed`] links calls that trap, or have a harmless answer.
    Nothing,
}

/// What a name of an import is to this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is known, and this is what stands behind it.
    As(Behind),
    /// It is of the contract, in a version that this host does not speak.
    OtherContract,
    /// Nobody here has heard of it.
    Not,
}

/// The version of the contract's packages that this host speaks.
pub(crate) const CONTRACT_VERSION: &str = "0.1.0";
/// WASI's versions up to the last number: those are compatible by its rules.
const WASI_VERSION: &str = "0.2.";

/// Without versions.
const INTERFACES: &[(&str, Behind)] = &[
    ("opyard:op/types", Behind::Host),
    ("opyard:op/context", Behind::Host),
    ("opyard:op/execution", Behind::Host),
    ("opyard:op/values", Behind::Host),
    ("opyard:op/io", Behind::Host),
    ("opyard:op/events", Behind::Host),
    ("opyard:op/definitions", Behind::Host),
    ("opyard:resources/errors", Behind::Host),
    ("opyard:resources/blobs", Behind::Host),
    ("opyard:resources/object-store", Behind::Host),
    ("opyard:resources/key-value", Behind::Host),
    ("opyard:resources/http-client", Behind::Host),
    ("opyard:resources/model-registry", Behind::Host),
    ("opyard:resources/secrets", Behind::Host),
    ("wasi:io/error", Behind::Host),
    ("wasi:io/poll", Behind::Host),
    ("wasi:io/streams", Behind::Host),
    ("wasi:clocks/wall-clock", Behind::Host),
    ("wasi:clocks/monotonic-clock", Behind::Host),
    ("wasi:random/random", Behind::Host),
    ("wasi:random/insecure", Behind::Host),
    ("wasi:random/insecure-seed", Behind::Host),
    ("wasi:cli/environment", Behind::Host),
    ("wasi:cli/exit", Behind::Host),
    ("wasi:cli/stdin", Behind::Host),
    ("wasi:cli/stdout", Behind::Host),
    ("wasi:cli/stderr", Behind::Host),
    ("wasi:cli/terminal-input", Behind::Nothing),
    ("wasi:cli/terminal-output", Behind::Nothing),
    ("wasi:cli/terminal-stdin", Behind::Nothing),
    ("wasi:cli/terminal-stdout", Behind::Nothing),
    ("wasi:cli/terminal-stderr", Behind::Nothing),
    ("wasi:filesystem/types", Behind::Nothing),
    ("wasi:filesystem/preopens", Behind::Nothing),
    ("wasi:sockets/network", Behind::Nothing),
    ("wasi:sockets/instance-network", Behind::Nothing),
    ("wasi:sockets/ip-name-lookup", Behind::Nothing),
    ("wasi:sockets/tcp", Behind::Nothing),
    ("wasi:sockets/tcp-create-socket", Behind::Nothing),
    ("wasi:sockets/udp", Behind::Nothing),
    ("wasi:sockets/udp-create-socket", Behind::Nothing),
];

/// Looks an import up, as `package:name/interface@version`.
pub(crate) fn known(import: &str) -> Known {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let Some((_, behind)) = INTERFACES.iter().find(|(known, _)| *known == name) else { return Known::Not };
    let compatible =
        if name.starts_with("wasi:") { version.starts_with(WASI_VERSION) } else { version == CONTRACT_VERSION };
    match (compatible, name.starts_with("opyard:")) {
        (true, _) => Known::As(*behind),
        (false, true) => Known::OtherContract,
        (false, false) => Known::Not,
    }
}
