//! `schema` and `scaffold`: what can be written in a config file.

use opyard_server::Project;
use opyard_server::model::definitions;
use opyard_server::model::plan::{ConfigurableStep, Launch, config_schema};
use serde_json::{Map, Value, json};

use crate::args::{self, File, Global};
use crate::error::{CliError, Outcome};
use crate::exit::Exit;
use crate::place::Place;
use crate::render::text::one_line;
use crate::screen::Screen;

/// Longest comment of a key.
const MAX_COMMENT: usize = 200;

pub(crate) async fn schema(global: &Global, args: &args::Schema, screen: &Screen) -> Outcome {
    let schema = match &args.job {
        None if args.op_test => definitions::op_test::schema(),
        None => definitions::schema(),
        Some(job) => config_schema(job, &steps(global, &args.file, args.env.as_deref(), job).await?),
    };
    screen.print_json(&schema)?;
    Ok(Exit::Success)
}

pub(crate) async fn scaffold(global: &Global, args: &args::Scaffold, screen: &Screen) -> Outcome {
    let steps = steps(global, &args.file, args.env.as_deref(), &args.job).await?;
    if screen.json() {
        let all: Map<_, _> = steps.iter().map(|step| (step.path.to_string(), step.config.to_value())).collect();
        screen.print_json(&json!(all))?;
    } else {
        screen.print(&template(&args.job, &steps))?;
    }
    Ok(Exit::Success)
}

async fn steps(
    global: &Global,
    file: &File,
    environment: Option<&str>,
    job: &str,
) -> Result<Vec<ConfigurableStep>, CliError> {
    let place = Place::of_definitions(global, file);
    place.check_file()?;
    let yard = place.open()?;
    let project = Project::load_for(&yard, &place.file, job).await?;
    Ok(project.configurable(&yard, &Launch { job, environment, settings: &[] }).await?)
}

/// A config file that says what holds now; what only has its default is a comment. Texts of schemas are guest-controlled:
/// each is one line of harmless text.
fn template(job: &str, steps: &[ConfigurableStep]) -> String {
    let mut out = format!("# Config of the job {job}, for `opyard run {job} --config FILE`.\n");
    if steps.is_empty() {
        out.push_str("# None of its steps takes a config.\n{}\n");
        return out;
    }
    let mut is_empty = true;
    for step in steps {
        let keys = keys(step);
        // A step whose keys are all comments is one itself: nothing is laid over it.
        let is_comment = keys.iter().all(|key| key.is_default);
        is_empty &= is_comment;
        let mark = if is_comment { "# " } else { "" };
        out.push_str(&format!("\n# {}.{}\n{mark}{}:\n", step.component, step.op, quoted(step.path.as_str())));
        for Key { name, about, value, is_default } in keys {
            if !about.is_empty() {
                out.push_str(&format!("{mark}  # {about}\n"));
            }
            let hidden = if is_default && !is_comment { "# " } else { "" };
            out.push_str(&format!("{mark}  {hidden}{}: {value}\n", quoted(&name)));
        }
    }
    if is_empty {
        // A file of comments alone would not be a map.
        out.push_str("\n{}\n");
    }
    out
}

/// A key of a config, as the template shows it.
struct Key {
    name: String,
    about: String,
    /// As JSON, which YAML reads; empty when it has to be filled in.
    value: String,
    is_default: bool,
}

fn keys(step: &ConfigurableStep) -> Vec<Key> {
    let (schema, config) = (step.schema.to_value(), step.config.to_value());
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().cloned().unwrap_or_default();
    let listed = properties.iter().map(|(name, property)| {
        let target = property["$ref"].as_str().and_then(|target| target.strip_prefix('#'));
        let target = target.and_then(|pointer| schema.pointer(pointer)).unwrap_or(&Value::Null);
        let said = |key: &str| property.get(key).or_else(|| target.get(key));
        let default = said("default");
        let value = config.get(name);
        let mut marks = Vec::new();
        marks.extend(said("type").map(|kind| kind.as_str().map_or_else(|| kind.to_string(), str::to_owned)));
        marks.extend(required.contains(&name.as_str()).then(|| "required".to_owned()));
        marks.extend(default.map(|default| format!("default {default}")));
        let description = said("description").and_then(Value::as_str).unwrap_or_default();
        let marks = if marks.is_empty() { String::new() } else { format!("({})", marks.join(", ")) };
        Key {
            name: name.clone(),
            about: one_line(format!("{description} {marks}").trim(), MAX_COMMENT),
            value: value.or(default).map(Value::to_string).unwrap_or_default(),
            is_default: value.is_none() && !required.contains(&name.as_str()) || value.is_some() && value == default,
        }
    });
    // What the definitions say, and the schema does not list.
    let others = config.as_object().into_iter().flatten().filter(|(name, _)| !properties.contains_key(*name));
    let others = others.map(|(name, value)| Key {
        name: name.clone(),
        about: String::new(),
        value: value.to_string(),
        is_default: false,
    });
    listed.chain(others).collect()
}

/// A key of YAML.
fn quoted(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && !matches!(name, "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if is_plain { name.to_owned() } else { Value::from(name).to_string() }
}
