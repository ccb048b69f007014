//! One module a verb, or family of verbs.

mod assets;
mod check;
mod configs;
mod diff;
mod doctor;
mod events;
mod inspect;
mod live;
mod op_test;
mod outputs;
mod plan;
mod pools;
mod provenance;
mod query;
mod run;
mod runs;
mod sources;
mod supply;
mod upkeep;
mod watching;

use std::io::ErrorKind;

use opyard_server::model::definitions::Setting;
use opyard_server::model::diagnostic::{Diagnostics, MAX_SOURCE, Source};
use opyard_server::model::error::Code;
use opyard_server::model::plan::{Launch, Plan};
use opyard_server::{PlannedJob, Project, Yard};

use crate::args::{Cli, File, Global, Op, Overlay, Verb};
use crate::error::{CliError, Outcome};
use crate::place::Place;
use crate::screen::Screen;

/// Does what the command line says.
pub(crate) async fn run(cli: Cli, screen: &Screen) -> Outcome {
    let Cli { global, verb } = cli;
    match verb {
        Verb::Check(args) => check::check(&global, &args, screen).await,
        Verb::Plan(args) => plan::plan(&global, &args, screen).await,
        Verb::Run(args) => Box::pin(run::run(&global, args, screen)).await,
        Verb::Rerun(args) => Box::pin(run::rerun(&global, args, screen)).await,
        Verb::Cancel(args) => runs::cancel(&global, &args, screen).await,
        Verb::Runs(args) => runs::runs(&global, &args, screen).await,
        Verb::Show(args) => runs::show(&global, &args, screen).await,
        Verb::Events(args) => events::events(&global, &args, screen).await,
        Verb::Query(args) => query::query(&global, &args, screen).await,
        Verb::Assets(args) => assets::assets(&global, &args, screen).await,
        Verb::Metrics(args) => assets::metrics(&global, &args, screen).await,
        Verb::Artifacts(args) => outputs::artifacts(&global, &args, screen).await,
        Verb::Cat(args) => outputs::cat(&global, &args, screen).await,
        Verb::Diff(args) => diff::diff(&global, &args, screen).await,
        Verb::Gc(args) => upkeep::gc(&global, &args, screen).await,
        Verb::Backup(args) => upkeep::backup(&global, &args, screen).await,
        Verb::Restore(args) => upkeep::restore(&global, &args, screen).await,
        Verb::Schema(args) => configs::schema(&global, &args, screen).await,
        Verb::Scaffold(args) => configs::scaffold(&global, &args, screen).await,
        Verb::Pools(args) => pools::pools(&global, &args, screen).await,
        Verb::Doctor(args) => doctor::doctor(&global, &args, screen).await,
        Verb::Provenance(args) => provenance::provenance(&global, &args, screen).await,
        Verb::Verify(args) => Box::pin(provenance::verify(&global, &args, screen)).await,
        Verb::Op(Op::Pull(args)) => Box::pin(supply::pull(&global, &args, screen)).await,
        Verb::Op(Op::Push(args)) => Box::pin(supply::push(&global, &args, screen)).await,
        Verb::Op(Op::Sign(args)) => Box::pin(supply::sign(&global, &args, screen)).await,
        Verb::Op(Op::Verify(args)) => Box::pin(supply::verify(&global, &args, screen)).await,
        Verb::Op(Op::Test(args)) => op_test::test(&global, &args, screen).await,
        Verb::Op(Op::Inspect(args)) => inspect::inspect(&global, &args, screen).await,
        Verb::Op(Op::Diff(args)) => inspect::diff(&global, &args, screen).await,
    }
}

/// A job of a definitions file, planned in an open yard.
struct Prepared {
    place: Place,
    yard: Yard,
    plan: Plan,
    warnings: Diagnostics,
}

impl Prepared {
    /// Reads the definitions, opens the yard, and plans `job`.
    ///
    /// # Errors
    /// When there is no such file, or something is wrong with what is in it or laid over it.
    async fn new(global: &Global, file: &File, overlay: &Overlay, job: &str) -> Result<Self, CliError> {
        let place = Place::of_definitions(global, file);
        let settings = settings(overlay)?;
        place.check_file()?;
        let yard = place.open()?;
        let PlannedJob { plan, warnings } = planned(&yard, &place, (overlay, &settings), job).await?;
        Ok(Self { place, yard, plan, warnings })
    }
}

/// Plans a job with the definitions as they are now.
///
/// # Errors
/// All that is wrong with them, or with what is laid over them.
async fn planned(
    yard: &Yard,
    place: &Place,
    (overlay, settings): (&Overlay, &[Setting]),
    job: &str,
) -> Result<PlannedJob, CliError> {
    let project = Project::load_for(yard, &place.file, job).await?;
    let launch = Launch { job, environment: overlay.env.as_deref(), settings };
    Ok(project.plan(yard, &launch).await?)
}

/// Reads what is laid over the definitions: files first, then `--set`.
///
/// # Errors
/// All that is wrong with them.
fn settings(overlay: &Overlay) -> Result<Vec<Setting>, CliError> {
    let mut settings = Vec::new();
    let mut problems = Diagnostics::default();
    for path in &overlay.config {
        let name = path.display().to_string();
        let unreadable = |error: std::io::Error| CliError::new(Code::FileUnreadable, format!("{name}: {error}"));
        let wrong = |problem: &str| CliError::new(Code::BadSetting, format!("--config {name}: {problem}"));
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(wrong("it is a folder, not a file")),
            Ok(found) if !found.is_file() => return Err(wrong("it is not a regular file")),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(wrong("there is no such file")),
            Ok(_) | Err(_) => {}
        }
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        let mut bounded = std::io::Read::take(file, MAX_SOURCE as u64 + 1);
        std::io::Read::read_to_end(&mut bounded, &mut bytes).map_err(unreadable)?;
        match Source::from_bytes(&name, &bytes).and_then(|source| Setting::from_file(&source)) {
            Ok(read) => settings.extend(read),
            Err(more) => problems.append(more),
        }
    }
    for text in &overlay.set {
        match Setting::parse(text) {
            Ok(setting) => settings.push(setting),
            Err(more) => problems.append(more),
        }
    }
    if problems.is_empty() { Ok(settings) } else { Err(problems.into()) }
}

/// Says what is allowed but probably not meant.
fn note_warnings(warnings: &Diagnostics, screen: &Screen) {
    if !warnings.is_empty() && screen.json() {
        screen.note_json(&serde_json::json!({ "warnings": warnings }));
    } else if !warnings.is_empty() {
        screen.note(&warnings.render(opyard_server::model::diagnostic::Drawing::Coloured));
        screen.note("\n");
    }
}
