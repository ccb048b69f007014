//! The ports of one op call: opening inputs, and turning what is written into values, stored and handled.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use opyard_model::error::{Code, Failure};
use opyard_model::event::Direction;
use opyard_model::id::{MappingKey, TenantId};
use opyard_model::metadata::MetadataEntry;
use opyard_model::plan::{BaseType, IoManagerSpec};
use opyard_model::step::{BoundOutput, OpCall, Saying, StepIdentity};
use opyard_model::value::{ArtifactRef, Kept, ValueRef, Yielded};
use opyard_store::artifact::{ArtifactReader, ArtifactStore, ArtifactWriter, MAX_PACKED};
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_store::io_manager::{IoManager, Slot};

use crate::checking::Checked;
use crate::executor::Inside;
use crate::guard::Guard;
use crate::json_check::{Check, Wrong};
use crate::outbox::Outbox;
use crate::trap::Stop;

/// Opens what a tenant keeps.
#[derive(Clone)]
pub(crate) struct Keeper {
    pub(crate) tenant: TenantId,
    pub(crate) inside: Arc<Inside>,
    pub(crate) artifacts: Arc<dyn ArtifactStore>,
}

/// One op call, its ports and what it has yielded.
pub(crate) struct OpState {
    pub(crate) call: OpCall,
    pub(crate) step: StepIdentity,
    pub(crate) keeper: Keeper,
    /// One for each of `call.outputs`.
    yielded: Vec<Port>,
}

/// What was committed on an output.
#[derive(Default)]
struct Port {
    value: Option<ValueRef>,
    items: Vec<ValueRef>,
    keys: HashSet<MappingKey>,
}

/// A value on its way to an output.
pub(crate) struct Draft {
    pub(crate) output: usize,
    pub(crate) key: Option<MappingKey>,
    pub(crate) metadata: Vec<MetadataEntry>,
    sink: Sink,
    check: Check,
    wrong: Option<Wrong>,
}

enum Sink {
    /// Small so far.
    Held(Vec<u8>),
    /// Too large to be held.
    Flowing { writer: Box<dyn ArtifactWriter>, _flow: Arc<()> },
}

/// Why bytes cannot be added to a value.
pub(crate) enum WriteError {
    /// Too much is open.
    Stop(Stop),
    /// They cannot be stored.
    Store(StoreError),
}

impl From<Stop> for WriteError {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Why a value cannot be committed.
pub(crate) enum CommitError {
    /// The output, or the item, was committed before.
    Already,
    /// It is not what its type says.
    Wrong(Failure),
    /// It cannot be stored or handled.
    Store(StoreError),
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl OpState {
    pub(crate) fn new(call: OpCall, step: StepIdentity, keeper: Keeper) -> Self {
        let yielded = call.outputs.iter().map(|_| Port::default()).collect();
        Self { call, step, keeper, yielded }
    }

    /// The output port of that name.
    pub(crate) fn output(&self, port: &str) -> Option<usize> {
        self.call.outputs.iter().position(|bound| bound.output.port.as_str() == port)
    }

    /// Whether the output, or its item of that key, was committed already.
    pub(crate) fn is_committed(&self, output: usize, key: Option<&MappingKey>) -> bool {
        let port = &self.yielded[output];
        match key {
            Some(key) => port.keys.contains(key),
            None => port.value.is_some(),
        }
    }

    /// Starts a value.
    pub(crate) fn draft(&self, output: usize, key: Option<MappingKey>) -> Draft {
        let bound = &self.call.outputs[output].output;
        let check = Check::of(bound.base, bound.media_type.as_str());
        Draft { output, key, metadata: Vec::new(), sink: Sink::Held(Vec::new()), check, wrong: None }
    }

    /// Adds bytes to a value; they are counted already.
    pub(crate) async fn write(&self, draft: &mut Draft, bytes: Vec<u8>, flows: &Arc<()>) -> Result<(), WriteError> {
        if draft.wrong.is_some() {
            return Ok(());
        }
        if let Err(wrong) = draft.check.push(&bytes) {
            // Said when it is committed: a writer that is dropped leaves nothing, an error neither.
            draft.wrong = Some(wrong);
            draft.sink = Sink::Held(Vec::new());
            return Ok(());
        }
        match &mut draft.sink {
            Sink::Held(held) if held.is_empty() && bytes.len() <= MAX_PACKED => *held = bytes,
            Sink::Held(held) if held.len() + bytes.len() <= MAX_PACKED => held.extend_from_slice(&bytes),
            Sink::Held(held) => {
                let flow = Guard::open_flow(flows)?;
                let held = std::mem::take(held);
                let mut writer = self.keeper.artifacts.begin().await?;
                if !held.is_empty() {
                    writer.write(Bytes::from(held)).await?;
                }
                writer.write(Bytes::from(bytes)).await?;
                draft.sink = Sink::Flowing { writer, _flow: flow };
            }
            Sink::Flowing { writer, .. } => writer.write(Bytes::from(bytes)).await?,
        }
        Ok(())
    }

    /// Makes the draft the value of its output, or an item of it. The first commit wins.
    pub(crate) async fn commit(&mut self, draft: Draft, outbox: &Outbox) -> Result<(), CommitError> {
        if self.is_committed(draft.output, draft.key.as_ref()) {
            return Err(CommitError::Already);
        }
        let bound = &self.call.outputs[draft.output];
        if let Some(wrong) = draft.wrong.or_else(|| draft.check.finish().err()) {
            let port = &bound.output.port;
            let text = format!("the value on '{port}' is not {}: {wrong}", bound.output.base.name());
            return Err(CommitError::Wrong(Failure::new(Code::OutputInvalid, text)));
        }
        let artifact = match draft.sink {
            Sink::Held(held) => self.keeper.artifacts.put(Bytes::from(held)).await?.artifact,
            Sink::Flowing { writer, .. } => writer.finish().await?.artifact,
        };
        let dynamic = draft.key.is_some();
        let mut value = ValueRef {
            artifact,
            type_name: bound.output.type_name.clone(),
            media_type: bound.output.media_type.clone(),
            metadata: draft.metadata,
            mapping_key: match &draft.key {
                Some(key) => self.step.key.mapping.child(key),
                None => self.step.key.mapping.clone(),
            },
            kept: None,
        };
        if dynamic {
            // An item is announced after its check, and after its IO manager took it; a plain value waits for the op's success.
            self.check(bound, &value, outbox).await.map_err(CommitError::Wrong)?;
            self.keeper.keep(&self.step, bound, &mut value, outbox).await?;
            let item = Yielded { port: bound.output.port.clone(), value: value.clone() };
            outbox.notice(Saying::ItemCommitted(item));
            let port = &mut self.yielded[draft.output];
            port.keys.extend(draft.key);
            port.items.push(value);
        } else {
            self.yielded[draft.output].value = Some(value);
        }
        Ok(())
    }

    /// The required outputs that were not committed.
    pub(crate) fn missing(&self) -> Vec<&str> {
        let missing = |(bound, port): (&'_ BoundOutput, &Port)| {
            let output = &bound.output;
            !output.optional && !output.dynamic && output.base != BaseType::Nothing && port.value.is_none()
        };
        let ports = self.call.outputs.iter().zip(&self.yielded);
        ports.filter(|pair| missing(*pair)).map(|(bound, _)| bound.output.port.as_str()).collect()
    }

    /// Checks a value against its type.
    async fn check(&self, bound: &BoundOutput, value: &ValueRef, outbox: &Outbox) -> Result<(), Failure> {
        let Some(check) = self.call.types.get(&bound.output.type_name) else { return Ok(()) };
        let checked = Checked { direction: Direction::Output, port: &bound.output.port, check };
        let passed = self.keeper.check(&checked, value, outbox).await?;
        outbox.notice(Saying::TypeChecked { success: true, check: passed });
        Ok(())
    }

    /// The op succeeded: checks plain values, hands them to their IO managers once all have passed, and gives everything
    /// that was yielded, in port order.
    pub(crate) async fn finish(mut self, outbox: &Outbox) -> Result<Vec<Yielded>, Failure> {
        let yielded = std::mem::take(&mut self.yielded);
        for (bound, port) in self.call.outputs.iter().zip(&yielded) {
            if let Some(value) = &port.value {
                self.check(bound, value, outbox).await?;
            }
        }
        let mut all = Vec::new();
        for (bound, port) in self.call.outputs.iter().zip(yielded) {
            let name = &bound.output.port;
            if let Some(mut value) = port.value {
                let kept = self.keeper.keep(&self.step, bound, &mut value, outbox).await;
                kept.map_err(|error| error.to_failure())?;
                all.push(Yielded { port: name.clone(), value });
            }
            all.extend(port.items.into_iter().map(|value| Yielded { port: name.clone(), value }));
        }
        Ok(all)
    }
}

impl Keeper {
    /// Hands a stored value to the IO manager of its output, if that is not `artifacts`.
    pub(crate) async fn keep(
        &self,
        step: &StepIdentity,
        bound: &BoundOutput,
        value: &mut ValueRef,
        outbox: &Outbox,
    ) -> Result<(), StoreError> {
        if matches!(bound.manager, IoManagerSpec::Artifacts) {
            return Ok(());
        }
        let Some(manager) = self.inside.surroundings.artifacts.io_manager(&self.tenant, &bound.manager)? else {
            return Ok(());
        };
        // Whether an item, or what a mapped step yields: the keys of both.
        let keys = value.mapping_key.clone();
        let slot = Slot {
            job: step.job.clone(),
            run: step.run,
            step: step.key.path.clone(),
            output: bound.output.port.clone(),
            keys,
        };
        let mut bytes = self.artifacts.get(value.artifact.digest).await?;
        let locator = manager.handle_output(&slot, value, &mut *bytes).await?;
        let name = bound.output.io_manager.clone();
        outbox.notice(Saying::Handled {
            port: bound.output.port.clone(),
            manager: name.clone(),
            locator: locator.clone(),
        });
        value.kept = Some(Kept { manager: name, locator });
        Ok(())
    }

    /// Opens a value. When its artifact is gone, and an IO manager keeps a copy, it is loaded from there first.
    pub(crate) async fn open(
        &self,
        value: &ValueRef,
        manager: Option<&IoManagerSpec>,
    ) -> Result<Box<dyn ArtifactReader>, StoreError> {
        let error = match self.artifacts.get(value.artifact.digest).await {
            Err(error) if matches!(error.kind, StoreErrorKind::Missing(_)) => error,
            opened => return opened,
        };
        let (Some(kept), Some(spec)) = (&value.kept, manager) else { return Err(error) };
        let Some(manager) = self.inside.surroundings.artifacts.io_manager(&self.tenant, spec)? else {
            return Err(error);
        };
        if self.load(&*manager, kept).await? != value.artifact {
            // What is there now is another value than the one that was yielded.
            return Err(error);
        }
        self.artifacts.get(value.artifact.digest).await
    }

    async fn load(&self, manager: &dyn IoManager, kept: &Kept) -> Result<ArtifactRef, StoreError> {
        let mut writer = self.artifacts.begin().await?;
        manager.load_input(&kept.locator, &mut *writer).await?;
        Ok(writer.finish().await?.artifact)
    }
}
