//! The test file of an op: cases, each with a config, inputs, what stands in for its resources, and what is expected.
//!
//! A case becomes [`Definitions`] of one step, whose places are those of the test file: what is wrong with it is found by the
//! checks that a job goes through, and told in the same words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::location::resolve_path;
use super::reading::{Fields, Keys, Reading, short};
use super::tree::{Key, Node, Value, read};
use super::{
    Body, Definitions, Feed, Flow, GivenLimits, GrantEntry, GrantedKey, InputDefinition, IoManagerChoice, Job, Located,
    Named, StepDefinition, Table,
};
use crate::diagnostic::{Diagnostic, Diagnostics, Place, Source};
use crate::digest::Digest;
use crate::error::Code;
use crate::id::{MediaType, Name};
use crate::json::CanonicalJson;
use crate::plan::{Access, FailurePolicy, IoManagerSpec, KeyValueDriver, ModelRegistryDriver, ResourceSpec, config};
use crate::secret::SecretSpec;

/// The version of the file's form.
const VERSION: i128 = 1;
/// Most cases of one file.
pub const MAX_CASES: usize = 1_000;
/// The job that a case becomes.
pub const JOB: &str = "test";

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

/// Bytes that a test gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Those of a file, whose path is absolute.
    File(PathBuf),
    /// Those that are written down: text, JSON, hex digits.
    Bytes(Vec<u8>),
}

/// A value that is given to an input.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// Where it is written.
    pub(crate) place: Place,
    /// Its bytes.
    pub content: Content,
    media_type: Option<Located<MediaType>>,
    /// What was written, when it is JSON.
    value: Option<Node>,
}

impl Fixture {
    /// How its bytes are laid out; none = as the op likes it best.
    #[must_use]
    pub fn media_type(&self) -> Option<&MediaType> {
        self.media_type.as_ref().map(|media| &media.value)
    }
}

/// The values of one input.
#[derive(Debug, Clone)]
pub struct FixtureInput {
    /// The port.
    pub(crate) port: Located<String>,
    /// One value, or with `many` any number.
    pub values: Vec<Fixture>,
    /// They were written as a list.
    pub many: bool,
    place: Place,
}

impl FixtureInput {
    /// The port.
    #[must_use]
    pub fn port(&self) -> &str {
        &self.port.value
    }
}

/// A version of a model that a test gives.
#[derive(Debug, Clone, PartialEq)]
pub struct FakeModel {
    /// The model.
    pub model: Name,
    /// Its files.
    pub files: Vec<(String, Content)>,
    /// What its author says of it.
    pub metadata: CanonicalJson,
    /// Aliases for it.
    pub aliases: Vec<Name>,
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct FakeAnswer {
    /// The method, in upper case.
    pub method: String,
    /// The address.
    pub url: String,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Content,
}

/// What stands in for a resource.
#[derive(Debug, Clone, PartialEq)]
pub enum Fake {
    /// Objects by path.
    Objects(Vec<(String, Content)>),
    /// Small values by name.
    Values(Vec<(String, Content)>),
    /// Versions of models, in order.
    Models(Vec<FakeModel>),
    /// Answers to requests.
    Answers(Vec<FakeAnswer>),
    /// The bytes of a secret, which is none.
    Secret(Content),
}

/// A resource of a case, by the op's key.
#[derive(Debug, Clone)]
pub(crate) struct FakeResource {
    place: Place,
    /// None for a secret.
    spec: Option<ResourceSpec>,
    fake: Fake,
}

/// How a case is expected to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The op succeeds.
    Success,
    /// It asks for another try.
    Retry,
    /// It fails with that code.
    Failure(Code),
}

/// One case.
#[derive(Debug, Clone)]
pub struct OpCase {
    op: Located<String>,
    config: Option<Node>,
    /// What is given to its inputs.
    pub inputs: Vec<FixtureInput>,
    resources: Vec<(Name, FakeResource)>,
    limits: GivenLimits,
    /// How it is expected to end.
    pub expected: Expected,
}

impl OpCase {
    /// What stands in for its resources, by the op's keys.
    pub fn fakes(&self) -> impl Iterator<Item = (&Name, &Fake)> {
        self.resources.iter().map(|(key, resource)| (key, &resource.fake))
    }

    /// The op.
    #[must_use]
    pub fn op(&self) -> &str {
        &self.op.value
    }
}

/// A test file, checked in itself.
#[derive(Debug, Clone)]
pub struct OpTestFile {
    source: Source,
    /// The component whose ops are tested.
    component: Name,
    components: Table<PathBuf>,
    types: Table<super::TypeDefinition>,
    cases: Table<OpCase>,
}

impl OpTestFile {
    /// Reads a test file. Relative paths are taken from `folder`, which has to be absolute.
    ///
    /// # Errors
    /// All that is wrong with the file in itself, each with its place.
    ///
    /// # Limits
    /// Those of a definitions file, and [`MAX_CASES`].
    pub fn parse(source: &Source, folder: &Path) -> Result<Self, Diagnostics> {
        let root = read(source)?;
        let mut reading = Reading::new(folder);
        let file = reading.test_file(source, &root);
        reading.found.or(file).map(|(file, _)| file)
    }

    /// The cases, in the order of the file.
    pub fn cases(&self) -> impl Iterator<Item = (&Name, &OpCase)> {
        self.cases.iter().map(|entry| (&entry.name, &entry.value))
    }

    /// The definitions that a case stands for: one job, [`JOB`], of one step. `digest` says under which digest a value is
    /// stored.
    #[must_use]
    pub fn definitions(&self, case: &OpCase, digest: impl Fn(&Fixture) -> Digest) -> Definitions {
        let feed = |fixture: &Fixture| match &fixture.value {
            // Checked as a value of a definitions file is; of text it is the bytes that are to be given.
            Some(node) => Feed::Value(node.clone()),
            None => Feed::Artifact(digest(fixture)),
        };
        let inputs = case.inputs.iter().filter_map(|input| {
            let feed = feed(input.values.first()?);
            let feed = Located { value: feed, place: input.place.clone() };
            Some(InputDefinition { port: input.port.clone(), feed })
        });
        let body = Body::Op { component: self.component.clone(), op: case.op.value.clone() };
        let step = StepDefinition {
            body,
            body_place: case.op.place.clone(),
            inputs: inputs.collect(),
            config: case.config.clone(),
            retry: None,
            limits: case.limits.clone(),
            io_manager: IoManagerChoice::Default,
            types: Vec::new(),
            after: Vec::new(),
            when: None,
            tags: BTreeMap::new(),
            memo: None,
        };
        let place = &case.op.place;
        let flow = Flow { steps: table_of("op", place, step), order: vec![0] };
        let job = Job {
            description: None,
            tags: BTreeMap::new(),
            flow,
            on_failure: FailurePolicy::GoOn,
            retry: None,
            limits: GivenLimits::default(),
        };
        let (mut resources, mut secrets) = (Table::default(), Table::default());
        let mut grant = GrantEntry {
            place: place.clone(),
            component: self.component.clone(),
            op: Some(case.op.value.clone()),
            resources: Vec::new(),
            reveal: Vec::new(),
            limits: GivenLimits::default(),
        };
        for (name, resource) in &case.resources {
            let place = resource.place.clone();
            let key = Located { value: name.to_string(), place: place.clone() };
            let granted =
                GrantedKey { key, resource: Located { value: name.clone(), place: place.clone() }, access: None };
            match &resource.spec {
                Some(spec) => {
                    resources.insert(Named { name: name.clone(), place, value: spec.clone() });
                    grant.resources.push(granted);
                }
                None => {
                    secrets.insert(Named { name: name.clone(), place, value: SecretSpec::Env(name.to_string()) });
                    grant.reveal.push(granted);
                }
            }
        }
        Definitions {
            source: self.source.clone(),
            components: self.components.clone(),
            types: self.types.clone(),
            graphs: Table::default(),
            jobs: table_of(JOB, place, job),
            resources,
            io_managers: table_of("default", place, IoManagerSpec::Artifacts),
            grants: vec![grant],
            environments: Table::default(),
            schedules: Table::default(),
            secrets,
        }
    }

    /// What is wrong with a case beyond what planning finds: media types that the op cannot read, several values where it
    /// takes one, resources that it has no use for.
    #[must_use]
    pub fn problems(&self, case: &OpCase, op: &crate::component::OpDefinition) -> Diagnostics {
        let mut found = Diagnostics::default();
        for input in &case.inputs {
            let Some(port) = op.inputs.iter().find(|port| port.name.as_str() == input.port.value) else { continue };
            if input.many && !port.many {
                let message = format!("the input `{}` takes one value, not a list", port.name);
                found.push(Diagnostic::error(Code::BadReference, message).at(&input.place, "a list"));
            }
            let written = input.values.iter().filter_map(|fixture| fixture.media_type.as_ref());
            for media in
                written.filter(|media| !port.media_types.is_empty() && !port.media_types.contains(&media.value))
            {
                let known = port.media_types.iter().map(MediaType::as_str);
                let message = format!("the input `{}` cannot read `{}`", port.name, media.value);
                let diagnostic =
                    Diagnostic::error(Code::MediaTypeMismatch, message).at(&media.place, "another media type");
                found.push(diagnostic.nearest(media.value.as_str(), known));
            }
        }
        let for_headers: Vec<_> = case
            .resources
            .iter()
            .filter_map(|(_, resource)| match &resource.spec {
                Some(ResourceSpec::HttpClient(spec)) => Some(spec.secrets().map(|(name, _)| name.clone())),
                _ => None,
            })
            .flatten()
            .collect();
        for (name, resource) in &case.resources {
            let is_asked = op.resources.iter().any(|needed| needed.key == *name);
            if !is_asked && !for_headers.contains(name) {
                let keys = op.resources.iter().map(|needed| needed.key.as_str());
                let message = format!("the op `{}` asks for no resource `{name}`", op.name);
                let diagnostic = Diagnostic::error(Code::UnknownResource, message).at(&resource.place, "never used");
                found.push(diagnostic.nearest(name.as_str(), keys));
            }
        }
        found
    }

    /// Says where a fixture is written what is wrong with it; for whoever reads its file.
    #[must_use]
    pub fn problem_with(&self, fixture: &Fixture, code: Code, message: &str) -> Diagnostic {
        Diagnostic::error(code, message).at(&fixture.place, "")
    }

    /// The components and the absolute paths of their files.
    pub fn components(&self) -> impl Iterator<Item = (&Name, &Path)> {
        self.components.iter().map(|entry| (&entry.name, entry.value.as_path()))
    }

    /// Says at the place of component `name` what is wrong with its file.
    #[must_use]
    pub fn component_problem(&self, name: &str, code: Code, message: &str) -> Diagnostic {
        let diagnostic = Diagnostic::error(code, message);
        match self.components.get(name) {
            Some(entry) => diagnostic.at(&entry.place, entry.value.display().to_string()),
            None => diagnostic,
        }
    }

    /// Says that there is no case of that name.
    #[must_use]
    pub fn no_case(&self, name: &str) -> Diagnostic {
        let problem = format!("there is no case `{}` in {}", short(name), self.source.name());
        Diagnostic::error(Code::BadSelection, problem).nearest(name, self.cases.names())
    }

    /// The component whose ops are tested, by its name in the definitions that cases become.
    #[must_use]
    pub fn component(&self) -> &Name {
        &self.component
    }
}

fn table_of<T>(name: &str, place: &Place, value: T) -> Table<T> {
    let mut table = Table::default();
    table.insert(Named { name: Name::new(name).expect("a name"), place: place.clone(), value });
    table
}

/// The JSON Schema (2020-12) of the test file, for editors.
#[must_use]
pub fn schema() -> serde_json::Value {
    serde_json::from_str(include_str!("op_test.json")).expect("the embedded schema is JSON: a test reads it")
}

impl Reading<'_> {
    fn test_file(&mut self, source: &Source, root: &Node) -> Option<OpTestFile> {
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
        let mut components = self.table(fields.get("components"), "`components`", |r, _, node| r.component(node));
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
        let url = format!("memory:///{}", name?);
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
