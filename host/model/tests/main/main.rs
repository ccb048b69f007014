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
use opyard_model::id::{MediaType, Name, RunId};
use opyard_model::limits::{ByteSize, Limits};
use opyard_model::plan::{Catalog, LatestWanted, Launch, Plan, Planning, Stored};
use opyard_model::value::{ArtifactRef, ValueRef};

/// The components of `catalog.json`.
fn catalog() -> Catalog {
    let components: BTreeMap<Name, ComponentDescription> =
        serde_json::from_str(include_str!("../catalog.json")).unwrap();
    components.into_iter().collect()
}

/// What is stored: an artifact with the digest `1111…`, and what `square` has yielded in the last run of any job.
struct Kept;

impl Stored for Kept {
    fn size(&self, digest: &Digest) -> Option<u64> {
        (*digest.as_bytes() == [0x11; 32]).then_some(17)
    }

    fn latest(&self, wanted: &LatestWanted) -> Option<(RunId, ValueRef)> {
        let artifact = ArtifactRef { digest: Digest::from_bytes([0x11; 32]), size: 17 };
        let media_type = MediaType::new("application/json").unwrap();
        let value = ValueRef::plain(artifact, Name::new("json").unwrap(), media_type);
        (wanted.step.leaf() == "square").then(|| (RunId::from_parts(1, 1), value))
    }
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
    run(&Planning { catalog: &catalog, stored: &Kept, needs_latest: true, defaults: &defaults, ceiling: &ceiling })
}

fn plan(text: &str, environment: Option<&str>, settings: &[Setting]) -> Result<(Plan, Diagnostics), Diagnostics> {
    let definitions = parse(text)?;
    let job = definitions.jobs().next().map(|(name, _)| name.to_string()).unwrap_or_default();
    with_planning(|planning| Plan::build(&definitions, &Launch { job: &job, environment, settings }, planning))
}
