//! Configs that come with a run: `--set step.key=value` and `--config FILE`.

use super::reading::Reading;
use super::tree::{self, Key, Node, Value};
use crate::diagnostic::{Diagnostic, Diagnostics, Place, Source};
use crate::error::Code;
use crate::id::StepPath;
use crate::plan::RecordedSetting;

/// A piece of config for one step, laid over what the definitions say: maps are merged key by key, whatever else is
/// replaced.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The step, by its path in the job.
    pub(crate) step: StepPath,
    /// Where the step is named.
    pub(crate) place: Place,
    pub(crate) config: Node,
}

impl Setting {
    /// Reads `step.key=value`; inside a nested graph `outer.step:key=value`. Deeper keys are joined by dots. A value that is
    /// JSON is taken as such, any other as text.
    ///
    /// # Errors
    /// When it is not of that form.
    pub fn parse(text: &str) -> Result<Self, Diagnostics> {
        let source = Source::new("--set", text);
        let wrong = |problem: &str| {
            Diagnostics::from(
                Diagnostic::error(Code::BadSetting, "this is not a setting")
                    .at(&source.whole(), problem)
                    .help("write `--set step.key=value`; inside a graph `--set outer.step:key=value`"),
            )
        };
        if text.len() > crate::diagnostic::MAX_SOURCE {
            return Err(wrong("too long"));
        }
        let Some(equals) = text.find('=') else { return Err(wrong("there is no `=`")) };
        let left = &text[..equals];
        let Some(split) = left.find(':').or_else(|| left.find('.')) else {
            return Err(wrong("there is no `.` between step and key"));
        };
        let Ok(step) = StepPath::new(&left[..split]) else { return Err(wrong("what comes first is not a step")) };
        let keys = &left[split + 1..];
        if keys.split('.').any(str::is_empty) || keys.split('.').count() > tree::MAX_DEPTH {
            return Err(wrong("what comes before the `=` does not end in a key"));
        }
        let value_place = source.place(equals + 1..text.len());
        let value = match crate::json::parse(&text[equals + 1..]) {
            Ok(json) => from_json(json, &value_place),
            Err(crate::json::JsonError::TooDeep) => return Err(wrong("the value is nested too deep")),
            Err(_) => Node { value: Value::Text(text[equals + 1..].to_owned()), place: value_place },
        };
        let mut config = value;
        let mut end = equals;
        for key in keys.rsplit('.') {
            let place = source.place(end - key.len()..end);
            end -= key.len() + 1;
            let entry = (Key { text: key.to_owned(), place: place.clone() }, config);
            config = Node { value: Value::Map(vec![entry]), place };
        }
        Ok(Self { step, place: source.place(0..split), config })
    }

    /// What is recorded of it with a run; none when its config cannot be said in JSON, which planning refuses.
    pub(crate) fn recorded(&self) -> Option<RecordedSetting> {
        let config = crate::plan::config::to_json(&self.config).ok()?;
        Some(RecordedSetting { step: self.step.clone(), config })
    }

    /// The setting of an earlier run.
    #[must_use]
    pub fn of_run(recorded: &RecordedSetting) -> Self {
        let text = format!("{}: {}", recorded.step, recorded.config.as_str());
        let source = Source::new("settings of the earlier run", &text);
        let split = recorded.step.as_str().len();
        let config = from_json(recorded.config.to_value(), &source.place(split + 2..text.len()));
        Self { step: recorded.step.clone(), place: source.place(0..split), config }
    }

    /// Reads a config file: YAML (or JSON) that maps steps, by their path, to configs.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn from_file(source: &Source) -> Result<Vec<Self>, Diagnostics> {
        let root = tree::read(source)?;
        let mut reading = Reading::new(std::path::Path::new("/"));
        let mut settings = Vec::new();
        for (key, node) in reading.entries(&root, "a config file").unwrap_or_default() {
            let Ok(step) = StepPath::new(&key.text) else {
                reading.push(Diagnostic::error(Code::BadSetting, "this does not name a step").at(&key.place, ""));
                continue;
            };
            if !matches!(node.value, Value::Map(_)) {
                reading.shape::<()>(node, "the config of a step", "a map");
            } else {
                reading.unique_keys(node);
                settings.push(Self { step, place: key.place.clone(), config: node.clone() });
            }
        }
        reading.found.or(Some(settings)).map(|(settings, _)| settings)
    }
}

fn from_json(json: serde_json::Value, place: &Place) -> Node {
    use serde_json::Value as Json;
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => match number.as_i64().map(i128::from).or(number.as_u64().map(i128::from)) {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text),
        Json::Array(items) => Value::List(items.into_iter().map(|item| from_json(item, place)).collect()),
        Json::Object(map) => Value::Map(
            map.into_iter()
                .map(|(key, item)| (Key { text: key, place: place.clone() }, from_json(item, place)))
                .collect(),
        ),
    };
    Node { value, place: place.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_step_and_key() {
        for (text, step, config) in [
            ("split.seed=8", "split", r#"{"seed":8}"#),
            ("eval.score:threshold=1", "eval.score", r#"{"threshold":1}"#),
            ("load.object=a=b.csv", "load", r#"{"object":"a=b.csv"}"#),
            ("fit.tree.depth=[1, {\"a\": null}]", "fit", r#"{"tree":{"depth":[1,{"a":null}]}}"#),
            ("a.b=", "a", r#"{"b":""}"#),
        ] {
            let setting = Setting::parse(text).unwrap();
            assert_eq!(setting.step.as_str(), step);
            assert_eq!(crate::plan::config::to_json(&setting.config).unwrap().as_str(), config);
        }
        for wrong in ["", "a", "a=1", ".b=1", "a.=1", "a..b=1", "a:=1", "1.b=1"] {
            assert!(Setting::parse(wrong).is_err(), "{wrong}");
        }
    }
}
