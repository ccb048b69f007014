//! Reading a test file: the file, its cases, values, and what stands in for resources.

use std::path::PathBuf;

use super::super::location::resolve_path;
use super::super::reading::{Fields, Keys, Reading, short};
use super::super::tree::{Key, Node, Value};
use super::super::{Located, Named, Table};
use super::{
    Content, Expected, Fake, FakeAnswer, FakeModel, FakeResource, Fixture, FixtureInput, MAX_CASES, OpCase, OpTestFile,
};
use crate::diagnostic::{Diagnostic, Source};
use crate::error::Code;
use crate::id::{MediaType, Name};
use crate::json::CanonicalJson;
use crate::location::Location;
use crate::plan::{Access, KeyValueDriver, ModelRegistryDriver, ResourceSpec, config};
use crate::secret::SecretSpec;

/// The version of the file's form.
const VERSION: i128 = 1;

const FILE: Keys = Keys {
    what: "a test file",
    known: &["opyard_test", "component", "components", "types", "op", "cases", "description"],
    later: &[],
};
const CASE: Keys = Keys {
    what: "a case",
    known: &["description", "op", "config", "inputs", "resources", "limits", "expect"],
    later: &["mapping_key", "tags"],
};
const CONTENT: Keys =
    Keys { what: "a value", known: &["file", "text", "value", "hex", "media_type"], later: &["artifact"] };
const OBJECTS: Keys = Keys {
    what: "an object store of a test",
    known: &["kind", "access", "objects", "description"],
    later: &["url", "credentials"],
};
const VALUES: Keys = Keys {
    what: "a key-value of a test",
    known: &["kind", "access", "values", "description"],
    later: &["driver", "bucket", "url"],
};
const MODELS: Keys = Keys {
    what: "a model registry of a test",
    known: &["kind", "access", "models", "description"],
    later: &["driver", "url"],
};
const MODEL: Keys =
    Keys { what: "a version of a model", known: &["model", "files", "metadata", "aliases"], later: &[] };
const ANSWER: Keys =
    Keys { what: "an answer", known: &["method", "url", "status", "headers", "body"], later: &["delay", "fail"] };
const SECRET: Keys = Keys {
    what: "a secret of a test",
    known: &["kind", "file", "text", "value", "hex", "description"],
    later: &["env"],
};
const KINDS: [&str; 5] = ["object_store", "key_value", "model_registry", "http_client", "secret"];

impl Reading<'_> {
    pub(super) fn test_file(&mut self, source: &Source, root: &Node) -> Option<OpTestFile> {
        if !matches!(root.value, Value::Map(_)) {
            let place = if root.value == Value::Null { source.place(0..0) } else { root.place.clone() };
            self.push(
                Diagnostic::error(Code::WrongShape, "a test file is a map")
                    .at(&place, "")
                    .help("start with `opyard_test: 1`, then `component:`, `op:` and `cases:`"),
            );
            return None;
        }
        let fields = self.fields(root, &FILE)?;
        let help = "start the file with `opyard_test: 1`, the version of its form";
        if let Some(node) = fields.require(self, "opyard_test", help)
            && node.value != Value::Int(VERSION)
        {
            self.push(
                Diagnostic::error(Code::NotSupported, "this version reads only test files of version 1")
                    .at(&node.place, "expected 1"),
            );
        }
        let mut components = self.table(fields.get("components"), "`components`", |r, _, node| r.component_file(node));
        let component = self.tested(&fields, &mut components);
        let types = self.table(fields.get("types"), "`types`", Self::port_type);
        let op = fields.get("op").and_then(|node| self.op_name(node));
        let node = fields.require(self, "cases", "a test file has at least one case: `cases: { name: { … } }`")?;
        let cases = self.table(Some(node), "`cases`", |r, key, node| r.case(key, node, op.as_ref()));
        let count = cases.names().count();
        if count == 0 || count > MAX_CASES {
            self.push(
                Diagnostic::error(Code::WrongShape, format!("a test file has 1 to {MAX_CASES} cases"))
                    .at(&node.place, format!("{count} cases")),
            );
        }
        Some(OpTestFile { source: source.clone(), component: component?, components, types, cases })
    }

    /// The component under test, under a name of its own: that of its file, where it can be one.
    fn tested(&mut self, fields: &Fields<'_>, components: &mut Table<PathBuf>) -> Option<Name> {
        let node = fields.require(self, "component", "name the file: `component: target/ops.wasm`")?;
        let path = self.text(node, "`component`")?;
        if path.is_empty() || path.contains('\0') {
            self.push(Diagnostic::error(Code::BadUrl, "this is not a path").at(&node.place, ""));
            return None;
        }
        let path = resolve_path(self.folder, path);
        let stem = path.file_stem().and_then(|stem| Name::new(&stem.to_string_lossy()).ok());
        let name = stem.filter(|name| !components.knows(name.as_str()));
        let name = name.unwrap_or_else(|| Name::new("tested_component").expect("a name"));
        components.insert(Named { name: name.clone(), place: node.place.clone(), value: path });
        Some(name)
    }

    fn op_name(&mut self, node: &Node) -> Option<Located<String>> {
        let name = self.name_at(node, "`op`")?;
        Some(Located { value: name.to_string(), place: node.place.clone() })
    }

    fn case(&mut self, key: &Key, node: &Node, op: Option<&Located<String>>) -> Option<OpCase> {
        let fields = self.fields(node, &CASE)?;
        let op = match fields.get("op") {
            Some(node) => self.op_name(node),
            None if op.is_some() => op.cloned(),
            None => {
                self.push(
                    Diagnostic::error(Code::MissingKey, "it is not said which op is tested")
                        .at(&key.place, "here")
                        .help("add `op: name` to the case, or to the file for all of them"),
                );
                None
            }
        };
        let config = fields.get("config").filter(|node| self.config(node)).cloned();
        let mut inputs = Vec::new();
        for (key, item) in fields.get("inputs").and_then(|node| self.entries(node, "`inputs`")).unwrap_or_default() {
            self.name(&key.text, &key.place);
            let port = Located { value: key.text.clone(), place: key.place.clone() };
            let (values, many) = match &item.value {
                Value::List(items) => (items.iter().filter_map(|item| self.fixture(item)).collect(), true),
                _ => (self.fixture(item).into_iter().collect(), false),
            };
            inputs.push(FixtureInput { port, values, many, place: item.place.clone() });
        }
        let resources = self.fakes(fields.get("resources"));
        let limits = self.limits(fields.get("limits"));
        let expected = fields.get("expect").map_or(Some(Expected::Success), |node| self.expected(node));
        Some(OpCase { op: op?, config, inputs, resources, limits, expected: expected? })
    }

    fn expected(&mut self, node: &Node) -> Option<Expected> {
        let text = self.text(node, "`expect`")?;
        match text {
            "success" => return Some(Expected::Success),
            "retry" => return Some(Expected::Retry),
            _ => {}
        }
        let code = text.parse::<Code>().ok();
        if code.is_none() {
            self.push(
                Diagnostic::error(Code::WrongShape, format!("`{}` is not how an op ends", short(text)))
                    .at(&node.place, "expected `success`, `retry` or the code of a failure, as in `OPY-101`"),
            );
        }
        code.map(Expected::Failure)
    }

    /// `{ file: … }`, `{ text: … }`, `{ value: … }` or `{ hex: … }`.
    fn fixture(&mut self, node: &Node) -> Option<Fixture> {
        let fields = self.fields(node, &CONTENT)?;
        let media_type = match fields.get("media_type") {
            Some(node) => {
                let text = self.text(node, "`media_type`")?;
                match MediaType::new(text) {
                    Ok(value) => Some(Located { value, place: node.place.clone() }),
                    Err(error) => {
                        let problem = format!("`{}` is not a media type", short(text));
                        self.push(Diagnostic::error(Code::BadName, problem).at(&node.place, error.to_string()));
                        None
                    }
                }
            }
            None => None,
        };
        let content = self.content_of(node, &fields)?;
        let value = fields.get("value").cloned();
        Some(Fixture { place: node.place.clone(), content, media_type, value })
    }

    /// The same; or a text, for short.
    fn content(&mut self, node: &Node) -> Option<Content> {
        if let Value::Text(text) = &node.value {
            return Some(Content::Bytes(text.clone().into_bytes()));
        }
        let fields = self.fields(node, &CONTENT)?;
        self.content_of(node, &fields)
    }

    fn content_of(&mut self, node: &Node, fields: &Fields<'_>) -> Option<Content> {
        let given: Vec<_> =
            ["file", "text", "value", "hex"].into_iter().filter_map(|key| Some((key, fields.get(key)?))).collect();
        let [(key, item)] = given.as_slice() else {
            self.push(
                Diagnostic::error(Code::WrongShape, "a value is given in one way")
                    .at(&node.place, "expected one of `file`, `text`, `value` and `hex`"),
            );
            return None;
        };
        match *key {
            "value" => {
                self.unique_keys(item);
                match config::to_json(item) {
                    Ok(json) => Some(Content::Bytes(json.as_str().as_bytes().to_vec())),
                    Err(problem) => {
                        self.push(problem.diagnostic("this value"));
                        None
                    }
                }
            }
            "file" => {
                let path = self.text(item, "`file`")?;
                if path.is_empty() || path.contains('\0') {
                    self.push(Diagnostic::error(Code::BadUrl, "this is not a path").at(&item.place, ""));
                    return None;
                }
                Some(Content::File(resolve_path(self.folder, path)))
            }
            "text" => Some(Content::Bytes(self.text(item, "`text`")?.as_bytes().to_vec())),
            _ => {
                let digits = self.text(item, "`hex`")?;
                let bytes = hex(digits);
                if bytes.is_none() {
                    self.push(
                        Diagnostic::error(Code::WrongShape, "these are not bytes")
                            .at(&item.place, "expected hex digits, two a byte"),
                    );
                }
                bytes.map(Content::Bytes)
            }
        }
    }

    fn contents(&mut self, node: Option<&Node>, what: &str) -> Vec<(String, Content)> {
        let entries = node.and_then(|node| self.entries(node, what)).unwrap_or_default();
        entries.into_iter().filter_map(|(key, node)| Some((key.text.clone(), self.content(node)?))).collect()
    }

    fn fakes(&mut self, node: Option<&Node>) -> Vec<(Name, FakeResource)> {
        let entries = node.and_then(|node| self.entries(node, "`resources`")).unwrap_or_default();
        // Secrets first: clients refer to them.
        self.secrets = Table::default();
        for (key, node) in &entries {
            let is_secret = matches!(&node.value, Value::Map(fields) if fields.iter().any(|(key, node)| {
                key.text == "kind" && node.value == Value::Text("secret".to_owned())
            }));
            if let (true, Ok(name)) = (is_secret, Name::new(&key.text)) {
                let value = SecretSpec::Env(key.text.clone());
                self.secrets.insert(Named { name, place: key.place.clone(), value });
            }
        }
        let mut fakes = Vec::new();
        for (key, node) in entries {
            let name = self.name(&key.text, &key.place);
            if let (Some(name), Some((spec, fake))) = (name.clone(), self.fake(name.as_ref(), node)) {
                fakes.push((name, FakeResource { place: key.place.clone(), spec, fake }));
            }
        }
        fakes
    }

    fn fake(&mut self, name: Option<&Name>, node: &Node) -> Option<(Option<ResourceSpec>, Fake)> {
        let kind = self.kind(node, "a resource", &KINDS, &[])?;
        // A place to be: whoever runs the case gives each run its own.
        let url = Location::from(format!("memory:///{}", name?));
        match kind {
            "object_store" => {
                let fields = self.fields(node, &OBJECTS)?;
                let fake = Fake::Objects(self.contents(fields.get("objects"), "`objects`"));
                let access = self.access_of(&fields)?;
                Some((Some(ResourceSpec::ObjectStore { url, access, version: None }), fake))
            }
            "key_value" => {
                let fields = self.fields(node, &VALUES)?;
                let fake = Fake::Values(self.contents(fields.get("values"), "`values`"));
                let (access, driver) = (self.access_of(&fields)?, KeyValueDriver::ObjectStore { url });
                Some((Some(ResourceSpec::KeyValue { driver, access, version: None }), fake))
            }
            "model_registry" => {
                let fields = self.fields(node, &MODELS)?;
                let listed = fields.get("models").and_then(|node| self.list(node, "`models`")).unwrap_or_default();
                let fake = Fake::Models(listed.iter().filter_map(|node| self.model(node)).collect());
                let (access, driver) = (self.access_of(&fields)?, ModelRegistryDriver::ObjectStore { url });
                Some((Some(ResourceSpec::ModelRegistry { driver, access, version: None }), fake))
            }
            "http_client" => {
                // All but `answers` is as in the definitions, and read by the same code.
                let mut rest = node.clone();
                let mut answers = None;
                if let Value::Map(entries) = &mut rest.value {
                    answers = entries.iter().find(|(key, _)| key.text == "answers").map(|(_, node)| node.clone());
                    entries.retain(|(key, _)| key.text != "answers");
                }
                let listed = match &answers {
                    Some(node) => self.list(node, "`answers`").unwrap_or_default(),
                    None => &[],
                };
                let fake = Fake::Answers(listed.iter().filter_map(|node| self.answer(node)).collect());
                let spec = self.http_client(&rest)?;
                Some((Some(ResourceSpec::HttpClient(Box::new(spec))), fake))
            }
            _ => {
                let fields = self.fields(node, &SECRET)?;
                Some((None, Fake::Secret(self.content_of(node, &fields)?)))
            }
        }
    }

    fn access_of(&mut self, fields: &Fields<'_>) -> Option<Access> {
        fields.get("access").map_or(Some(Access::Read), |node| self.access(node))
    }

    fn model(&mut self, node: &Node) -> Option<FakeModel> {
        let fields = self.fields(node, &MODEL)?;
        let model = fields.require(self, "model", "name the model")?;
        let model = self.name_at(model, "`model`");
        let files = self.contents(fields.get("files"), "`files`");
        let metadata = match fields.get("metadata") {
            Some(node) => config::to_json(node).map_err(|problem| self.push(problem.diagnostic("this metadata"))).ok(),
            None => CanonicalJson::parse("{}").ok(),
        };
        let aliases = fields.get("aliases").and_then(|node| self.list(node, "`aliases`")).unwrap_or_default();
        let aliases = aliases.iter().filter_map(|node| self.name_at(node, "an alias")).collect();
        Some(FakeModel { model: model?, files, metadata: metadata?, aliases })
    }

    fn answer(&mut self, node: &Node) -> Option<FakeAnswer> {
        let fields = self.fields(node, &ANSWER)?;
        let url = fields.require(self, "url", "the address that is answered, query and all")?;
        let url = self.text(url, "`url`")?.to_owned();
        let method = match fields.get("method") {
            Some(node) => self.text(node, "`method`")?.to_ascii_uppercase(),
            None => "GET".to_owned(),
        };
        let status = match fields.get("status") {
            Some(node) => {
                let status = self.whole_number(node, "`status`", 599)?;
                let status = u16::try_from(status).ok().filter(|status| *status >= 200);
                if status.is_none() {
                    self.push(
                        Diagnostic::error(Code::BadQuantity, "this is not the status of an answer")
                            .at(&node.place, "expected 200 to 599"),
                    );
                }
                status?
            }
            None => 200,
        };
        let mut headers = Vec::new();
        for (key, node) in fields.get("headers").and_then(|node| self.entries(node, "`headers`")).unwrap_or_default() {
            headers.push((key.text.clone(), self.text(node, "the value of a header")?.to_owned()));
        }
        let body = fields.get("body").map_or(Some(Content::Bytes(Vec::new())), |node| self.content(node))?;
        Some(FakeAnswer { method, url, status, headers, body })
    }
}

/// The bytes of hex digits; blanks and line ends between them are nothing.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<_> = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| u8::try_from(high * 16 + low).ok());
    if rest.is_empty() { bytes.collect() } else { None }
}
