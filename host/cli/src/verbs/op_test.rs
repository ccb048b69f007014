//! `op test`: does an op still do what it did?

use opyard_testing::{Compiling, FileVerdict, OpTests, Verdict, test_files};
use serde_json::json;

use crate::args::op_test::Test;
use crate::args::{File, Global};
use crate::compile;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::place::{Place, here};
use crate::render::style::{BAD, DIM, GOOD, WARN, paint};
use crate::render::text;
use crate::screen::Screen;

pub(crate) async fn test(global: &Global, args: &Test, screen: &Screen) -> Outcome {
    // A yard that is there has compiled the component, perhaps; none is made.
    let place = Place::of_yard(global, &File { file: None }, &here()?);
    let cache = place.has_yard().then(|| place.yard.join("code"));
    let compiling = Compiling { cache, worker: Some(compile::worker()?) };
    let mut all = Vec::new();
    for path in test_files(&args.path)? {
        let tests = OpTests::load(&path, compiling.clone()).await?;
        let verdict = tests.check(&args.case, args.update).await?;
        if !screen.json() {
            screen.print(&drawn(&path.display().to_string(), &verdict))?;
        }
        all.push(verdict);
    }
    let is_well = all.iter().flat_map(|file| &file.cases).all(|case| case.verdict.is_well());
    if screen.json() {
        screen.print_json(&json!(all))?;
    } else if !is_well {
        let differs = |verdict: &Verdict| !matches!(verdict, Verdict::Unexpected { .. }) && !verdict.is_well();
        if all.iter().flat_map(|file| &file.cases).any(|case| differs(&case.verdict)) {
            screen.note("look at what is different; if it is as it should be, `--update` writes it down");
        }
    }
    Ok(if is_well { Exit::Success } else { Exit::RunFailed })
}

/// A file and its cases, one a line, with what there is to say of those that are not well.
fn drawn(path: &str, file: &FileVerdict) -> String {
    let mut lines = vec![path.to_owned()];
    for case in &file.cases {
        let (style, word, told) = match &case.verdict {
            Verdict::Passed => (GOOD, "ok", None),
            Verdict::Written => (WARN, "written", None),
            Verdict::Unexpected { problem } => (BAD, "FAILED", Some(problem.clone())),
            Verdict::Differs { difference } => (BAD, "differs", Some(difference.clone())),
            Verdict::New { snapshot } => (WARN, "new", Some(snapshot.clone())),
            Verdict::Gone => (WARN, "gone", Some("its snapshot is there, and it is not".to_owned())),
        };
        let gap = " ".repeat(8usize.saturating_sub(word.len()));
        lines.push(format!("  {}{gap}{}", paint(style, word), case.case));
        if let Some(told) = told {
            for line in text::block(&told, "      ").lines() {
                let style = match line.trim_start().chars().next() {
                    Some('+') => GOOD,
                    Some('-') => BAD,
                    _ => DIM,
                };
                lines.push(paint(style, line));
            }
        }
    }
    lines.join("\n")
}
