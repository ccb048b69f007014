//! A component file in plain words.

use opyard_server::model::component::{
    ExtensionDefinition, InputDefinition, Interface, OpDefinition, OutputDefinition, ResourceRequirement,
};
use opyard_server::model::json::CanonicalJson;
use opyard_server::{Inspected, InspectedOp};

use crate::render::style::{DIM, GOOD, TITLE, WARN, paint};
use crate::render::table::{Cell, Table};
use crate::render::{quantity, text};

/// Most imports and exports that are listed.
const MAX_LISTED: usize = 100;

/// What there is to say of a component.
pub(crate) fn component(name: &str, inspected: &Inspected) -> String {
    let component = &inspected.component;
    let mut parts = vec![format!(
        "{}\n  {} {}\n  {} {}",
        paint(TITLE, text::one_line(name, 200)),
        paint(DIM, "digest"),
        component.digest,
        paint(DIM, "size  "),
        quantity::size(component.size)
    )];
    parts.push(reach(&component.imports));
    parts.extend(inspected.ops.iter().map(op));
    parts.extend(component.type_checkers.iter().map(|one| extension("type checker", "parameters", one)));
    parts.extend(component.io_managers.iter().map(|one| extension("IO manager", "config", one)));
    parts.extend(component.hooks.iter().map(|one| extension("hook", "config", one)));
    parts.join("\n\n")
}

/// The imports: all that the component could ever reach, whatever it is granted.
fn reach(imports: &[String]) -> String {
    let mut table = Table::new(["imports", "which is"]);
    for import in imports.iter().take(MAX_LISTED) {
        let (what, harmless) = meaning(import);
        table.row([text::one_line(import, 60).into(), Cell::styled(what, if harmless { DIM } else { WARN })]);
    }
    let more = imports.len().saturating_sub(MAX_LISTED);
    let more = if more > 0 { format!("\n  … and {more} more") } else { String::new() };
    let title = paint(TITLE, "could ever reach");
    if imports.is_empty() {
        return format!("{title}\n  nothing: it has no imports");
    }
    format!("{title}\n{}{more}", table.render("  "))
}

/// What an import is good for, and whether it is there for every op without a grant.
fn meaning(import: &str) -> (&'static str, bool) {
    if let Some(interface) = Interface::from_import(import) {
        let what = match interface {
            Interface::ObjectStore => "objects in stores that an op is granted",
            Interface::KeyValue => "keys in key-value stores that an op is granted",
            Interface::HttpClient => "HTTP requests to hosts that an op is granted",
            Interface::ModelRegistry => "models in registries that an op is granted",
            Interface::Secrets => "secrets whose bytes an op is granted to see",
        };
        return (what, false);
    }
    let bare = import.split_once('@').map_or(import, |(bare, _)| bare);
    let (package, interface) = bare.split_once('/').unwrap_or((bare, ""));
    match (package, interface) {
        (_, "execution") if package.starts_with("opyard:") => {
            ("which run and step it is in, for ops that ask for it", false)
        }
        (_, "io") if package.starts_with("opyard:") => ("its own inputs and outputs", true),
        (_, "events") if package.starts_with("opyard:") => ("logging, metrics, progress", true),
        (_, "context") if package.starts_with("opyard:") => ("its own config and limits", true),
        _ if package.starts_with("opyard:") => ("the contract's plain types and values", true),
        ("wasi:clocks", _) => ("a clock: virtual for hermetic ops", true),
        ("wasi:random", _) => ("randomness: seeded for hermetic ops", true),
        ("wasi:filesystem", _) => ("a file system with no files in it", true),
        ("wasi:sockets", _) => ("sockets: every use is refused", true),
        ("wasi:cli", _) => ("an empty environment, no arguments, output into the log", true),
        ("wasi:io", _) => ("streams and waiting, of the other interfaces", true),
        _ => ("unknown here: calling it is a trap", false),
    }
}

fn op(inspected: &InspectedOp) -> String {
    let op = &inspected.op;
    let verdict = if inspected.hermetic {
        paint(GOOD, "hermetic: its outputs depend on inputs and config alone, so they are memoised")
    } else {
        let why: Vec<_> = inspected.leaks.iter().map(ToString::to_string).collect();
        paint(WARN, format_args!("not hermetic: it {}; memoised only if the step says so", why.join(", and ")))
    };
    let mut lines = vec![format!("{} {}", paint(DIM, "op"), paint(TITLE, &op.name))];
    lines.extend(op.description.as_deref().map(|words| text::block(words, "  ")));
    lines.push(format!("  {verdict}"));
    lines.extend(ports(op));
    lines.extend(resources(&op.resources));
    if let Some(policy) = &op.retry_policy {
        let delay = quantity::time(policy.delay);
        lines.push(format!(
            "  {} up to {} times, first after {delay}",
            paint(DIM, "advises to retry"),
            policy.max_retries
        ));
    }
    lines.push(config("config", op.config_schema.as_ref()));
    lines.join("\n")
}

/// What a component ships beside ops.
fn extension(what: &str, params: &str, shipped: &ExtensionDefinition) -> String {
    let mut lines = vec![format!("{} {}", paint(DIM, what), paint(TITLE, &shipped.name))];
    lines.extend(shipped.description.as_deref().map(|words| text::block(words, "  ")));
    lines.extend(resources(&shipped.resources));
    lines.push(config(params, shipped.config_schema.as_ref()));
    lines.join("\n")
}

fn config(what: &str, schema: Option<&CanonicalJson>) -> String {
    match schema {
        Some(schema) => {
            let schema = text::block(&format!("{:#}", schema.to_value()), "    ");
            format!("  {}\n{schema}", paint(DIM, format_args!("{what} schema")))
        }
        None => format!("  {} none", paint(DIM, what)),
    }
}

fn ports(op: &OpDefinition) -> Vec<String> {
    let mut table = Table::new(["port", "name", "type", "media type", "", "description"]);
    for port in &op.inputs {
        let InputDefinition { name, description, type_name, media_types, optional, many, default_value } = port;
        let media: Vec<_> = media_types.iter().map(ToString::to_string).collect();
        let marks = [(*optional, "optional"), (*many, "many"), (default_value.is_some(), "has a default")];
        table.row(row("in", [name.as_str(), type_name.as_str(), &media.join(", ")], &marks, description.as_deref()));
    }
    for port in &op.outputs {
        let OutputDefinition { name, description, type_name, media_type, optional, dynamic } = port;
        let marks = [(*optional, "optional"), (*dynamic, "dynamic")];
        table.row(row("out", [name.as_str(), type_name.as_str(), media_type.as_str()], &marks, description.as_deref()));
    }
    if table.is_empty() { Vec::new() } else { vec![table.render("  ")] }
}

fn row(port: &str, texts: [&str; 3], marks: &[(bool, &str)], description: Option<&str>) -> Vec<Cell> {
    let marks: Vec<_> = marks.iter().filter(|(set, _)| *set).map(|(_, mark)| *mark).collect();
    let [name, type_name, media] = texts;
    vec![
        Cell::styled(port, DIM),
        name.into(),
        type_name.into(),
        text::clip(media, 40).into(),
        marks.join(", ").into(),
        Cell::styled(text::one_line(description.unwrap_or_default(), 80), DIM),
    ]
}

fn resources(asked: &[ResourceRequirement]) -> Vec<String> {
    let drawn = asked.iter().map(|resource| {
        let optional = if resource.optional { " (can do without)" } else { "" };
        format!("  {} `{}` through {}{optional}", paint(DIM, "resource"), resource.key, resource.through.import())
    });
    drawn.collect()
}

#[cfg(test)]
mod tests {
    use opyard_server::model::component::ComponentDescription;
    use opyard_server::model::digest::ComponentDigest;
    use opyard_server::model::id::MediaType;
    use opyard_server::model::json::CanonicalJson;

    use super::*;
    use crate::render::plain;
    use crate::report::sample::name;

    #[test]
    fn a_component_is_said_in_plain_words() {
        let port = InputDefinition {
            name: name("rows"),
            description: Some("Rows of\npenguins.".into()),
            type_name: name("table"),
            media_types: vec![MediaType::new("text/csv").unwrap()],
            optional: true,
            many: false,
            default_value: None,
        };
        let output = OutputDefinition {
            name: name("model"),
            description: None,
            type_name: name("bytes"),
            media_type: MediaType::new("application/octet-stream").unwrap(),
            optional: false,
            dynamic: true,
        };
        let op = OpDefinition {
            name: name("fit"),
            description: Some("Fits a classifier.\n\nMore about it\u{1b}[2J.".into()),
            inputs: vec![port],
            outputs: vec![output],
            resources: vec![ResourceRequirement { key: name("raw"), through: Interface::ObjectStore, optional: true }],
            uses_execution: false,
            config_schema: Some(
                CanonicalJson::parse(r#"{"type":"object","properties":{"seed":{"type":"integer"}}}"#).unwrap(),
            ),
            tags: vec![],
            retry_policy: None,
            deterministic: false,
        };
        let hermetic = OpDefinition {
            name: name("pure"),
            resources: vec![],
            deterministic: true,
            config_schema: None,
            inputs: vec![],
            ..op.clone()
        };
        let checker = ExtensionDefinition {
            name: name("table"),
            description: Some("Checks columns and rows.".into()),
            resources: vec![],
            config_schema: Some(CanonicalJson::parse(r#"{"type":"object"}"#).unwrap()),
        };
        let component = ComponentDescription {
            digest: ComponentDigest::from_bytes([0xab; 32]),
            size: 123_456,
            imports: [
                "opyard:op/io@0.1.0",
                "opyard:resources/object-store@0.1.0",
                "wasi:clocks/wall-clock@0.2.0",
                "acme:x/y@1.0.0",
            ]
            .map(Into::into)
            .into(),
            exports: vec![],
            ops: vec![op.clone(), hermetic.clone()],
            type_checkers: vec![checker.clone()],
            io_managers: Vec::new(),
            origin: None,
            hooks: vec![ExtensionDefinition {
                name: name("post"),
                resources: vec![ResourceRequirement {
                    key: name("hub"),
                    through: Interface::HttpClient,
                    optional: false,
                }],
                ..checker
            }],
        };
        let ops = [op, hermetic].map(|op| InspectedOp { hermetic: op.is_hermetic(), leaks: op.leaks(), op });
        insta::assert_snapshot!(plain(&super::component("fit.wasm", &Inspected { component, ops: ops.into() })));
    }
}
