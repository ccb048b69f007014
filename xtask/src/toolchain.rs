//! Where a compiler for `wasm32-unknown-unknown` comes from.
//!
//! `rustup` where it has the target or can fetch it. Where it cannot (no network but a distribution's mirror), Debian's
//! `rustc-web` with the standard library's sources from `rust-web-src`, from which cargo builds what the target needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;

use crate::process;

/// What the components are compiled for: no WASI, so that a component imports nothing but the contract.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];
/// Cargo looks for the sources of the standard library here, below the sysroot.
const LIBRARY: &str = "lib/rustlib/src/rust/library/Cargo.lock";

/// Which way to go about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// The first that works.
    #[default]
    Auto,
    /// The target of the active rustup toolchain.
    Rustup,
    /// Debian's rustc, building the standard library from source.
    Debian,
}

/// A way to compile components that has been set up.
#[derive(Debug)]
pub(crate) enum Toolchain {
    /// The active toolchain has the target.
    Installed,
    /// Debian's compiler and this linker.
    Debian { linker: PathBuf },
}

impl Toolchain {
    /// Sets up what was chosen.
    pub(crate) fn set_up(choice: Choice) -> Result<Self> {
        match choice {
            Choice::Rustup => rustup(),
            Choice::Debian => debian(),
            Choice::Auto => rustup().or_else(|no_rustup| {
                debian().map_err(|no_debian| {
                    anyhow!(
                        "no compiler for {TARGET}\n  rustup: {no_rustup:#}\n  Debian: {no_debian:#}\n\
                         Install one of them and try again:\n  rustup target add {TARGET}\n  \
                         sudo apt-get install {}",
                        DEBIAN_PACKAGES.join(" ")
                    )
                })
            }),
        }
    }

    /// A folder name of its own: what one compiler made is no use to the other.
    pub(crate) fn folder(&self) -> &'static str {
        match self {
            Self::Installed => "rustup",
            Self::Debian { .. } => "debian",
        }
    }

    /// Makes a `cargo build` use this toolchain.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.args(["--target", TARGET]);
        if let Self::Debian { linker } = self {
            command.arg("-Zbuild-std=std,panic_abort");
            command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
    }

    /// Where the standard library that ends up in a component was built from.
    pub(crate) fn sysroot(&self) -> Result<PathBuf> {
        match self {
            Self::Installed => sysroot("rustc"),
            Self::Debian { .. } => sysroot(DEBIAN_RUSTC),
        }
    }
}

/// Whether Debian's route could be set up here without asking anybody, and if not, why.
pub(crate) fn debian_obstacle() -> Option<&'static str> {
    if debian_is_installed() {
        None
    } else if !process::succeeds(Command::new("apt-get").arg("--version")) {
        Some("there is no apt-get here")
    } else if !is_root() {
        Some("rustc-web and rust-web-src are not installed, and installing them takes root")
    } else {
        None
    }
}

fn rustup() -> Result<Toolchain> {
    let library = sysroot("rustc")?.join("lib/rustlib").join(TARGET).join("lib");
    if !library.is_dir() {
        eprintln!("adding the target {TARGET} to the active toolchain");
        process::run(Command::new("rustup").args(["target", "add", TARGET]))?;
        if !library.is_dir() {
            bail!("rustup added {TARGET} to another toolchain than the active one");
        }
    }
    Ok(Toolchain::Installed)
}

fn debian() -> Result<Toolchain> {
    if !debian_is_installed() {
        if let Some(obstacle) = debian_obstacle() {
            bail!("{obstacle}");
        }
        eprintln!("installing {}", DEBIAN_PACKAGES.join(" and "));
        let apt_get = || {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
            command
        };
        process::run(apt_get().arg("update"))?;
        process::run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(DEBIAN_PACKAGES))?;
        if !debian_is_installed() {
            bail!("{} do not bring {LIBRARY}", DEBIAN_PACKAGES.join(" and "));
        }
    }
    Ok(Toolchain::Debian { linker: linker()? })
}

fn debian_is_installed() -> bool {
    let Ok(sysroot) = sysroot(DEBIAN_RUSTC) else { return false };
    sysroot.join(LIBRARY).is_file()
}

/// A linker for the target: rustup's, or LLVM's as the distribution ships it.
fn linker() -> Result<PathBuf> {
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not name its host")?;
    let bundled = sysroot("rustc")?.join("lib/rustlib").join(host).join("bin/rust-lld");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).flat_map(|folder| [folder.join("rust-lld"), folder.join("wasm-ld")]);
    std::iter::once(bundled)
        .chain(on_path)
        .find(|linker| linker.is_file())
        .context("there is no rust-lld and no wasm-ld here: install Debian's package lld")
}

fn sysroot(rustc: &str) -> Result<PathBuf> {
    let mut command = Command::new(rustc);
    if Path::new(rustc).is_absolute() && !Path::new(rustc).is_file() {
        bail!("there is no {rustc}");
    }
    Ok(PathBuf::from(process::output(command.args(["--print", "sysroot"]))?.trim_end()))
}

fn is_root() -> bool {
    process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim_end() == "0")
}
