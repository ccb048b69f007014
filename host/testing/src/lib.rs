//! Tests of ops and of jobs: in the real sandbox, on memory, with resources that stand in for the real ones.
//!
//! Nothing is mocked of Opyard itself. Ops run in wasmtime under their limits, a job is planned and driven by the engine.
//! What stands in is what is outside: object stores, key-values and model registries are the real ones on memory, HTTP clients
//! keep all of their rules and are answered by the test, secrets have the bytes that the test gives. Clock and randomness are
//! virtual, so that a test says the same each time. Nothing of the machine or the network can be reached.
//!
//! A job of a definitions file, in a `#[test]`:
//!
//! ```no_run
//! use opyard_testing::{Fake, JobTest};
//!
//! # async fn example() -> Result<(), opyard_testing::TestError> {
//! let rows = std::fs::read("data/penguins.csv").expect("the example data");
//! let test = JobTest::load("opyard.yaml", "train").await?.set("split.seed=8")?;
//! let test = test.resource("raw", Fake::objects([("penguins.csv", rows)]));
//! let run = test.run().await?;
//! assert!(run.succeeded(), "{:?}", run.failures());
//! assert!(run.json("eval.score").await?["accuracy"].as_f64() > Some(0.9));
//! # Ok(())
//! # }
//! ```
//!
//! `opyard op test` runs test files of ops: [`OpTests`] is what it is made of, and `docs/testing.md` says how they are written.

mod bench;
mod diff;
mod fakes;
mod files;
mod job;
mod op;
mod snapshot;

pub use bench::Compiling;
pub use fakes::Fake;
pub use files::{CaseVerdict, FileVerdict, OpTests, Verdict, test_files};
pub use job::{JobRun, JobTest};
pub use op::{OpOutcome, OpOutput, OpRun};
pub use opyard_server::YardError as TestError;
