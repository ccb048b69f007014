//! Texts of hooks: `{{ step }} failed: {{ description }}`. Variables are a closed set, so that a slip is told before
//! anything runs; there are no conditions, no loops and no escapes.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use thiserror::Error;

use super::Occasion;
use crate::json::CanonicalJson;

/// Longest template, in bytes: of one text, or of a whole body.
pub const MAX_TEMPLATE: usize = 16 << 10;
/// Most variables in one text.
pub const MAX_VARIABLES: usize = 64;
/// Longest value of a variable, in bytes; a longer one is cut.
const MAX_VALUE: usize = 4 << 10;

/// What a template can say of an occasion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// The job.
    Job,
    /// The run.
    Run,
    /// The environment; empty when none was chosen.
    Environment,
    /// The step key.
    Step,
    /// `component.op`.
    Op,
    /// `success`, `failure` or `retry`.
    Outcome,
    /// The try, from 0.
    Attempt,
    /// The code of the failure; empty for a success.
    Code,
    /// The description of the failure; empty for a success.
    Description,
}

impl Variable {
    /// Every variable, and its name in templates.
    pub const ALL: [(&'static str, Self); 9] = [
        ("job", Self::Job),
        ("run", Self::Run),
        ("environment", Self::Environment),
        ("step", Self::Step),
        ("op", Self::Op),
        ("outcome", Self::Outcome),
        ("attempt", Self::Attempt),
        ("code", Self::Code),
        ("description", Self::Description),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    fn of(self, occasion: &Occasion) -> String {
        let failure = occasion.failure.as_ref();
        match self {
            Self::Job => occasion.job.to_string(),
            Self::Run => occasion.run.to_string(),
            Self::Environment => occasion.environment.as_ref().map(ToString::to_string).unwrap_or_default(),
            Self::Step => occasion.of.step.to_string(),
            Self::Op => occasion.op.clone(),
            Self::Outcome => occasion.outcome.name().to_owned(),
            Self::Attempt => occasion.of.attempt.to_string(),
            Self::Code => failure.map(|failure| failure.code.to_string()).unwrap_or_default(),
            Self::Description => failure.map(|failure| failure.description.clone()).unwrap_or_default(),
        }
    }
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// `{{` without `}}`.
    #[error("`{{{{` is not closed by `}}}}`")]
    Unclosed,
    /// No such variable.
    #[error("there is no variable `{0}`")]
    Unknown(String),
    /// Too long.
    #[error("it has more than {MAX_TEMPLATE} bytes")]
    TooLong,
    /// Too many variables.
    #[error("it has more than {MAX_VARIABLES} variables")]
    TooMany,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(Variable),
}

/// A text with variables in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When it is too long, or names what is not there.
    pub fn new(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_TEMPLATE {
            return Err(TemplateError::TooLong);
        }
        let (mut pieces, mut rest, mut variables) = (Vec::new(), text, 0);
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or(TemplateError::Unclosed)?;
            let name = name.trim();
            let variable = Variable::ALL.iter().find(|(known, _)| *known == name).map(|(_, variable)| *variable);
            let variable = variable.ok_or_else(|| TemplateError::Unknown(name.chars().take(80).collect()))?;
            variables += 1;
            if variables > MAX_VARIABLES {
                return Err(TemplateError::TooMany);
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Variable(variable));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self(pieces))
    }

    /// The text for one occasion. What a value holds is not read as a template again.
    #[must_use]
    pub fn render(&self, occasion: &Occasion) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Variable(variable) => {
                    let value = variable.of(occasion);
                    // Descriptions are guest-controlled.
                    out.push_str(&value[..value.floor_char_boundary(MAX_VALUE)]);
                }
            }
        }
        out
    }

    fn source(&self) -> String {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Variable(variable) => format!("{{{{ {} }}}}", variable.name()),
            })
            .collect()
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source())
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// JSON whose texts (not its keys) are templates. Values become parts of JSON texts, so nothing in them can end one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "CanonicalJson", into = "CanonicalJson")]
pub struct BodyTemplate(CanonicalJson);

impl BodyTemplate {
    /// Takes JSON of at most [`MAX_TEMPLATE`] bytes, with at most [`MAX_VARIABLES`] variables in all.
    ///
    /// # Errors
    /// When it is too long, or a text of it names what is not there.
    pub fn new(json: CanonicalJson) -> Result<Self, TemplateError> {
        if json.as_str().len() > MAX_TEMPLATE {
            return Err(TemplateError::TooLong);
        }
        let mut variables = 0;
        check(&json.to_value(), &mut variables)?;
        if variables > MAX_VARIABLES { Err(TemplateError::TooMany) } else { Ok(Self(json)) }
    }

    /// The JSON for one occasion.
    #[must_use]
    pub fn render(&self, occasion: &Occasion) -> Value {
        let mut value = self.0.to_value();
        fill(&mut value, occasion);
        value
    }
}

impl TryFrom<CanonicalJson> for BodyTemplate {
    type Error = TemplateError;

    fn try_from(json: CanonicalJson) -> Result<Self, TemplateError> {
        Self::new(json)
    }
}

impl From<BodyTemplate> for CanonicalJson {
    fn from(template: BodyTemplate) -> Self {
        template.0
    }
}

/// JSON is nested at most 64 deep, so this is, too.
fn check(value: &Value, variables: &mut usize) -> Result<(), TemplateError> {
    match value {
        Value::String(text) => {
            let template = Template::new(text)?;
            *variables += template.0.iter().filter(|piece| matches!(piece, Piece::Variable(_))).count();
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| check(item, variables)),
        Value::Object(fields) => fields.values().try_for_each(|item| check(item, variables)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn fill(value: &mut Value, occasion: &Occasion) {
    match value {
        Value::String(text) => {
            if let Ok(template) = Template::new(text) {
                *text = template.render(occasion);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, occasion)),
        Value::Object(fields) => fields.values_mut().for_each(|item| fill(item, occasion)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Digest;
    use crate::error::{Code, Failure};
    use crate::event::Attempt;
    use crate::hook::{Outcome, WebhookBody};
    use crate::id::{Name, RunId};

    fn occasion(description: &str) -> Occasion {
        Occasion {
            job: Name::new("train").unwrap(),
            run: RunId::from_parts(1, 2),
            environment: None,
            of: Attempt { step: "eval.fit[k]".parse().unwrap(), generation: 0, attempt: 3 },
            op: "penguins.fit".into(),
            outcome: Outcome::Retry,
            failure: Some(Failure::new(Code::Trapped, description)),
            idempotency_key: Digest::of(b"key"),
        }
    }

    #[test]
    fn a_template_says_what_its_variables_are() {
        let template =
            Template::new("{{step}} ({{ op }}), {{ outcome }} {{attempt}}: {{code}} {{ description }}}}").unwrap();
        let text = template.render(&occasion("{{ job }} \"\n"));
        assert_eq!(text, "eval.fit[k] (penguins.fit), retry 3: OPY-102 {{ job }} \"\n}}");
        assert_eq!(Template::new("a {{ step"), Err(TemplateError::Unclosed));
        assert_eq!(Template::new("{{ stepp }}"), Err(TemplateError::Unknown("stepp".into())));
        assert_eq!(Template::new(&"{{step}}".repeat(65)), Err(TemplateError::TooMany));
        assert_eq!(Template::new(&"x".repeat(MAX_TEMPLATE + 1)), Err(TemplateError::TooLong));
        assert!(template.render(&occasion(&"ä".repeat(100_000))).len() < 5_000);
    }

    proptest! {
        /// Whatever a guest wrote, it is one text in the JSON that is sent, and the template reads back as it was written.
        #[test]
        fn values_stay_inside_their_text(description in ".{0,200}", before in "[^{]{0,20}", after in "[^{]{0,20}") {
            let text = format!("{before}{{{{ description }}}}{after}");
            let body = CanonicalJson::new(&serde_json::json!({ "a": [text], "{{b}}": 1 })).unwrap();
            let body = WebhookBody::Json(BodyTemplate::new(body).unwrap());
            let stored: WebhookBody = serde_json::from_str(&serde_json::to_string(&body).unwrap()).unwrap();
            prop_assert_eq!(&stored, &body);
            let sent = occasion(&description).body(&stored).to_string();
            let read: Value = serde_json::from_str(&sent).unwrap();
            prop_assert_eq!(read, serde_json::json!({ "a": [format!("{before}{description}{after}")], "{{b}}": 1 }));
            let template = Template::new(&text).unwrap();
            prop_assert_eq!(Template::new(&template.source()).unwrap(), template);
        }
    }
}
