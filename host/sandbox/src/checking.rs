//! Types: whether a value is what its type says, by a JSON Schema, or by a type checker in an instance of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use opyard_model::digest::Digest;
use opyard_model::error::{Code, Failure, MAX_DESCRIPTION, sanitize};
use opyard_model::event::{Direction, TypeChecked};
use opyard_model::id::Name;
use opyard_model::json::CanonicalJson;
use opyard_model::limits::Limits;
use opyard_model::metadata::{MetadataEntry, MetadataValue};
use opyard_model::plan::TypeCheck;
use opyard_model::schema::{Schema, Violation};
use opyard_model::step::{OpCall, Said, Saying};
use opyard_model::value::ValueRef;
use opyard_store::artifact::MAX_PACKED;

use crate::gate::{Doors, Events, Values};
use crate::host::values::{Reader, Source};
use crate::host::wasi::World;
use crate::output::Keeper;
use crate::state::Work;
use crate::visit::{Allowed, Came, Errand, Verdict, Visit};

/// Largest value that is checked against a JSON Schema: 16 MiB. It is held whole while it is.
const MAX_JSON: u64 = 16 << 20;
/// From here on a schema is applied on a thread for such work.
const LARGE: u64 = 64 << 10;
/// Most compiled schemas that are kept.
const MAX_SCHEMAS: usize = 64;

/// Compiled schemas, by the digest of their text.
#[derive(Default)]
pub(crate) struct Schemas(Mutex<HashMap<Digest, Arc<Schema>>>);

impl Schemas {
    fn get(&self, text: &CanonicalJson) -> Result<Arc<Schema>, Failure> {
        let digest = Digest::of(text.as_str().as_bytes());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = known.get(&digest) {
            return Ok(Arc::clone(schema));
        }
        // Planning compiled it too.
        let schema = Schema::compile(text).map_err(|problem| Failure::new(Code::BadSchema, problem))?;
        let schema = Arc::new(schema);
        if known.len() >= MAX_SCHEMAS {
            known.clear();
        }
        known.insert(digest, Arc::clone(&schema));
        Ok(schema)
    }
}

/// What is checked of which port.
pub(crate) struct Checked<'a> {
    pub(crate) direction: Direction,
    pub(crate) port: &'a Name,
    pub(crate) check: &'a TypeCheck,
}

/// Lets through what a check is to say, whatever its component says beside: what is not the op's is no event of the op.
struct Lines<'a>(&'a dyn Said);

impl Said for Lines<'_> {
    fn say(&self, saying: Saying) {
        if matches!(saying, Saying::Log(_) | Saying::LimitReached { .. }) {
            self.0.say(saying);
        }
    }
}

impl Keeper {
    /// Checks the inputs that nobody has checked, since no step has yielded them.
    ///
    /// # Errors
    /// `OPY-118`, or why a check could not be made.
    pub(crate) async fn check_inputs(&self, call: &OpCall, said: &dyn Said) -> Result<(), Failure> {
        for input in call.inputs.iter().filter(|input| call.unchecked.contains(&input.port)) {
            for value in input.bound.values() {
                let Some(check) = call.types.get(&value.type_name) else { continue };
                let checked = Checked { direction: Direction::Input, port: &input.port, check };
                let passed = self.check(&checked, value, said).await?;
                said.say(Saying::TypeChecked { success: true, check: passed });
            }
        }
        Ok(())
    }

    /// Checks one value. A check that does not pass is said; one that passes is the answer.
    ///
    /// # Errors
    /// `OPY-118`, or why the check could not be made.
    pub(crate) async fn check(
        &self,
        Checked { direction, port, check }: &Checked<'_>,
        value: &ValueRef,
        said: &dyn Said,
    ) -> Result<TypeChecked, Failure> {
        let what = match direction {
            Direction::Input => format!("the value given to '{port}'"),
            Direction::Output => format!("the value on '{port}'"),
        };
        let verdict = match check {
            TypeCheck::Schema { schema } => self.apply(schema, value).await,
            TypeCheck::Checker { .. } => self.ask_checker(check, value, &Lines(said)).await,
        };
        let Verdict { success, description, metadata } = verdict.map_err(|mut failure| {
            let text = format!("{what} could not be checked by {check}: {}", failure.description);
            failure.description = sanitize(&text, MAX_DESCRIPTION);
            failure
        })?;
        let told = TypeChecked {
            direction: *direction,
            port: Name::clone(port),
            mapping_key: value.mapping_key.clone(),
            type_name: value.type_name.clone(),
            by: check.to_string(),
            description,
            metadata,
        };
        if success {
            return Ok(told);
        }
        let why = told.description.as_deref().unwrap_or("its checker does not say why");
        let text = format!("{what} is not a `{}`: {why}", value.type_name);
        let mut failure = Failure::new(Code::TypeCheckFailed, sanitize(&text, MAX_DESCRIPTION));
        failure.metadata.clone_from(&told.metadata);
        said.say(Saying::TypeChecked { success: false, check: told });
        Err(failure)
    }

    /// Applies a JSON Schema. The value is guest-controlled: its size is bounded here, its depth was when it was written,
    /// the work by the schema's own bounds.
    async fn apply(&self, schema: &CanonicalJson, value: &ValueRef) -> Result<Verdict, Failure> {
        let size = value.artifact.size;
        if size > MAX_JSON {
            let text = format!("{size} bytes; at most {MAX_JSON} are checked against a schema");
            return Ok(Verdict { success: false, description: Some(text), metadata: Vec::new() });
        }
        let compiled = self.inside.schemas.get(schema)?;
        let mut reader = self.open(value, None).await.map_err(|error| error.to_failure())?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        loop {
            let chunk = reader.read_at(bytes.len() as u64, 1 << 20).await.map_err(|error| error.to_failure())?;
            if chunk.is_empty() {
                break;
            }
            bytes.extend_from_slice(&chunk);
        }
        let judge = move || judge(&compiled, &bytes);
        if size < LARGE {
            return Ok(judge());
        }
        tokio::task::spawn_blocking(judge)
            .await
            .map_err(|error| Failure::new(Code::HostPanic, format!("the check of a value stopped: {error}")))
    }

    /// Asks a type checker, in an instance of its own that sees nothing but the value.
    async fn ask_checker(&self, check: &TypeCheck, value: &ValueRef, said: &dyn Said) -> Result<Verdict, Failure> {
        let TypeCheck::Checker { component, checker, params, limits, .. } = check else {
            return Err(Failure::new(Code::Invariant, "a schema is not asked"));
        };
        let inside = &*self.inside;
        let loaded = inside.components.get(&self.tenant, *component, &*inside.surroundings.components).await?;
        let mut source = self.open(value, None).await.map_err(|error| error.to_failure())?;
        let size = value.artifact.size;
        let source = if size <= MAX_PACKED as u64 {
            Source::Small(source.read_at(0, MAX_PACKED).await.map_err(|error| error.to_failure())?)
        } else {
            Source::Open(source)
        };
        let reader = Reader { input: 0, nth: 0, size, source, position: 0 };
        let errand = Errand::Check { checker: checker.to_string(), params: params.as_str().to_owned(), reader };
        let allowed = Allowed { doors: Doors::NONE.and::<Values>().and::<Events>(), listed: Vec::new() };
        // As for a hermetic op, what it computes depends on nothing but what it is given.
        let world = World::hermetic(Digest::of(params.as_str().as_bytes()));
        let work = Work::Check(Box::new(value.clone()));
        let visit = Visit::new((inside, &inside.checks), work, allowed, world, Limits::clone(limits));
        // A guest that checks is inside of a guest that runs: boxed, so that the one future does not hold the other's type.
        match Box::pin(visit.run(&loaded, errand, said)).await.0? {
            Came::Checked(verdict) => Ok(verdict),
            Came::Op(_) | Came::Described(_) | Came::Hooked => {
                Err(Failure::new(Code::Invariant, "a checker answered as an op"))
            }
        }
    }
}

fn judge(schema: &Schema, bytes: &[u8]) -> Verdict {
    let refused = |text: String| Verdict { success: false, description: Some(text), metadata: Vec::new() };
    let value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => return refused(format!("it is not JSON: {}", sanitize(&error.to_string(), 300))),
    };
    let violations = match schema.check(&value) {
        Ok(violations) if violations.is_empty() => {
            return Verdict { success: true, description: None, metadata: Vec::new() };
        }
        Ok(violations) => violations,
        Err(problem) => return refused(format!("its schema cannot be applied to it: {problem}")),
    };
    let told = |Violation { pointer, problem, .. }: &Violation| {
        let place = if pointer.is_empty() { "the whole" } else { pointer };
        sanitize(&format!("{place}: {problem}"), 400)
    };
    let first = violations.first().map(told).unwrap_or_default();
    let more = if violations.len() > 1 { format!(" (and {} more)", violations.len() - 1) } else { String::new() };
    let metadata = violations
        .iter()
        .map(|violation| MetadataEntry { label: "violation".to_owned(), value: MetadataValue::Text(told(violation)) });
    Verdict { success: false, description: Some(format!("{first}{more}")), metadata: metadata.collect() }
}
