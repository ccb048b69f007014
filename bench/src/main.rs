//! What Opyard costs, beside the same work in a bare loop of wasmtime: `cargo xtask bench`.
//!
//! Each group of rows is measured in a process of its own, so that no group's memory is another's.

mod bare;
mod flow;
mod house;
mod instance;
mod map;
mod meter;
mod start;
mod steps;
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use opyard_server::SystemClock;
use opyard_server::model::time::Clock as _;
use serde::de::DeserializeOwned;

use crate::table::{Row, Table};

/// Measures, and writes `docs/bench.json` and the table of `docs/performance.md`.
#[derive(Parser)]
#[command(name = "cargo xtask bench", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Write nothing; fail where a budget is missed that the committed table keeps, or a figure is worse by more than 30 %.
    #[arg(long)]
    check: bool,
    /// Only the rows whose name contains one of these words; nothing is written.
    words: Vec<String>,
}

/// What this program starts itself for.
#[derive(Subcommand)]
enum Part {
    /// Measures one group of rows, and prints what came of it.
    #[command(hide = true)]
    Group { group: Group },
    /// Runs one chain, and prints what it took.
    #[command(hide = true)]
    Alone { steps: usize },
    /// Runs one map, and prints what it took.
    #[command(hide = true)]
    Mapped { items: usize },
    /// Enters a guest as soon as can be, and prints when that was.
    #[command(hide = true)]
    FirstInstruction { code: PathBuf },
}

/// Rows that are measured together.
#[derive(Clone, Copy, ValueEnum)]
enum Group {
    Chain,
    Fan,
    Scale,
    Map,
    Table,
    Instance,
    Start,
    Flow,
}

impl Group {
    const fn rows(self) -> &'static [&'static str] {
        match self {
            Self::Chain => steps::CHAIN_ROWS,
            Self::Fan => steps::FAN_ROWS,
            Self::Scale => steps::SCALE_ROWS,
            Self::Map => map::MAP_ROWS,
            Self::Table => map::TABLE_ROWS,
            Self::Instance => instance::ROWS,
            Self::Start => start::ROWS,
            Self::Flow => flow::ROWS,
        }
    }

    async fn measure(self) -> Result<Vec<Row>> {
        match self {
            Self::Chain => steps::chain().await,
            Self::Fan => steps::fan().await,
            Self::Scale => {
                let alone = |steps: usize| apart(&["alone", &steps.to_string()]);
                steps::scale(&alone(steps::LENGTHS[0])?, &alone(steps::LENGTHS[1])?)
            }
            Self::Map => {
                let mapped = |items: usize| apart(&["mapped", &items.to_string()]);
                map::compare(&mapped(map::ITEMS[0])?, &mapped(map::ITEMS[1])?)
            }
            Self::Table => map::table().await,
            Self::Instance => instance::measure().await,
            Self::Start => start::measure().await,
            Self::Flow => flow::measure().await,
        }
    }
}

fn main() -> ExitCode {
    opyard_server::share_heaps();
    match run() {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(75)
        }
    }
}

fn run() -> Result<ExitCode> {
    let Arguments { part, check, words } = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match part {
        Some(Part::Group { group }) => print(&serde_json::to_string(&runtime.block_on(Box::pin(group.measure()))?)?),
        Some(Part::Alone { steps }) => {
            print(&serde_json::to_string(&runtime.block_on(Box::pin(steps::alone(steps)))?)?)
        }
        Some(Part::Mapped { items }) => {
            print(&serde_json::to_string(&runtime.block_on(Box::pin(map::mapped(items)))?)?)
        }
        Some(Part::FirstInstruction { code }) => {
            print(&runtime.block_on(start::first_instruction(&code))?.as_micros().to_string());
        }
        None => return whole(check, &words),
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures what was asked for, shows it, and compares or keeps it.
fn whole(check: bool, words: &[String]) -> Result<ExitCode> {
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let machine = meter::machine()?;
    let mut rows: Vec<Row> = Vec::new();
    for group in Group::value_variants() {
        if group.rows().iter().any(|name| wanted(name)) {
            let name = group.to_possible_value().context("every group has a name")?;
            eprintln!("measuring: {}", name.get_name());
            rows.extend(apart::<Vec<Row>>(&["group", name.get_name()])?);
        }
    }
    rows.retain(|row| wanted(&row.name));
    ensure!(!rows.is_empty(), "no row has any of these words in its name: {}", words.join(", "));
    let date = SystemClock.now().to_string().chars().take("2026-11-23".len()).collect();
    let table = Table { date, machine, rows };
    print(&table.text());

    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let (json, page) = (docs.join("bench.json"), docs.join("performance.md"));
    if check {
        let committed = std::fs::read(&json).with_context(|| format!("reading {}", json.display()))?;
        let complaints = table.complaints(&serde_json::from_slice(&committed)?);
        for complaint in &complaints {
            print(&format!("over: {complaint}"));
        }
        return Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    if words.is_empty() {
        std::fs::write(&json, format!("{}\n", serde_json::to_string_pretty(&table)?))?;
        let text = std::fs::read_to_string(&page).with_context(|| format!("reading {}", page.display()))?;
        std::fs::write(&page, table::placed(&text, &table).context("the page has no place for the table")?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What this program prints when it is started again with these arguments.
fn apart<T: DeserializeOwned>(arguments: &[&str]) -> Result<T> {
    let output = Command::new(std::env::current_exe()?).args(arguments).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{}: {}", arguments.join(" "), output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[expect(clippy::print_stdout, reason = "the figures are what is asked for")]
fn print(text: &str) {
    println!("{text}");
}
