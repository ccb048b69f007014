//! One case of one op: planned as a step is, executed in the sandbox, without a run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use opyard_engine::op_call;
use opyard_model::definitions::op_test::{Expected, Fixture, JOB, OpCase, OpTestFile};
use opyard_model::diagnostic::Diagnostics;
use opyard_model::digest::Digest;
use opyard_model::error::{Code, Failure};
use opyard_model::event::{Attempt, RunEvent};
use opyard_model::id::{Name, RunId, StepKey};
use opyard_model::limits::{Limits, Usage};
use opyard_model::plan::{Access, Catalog, Launch, Plan, Planning, ResourceSpec, Source, WithoutRuns};
use opyard_model::step::{
    Bound, BoundInput, Call, Said, Saying, StepExecutor as _, StepIdentity, StepRequest, StepResult,
};
use opyard_model::value::{ArtifactRef, ValueRef};
use opyard_server::YardError;
use opyard_store::artifact::read_whole;
use serde_json::Value;

use crate::bench::{Bench, Repeatable, seed};
use crate::fakes::{Filled, bytes_of, fill};

/// Largest output that is looked at whole.
const MAX_OUTPUT: u64 = 16 << 20;

/// How a case ended.
#[derive(Debug, Clone, PartialEq)]
pub enum OpOutcome {
    /// The op succeeded.
    Success,
    /// It asked for another try.
    Retry {
        /// Why.
        description: String,
    },
    /// It failed.
    Failure(Failure),
}

/// A value that a case yielded.
#[derive(Debug, Clone, PartialEq)]
pub struct OpOutput {
    /// The port.
    pub port: Name,
    /// The value.
    pub value: ValueRef,
    /// Its bytes, if they are not too many.
    pub bytes: Option<Bytes>,
}

/// What came of a case.
#[derive(Debug, Clone)]
pub struct OpRun {
    /// How it ended.
    pub outcome: OpOutcome,
    /// What it yielded, in the op's order.
    pub outputs: Vec<OpOutput>,
    /// What it said, in order.
    pub events: Vec<RunEvent>,
    /// What is left in the resources that it could change, and the requests that it made, by key.
    pub resources: BTreeMap<Name, Value>,
    /// What it used.
    pub usage: Usage,
    /// What it might have used.
    pub limits: Limits,
}

impl OpRun {
    /// What is not as `expected`, in one line.
    #[must_use]
    pub fn unexpected(&self, expected: Expected) -> Option<String> {
        let came = match &self.outcome {
            OpOutcome::Success => "it succeeded".to_owned(),
            OpOutcome::Retry { description } => format!("it asked for another try: {description}"),
            OpOutcome::Failure(failure) => format!("it failed with {}: {}", failure.code, failure.description),
        };
        let is_so = match (&self.outcome, expected) {
            (OpOutcome::Success, Expected::Success) | (OpOutcome::Retry { .. }, Expected::Retry) => true,
            (OpOutcome::Failure(failure), Expected::Failure(code)) => failure.code == code,
            _ => false,
        };
        let wanted = match expected {
            Expected::Success => "success".to_owned(),
            Expected::Retry => "`retry`".to_owned(),
            Expected::Failure(code) => code.to_string(),
        };
        (!is_so).then(|| format!("expected {wanted}, but {came}"))
    }
}

/// Remembers what is said.
#[derive(Default)]
struct Heard(Mutex<Vec<Saying>>);

impl Said for Heard {
    fn say(&self, saying: Saying) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(saying);
    }
}

/// The values of a case's inputs that are stored already, by the place in the case.
struct Stored(Vec<Vec<ArtifactRef>>);

/// Runs one case.
///
/// # Errors
/// All that is wrong with it; what the op does is an outcome.
pub(crate) async fn run(
    bench: &Bench,
    (file, catalog): (&OpTestFile, &Catalog),
    case: &OpCase,
) -> Result<OpRun, YardError> {
    let stored = store(bench, file, case).await?;
    let mut plan = plan(file, catalog, case, &stored)?;
    bench.on_memory(&mut plan);
    let step = &plan.steps[0];
    let mut filled: Vec<(Name, Access, Filled)> = Vec::new();
    for (key, fake) in case.fakes() {
        let spec = plan.resources.get(key);
        let access = match spec {
            // What an op reads was answered, and is what the test shows of it.
            Some(ResourceSpec::HttpClient(_)) => Access::ReadWrite,
            Some(spec) => spec.access(),
            None => Access::Read,
        };
        filled.push((key.clone(), access, fill(bench, key, spec, fake).await?));
    }
    let mut inputs = Vec::with_capacity(step.inputs.len());
    for input in &step.inputs {
        let given = case.inputs.iter().position(|given| given.port() == input.port.as_str());
        let bound = match (&input.source, given) {
            (Source::Given { value, text, .. }, given) => {
                if let Some(text) = text {
                    bench.put(Bytes::from(text.clone())).await?;
                }
                match given {
                    None => Bound::One(ValueRef::clone(value)),
                    Some(at) => bind(value, &case.inputs[at].values, &stored.0[at], input.many),
                }
            }
            // A list without anything in it.
            (_, Some(_)) if input.many => Bound::Many(Vec::new()),
            _ => Bound::Absent,
        };
        inputs.push(BoundInput { port: input.port.clone(), bound });
    }
    let call = op_call(&plan, step, inputs, seed());
    let identity = StepIdentity {
        job: plan.job.clone(),
        run: RunId::from_parts(0, 0),
        key: StepKey::plain(step.path.clone()),
        attempt: 0,
    };
    let of = Attempt { step: identity.key.clone(), generation: 0, attempt: 0 };
    let request = StepRequest {
        tenant: bench.tenant.clone(),
        step: Some(identity),
        call: Call::Op(Box::new(call)),
        limits: Limits::clone(&step.limits),
    };
    let heard = Heard::default();
    let done = Repeatable(Arc::clone(&bench.sandbox)).execute(request, &heard).await;
    let said = heard.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (outcome, yielded) = match done.result {
        StepResult::Success { outputs, .. } => (OpOutcome::Success, outputs),
        StepResult::Retry { description, .. } => (OpOutcome::Retry { description }, Vec::new()),
        StepResult::Failure(failure) => (OpOutcome::Failure(failure), Vec::new()),
        StepResult::Described(_)
        | StepResult::Checked(_)
        | StepResult::Hooked
        | StepResult::Handled { .. }
        | StepResult::Fingerprint(_)
        | StepResult::Forgotten => {
            let text = "the sandbox answered another question than it was asked";
            return Err(Failure::new(Code::Invariant, text).into());
        }
    };
    let mut outputs = Vec::with_capacity(yielded.len());
    for output in yielded {
        let (digest, artifacts) = (output.value.artifact.digest, bench.store.artifacts());
        let small = output.value.artifact.size <= MAX_OUTPUT;
        let bytes =
            if small { Some(Bytes::from(read_whole(artifacts.as_ref(), digest, MAX_OUTPUT).await?)) } else { None };
        outputs.push(OpOutput { port: output.port, value: output.value, bytes });
    }
    let mut resources = BTreeMap::new();
    for (key, access, filled) in filled {
        if access == Access::ReadWrite
            && let Some(left) = filled.look().await.map_err(|error| failed_look(&key, &error.to_string()))?
        {
            resources.insert(key, left);
        }
    }
    let events = said.into_iter().map(|saying| saying.into_event(of.clone())).collect();
    Ok(OpRun { outcome, outputs, events, resources, usage: done.usage, limits: Limits::clone(&step.limits) })
}

fn failed_look(key: &Name, error: &str) -> YardError {
    Failure::new(Code::Invariant, format!("what is left in `{key}` cannot be read: {error}")).into()
}

/// Stores what is given to the inputs.
async fn store(bench: &Bench, file: &OpTestFile, case: &OpCase) -> Result<Stored, YardError> {
    let mut problems = Diagnostics::default();
    let mut stored = Vec::with_capacity(case.inputs.len());
    for input in &case.inputs {
        let mut artifacts = Vec::with_capacity(input.values.len());
        for fixture in &input.values {
            match bytes_of(&fixture.content) {
                Ok(bytes) => artifacts.push(bench.put(bytes).await?),
                Err(failure) => problems.push(file.problem_with(fixture, failure.code, &failure.description)),
            }
        }
        stored.push(artifacts);
    }
    if problems.has_errors() { Err(problems.into()) } else { Ok(Stored(stored)) }
}

/// Plans the case as a job of one step: everything that can be wrong with a step is found here.
fn plan(file: &OpTestFile, catalog: &Catalog, case: &OpCase, stored: &Stored) -> Result<Plan, YardError> {
    let artifacts = || case.inputs.iter().zip(&stored.0).flat_map(|(input, stored)| input.values.iter().zip(stored));
    let of = |fixture: &Fixture| {
        artifacts().find(|(one, _)| std::ptr::eq(*one, fixture)).map_or_else(|| Digest::of(b""), |(_, to)| to.digest)
    };
    let size = WithoutRuns(|digest: &Digest| artifacts().find(|(_, to)| to.digest == *digest).map(|(_, to)| to.size));
    let definitions = file.definitions(case, of);
    let planning = Planning {
        catalog,
        stored: &size,
        needs_latest: true,
        defaults: &Limits::default(),
        ceiling: &Limits::ceiling(),
    };
    let launch = Launch { job: JOB, environment: None, settings: &[] };
    let op = catalog.get(file.component().as_str()).and_then(|component| component.op(case.op()));
    let mut problems = op.map(|op| file.problems(case, op)).unwrap_or_default();
    match Plan::build(&definitions, &launch, &planning) {
        Ok((plan, _)) if !problems.has_errors() => Ok(plan),
        Ok(_) => Err(problems.into()),
        Err(found) => {
            problems.append(found);
            Err(problems.into())
        }
    }
}

/// The values of an input, as the plan types them and the test lays them out.
fn bind(planned: &ValueRef, fixtures: &[Fixture], stored: &[ArtifactRef], many: bool) -> Bound {
    let values = fixtures.iter().zip(stored).map(|(fixture, artifact)| {
        let media_type = fixture.media_type().unwrap_or(&planned.media_type).clone();
        // What the plan made of a literal are the bytes that are given: text, say, without its quotes.
        let artifact = if fixtures.len() == 1 { planned.artifact } else { *artifact };
        ValueRef { artifact, media_type, ..planned.clone() }
    });
    let mut values: Vec<_> = values.collect();
    match values.len() {
        1 if !many => Bound::One(values.remove(0)),
        _ => Bound::Many(values),
    }
}
