//! `runs`, `show`, `cancel`.

use opyard_server::model::error::Code;
use opyard_server::model::event::RunStatus;
use opyard_server::model::id::{Name, RunId};
use opyard_server::store::run::RunFilter;
use opyard_server::{Yard, YardError};
use serde_json::json;

use crate::args::{self, Global, Status};
use crate::error::{CliError, Outcome};
use crate::exit::Exit;
use crate::place::{Place, here};
use crate::render;
use crate::report::Report;
use crate::run_name;
use crate::screen::Screen;

impl From<Status> for RunStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Queued => Self::Queued,
            Status::Starting => Self::Starting,
            Status::Started => Self::Started,
            Status::Success => Self::Success,
            Status::Failure => Self::Failure,
            Status::Canceling => Self::Canceling,
            Status::Canceled => Self::Canceled,
        }
    }
}

pub(crate) async fn runs(global: &Global, args: &args::Runs, screen: &Screen) -> Outcome {
    let place = Place::of_yard(global, &args.file, &here()?);
    let job = match &args.job {
        Some(job) => Some(Name::new(job).map_err(|error| CliError::new(Code::BadName, error.to_string()))?),
        None => None,
    };
    let status = args.status.iter().map(|status| (*status).into()).collect();
    let filter = RunFilter { job, status, before: None, limit: args.limit.into() };
    // Looking makes no yard; none has no runs.
    let runs = if place.has_yard() { place.open()?.tenant_store().runs(filter).await? } else { Vec::new() };
    if screen.json() {
        let runs = runs.iter().map(|run| {
            let mut told = json!(run);
            for (field, at) in
                [("enqueued_at", Some(run.enqueued_at)), ("started_at", run.started_at), ("ended_at", run.ended_at)]
            {
                told[field] = json!(at.map(|at| at.to_string()));
            }
            told
        });
        screen.print_json(&runs.collect())?;
    } else if runs.is_empty() {
        screen.note("no such runs; start one with `opyard run JOB`");
    } else {
        screen.print(&render::run::list(&runs))?;
    }
    Ok(Exit::Success)
}

pub(crate) async fn show(global: &Global, args: &args::Show, screen: &Screen) -> Outcome {
    let yard = Place::of_yard(global, &args.file, &here()?).open_existing()?;
    let run = run_name::find(&yard, &args.run).await?;
    let events = yard.events(run).await?;
    // Steps that nothing was heard of are in the plan; what was heard can be shown without it.
    let plan = yard.state(run).await.ok().map(|(plan, _)| plan);
    let report = Report::of(&events, plan.as_deref());
    if screen.json() {
        screen.print_json(&render::run::json(&report))?;
    } else {
        screen.print(&render::run::show(&report, args.all))?;
    }
    Ok(Exit::Success)
}

pub(crate) async fn cancel(global: &Global, args: &args::Cancel, screen: &Screen) -> Outcome {
    let place = Place::of_yard(global, &args.file, &here()?);
    let yard = place.open_existing()?;
    let run = run_name::find(&yard, &args.run).await?;
    yard.cancel(run, &args.reason).await?;
    let ended = end_of_abandoned(&yard, run, &args.reason).await?;
    if screen.json() {
        screen.print_json(&json!({ "run": run, "requested": true, "status": ended }))?;
    } else if let Some(status) = ended {
        screen.print(&format!("nobody drove {run} any more; it is {}", status.name()))?;
    } else {
        let follow = format!("opyard events {run} --follow{}", place.again);
        screen.print(&format!("asked for the end of {run}; `{follow}` shows it come"))?;
    }
    Ok(Exit::Success)
}

/// Ends a run that no living process drives; none when one does, which has been asked.
async fn end_of_abandoned(yard: &Yard, run: RunId, reason: &str) -> Result<Option<RunStatus>, CliError> {
    match yard.take_over(run).await {
        Ok(()) => {
            let reason = reason.to_owned();
            let end = yard.drive(run, Box::pin(async move { reason })).await?;
            yard.close().await;
            Ok(Some(end.status))
        }
        Err(YardError::Failed(failure)) if failure.code == Code::NotOwner => Ok(None),
        Err(error) => Err(error.into()),
    }
}
