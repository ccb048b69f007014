//! `diff`: what is different between two runs.

use opyard_server::{Both, Changed, Comparison, StepFacts};
use serde_json::{Value, json};

use crate::args::{self, Global};
use crate::error::Outcome;
use crate::exit::Exit;
use crate::place::{Place, here};
use crate::render::quantity;
use crate::render::style::{DIM, PLAIN, TITLE, WARN, paint};
use crate::render::table::{Cell, Table};
use crate::render::text::{counted, one_line};
use crate::run_name;
use crate::screen::Screen;

/// Longest text of a value that is shown.
const WIDTH: usize = 60;

pub(crate) async fn diff(global: &Global, args: &args::Diff, screen: &Screen) -> Outcome {
    let yard = Place::of_yard(global, &args.file, &here()?).open_existing()?;
    let (first, second) = (run_name::find(&yard, &args.first).await?, run_name::find(&yard, &args.second).await?);
    let comparison = yard.compare(first, second).await?;
    if screen.json() {
        screen.print_json(&json!(comparison))?;
    } else {
        screen.print(&text(&comparison))?;
    }
    Ok(Exit::Success)
}

fn text(comparison: &Comparison) -> String {
    let (first, second) = comparison.runs;
    let different = comparison.steps.iter().filter(|step| !step.changed.is_empty());
    let mut steps = Table::new(["step", "changed", "what", ">before", ">after"]);
    for step in different.clone() {
        let names: Vec<_> = step.changed.iter().map(|what| name(*what)).collect();
        let time = |facts: &Option<StepFacts>| {
            facts.as_ref().and_then(|facts| facts.time).map(quantity::time).unwrap_or_default()
        };
        steps.row([
            step.step.to_string().into(),
            Cell::styled(names.join(", "), WARN),
            Cell::styled(what(&step.facts), PLAIN),
            Cell::styled(time(&step.facts.before), DIM),
            Cell::styled(time(&step.facts.after), DIM),
        ]);
    }
    let count = different.count();
    let same = comparison.steps.len() - count;
    let mut out = format!(
        "{} to {}: {}, {same} the same",
        paint(TITLE, first),
        paint(TITLE, second),
        if count == 0 { "no step is different".to_owned() } else { format!("{} different", counted(count, "step")) }
    );
    if !steps.is_empty() {
        out += &format!("\n\n{}", steps.render("  "));
    }
    let mut metrics = Table::new(["metric", "step", ">before", ">after", ">change"]);
    for metric in &comparison.metrics {
        let number = |value: Option<f64>| value.map(|value| format!("{value}")).unwrap_or_default();
        let Both { before, after } = metric.values;
        let change = before.zip(after).map(|(before, after)| format!("{:+.4}", after - before)).unwrap_or_default();
        metrics.row([
            one_line(&metric.name, WIDTH).into(),
            metric.step.to_string().into(),
            number(before).into(),
            number(after).into(),
            change.into(),
        ]);
    }
    if !metrics.is_empty() {
        out += &format!("\n\n{}", metrics.render("  "));
    }
    out
}

const fn name(what: Changed) -> &'static str {
    match what {
        Changed::Presence => "presence",
        Changed::Component => "component",
        Changed::Op => "op",
        Changed::Config => "config",
        Changed::Inputs => "inputs",
        Changed::Outputs => "outputs",
        Changed::Status => "status",
    }
}

/// The change that says most, in a few words.
fn what(facts: &Both<StepFacts>) -> String {
    let (before, after) = match (&facts.before, &facts.after) {
        (Some(before), Some(after)) => (before, after),
        (Some(_), None) => return "only in the first run".to_owned(),
        (None, _) => return "only in the second run".to_owned(),
    };
    if before.op != after.op {
        return format!("{} -> {}", before.op, after.op);
    }
    if before.config != after.config {
        return config(&before.config.to_value(), &after.config.to_value());
    }
    if before.status != after.status {
        return format!("{} -> {}", before.status, after.status);
    }
    let ports = before.outputs.keys().chain(after.outputs.keys());
    let mut differing: Vec<_> =
        ports.filter(|port| before.outputs.get(*port) != after.outputs.get(*port)).map(ToString::to_string).collect();
    differing.dedup();
    one_line(&differing.join(", "), WIDTH)
}

/// The keys of a config that differ.
fn config(before: &Value, after: &Value) -> String {
    let (Some(old), Some(new)) = (before.as_object(), after.as_object()) else {
        return one_line(&format!("{before} -> {after}"), WIDTH);
    };
    let mut keys: Vec<_> = old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key)).collect();
    keys.sort_unstable();
    keys.dedup();
    let shown =
        |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), |value| one_line(&value.to_string(), 24));
    let changes: Vec<_> =
        keys.into_iter().map(|key| format!("{key}: {} -> {}", shown(old.get(key)), shown(new.get(key)))).collect();
    one_line(&changes.join(", "), WIDTH)
}
