//! How long it takes from typing `opyard run` to the first instruction of the guest.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use opyard_server::model::event::RunEvent;
use opyard_server::model::time::{Clock as _, Timestamp};
use opyard_server::store::run::RunFilter;
use opyard_server::{SystemClock, Yard, YardSettings};

use crate::bare::{self, Bare};
use crate::house;
use crate::table::{Better, Figure, Row};

/// Starts, of which the median counts.
const STARTS: usize = 15;

pub(crate) const ROWS: &[&str] = &["`opyard run` to the first instruction of the guest"];

/// A program that lies beside this one.
fn beside(name: &str) -> Result<std::path::PathBuf> {
    let path = std::env::current_exe()?.with_file_name(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    ensure!(path.is_file(), "{} is not there: build it in the same profile", path.display());
    Ok(path)
}

/// The first run compiles the component; of the others, the time from before the process is made to the moment that its
/// log line is recorded with. The op logs first of all and then ends, and the line is stamped when it has ended: so this is
/// a little more than the time to its first instruction.
pub(crate) async fn measure() -> Result<Vec<Row>> {
    let folder = house::folder()?;
    let file = folder.path().join("opyard.yaml");
    let step = "      hello: { op: probe.chatty, config: { lines: 1 } }\n";
    std::fs::write(&file, house::definitions("", step)?)?;
    let yard = folder.path().join("yard");
    let mut ours = Vec::new();
    for _ in 0..=STARTS {
        let mut opyard = Command::new(beside("opyard")?);
        opyard.args(["run", "work", "--no-memo", "--json", "-f"]).arg(&file).arg("--yard").arg(&yard);
        let began = SystemClock.now();
        let output = opyard.output()?;
        ensure!(output.status.success(), "opyard run: {}", String::from_utf8_lossy(&output.stderr));
        ours.push(millis(began, logged_at(&yard).await?));
    }
    // The first compiled the component.
    ours.remove(0);

    let code = folder.path().join("code");
    std::fs::write(&code, bare::precompile(&std::fs::read(house::probe()?)?)?)?;
    let mut alone = Vec::new();
    for _ in 0..STARTS {
        let mut this = Command::new(std::env::current_exe()?);
        this.arg("first-instruction").arg(&code).stderr(Stdio::inherit());
        let began = SystemClock.now();
        let output = this.output()?;
        let at: i64 = String::from_utf8(output.stdout)?.trim().parse().context("no moment")?;
        alone.push(millis(began, Timestamp::from_micros(at)));
    }
    let row = Row::new(ROWS[0], "ms", median(&mut ours));
    Ok(vec![row.beside("wasmtime alone", median(&mut alone), Better::Lower).at_most(Figure::Value, 50.0)])
}

/// What `first-instruction` does: enters a guest as soon as can be, and says when that was.
pub(crate) async fn first_instruction(code: &std::path::Path) -> Result<Timestamp> {
    let bare = Bare::load(&std::fs::read(code)?)?;
    bare.call("noop", b"").await?;
    Ok(SystemClock.now())
}

/// When the newest run of a yard recorded its log line.
async fn logged_at(yard: &std::path::Path) -> Result<Timestamp> {
    let yard = Yard::open(&YardSettings::new(yard))?;
    let filter = RunFilter { limit: 1, ..RunFilter::default() };
    let newest = yard.tenant_store().runs(filter).await?.into_iter().next().context("no run")?.run;
    let events = yard.events(newest).await?;
    yard.close().await;
    let line = events.iter().find(|recorded| matches!(recorded.event, RunEvent::Log { .. }));
    Ok(line.context("nothing was logged")?.at)
}

fn millis(from: Timestamp, to: Timestamp) -> f64 {
    to.since(from).as_secs_f64() * 1e3
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
