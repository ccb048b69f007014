//! Who: opens a yard, reads definitions, launches runs and shows what came of them.
//!
//! A [`Project`] is a definitions file with the components that it names, described. A [`Yard`] is where runs are kept:
//! a folder with a database, an object store and a cache of compiled code. The command line and, later, the HTTP API are
//! thin layers over these two.

mod assets;
mod clock;
mod compare;
mod components;
mod error;
mod follow;
mod forecast;
mod heaps;
mod inspect;
mod project;
mod provenance;
mod rerun;
mod run;
mod stored;
pub mod supply;
mod upkeep;
mod verification;
mod yard;

pub use assets::{AssetRecord, Listed, Series, SeriesPoint, numeric_metadata};
pub use clock::SystemClock;
pub use compare::{Both, Changed, Comparison, MetricDifference, StepDifference, StepFacts};
pub use components::read as read_component;
pub use error::YardError;
pub use follow::Following;
pub use forecast::{Forecast, Foreseen};
pub use heaps::share_heaps;
pub use inspect::{Inspected, InspectedOp, ask, inspect};
pub use project::{PlannedJob, Project, describe_all, read_source};
pub use rerun::{Again, Changes, PlannedRerun};
pub use run::{LaunchOptions, Started, new_run_id};
pub use upkeep::restore;
pub use verification::{Difference, Unverified, Verdict, VerifiedStep};
pub use yard::{Found, Health, Yard, YardSettings};

pub use opyard_engine::{CancelRequest, Lineage, RunEnd};
pub use opyard_model as model;
pub use opyard_sandbox::{CompileLimits, CompileWorker, ComponentBounds, WASMTIME, compile_worker};
pub use opyard_store as store;
