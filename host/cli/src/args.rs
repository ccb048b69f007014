//! The command line as data.

pub(crate) mod assets;
pub(crate) mod op_test;
pub(crate) mod supply;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use opyard_server::model::limits::parse_duration;

/// Opyard runs pipelines whose ops are WebAssembly components that can touch only what they were handed.
#[derive(Debug, Parser)]
#[command(name = "opyard", version, max_term_width = 100)]
#[command(after_help = "\
Example:
  opyard check                 is opyard.yaml right?
  opyard run train             run the job `train`
  opyard show latest           what came of it

Exit codes: 0 success, 2 definitions or call wrong, 70 a bug of Opyard, 75 the surroundings failed (try again),
100 the run failed, 130 canceled.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The yard: the folder of database, artifacts and compiled code [default: `.opyard` beside the definitions file]
    #[arg(long, global = true, value_name = "DIR", env = "OPYARD_YARD", hide_env_values = true)]
    pub(crate) yard: Option<PathBuf>,
    /// When to use colours; `auto` respects NO_COLOR
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value = "auto", hide_possible_values = false)]
    pub(crate) color: Color,
    /// Write JSON, for machines
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Check the definitions: every job, in every environment
    #[command(after_help = "Example:\n  opyard check -f pipelines/opyard.yaml -e prod")]
    Check(Check),
    /// Show what a run would do, before anything runs
    #[command(after_help = "Example:\n  opyard plan train --set split.seed=8")]
    Plan(Plan),
    /// Run a job, and wait for its end
    #[command(after_help = "\
Example:
  opyard run train --set split.seed=8 --tag why=experiment

Ctrl-C cancels the run and waits until everything has stopped; twice stops at once. A run is summed up on stdout; with
--json as one JSON object, and its events as JSON lines on stderr.")]
    Run(Run),
    /// Run again what has not succeeded in an earlier run, or a part of it, or all
    #[command(after_help = "\
Example:
  opyard rerun latest
  opyard rerun 7XK2 --from split --set split.seed=8
  opyard rerun latest --select 'score[adelie]'

What does not run again and is needed is taken from the earlier run; the definitions are taken as they are now, the settings
as the earlier run had them, with what is said here over them. A step whose config is not what it was runs again too. A run
whose process was killed goes on where it was, under its own id.")]
    Rerun(Rerun),
    /// Ask for the end of a run, whoever drives it
    #[command(after_help = "Example:\n  opyard cancel latest")]
    Cancel(Cancel),
    /// List runs, the newest first
    #[command(after_help = "Example:\n  opyard runs --job train --status failure")]
    Runs(Runs),
    /// Show a run: its steps, failures, metrics, assets and metadata
    #[command(
        after_help = "Example:\n  opyard show latest\n  opyard show 7XK2 --json      (the end of its id is enough)"
    )]
    Show(Show),
    /// Show the events of a run
    #[command(after_help = "Example:\n  opyard events --follow\n  opyard events latest --step fit --json")]
    Events(Events),
    /// Ask the yard's database: a SELECT over the views runs, steps, events, artifacts, metrics, asset_events
    #[command(after_help = "\
Example:
  opyard query \"select job, status, count(*) from runs group by 1, 2\"
  opyard query \"select * from metrics where name = 'accuracy'\" --format csv")]
    Query(Query),
    /// List assets, each with the latest that was said of it; or show one over time
    #[command(after_help = "Example:\n  opyard assets\n  opyard assets lake/penguins --json")]
    Assets(assets::Assets),
    /// List series of metrics, each with its latest point; or show one over time
    #[command(after_help = "Example:\n  opyard metrics\n  opyard metrics accuracy -n 200")]
    Metrics(assets::Metrics),
    /// List the outputs of a run
    #[command(after_help = "Example:\n  opyard artifacts latest")]
    Artifacts(Artifacts),
    /// Write the bytes of one output to stdout
    #[command(after_help = "Example:\n  opyard cat latest card\n  opyard cat latest split.train -o train.csv")]
    Cat(Cat),
    /// Show what is different between two runs: components, configs, inputs, outputs, metrics, times
    #[command(after_help = "Example:\n  opyard diff 7XK2 latest")]
    Diff(Diff),
    /// Say how an output came to be, as an in-toto statement: component, signatures, config, inputs
    #[command(after_help = "Example:\n  opyard provenance latest fit.model")]
    Provenance(supply::Provenance),
    /// Execute the hermetic steps of a run once more, and compare every digest
    #[command(after_help = "\
Example:
  opyard verify latest
  opyard verify 7XK2 --at /tmp/other-yard

Nothing is recorded. Exit code 100 when an output is not what the run recorded.")]
    Verify(supply::VerifyRun),
    /// Remove what nothing references: artifacts, objects and, if asked, old runs and memo rows
    #[command(after_help = "\
Example:
  opyard gc --dry-run
  opyard gc --keep-runs 50 --keep-runs-for 30d --keep-memos-for 90d

A run is kept if either option keeps it, and always while it has not ended. Other processes may go on meanwhile.")]
    Gc(Gc),
    /// Copy the yard, as it stands at one moment, while it is in use
    #[command(after_help = "Example:\n  opyard backup /backups/monday")]
    Backup(Backup),
    /// Make a yard from a backup, checking every byte of it
    #[command(after_help = "Example:\n  opyard restore /backups/monday --yard .opyard")]
    Restore(Restore),
    /// Print the JSON Schema of the definitions file, or of the config of a job, for editors
    #[command(after_help = "Example:\n  opyard schema > opyard.schema.json")]
    Schema(Schema),
    /// Print a config file of a job: what holds now, and as comments what else can be set
    #[command(after_help = "Example:\n  opyard scaffold train > config.yaml")]
    Scaffold(Scaffold),
    /// List the pools: who holds a slot, and who waits for one
    #[command(after_help = "Example:\n  opyard pools")]
    Pools(Pools),
    /// Look at all that Opyard needs here: yard, database, artifacts, sandbox, definitions
    #[command(after_help = "Example:\n  opyard doctor")]
    Doctor(Doctor),
    /// Component files
    #[command(subcommand)]
    Op(Op),
}

/// Verbs about component files.
#[derive(Debug, Subcommand)]
pub(crate) enum Op {
    /// Show what a component ships and what it could ever reach, without running any of its ops
    #[command(after_help = "Example:\n  opyard op inspect target/guests/penguins.wasm")]
    Inspect(Inspect),
    /// Show what changes when one component takes the place of another: what it reaches, ports, config, resources
    #[command(after_help = "Example:\n  opyard op diff stats-1.4.2.wasm stats-1.5.0.wasm")]
    Diff(OpDiff),
    /// Run ops on the inputs of test files, without a yard, and compare what comes of it with snapshots
    #[command(after_help = "\
Example:
  opyard op test
  opyard op test guest-examples/penguins/penguins.test.yaml --case splits_by_seed
  opyard op test --update

Exit code 100 when something is not as it should be; `opyard schema --op-test` is the form of a test file.")]
    Test(op_test::Test),
    /// Ask the registries what the definitions' references name now, and pin that in the lock file; or get one component
    #[command(after_help = "\
Example:
  opyard op pull
  opyard op pull --update
  opyard op pull acme/stats:1.4.2 -o stats.wasm

Registries, credentials and trusted keys are the operator's: `registries.yaml` in the yard.")]
    Pull(supply::Pull),
    /// Push a component to a registry, where `wkg` and `wash` find it too
    #[command(after_help = "Example:\n  opyard op push target/stats.wasm acme/stats:1.4.2")]
    Push(supply::Push),
    /// Sign a component that is in a registry, if it is the one of this file
    #[command(after_help = "\
Example:
  opyard op sign target/stats.wasm acme/stats:1.4.2 --key release.pem

A key is made with `openssl genpkey -algorithm ed25519 -out release.pem`; what is printed is what others trust.")]
    Sign(supply::Sign),
    /// Check a component of a registry, and by whom it is signed, without running it
    #[command(after_help = "Example:\n  opyard op verify acme/stats:1.4.2")]
    Verify(supply::VerifyComponent),
}

/// The definitions file.
#[derive(Debug, Args)]
pub(crate) struct File {
    /// The definitions file [default: ./opyard.yaml]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// What is laid over the definitions.
#[derive(Debug, Args)]
pub(crate) struct Overlay {
    /// The environment, a name under `environments`
    #[arg(short, long, value_name = "ENV")]
    pub(crate) env: Option<String>,
    /// Set a key of a step's config; inside a graph `outer.step:key=value`
    #[arg(long, value_name = "STEP.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Take configs from a YAML file that maps steps to configs; `--set` goes over it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// The job whose config is described; without it, the definitions file is
    pub(crate) job: Option<String>,
    /// Print the schema of test files of ops
    #[arg(long, conflicts_with = "job")]
    pub(crate) op_test: bool,
    #[command(flatten)]
    pub(crate) file: File,
    /// In this environment
    #[arg(short, long, value_name = "ENV")]
    pub(crate) env: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Scaffold {
    /// The job
    pub(crate) job: String,
    #[command(flatten)]
    pub(crate) file: File,
    /// In this environment
    #[arg(short, long, value_name = "ENV")]
    pub(crate) env: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) file: File,
    /// Check this environment only
    #[arg(short, long, value_name = "ENV")]
    pub(crate) env: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The job
    pub(crate) job: String,
    /// Only these steps: `name`, `*name`, `name*`, `+name`, `name++`, `tag:key=value`, joined by commas
    #[arg(long, value_name = "EXPR")]
    pub(crate) select: Option<String>,
    #[command(flatten)]
    pub(crate) file: File,
    #[command(flatten)]
    pub(crate) overlay: Overlay,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The job
    pub(crate) job: String,
    #[command(flatten)]
    pub(crate) file: File,
    #[command(flatten)]
    pub(crate) overlay: Overlay,
    /// Only these steps: `name`, `*name`, `name*`, `+name`, `name++`, `tag:key=value`, joined by commas. What they need of
    /// others is taken from the job's latest successful run
    #[arg(long, value_name = "EXPR")]
    pub(crate) select: Option<String>,
    /// Tag the run
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub(crate) tag: Vec<(String, String)>,
    /// Run every step, whatever the memo has
    #[arg(long)]
    pub(crate) no_memo: bool,
    /// Go on watching: run again when the definitions, a component or a config file changes
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rerun {
    /// The run: its id, the beginning or the end of it, or `latest`
    pub(crate) run: String,
    /// What has not succeeded, and all that needs it: the default
    #[arg(long, group = "what")]
    pub(crate) from_failure: bool,
    /// These steps, and all that needs them
    #[arg(long, value_name = "STEP", group = "what")]
    pub(crate) from: Option<String>,
    /// These steps alone: `name`, `*name`, `name*`, `+name`, `name++`, `name[item]`, `tag:key=value`, joined by commas
    #[arg(long, value_name = "EXPR", group = "what")]
    pub(crate) select: Option<String>,
    /// Everything
    #[arg(long, group = "what")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) file: File,
    #[command(flatten)]
    pub(crate) overlay: Overlay,
    /// Tag the run, beside the tags of the earlier one
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub(crate) tag: Vec<(String, String)>,
    /// Run every step that is to run, whatever the memo has
    #[arg(long)]
    pub(crate) no_memo: bool,
}

/// Name a run: its id, the beginning or end of it, or `latest`.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The run: its id, the beginning or the end of it, or `latest`
    pub(crate) run: String,
    /// Why; recorded with the run
    #[arg(long, default_value = "asked for with `opyard cancel`")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// Of this job only
    #[arg(long)]
    pub(crate) job: Option<String>,
    /// In this status only (may be repeated)
    #[arg(long, value_enum)]
    pub(crate) status: Vec<Status>,
    /// At most so many
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    #[command(flatten)]
    pub(crate) file: File,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Status {
    Queued,
    Starting,
    Started,
    Success,
    Failure,
    Canceling,
    Canceled,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The run: its id, the beginning or the end of it, or `latest`
    #[arg(default_value = "latest")]
    pub(crate) run: String,
    /// List every item of mapped steps, and every asset and metric
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// The run: its id, the beginning or the end of it, or `latest`
    #[arg(default_value = "latest")]
    pub(crate) run: String,
    /// Go on with what happens, until the run ends
    #[arg(long)]
    pub(crate) follow: bool,
    /// Of this step only
    #[arg(long, value_name = "STEP")]
    pub(crate) step: Option<String>,
    /// Of this kind only (may be repeated)
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Vec<String>,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Query {
    /// One SELECT
    pub(crate) sql: String,
    /// How to write the rows; `--json` is short for `json`
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) file: File,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// RFC 4180, with a header.
    Csv,
    /// One array of objects.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Artifacts {
    /// The run: its id, the beginning or the end of it, or `latest`
    #[arg(default_value = "latest")]
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// The run: its id, the beginning or the end of it, or `latest`
    pub(crate) run: String,
    /// `STEP.OUTPUT`, `STEP` for its only output, `STEP.OUTPUT[KEY]` for an item
    #[arg(value_name = "STEP.OUTPUT")]
    pub(crate) output: String,
    /// Write to this file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output_file: Option<PathBuf>,
    /// Write binary to a terminal all the same
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The earlier run: its id, the beginning or the end of it, or `latest`
    pub(crate) first: String,
    /// The later run
    #[arg(default_value = "latest")]
    pub(crate) second: String,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Keep so many ended runs of each job, the newest [default: all]
    #[arg(long, value_name = "COUNT")]
    pub(crate) keep_runs: Option<u32>,
    /// Keep runs that ended within this time: `36h`, `30d` [default: all]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) keep_runs_for: Option<Duration>,
    /// Keep results in the memo that were made within this time [default: all]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) keep_memos_for: Option<Duration>,
    /// Leave alone what was put within this time. With less than an hour, runs that go on meanwhile may fail for want of
    /// what they had just put
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1h")]
    pub(crate) min_age: Duration,
    /// Remove nothing; say what would be
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Where to: a folder that is empty or not there yet
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup: the folder with `backup.json` in it
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Pools {
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The component file
    pub(crate) component: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct OpDiff {
    /// The component file that is used now
    pub(crate) old: PathBuf,
    /// The one that is to take its place
    pub(crate) new: PathBuf,
}

fn parse_tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}
