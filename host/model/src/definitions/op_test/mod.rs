//! The test file of an op: cases, each with a config, inputs, what stands in for its resources, and what is expected.
//!
//! A case becomes [`Definitions`] of one step, whose places are those of the test file: what is wrong with it is found by the
//! checks that a job goes through, and told in the same words.

mod reading;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::reading::{Reading, short};
use super::tree::{Node, read};
use super::{
    Body, ComponentPlace, Definitions, Feed, Flow, GivenLimits, GrantEntry, GrantedKey, InputDefinition,
    IoManagerChoice, IoManagerDefinition, Job, JobPolicy, Located, Named, StepDefinition, Table,
};
use crate::diagnostic::{Diagnostic, Diagnostics, Place, Source};
use crate::digest::Digest;
use crate::error::Code;
use crate::id::{MediaType, Name};
use crate::json::CanonicalJson;
use crate::plan::{IoManagerSpec, ResourceSpec, RunQueue};
use crate::secret::SecretSpec;

/// Most cases of one file.
pub const MAX_CASES: usize = 1_000;
/// The job that a case becomes.
pub const JOB: &str = "test";

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
            priority: 0,
            pool: None,
            tags: BTreeMap::new(),
            memo: None,
            hooks: Vec::new(),
        };
        let place = &case.op.place;
        let flow = Flow { steps: table_of("op", place, step), order: vec![0] };
        let job = Job {
            description: None,
            tags: BTreeMap::new(),
            flow,
            policy: JobPolicy::default(),
            io_manager: None,
            retry: None,
            limits: GivenLimits::default(),
            hooks: Vec::new(),
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
            components: self.places(),
            types: self.types.clone(),
            graphs: Table::default(),
            jobs: table_of(JOB, place, job),
            resources,
            io_managers: table_of("default", place, IoManagerDefinition::BuiltIn(IoManagerSpec::Artifacts)),
            grants: vec![grant],
            environments: Table::default(),
            schedules: Table::default(),
            secrets,
            pools: Table::default(),
            run_queue: RunQueue::default(),
        }
    }

    /// The components, as definitions name them.
    fn places(&self) -> Table<ComponentPlace> {
        let mut places = Table::default();
        for Named { name, place, value } in self.components.iter().cloned() {
            places.insert(Named { name, place, value: ComponentPlace::File(value) });
        }
        places
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
    serde_json::from_str(include_str!("../op_test.json")).expect("the embedded schema is JSON: a test reads it")
}
