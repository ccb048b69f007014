//! Whole-crate tests: what is said of mistakes, what right definitions become, and that nothing makes either panic.
#![expect(clippy::unwrap_used, reason = "a test")]

mod documents;
mod mistakes;
mod plans;
mod properties;

use std::collections::BTreeMap;
use std::path::Path;

use opyard_model::component::ComponentDescription;
use opyard_model::definitions::{Definitions, Setting};
use opyard_model::diagnostic::{Diagnostics, Source};
use opyard_model::digest::Digest;
use opyard_model::id::Name;
use opyard_model::limits::{ByteSize, Limits};
use opyard_model::plan::{Catalog, Launch, Plan, Planning};

/// The components of `catalog.json`.
fn catalog() -> Catalog {
    let components: BTreeMap<Name, ComponentDescription> =
        serde_json::from_str(include_str!("../catalog.json")).unwrap();
    components.into_iter().collect()
}

/// The one artifact that is known here has digest `1111…`.
fn artifact(digest: &Digest) -> Option<u64> {
    (*digest.as_bytes() == [0x11; 32]).then_some(17)
}

fn ceiling() -> Limits {
    let day = std::time::Duration::from_secs(86_400);
    Limits { memory: ByteSize(4 << 30), cpu: day, wall: day, fuel: 1 << 50, ..Limits::default() }
}

fn parse(text: &str) -> Result<Definitions, Diagnostics> {
    Definitions::parse(&Source::from_bytes("opyard.yaml", text.as_bytes())?, Path::new("/yard"))
}

fn with_planning<T>(run: impl FnOnce(&Planning<'_>) -> T) -> T {
    let (catalog, defaults, ceiling) = (catalog(), Limits::default(), ceiling());
    run(&Planning { catalog: &catalog, artifacts: &artifact, defaults: &defaults, ceiling: &ceiling })
}

fn plan(text: &str, environment: Option<&str>, settings: &[Setting]) -> Result<(Plan, Diagnostics), Diagnostics> {
    let definitions = parse(text)?;
    let job = definitions.jobs().next().map(|(name, _)| name.to_string()).unwrap_or_default();
    with_planning(|planning| Plan::build(&definitions, &Launch { job: &job, environment, settings }, planning))
}
