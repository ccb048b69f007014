//! Where an IO manager puts a value: a path with places for what it is.

use opyard_store::io_manager::Slot;
use thiserror::Error;

use crate::path::checked;

/// A template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the path template '{template}' cannot be used: {reason}")]
pub struct TemplateError {
    template: String,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Job,
    Run,
    Step,
    Output,
    Key,
}

const NAMES: [&str; 5] = ["job", "run", "step", "output", "key"];

/// A path with places: `{job}`, `{run}`, `{step}` (its whole path, with dots), `{output}`, `{key}` (of a mapped step or an
/// item; several joined by `.`; left out otherwise).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate(Vec<Part>);

impl PathTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// When a place is not known or not closed, or the rest is not a path.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let wrong = |reason: String| TemplateError { template: template.chars().take(200).collect(), reason };
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(start) = rest.find('{') {
            if start > 0 {
                parts.push(Part::Text(rest[..start].to_owned()));
            }
            let end = rest[start..].find('}').ok_or_else(|| wrong("a '{' is not closed".into()))? + start;
            parts.push(match &rest[start + 1..end] {
                "job" => Part::Job,
                "run" => Part::Run,
                "step" => Part::Step,
                "output" => Part::Output,
                "key" => Part::Key,
                other => {
                    return Err(wrong(format!("'{{{other}}}' is none of {{{}}}", NAMES.join("}, {"))));
                }
            });
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let template = Self(parts);
        // With plain names in its places it has to be a path: names are, so the rest is what can be wrong.
        checked(&template.fill(|_| "x".to_owned())).map_err(|error| wrong(error.to_string()))?;
        Ok(template)
    }

    /// The path of a value.
    #[must_use]
    pub fn path(&self, slot: &Slot) -> String {
        self.fill(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Job => slot.job.to_string(),
            Part::Run => slot.run.to_string(),
            Part::Step => slot.step.to_string(),
            Part::Output => slot.output.to_string(),
            Part::Key => slot.keys.iter().map(ToString::to_string).collect::<Vec<_>>().join("."),
        })
    }

    fn fill(&self, name: impl Fn(&Part) -> String) -> String {
        let filled = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Job | Part::Run | Part::Step | Part::Output | Part::Key => name(part),
        });
        filled.collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use opyard_model::id::{MappingKey, Name, RunId, StepPath};

    #[test]
    fn fills_places_and_refuses_tricks() {
        let slot = Slot {
            job: Name::new("train").unwrap(),
            run: RunId::from_parts(0, 0),
            step: StepPath::new("eval.score").unwrap(),
            output: Name::new("metrics").unwrap(),
            keys: vec![MappingKey::new("a-1").unwrap()],
        };
        let template = PathTemplate::parse("{job}/{step}/{output}-{key}.json").unwrap();
        assert_eq!(template.path(&slot), "train/eval.score/metrics-a-1.json");
        for wrong in ["{jobs}/x", "{job", "../{job}", "/{job}", "a//{job}", "{job}/%2e", ""] {
            assert!(PathTemplate::parse(wrong).is_err(), "{wrong}");
        }
    }
}
