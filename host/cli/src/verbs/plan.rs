//! `plan`: what would a run do?

use std::sync::Arc;

use opyard_server::model::id::StepPath;
use opyard_server::model::plan::{Memo, Plan};
use opyard_server::model::selection::Selection;
use opyard_server::{Forecast, Foreseen};
use serde_json::{Value, json};

use crate::args::{self, Global};
use crate::error::Outcome;
use crate::exit::Exit;
use crate::render::quantity;
use crate::render::style::{DIM, MEMO, PLAIN, TITLE, paint};
use crate::render::table::{Cell, Table};
use crate::render::text::counted;
use crate::screen::Screen;
use crate::verbs::{Prepared, note_warnings};

pub(crate) async fn plan(global: &Global, args: &args::Plan, screen: &Screen) -> Outcome {
    let Prepared { yard, plan, warnings, .. } = Prepared::new(global, &args.file, &args.overlay, &args.job).await?;
    let plan = match args.select.as_deref() {
        Some(text) => yard.select(plan, &Selection::parse("--select", text)?).await?,
        None => plan,
    };
    let plan = Arc::new(plan);
    let forecast = yard.forecast(Arc::clone(&plan)).await?;
    if screen.json() {
        let mut told = json(&plan, &forecast);
        told["warnings"] = json!(warnings);
        screen.print_json(&told)?;
    } else {
        note_warnings(&warnings, screen);
        screen.print(&text(&plan, &forecast))?;
    }
    Ok(Exit::Success)
}

/// Why a step that would run is not in the memo at all.
const fn memo(memo: Memo) -> &'static str {
    match memo {
        Memo::Off => "never memoised: not hermetic",
        Memo::Sound | Memo::For(_) => "",
    }
}

fn text(plan: &Plan, forecast: &Forecast) -> String {
    let mut table = Table::new(["step", "op", "would", "note"]);
    let (mut runs, mut memos, mut perhaps) = (0usize, 0usize, 0usize);
    for (path, foreseen) in &forecast.steps {
        let step = plan.find(path.as_str()).map(|ix| plan.step(ix));
        let op = step.map(|step| format!("{}.{}", step.component_name, step.op)).unwrap_or_default();
        let mut unproven = Vec::new();
        let (would, style) = match foreseen {
            Foreseen::Memo => {
                memos += 1;
                ("memo".to_owned(), MEMO)
            }
            Foreseen::Run => {
                runs += 1;
                ("run".to_owned(), PLAIN)
            }
            Foreseen::Unproven { input, manager } => {
                runs += 1;
                unproven.push(format!("`{manager}` cannot tell whether {input} has changed"));
                ("run".to_owned(), PLAIN)
            }
            Foreseen::MemoIfUnchanged { of } => {
                perhaps += 1;
                (format!("memo if the output of {} is unchanged", list(of)), MEMO)
            }
        };
        let mut notes = unproven;
        if let Some(step) = step {
            notes.extend(Some(memo(step.memo).to_owned()).filter(|note| !note.is_empty()));
            if let Memo::For(age) = step.memo {
                notes.push(format!("memo good for {}", quantity::time(age)));
            }
            notes.extend(step.mapped_over.map(|slot| format!("once per item of {}", plan.step(slot.step).path)));
        }
        table.row([path.as_str().into(), op.into(), Cell::styled(would, style), Cell::styled(notes.join("; "), DIM)]);
    }
    let environment = plan.environment.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
    let counts = [(runs, "would run"), (memos, "in the memo"), (perhaps, "in the memo if nothing changed before")];
    let counts: Vec<_> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let head = format!("{}{environment}: {}", paint(TITLE, &plan.job), counted(plan.steps.len(), "step"));
    format!("{head}\n\n{}\n\n{}", table.render("  "), counts.join(", "))
}

fn list(paths: &[StepPath]) -> String {
    let names: Vec<_> = paths.iter().take(3).map(StepPath::as_str).collect();
    let more = if paths.len() > 3 { format!(" and {} more", paths.len() - 3) } else { String::new() };
    names.join(", ") + &more
}

fn json(plan: &Plan, forecast: &Forecast) -> Value {
    let steps = forecast.steps.iter().map(|(path, foreseen)| {
        let step = plan.find(path.as_str()).map(|ix| plan.step(ix));
        let mut told = json!(foreseen);
        told["step"] = json!(path);
        if let Some(step) = step {
            told["op"] = json!(format!("{}.{}", step.component_name, step.op));
            told["component"] = json!(step.component);
            told["hermetic"] = json!(step.hermetic);
            told["config"] = json!(step.config);
        }
        told
    });
    json!({ "job": plan.job, "environment": plan.environment, "steps": steps.collect::<Value>() })
}
