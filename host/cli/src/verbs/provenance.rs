//! `provenance` and `verify`: how values came to be, and whether they come to be again.

use opyard_server::model::id::RunId;
use opyard_server::{Unverified, Verdict, VerifiedStep, Yard, YardSettings};
use serde_json::json;

use crate::args::Global;
use crate::args::supply::{Provenance, VerifyRun};
use crate::error::Outcome;
use crate::exit::Exit;
use crate::place::{Place, here};
use crate::render::style::{BAD, DIM, GOOD};
use crate::render::table::{Cell, Table};
use crate::render::text::{counted, one_line};
use crate::run_name;
use crate::screen::Screen;

/// Longest text of a failure that is shown.
const WIDTH: usize = 90;

pub(crate) async fn provenance(global: &Global, args: &Provenance, screen: &Screen) -> Outcome {
    let yard = Place::of_yard(global, &args.file, &here()?).open_existing()?;
    let run = run_name::find(&yard, &args.run).await?;
    // A statement is for machines, whoever asks for it.
    screen.print_json(&yard.provenance(run, &args.output).await?)?;
    Ok(Exit::Success)
}

pub(crate) async fn verify(global: &Global, args: &VerifyRun, screen: &Screen) -> Outcome {
    let yard = Place::of_yard(global, &args.file, &here()?).open_existing()?;
    let run = run_name::find(&yard, &args.run).await?;
    let at = match &args.at {
        Some(folder) => Yard::open(&YardSettings::new(folder))?,
        None => yard.clone(),
    };
    let steps = yard.verify(run, &at).await?;
    at.close().await;
    if screen.json() {
        screen.print_json(&json!({ "run": run, "steps": steps }))?;
    } else {
        screen.print(&text(run, &steps))?;
    }
    let is_wrong = steps.iter().any(|step| step.verdict.is_wrong());
    Ok(if is_wrong { Exit::RunFailed } else { Exit::Success })
}

fn text(run: RunId, steps: &[VerifiedStep]) -> String {
    let mut table = Table::new(["step", "verdict", "what"]);
    let mut same = 0;
    for step in steps {
        let (name, style, what) = match &step.verdict {
            Verdict::Same { outputs } => {
                same += 1;
                ("same", GOOD, counted(*outputs, "value"))
            }
            Verdict::Different { outputs } => {
                let names = outputs.iter().map(|one| {
                    let item = one.item.text().map(|item| format!("[{item}]")).unwrap_or_default();
                    format!("{}{item}", one.output)
                });
                ("differs", BAD, one_line(&names.collect::<Vec<_>>().join(", "), WIDTH))
            }
            Verdict::Failed { failure } => ("fails", BAD, one_line(&failure.to_string(), WIDTH)),
            Verdict::Unverified { why } => ("not executed", DIM, why_not(*why).to_owned()),
        };
        table.row([step.step.to_string().into(), Cell::styled(name, style), what.into()]);
    }
    let wrong = steps.iter().filter(|step| step.verdict.is_wrong()).count();
    let left = steps.len() - same - wrong;
    format!("{}\n\n{run}: {same} the same, {wrong} not, {left} not executed", table.render("  "))
}

const fn why_not(why: Unverified) -> &'static str {
    match why {
        Unverified::NoSuccess => "it did not succeed",
        Unverified::NotHermetic => "it can depend on more than its inputs",
        Unverified::ReadsOutside => "an IO manager loads an input",
        Unverified::EarlierRun => "the result is an earlier run's",
    }
}
