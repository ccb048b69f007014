//! The ports of one op call: opening inputs, and turning what is written into values, stored and handled.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use opyard_model::error::{Code, Failure};
use opyard_model::event::Direction;
use opyard_model::id::{MappingKey, TenantId};
use opyard_model::metadata::MetadataEntry;
use opyard_model::plan::{BaseType, StepOutput};
use opyard_model::step::{BoundManager, OpCall, Said, Saying, StepIdentity};
use opyard_model::value::{Kept, ValueRef, Yielded};
use opyard_store::artifact::{ArtifactReader, ArtifactStore, ArtifactWriter, MAX_PACKED};
use opyard_store::error::StoreError;
use opyard_store::io_manager::{Slot, Stored};

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
    /// It is not what its type says, or its IO manager does not take it.
    Wrong(Failure),
    /// It cannot be stored.
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
        self.call.outputs.iter().position(|output| output.port.as_str() == port)
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
        let port = &self.call.outputs[output];
        let check = Check::of(port.base, port.media_type.as_str());
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

    /// Makes the draft the value of its output, or an item of it. The first commit wins. Answers whether the guest is to pause,
    /// so that what it has committed gets out.
    pub(crate) async fn commit(&mut self, draft: Draft, outbox: &Outbox) -> Result<bool, CommitError> {
        if self.is_committed(draft.output, draft.key.as_ref()) {
            return Err(CommitError::Already);
        }
        let output = &self.call.outputs[draft.output];
        if let Some(wrong) = draft.wrong.or_else(|| draft.check.finish().err()) {
            let text = format!("the value on '{}' is not {}: {wrong}", output.port, output.base.name());
            return Err(CommitError::Wrong(Failure::new(Code::OutputInvalid, text)));
        }
        let artifact = match draft.sink {
            Sink::Held(held) => self.keeper.artifacts.put(Bytes::from(held)).await?.artifact,
            Sink::Flowing { writer, .. } => writer.finish().await?.artifact,
        };
        let dynamic = draft.key.is_some();
        let mut value = ValueRef {
            artifact,
            type_name: output.type_name.clone(),
            media_type: output.media_type.clone(),
            metadata: draft.metadata,
            mapping_key: match &draft.key {
                Some(key) => self.step.key.mapping.child(key),
                None => self.step.key.mapping.clone(),
            },
            kept: None,
        };
        if dynamic {
            // An item is announced after its check, and after its IO manager took it; a plain value waits for the op's success.
            self.check(output, &value, outbox).await.map_err(CommitError::Wrong)?;
            self.keep(output, &mut value, outbox).await.map_err(CommitError::Wrong)?;
            let pauses = outbox.announce(Yielded { port: output.port.clone(), value: value.clone() });
            let port = &mut self.yielded[draft.output];
            port.keys.extend(draft.key);
            port.items.push(value);
            Ok(pauses)
        } else {
            self.yielded[draft.output].value = Some(value);
            Ok(false)
        }
    }

    /// The required outputs that were not committed.
    pub(crate) fn missing(&self) -> Vec<&str> {
        let missing = |(output, port): (&'_ StepOutput, &Port)| {
            !output.optional && !output.dynamic && output.base != BaseType::Nothing && port.value.is_none()
        };
        let ports = self.call.outputs.iter().zip(&self.yielded);
        ports.filter(|pair| missing(*pair)).map(|(output, _)| output.port.as_str()).collect()
    }

    /// Checks a value against its type.
    async fn check(&self, output: &StepOutput, value: &ValueRef, outbox: &Outbox) -> Result<(), Failure> {
        let Some(check) = self.call.types.get(&output.type_name) else { return Ok(()) };
        let checked = Checked { direction: Direction::Output, port: &output.port, check };
        let passed = self.keeper.check(&checked, value, outbox).await?;
        outbox.notice(Saying::TypeChecked { success: true, check: passed });
        Ok(())
    }

    /// Hands a value to the IO manager of its output, if that is not `artifacts`.
    async fn keep(&self, output: &StepOutput, value: &mut ValueRef, outbox: &Outbox) -> Result<(), Failure> {
        let Some(manager) = self.call.managers.get(&output.io_manager) else { return Ok(()) };
        let metadata = self.keeper.keep((&self.step, output), manager, value, outbox).await?;
        if let Some(Kept { manager, locator }) = value.kept.clone() {
            outbox.notice(Saying::Handled { port: output.port.clone(), manager, locator, metadata });
        }
        Ok(())
    }

    /// The op succeeded: checks plain values, hands them to their IO managers once all have passed, and gives everything
    /// that was yielded, in port order.
    pub(crate) async fn finish(mut self, outbox: &Outbox) -> Result<Vec<Yielded>, Failure> {
        let yielded = std::mem::take(&mut self.yielded);
        for (output, port) in self.call.outputs.iter().zip(&yielded) {
            if let Some(value) = &port.value {
                self.check(output, value, outbox).await?;
            }
        }
        let mut all = Vec::new();
        for (output, port) in self.call.outputs.iter().zip(yielded) {
            let name = &output.port;
            if let Some(mut value) = port.value {
                self.keep(output, &mut value, outbox).await?;
                all.push(Yielded { port: name.clone(), value });
            }
            all.extend(port.items.into_iter().map(|value| Yielded { port: name.clone(), value }));
        }
        Ok(all)
    }
}

impl Keeper {
    /// Hands a stored value to the IO manager of its output; for `artifacts` there is nothing to do. Answers what the manager
    /// adds.
    pub(crate) async fn keep(
        &self,
        (step, output): (&StepIdentity, &StepOutput),
        manager: &BoundManager,
        value: &mut ValueRef,
        said: &dyn Said,
    ) -> Result<Vec<MetadataEntry>, Failure> {
        let name = &output.io_manager;
        let Some(opened) = self.manager(name, manager, said).await? else { return Ok(Vec::new()) };
        let slot = Slot {
            job: step.job.clone(),
            run: step.run,
            step: step.key.clone(),
            port: output.port.clone(),
            item: value.item_of(&step.key.mapping).filter(|_| output.dynamic).cloned(),
            type_name: value.type_name.clone(),
        };
        let bytes = self.artifacts.get(value.artifact.digest).await.map_err(|error| error.to_failure())?;
        let Stored { locator, metadata } = opened.get().handle_output(&slot, value, bytes).await?;
        value.kept = Some(Kept { manager: name.clone(), locator });
        Ok(metadata)
    }

    /// Opens a value.
    pub(crate) async fn open(&self, value: &ValueRef) -> Result<Box<dyn ArtifactReader>, StoreError> {
        self.artifacts.get(value.artifact.digest).await
    }
}
