//! `io`: the ports of a step.

use opyard_model::id::MappingKey;
use opyard_model::plan::BaseType;
use opyard_model::step::Bound;
use opyard_store::artifact::MAX_PACKED;
use opyard_store::crash::{self, CrashPoint};
use wasmtime::component::Resource;

use crate::bindings::opyard::op::io::Host;
use crate::bindings::opyard::op::types::IoError;
use crate::gate::{Doorway, Io};
use crate::host::values::{MAX_CHUNK, Reader, Source, Writer};
use crate::metadata::short;
use crate::output::{CommitError, Draft, WriteError};
use crate::state::HostState;
use crate::trap::Stop;

/// What a call answers, inside of what may trap.
type Answer<T> = wasmtime::Result<Result<T, IoError>>;

/// Makes a draft the value of its output.
pub(crate) async fn commit(state: &mut HostState, draft: Draft) -> Answer<()> {
    if draft.key.is_some()
        && let Err(limit) = state.guard.take_item()
    {
        return Ok(Err(state.limited(limit)));
    }
    let outbox = std::sync::Arc::clone(&state.outbox);
    let (output, op) = (draft.output, state.op()?);
    match op.commit(draft, &outbox).await {
        Ok(pauses) => {
            if pauses {
                // Not at the next tick only: steps that are mapped over the item can begin, and while more items wait than the
                // run takes, the guest stands still.
                tokio::task::yield_now().await;
            }
            Ok(Ok(()))
        }
        Err(CommitError::Already) => Ok(Err(IoError::AlreadyCommitted(op.call.outputs[output].port.to_string()))),
        Err(CommitError::Wrong(failure)) => Err(Stop::new(failure).into()),
        Err(CommitError::Store(error)) => Ok(Err(state.unavailable(&error)?)),
    }
}

fn unknown<T>(port: &str) -> Answer<T> {
    Ok(Err(IoError::UnknownPort(short(port))))
}

/// Opens the nth value of an input.
async fn open(state: &mut HostState, input: usize, nth: usize) -> Answer<Reader> {
    crash::point(CrashPoint::InputOpened);
    let op = state.op()?;
    let value = &op.call.inputs[input].bound.values()[nth];
    let size = value.artifact.size;
    let opened = async {
        let mut reader = op.keeper.open(value).await?;
        Ok(if size <= MAX_PACKED as u64 {
            Source::Small(reader.read_at(0, MAX_PACKED).await?)
        } else {
            Source::Open(reader)
        })
    };
    match opened.await {
        Ok(source) => Ok(Ok(Reader { input, nth, size, source, position: 0 })),
        Err(error) => Ok(Err(state.unavailable(&error)?)),
    }
}

/// Starts an output, or one item of it.
fn start(state: &mut HostState, port: &str, key: Option<&str>) -> Answer<Draft> {
    let op = state.op()?;
    let Some(output) = op.output(port) else { return unknown(port) };
    let bound = &op.call.outputs[output];
    if bound.dynamic != key.is_some() {
        return unknown(port);
    }
    if bound.base == BaseType::Nothing {
        return Ok(Err(IoError::Invalid(format!("'{port}' takes no bytes: it is yielded by success alone"))));
    }
    let key = match key.map(MappingKey::new).transpose() {
        Ok(key) => key,
        Err(error) => return Ok(Err(IoError::Invalid(error.to_string()))),
    };
    if op.is_committed(output, key.as_ref()) {
        return Ok(Err(match key {
            Some(key) => IoError::Invalid(format!("'{port}' has an item '{key}' already")),
            None => IoError::AlreadyCommitted(port.to_owned()),
        }));
    }
    let draft = op.draft(output, key);
    if draft.key.is_some()
        && let Err(limit) = state.guard.check_item()
    {
        return Ok(Err(state.limited(limit)));
    }
    Ok(Ok(draft))
}

/// The index of the input, when it is bound as `fits` says.
fn input(state: &mut HostState, port: &str, fits: fn(&Bound) -> bool) -> Result<Option<usize>, Stop> {
    let inputs = &state.op()?.call.inputs;
    Ok(inputs.iter().position(|input| input.port.as_str() == port && fits(&input.bound)))
}

impl Host for Doorway<'_, Io> {
    async fn input(&mut self, port: String) -> Answer<Option<Resource<Reader>>> {
        let state = self.enter()?;
        let Some(index) = input(state, &port, |bound| !matches!(bound, Bound::Many(_)))? else {
            return unknown(&port);
        };
        if state.op()?.call.inputs[index].bound == Bound::Absent {
            return Ok(Ok(None));
        }
        match open(state, index, 0).await? {
            Ok(reader) => Ok(Ok(Some(state.table.push(reader)?))),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn inputs(&mut self, port: String) -> Answer<Vec<Resource<Reader>>> {
        let state = self.enter()?;
        let Some(index) = input(state, &port, |bound| !matches!(bound, Bound::One(_)))? else {
            return unknown(&port);
        };
        let mut readers = Vec::new();
        for nth in 0..state.op()?.call.inputs[index].bound.values().len() {
            match open(state, index, nth).await? {
                Ok(reader) => readers.push(state.table.push(reader)?),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(readers))
    }

    async fn output(&mut self, port: String) -> Answer<Resource<Writer>> {
        let state = self.enter()?;
        match start(state, &port, None)? {
            Ok(draft) => Ok(Ok(state.table.push(Writer::Output(draft))?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn dynamic_output(&mut self, port: String, mapping_key: String) -> Answer<Resource<Writer>> {
        let state = self.enter()?;
        match start(state, &port, Some(&mapping_key))? {
            Ok(draft) => Ok(Ok(state.table.push(Writer::Output(draft))?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn load(&mut self, port: String) -> Answer<Option<Vec<u8>>> {
        let state = self.enter()?;
        let Some(index) = input(state, &port, |bound| !matches!(bound, Bound::Many(_)))? else {
            return unknown(&port);
        };
        let Bound::One(value) = &state.op()?.call.inputs[index].bound else { return Ok(Ok(None)) };
        let size = value.artifact.size;
        if size > MAX_CHUNK as u64 {
            return Ok(Err(IoError::Invalid(format!("the value on '{port}' has {size} bytes, more than 1 MiB"))));
        }
        if let Err(limit) = state.guard.take_read(size) {
            return Ok(Err(state.limited(limit)));
        }
        let mut reader = match open(state, index, 0).await? {
            Ok(reader) => reader,
            Err(error) => return Ok(Err(error)),
        };
        match reader.read_at(0, MAX_CHUNK).await {
            Ok(bytes) => Ok(Ok(Some(bytes.into()))),
            Err(error) => Ok(Err(state.unavailable(&error)?)),
        }
    }

    async fn store(&mut self, port: String, bytes: Vec<u8>) -> Answer<()> {
        let state = self.enter()?;
        if bytes.len() > MAX_CHUNK {
            return Ok(Err(IoError::Invalid(format!("{} bytes are more than 1 MiB", bytes.len()))));
        }
        let mut draft = match start(state, &port, None)? {
            Ok(draft) => draft,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(limit) = state.guard.take_written(bytes.len() as u64) {
            return Ok(Err(state.limited(limit)));
        }
        crash::point(CrashPoint::OutputUploading);
        let flows = std::sync::Arc::clone(&state.guard.flows);
        match state.op()?.write(&mut draft, bytes, &flows).await {
            Ok(()) => {}
            Err(WriteError::Stop(stop)) => return Err(stop.into()),
            Err(WriteError::Store(error)) => return Ok(Err(state.unavailable(&error)?)),
        }
        drop(flows);
        commit(state, draft).await
    }
}
