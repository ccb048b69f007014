//! `op inspect`, `op diff`: what is in a component file, and what is different in another?

use std::path::Path;

use opyard_server::Inspected;
use opyard_server::model::upgrade::{Change, Gravity, changes};
use serde_json::json;

use crate::args::{self, File, Global};
use crate::compile;
use crate::error::{CliError, Outcome};
use crate::exit::Exit;
use crate::place::{Place, here};
use crate::render;
use crate::render::style::{BAD, DIM, GOOD, PLAIN, TITLE, WARN, paint};
use crate::render::table::{Cell, Table};
use crate::render::text::{counted, one_line};
use crate::screen::Screen;

pub(crate) async fn inspect(global: &Global, args: &args::Inspect, screen: &Screen) -> Outcome {
    let inspected = look(global, &args.component).await?;
    if screen.json() {
        screen.print_json(&json!(inspected))?;
    } else {
        screen.print(&render::inspect::component(&args.component.display().to_string(), &inspected))?;
    }
    Ok(Exit::Success)
}

/// A yard that is there has compiled it, perhaps; none is made for looking at a file.
async fn look(global: &Global, component: &Path) -> Result<Inspected, CliError> {
    let place = Place::of_yard(global, &File { file: None }, &here()?);
    if place.has_yard() {
        return Ok(place.open()?.inspect(component).await?);
    }
    Ok(opyard_server::inspect(component, Some(compile::worker()?)).await?)
}

pub(crate) async fn diff(global: &Global, args: &args::OpDiff, screen: &Screen) -> Outcome {
    let (old, new) = (look(global, &args.old).await?, look(global, &args.new).await?);
    let changes = changes(&old.component, &new.component);
    if screen.json() {
        let digests = (old.component.digest, new.component.digest);
        screen.print_json(&json!({ "old": digests.0, "new": digests.1, "changes": changes }))?;
    } else {
        screen.print(&upgrade((&args.old, &old), (&args.new, &new), &changes))?;
    }
    Ok(Exit::Success)
}

/// What an upgrade changes, in plain words.
fn upgrade(old: (&Path, &Inspected), new: (&Path, &Inspected), changes: &[Change]) -> String {
    let name = |(file, inspected): (&Path, &Inspected)| {
        let file = one_line(&file.display().to_string(), 200);
        format!("{} {}", paint(TITLE, file), paint(DIM, inspected.component.digest))
    };
    let titles = format!("{}\n{}", name(old), name(new));
    if old.1.component.digest == new.1.component.digest {
        return format!("{titles}\n\n{}", paint(GOOD, "the same component"));
    }
    if changes.is_empty() {
        return format!("{titles}\n\n{}", paint(GOOD, "no difference that definitions or grants could notice"));
    }
    let mut table = Table::new(["", "where", "what"]);
    for change in changes {
        let (word, style) = match change.gravity {
            Gravity::Reaches => ("reaches more", BAD),
            Gravity::Breaks => ("breaks", BAD),
            Gravity::Changes => ("changes", WARN),
            Gravity::Adds => ("adds", DIM),
        };
        table.row([
            Cell::styled(word, style),
            Cell::styled(one_line(&change.place, 120), PLAIN),
            Cell::styled(one_line(&change.what, 200), PLAIN),
        ]);
    }
    let of = |gravity| changes.iter().filter(|change| change.gravity == gravity).count();
    let (reaches, breaks) = (of(Gravity::Reaches), of(Gravity::Breaks));
    let verdict = match (reaches, breaks) {
        (0, 0) => paint(GOOD, "definitions that fit the old one fit the new one, and it reaches nothing new"),
        (0, _) => paint(WARN, format_args!("{} may need other definitions", counted(breaks, "change"))),
        (_, _) => {
            paint(BAD, format_args!("{} to what it could reach: look before granting", counted(reaches, "change")))
        }
    };
    format!("{titles}\n\n{}\n\n{verdict}", table.render("  "))
}
