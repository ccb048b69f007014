//! `cargo xtask guests`: the components of `guest-examples/`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::component::{self, World};
use crate::toolchain::{Choice, TARGET, Toolchain};
use crate::{process, root, wrapper};

/// Separates the flags in `CARGO_ENCODED_RUSTFLAGS`, so that a path may hold spaces.
const SEPARATOR: &str = "\x1f";

/// Builds the named components, or all, into `target/guests/`.
pub(crate) fn run(choice: Choice, names: &[String]) -> Result<()> {
    let toolchain = Toolchain::set_up(choice)?;
    for built in build(&Build { checkout: &root(), toolchain: &toolchain, names, into: &root().join("target/guests") })?
    {
        let state = if built.changed { "written" } else { "unchanged" };
        eprintln!("{:<10} {:>8.1} KiB  {state}  {}", built.name, built.kib, built.path.display());
    }
    Ok(())
}

/// What to build, with what, and where to.
pub(crate) struct Build<'a> {
    /// The checkout whose components these are.
    pub(crate) checkout: &'a Path,
    pub(crate) toolchain: &'a Toolchain,
    /// All when empty.
    pub(crate) names: &'a [String],
    pub(crate) into: &'a Path,
}

/// A component that is up to date.
pub(crate) struct Built {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) world: World,
    /// Size.
    pub(crate) kib: f64,
    /// Whether it was not so before.
    pub(crate) changed: bool,
}

/// Builds components. Writes only those whose bytes changed.
pub(crate) fn build(build: &Build<'_>) -> Result<Vec<Built>> {
    let examples = build.checkout.join("guest-examples");
    let mut crates = crates(&examples)?;
    if let Some(unknown) = build.names.iter().find(|name| crates.iter().all(|guest| guest.name != **name)) {
        let known: Vec<_> = crates.iter().map(|guest| guest.name.as_str()).collect();
        bail!("there is no guest example `{unknown}`; there are {}", known.join(", "));
    }
    if !build.names.is_empty() {
        crates.retain(|guest| build.names.contains(&guest.name));
    }

    // Below the checkout's target whatever the environment says, so that one folder holds all that was made.
    let target = build.checkout.join("target/guests-build").join(build.toolchain.folder());
    let mut cargo = process::cargo(&examples);
    cargo.args(["build", "--release", "--locked", "--quiet", "--target-dir"]).arg(&target);
    build.toolchain.apply(&mut cargo);
    for guest in &crates {
        cargo.args(["--package", &guest.name]);
    }
    let private = private_paths(build)?;
    cargo.env("CARGO_ENCODED_RUSTFLAGS", remap_flags(&private)?);
    wrapper::apply(&mut cargo, build.checkout).context("cannot tell where this program is")?;
    process::run(&mut cargo)?;

    fs::create_dir_all(build.into).with_context(|| format!("cannot make {}", build.into.display()))?;
    crates.iter().map(|guest| finish(guest, &target, &private, build.into)).collect()
}

/// Makes the component of one core module.
fn finish(guest: &Guest, target: &Path, private: &[PrivatePath], into: &Path) -> Result<Built> {
    let module = target.join(TARGET).join("release").join(format!("{}.wasm", guest.library));
    let bytes = fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
    let component = component::encode(&bytes).with_context(|| format!("{} makes no component", module.display()))?;
    for PrivatePath { path, .. } in private {
        if contains(&component, path.as_os_str().as_encoded_bytes()) {
            bail!("{} names {}: it would differ from machine to machine", module.display(), path.display());
        }
    }
    let world = World::of(&component)?;
    if let Some(allowed) = &guest.imports
        && !world.imports.iter().eq(allowed)
    {
        let found: Vec<_> = world.imports.iter().map(String::as_str).collect();
        bail!(
            "{} imports\n  {}\nbut its Cargo.toml says under [package.metadata.opyard] imports\n  {}",
            guest.name,
            found.join("\n  "),
            allowed.join("\n  ")
        );
    }

    let path = into.join(format!("{}.wasm", guest.name));
    let changed = fs::read(&path).ok().is_none_or(|before| before != component);
    if changed {
        // By way of a new name: whoever reads the old one meanwhile reads it whole.
        let fresh = into.join(format!("{}.wasm.new", guest.name));
        fs::write(&fresh, &component).with_context(|| format!("cannot write {}", fresh.display()))?;
        fs::rename(&fresh, &path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let kib = component.len() as f64 / 1024.0;
    Ok(Built { name: guest.name.clone(), path, world, kib, changed })
}

/// A crate that becomes a component.
struct Guest {
    name: String,
    /// The name of its file, without the extension.
    library: String,
    /// The imports that its author says it has, sorted.
    imports: Option<Vec<String>>,
}

/// The crates of the workspace that become components: those with a `cdylib`.
fn crates(examples: &Path) -> Result<Vec<Guest>> {
    let mut cargo = process::cargo(examples);
    let metadata = process::output(cargo.args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata is not JSON")?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut guests = Vec::new();
    for package in list(&metadata["packages"]) {
        let is_library = |target: &Value| list(&target["crate_types"]).iter().any(|kind| kind == "cdylib");
        let Some(library) = list(&package["targets"]).into_iter().find(is_library) else { continue };
        let (name, library) = text(&package["name"]).zip(text(&library["name"])).context("a crate without a name")?;
        let imports = package["metadata"]["opyard"]["imports"].as_array().map(|imports| {
            let mut imports: Vec<_> = imports.iter().filter_map(text).collect();
            imports.sort();
            imports
        });
        guests.push(Guest { name, library, imports });
    }
    guests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(guests)
}

/// A folder of this machine that a panic's file name would show, and what is to stand there instead.
struct PrivatePath {
    path: PathBuf,
    shown: &'static str,
}

fn private_paths(build: &Build<'_>) -> Result<Vec<PrivatePath>> {
    let home = env::home_dir().context("there is no home folder")?;
    let cargo_home = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let mut paths = vec![
        PrivatePath { path: build.checkout.to_owned(), shown: "/opyard" },
        PrivatePath { path: cargo_home, shown: "/cargo" },
    ];
    // Debian's is /usr, which is no secret and stands in no other path.
    if matches!(build.toolchain, Toolchain::Installed) {
        paths.push(PrivatePath { path: build.toolchain.sysroot()?, shown: "/rust" });
    }
    Ok(paths)
}

/// Flags that make the compiler say the same paths on every machine.
fn remap_flags(private: &[PrivatePath]) -> Result<OsString> {
    let mut flags = OsString::new();
    for PrivatePath { path, shown } in private {
        if path.as_os_str().as_encoded_bytes().contains(&b'=') {
            bail!("{} has a '=' in its name, which the compiler cannot remap", path.display());
        }
        if !flags.is_empty() {
            flags.push(SEPARATOR);
        }
        flags.push("--remap-path-prefix=");
        flags.push(path);
        flags.push("=");
        flags.push(shown);
    }
    Ok(flags)
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}
