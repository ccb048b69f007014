//! Failures and errors: code, text, metadata, whose move it is, the page, what to do.

use opyard_server::YardError;
use opyard_server::model::diagnostic::Drawing;
use opyard_server::model::error::{Code, Failure};
use serde_json::{Value, json};

use crate::render::style::{BAD, DIM, TITLE, paint};
use crate::render::{advice, metadata, text};

/// The page of a code.
pub(crate) fn page(code: Code) -> String {
    format!("docs/errors/{code}.md")
}

/// `error[OPY-nnn]: text`, and what belongs to it, each line after `indent`.
pub(crate) fn failure(failure: &Failure, indent: &str) -> String {
    let code = failure.code;
    let description = text::block(&failure.description, &format!("{indent}  "));
    let head = format!(
        "{indent}{}{}",
        paint(BAD, format_args!("error[{code}]")),
        paint(TITLE, format_args!(": {}", code.summary()))
    );
    let mut lines = vec![head];
    if !failure.description.trim().is_empty() && failure.description.trim() != code.summary() {
        lines.push(description);
    }
    let inner = format!("{indent}  ");
    let entries = metadata::entries(&failure.metadata, &inner);
    if !entries.is_empty() {
        lines.push(entries);
    }
    for (title, what) in
        [("whose move", advice::whose(code.blame())), ("what next", advice::next(code)), ("page", &page(code))]
    {
        lines.push(format!("{inner}{} {what}", paint(DIM, format_args!("{title}:"))));
    }
    lines.join("\n")
}

/// An error of a call.
pub(crate) fn yard_error(error: &YardError) -> String {
    match error {
        YardError::Definitions(diagnostics) => diagnostics.render(Drawing::Coloured),
        YardError::Failed(failed) => failure(failed, ""),
    }
}

/// The same for machines, on one line.
pub(crate) fn yard_error_json(error: &YardError) -> Value {
    let blame = error.blame().to_string();
    match error {
        YardError::Definitions(diagnostics) => json!({ "error": { "blame": blame, "problems": diagnostics } }),
        YardError::Failed(failed) => json!({ "error": failure_json(failed) }),
    }
}

/// A failure for machines.
pub(crate) fn failure_json(failed: &Failure) -> Value {
    json!({
        "code": failed.code,
        "blame": failed.blame(),
        "summary": failed.code.summary(),
        "description": failed.description,
        "metadata": failed.metadata,
        "next": advice::next(failed.code),
        "page": page(failed.code),
    })
}

#[cfg(test)]
mod tests {
    use opyard_server::model::metadata::{MetadataEntry, MetadataValue};

    use super::*;
    use crate::render::plain;

    #[test]
    fn a_failure_says_what_whose_and_what_next() {
        let mut failed = Failure::new(Code::OpFailed, "no rows of class Gentoo\nsecond line\u{1b}[2J");
        failed.metadata.push(MetadataEntry { label: "rows".into(), value: MetadataValue::Int(12) });
        insta::assert_snapshot!(plain(&failure(&failed, "  ")));
        insta::assert_snapshot!(format!("{:#}", failure_json(&failed)));
    }

    #[test]
    fn every_code_has_advice_of_one_line() {
        for code in Code::ALL {
            assert!(!advice::next(*code).contains('\n') && advice::next(*code).len() < 110, "{code}");
        }
    }
}
