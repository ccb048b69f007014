//! `check`: is the definitions file right?

use opyard_server::model::diagnostic::{Diagnostics, Drawing};
use opyard_server::{Project, YardError};
use serde_json::{Value, json};

use crate::args::{self, Global};
use crate::error::Outcome;
use crate::exit::Exit;
use crate::place::Place;
use crate::render::style::{BAD, GOOD, paint};
use crate::render::text::{counted, one_line};
use crate::screen::Screen;

pub(crate) async fn check(global: &Global, args: &args::Check, screen: &Screen) -> Outcome {
    let place = Place::of_definitions(global, &args.file);
    // A file that is not there must not leave a yard behind.
    place.check_file()?;
    let yard = place.open()?;
    let checked = match Project::load(&yard, &place.file).await {
        Ok(project) => project.check(&yard, args.env.as_deref()).await.map(|warnings| (project, warnings)),
        Err(error) => Err(error),
    };
    let file = one_line(&place.file.display().to_string(), 1_000);
    match checked {
        Ok((project, warnings)) => {
            let jobs = project.jobs().count();
            let components = project.definitions().components().count();
            let environments = project.definitions().environments().count();
            if screen.json() {
                screen.print_json(&verdict(&place, true, &warnings))?;
            } else {
                let found =
                    [counted(jobs, "job"), counted(components, "component"), counted(environments, "environment")];
                if !warnings.is_empty() {
                    screen.print(&format!("{}\n", warnings.render(Drawing::Coloured)))?;
                }
                screen.print(&format!("{} {file}: {}", paint(GOOD, "ok"), found.join(", ")))?;
            }
            Ok(Exit::Success)
        }
        Err(YardError::Definitions(problems)) => {
            if screen.json() {
                screen.print_json(&verdict(&place, false, &problems))?;
            } else {
                screen.print(&problems.render(Drawing::Coloured))?;
                screen.print(&format!("\n{} {file}", paint(BAD, "not ok")))?;
            }
            Ok(Exit::Wrong)
        }
        Err(error) => Err(error.into()),
    }
}

fn verdict(place: &Place, ok: bool, problems: &Diagnostics) -> Value {
    json!({ "file": place.file, "ok": ok, "problems": problems })
}
