//! `doctor`: is all there that Opyard needs?

use opyard_server::model::diagnostic::Drawing;
use opyard_server::{Project, YardError};
use serde_json::json;

use crate::args::{self, Global};
use crate::error::{CliError, Outcome};
use crate::exit::Exit;
use crate::place::{Place, here};
use crate::render::advice;
use crate::render::style::{BAD, DIM, GOOD, paint};
use crate::render::text::{block, counted, one_line};
use crate::screen::Screen;

/// One thing that was looked at.
struct Finding {
    subject: String,
    well: bool,
    found: String,
    hint: Option<String>,
}

pub(crate) async fn doctor(global: &Global, args: &args::Doctor, screen: &Screen) -> Outcome {
    let place = Place::of_yard(global, &args.file, &here()?);
    let mut findings = Vec::new();
    let mut exit = Exit::Success;
    let mut worse = |found: Exit| {
        if exit == Exit::Success {
            exit = found;
        }
    };
    let project = place.file.is_file();
    if !project && !place.has_yard() {
        findings.push(Finding {
            subject: "yard".into(),
            well: true,
            found: format!("there is none at {} yet; the first run makes it", place.yard.display()),
            hint: None,
        });
    } else {
        match place.open() {
            Ok(yard) => {
                for health in yard.health().await {
                    if !health.well {
                        worse(Exit::Surroundings);
                    }
                    let hint = (!health.well).then(|| "look at the disk, its rights and its space".to_owned());
                    let (subject, found) = (health.subject.to_owned(), health.finding);
                    findings.push(Finding { subject, well: health.well, found, hint });
                }
                if project {
                    let checked = match Project::load(&yard, &place.file).await {
                        Ok(project) => project.check(&yard, None).await.map(|_| project.jobs().count()),
                        Err(error) => Err(error),
                    };
                    let file = place.file.display();
                    findings.push(match checked {
                        Ok(jobs) => Finding {
                            subject: "definitions".into(),
                            well: true,
                            found: format!("{file}: {}", counted(jobs, "job")),
                            hint: None,
                        },
                        Err(error) => {
                            worse(Exit::of_blame(error.blame()));
                            finding("definitions", &error)
                        }
                    });
                }
            }
            Err(CliError::Yard(error)) => {
                worse(Exit::of_blame(error.blame()));
                findings.push(finding("yard", &error));
            }
            Err(error) => return Err(error),
        }
    }
    if !project {
        let found = format!("no {} here; nothing to check", place.file.display());
        findings.push(Finding { subject: "definitions".into(), well: true, found, hint: None });
    }
    if screen.json() {
        let told = findings.iter().map(|finding| {
            let Finding { subject, well, found, hint } = finding;
            json!({ "subject": subject, "well": well, "finding": found, "hint": hint })
        });
        screen.print_json(&told.collect())?;
    } else {
        screen.print(&findings.iter().map(text).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(exit)
}

fn finding(subject: &str, error: &YardError) -> Finding {
    let (found, hint) = match error {
        YardError::Definitions(problems) => {
            (problems.render(Drawing::Plain), "`opyard check` after mending".to_owned())
        }
        YardError::Failed(failure) => (failure.to_string(), advice::next(failure.code).to_owned()),
    };
    Finding { subject: subject.to_owned(), well: false, found, hint: Some(hint) }
}

fn text(finding: &Finding) -> String {
    let mark = if finding.well { paint(GOOD, "ok     ") } else { paint(BAD, "not ok ") };
    let found = if finding.found.contains('\n') {
        format!("\n{}", block(&finding.found, "    "))
    } else {
        one_line(&finding.found, 300)
    };
    let hint =
        finding.hint.as_ref().map(|hint| format!("\n         {} {hint}", paint(DIM, "hint:"))).unwrap_or_default();
    format!("{mark} {:<12} {found}{hint}", finding.subject)
}
