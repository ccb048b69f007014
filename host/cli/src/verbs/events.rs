//! `events`: what happened, one line each.

use std::collections::BTreeSet;

use opyard_server::Yard;
use opyard_server::model::diagnostic::{Diagnostic, Diagnostics};
use opyard_server::model::error::Code;
use opyard_server::model::event::Recorded;
use opyard_server::model::id::{RunId, StepKey};
use serde_json::json;

use crate::args::{self, Global};
use crate::error::{CliError, Outcome};
use crate::exit::Exit;
use crate::place::{Place, here};
use crate::render;
use crate::run_name;
use crate::screen::{Screen, json_text};

/// Lines that are written together.
const AT_ONCE: usize = 1_000;

/// Which events are shown.
struct Filter {
    step: Option<StepKey>,
    kinds: Vec<String>,
}

impl Filter {
    /// A step key takes its mapped items along.
    fn takes(&self, recorded: &Recorded) -> bool {
        let step = self.step.as_ref().is_none_or(|wanted| {
            recorded
                .event
                .step()
                .is_some_and(|step| step.path == wanted.path && step.mapping.starts_with(&wanted.mapping))
        });
        step && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == recorded.event.kind()))
    }
}

pub(crate) async fn events(global: &Global, args: &args::Events, screen: &Screen) -> Outcome {
    let step = match &args.step {
        Some(step) => Some(step.parse().map_err(|error| CliError::new(Code::UnknownStep, format!("{error}")))?),
        None => None,
    };
    let filter = Filter { step, kinds: args.kind.clone() };
    let yard = Place::of_yard(global, &args.file, &here()?).open_existing()?;
    let run = run_name::find(&yard, &args.run).await?;
    yard.summary(run).await?;
    if let Some(step) = &filter.step {
        check_step(&yard, run, step).await?;
    }
    if !args.follow {
        let events = yard.events(run).await?;
        let chosen: Vec<_> = events.iter().filter(|recorded| filter.takes(recorded)).collect();
        if chosen.is_empty() {
            let kinds: BTreeSet<_> = events.iter().map(|recorded| recorded.event.kind()).collect();
            let kinds: Vec<_> = kinds.into_iter().collect();
            screen.note(&format!("no such events; those of this run are of the kinds {}", kinds.join(", ")));
        }
        for some in chosen.chunks(AT_ONCE) {
            let lines: Vec<_> = some.iter().map(|recorded| line(recorded, screen)).collect();
            screen.print(&lines.join("\n"))?;
        }
        return Ok(Exit::Success);
    }
    let mut following = yard.follow(run, 0);
    while let Some(recorded) = following.next().await {
        let recorded = recorded?;
        if filter.takes(&recorded) {
            screen.print(&line(&recorded, screen))?;
        }
    }
    Ok(Exit::Success)
}

/// The run has this step. One whose plan cannot be read may have any.
async fn check_step(yard: &Yard, run: RunId, step: &StepKey) -> Result<(), CliError> {
    let Ok((plan, _)) = yard.state(run).await else { return Ok(()) };
    if plan.find(step.path.as_str()).is_some() {
        return Ok(());
    }
    let steps = plan.steps.iter().map(|step| step.path.as_str());
    let wrong = Diagnostic::error(Code::UnknownStep, format!("{run} has no step `{}`", step.path));
    Err(Diagnostics::from(wrong.nearest(step.path.as_str(), steps)).into())
}

fn line(recorded: &Recorded, screen: &Screen) -> String {
    if screen.json() { json_text(&json(recorded).to_string()) } else { render::event::line(recorded) }
}

/// An event on one line: its place, its moment in words, its kind, its payload.
pub(crate) fn json(recorded: &Recorded) -> serde_json::Value {
    let Recorded { run, seq, at, event } = recorded;
    let payload: serde_json::Value = serde_json::from_str(&event.payload()).unwrap_or_default();
    json!({ "run": run, "seq": seq, "at": at.to_string(), "kind": event.kind(), "step": event.step(), "data": payload })
}
