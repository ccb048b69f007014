//! Standing between cargo and rustc, so that a component is the same wherever its checkout lies.
//!
//! Cargo gives every crate an identity, `-C metadata`, and for a crate outside the workspace that builds it (the SDK, to
//! the example components) the absolute path is part of it. Names of symbols contain a hash of the identity, and the
//! compiler orders functions by their names: another folder, other bytes. So for the crates of this checkout the
//! identity is said again without the path: name and version, which no two of them share.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, ExitCode};

/// Set for the cargo that builds components, to the checkout: who finds it set is run as its rustc.
const CHECKOUT: &str = "XTASK_WRAPS_RUSTC_FOR";

/// Makes a cargo command call us in place of rustc.
pub(crate) fn apply(cargo: &mut Command, checkout: &Path) -> std::io::Result<()> {
    cargo.env("RUSTC_WRAPPER", env::current_exe()?).env(CHECKOUT, checkout);
    Ok(())
}

/// Runs the rustc that we stand in for, if we do.
pub(crate) fn run() -> Option<ExitCode> {
    let checkout = env::var_os(CHECKOUT)?;
    let mut arguments = env::args_os().skip(1);
    let rustc = arguments.next()?;
    let ours = env::var_os("CARGO_MANIFEST_DIR").is_some_and(|folder| Path::new(&folder).starts_with(&checkout));
    let mut arguments: Vec<OsString> = arguments.collect();
    if ours {
        let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
        rename(&mut arguments, &version);
    }
    match Command::new(&rustc).args(arguments).status() {
        Ok(status) => {
            Some(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
        }
        Err(error) => {
            eprintln!("cannot start {}: {error}", rustc.display());
            Some(ExitCode::FAILURE)
        }
    }
}

/// Puts name and version in place of what cargo made of the path.
fn rename(arguments: &mut [OsString], version: &str) {
    let after = |option: &str| arguments.windows(2).find(|pair| pair[0] == option).map(|pair| pair[1].clone());
    let Some(name) = after("--crate-name") else { return };
    for argument in arguments {
        if argument.as_encoded_bytes().starts_with(b"metadata=") {
            let mut identity = OsString::from("metadata=");
            identity.extend([name.as_os_str(), OsStr::new("-"), OsStr::new(version)]);
            *argument = identity;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_name_and_version() {
        let said = ["--crate-name", "penguins", "-C", "metadata=0123456789abcdef", "-C", "extra-filename=-fedc"];
        let mut arguments = said.map(OsString::from);
        rename(&mut arguments, "0.1.0");
        let expected = ["--crate-name", "penguins", "-C", "metadata=penguins-0.1.0", "-C", "extra-filename=-fedc"];
        assert_eq!(arguments, expected.map(OsString::from));
        let mut query = ["-", "--print", "cfg"].map(OsString::from);
        rename(&mut query, "0.1.0");
        assert_eq!(query, ["-", "--print", "cfg"].map(OsString::from));
    }
}
