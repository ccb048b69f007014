//! Where each value is kept: a path with placeholders.

use opyard_store::io_manager::Slot;
use thiserror::Error;

use crate::error::ResourceError;
use crate::path::ObjectPath;

/// The placeholders, and what stands for each when a template is checked.
const PLACEHOLDERS: [(&str, Placeholder); 5] = [
    ("job", Placeholder::Job),
    ("run", Placeholder::Run),
    ("step", Placeholder::Step),
    ("output", Placeholder::Output),
    ("key", Placeholder::Key),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Job,
    Run,
    Step,
    Output,
    Key,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(Placeholder),
}

/// A path with the placeholders `{job}`, `{run}`, `{step}`, `{output}` and `{key}`.
///
/// `{key}` is the mapping keys joined by `.`, or `_` where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate(Vec<Part>);

/// A text is not a template of paths.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// A placeholder that means nothing.
    #[error("'{{{name}}}' means nothing in a path; {}", suggestion(nearest))]
    Unknown {
        /// What is written.
        name: String,
        /// The nearest right name.
        nearest: Option<&'static str>,
    },
    /// A brace without its counterpart.
    #[error("'{{' and '}}' come in pairs, around a placeholder")]
    Unpaired,
    /// What would come of it is no path.
    #[error("{0}")]
    Path(String),
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(name) => format!("did you mean '{{{name}}}'?"),
        None => "there are {job}, {run}, {step}, {output} and {key}".to_owned(),
    }
}

impl PathTemplate {
    /// Reads a template, and checks that paths come of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(start);
            let inner = from.strip_prefix('{').ok_or(TemplateError::Unpaired)?;
            let (name, after) = inner.split_once('}').ok_or(TemplateError::Unpaired)?;
            if name.contains('{') {
                return Err(TemplateError::Unpaired);
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Placeholder(placeholder(name)?));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let template = Self(parts);
        let sample = template.fill(|_| "x".to_owned());
        ObjectPath::parse(&sample).map_err(|error| TemplateError::Path(error.to_string()))?;
        Ok(template)
    }

    fn fill(&self, with: impl Fn(Placeholder) -> String) -> String {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Placeholder(placeholder) => with(*placeholder),
            })
            .collect()
    }

    fn has(&self, placeholder: Placeholder) -> bool {
        self.0.contains(&Part::Placeholder(placeholder))
    }

    /// The path of a slot.
    ///
    /// # Errors
    /// `Invalid` when it is too long, or when the items of a dynamic output would overwrite each other.
    pub fn path(&self, slot: &Slot) -> Result<ObjectPath, ResourceError> {
        let keys: Vec<_> = slot.keys().map(|key| key.as_str()).collect();
        if !keys.is_empty() && !self.has(Placeholder::Key) {
            let (step, port) = (&slot.step.path, &slot.port);
            let reason = format!("'{step}.{port}' has several items, and the path has no '{{key}}'");
            return Err(ResourceError::Invalid(reason));
        }
        ObjectPath::parse(&self.fill(|placeholder| match placeholder {
            Placeholder::Job => slot.job.to_string(),
            Placeholder::Run => slot.run.to_string(),
            Placeholder::Step => slot.step.path.to_string(),
            Placeholder::Output => slot.port.to_string(),
            Placeholder::Key if keys.is_empty() => "_".to_owned(),
            Placeholder::Key => keys.join("."),
        }))
    }
}

fn placeholder(name: &str) -> Result<Placeholder, TemplateError> {
    let known = PLACEHOLDERS.iter().find(|(known, _)| *known == name);
    known.map(|(_, placeholder)| *placeholder).ok_or_else(|| {
        let nearest = PLACEHOLDERS
            .iter()
            .map(|(known, _)| (*known, strsim::damerau_levenshtein(name, known)))
            .filter(|(_, distance)| *distance <= 2)
            .min_by_key(|(_, distance)| *distance)
            .map(|(known, _)| known);
        TemplateError::Unknown { name: name.chars().take(40).collect(), nearest }
    })
}
