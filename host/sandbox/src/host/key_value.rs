//! `key-value`: small values that an op was granted, by name.

use bytes::Bytes;
use opyard_model::component::Interface;
use opyard_resources::{Entry, KeyValueResource, NamesPage};
use wasmtime::component::Resource;

use super::grant::{Answer, answer, granted, limited};
use crate::bindings::opyard::resources::errors::Error;
use crate::bindings::opyard::resources::key_value::{self as theirs, Host, HostBucket};
use crate::gate::{Doorway, KeyValue};
use crate::state::HostState;

/// A bucket, with the access of its grant.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Bucket(KeyValueResource);

impl Host for Doorway<'_, KeyValue> {
    async fn open(&mut self, key: String) -> Answer<Resource<Bucket>> {
        let state = self.enter()?;
        let Some((granted, opening)) = granted(state, &key, Interface::KeyValue)? else {
            return Ok(Err(Error::Denied));
        };
        let keeper = state.keeper()?.clone();
        let yard = |bucket: &_| keeper.inside.surroundings.artifacts.key_values(&keeper.tenant, bucket);
        let opened = state.resources.key_value(&granted.spec, granted.access, yard).await;
        opening.handle(state, opened.map(Bucket))
    }
}

/// Counts what the guest is about to read.
fn take_read(state: &mut HostState, bytes: usize) -> Result<(), Error> {
    state.guard.take_read(bytes as u64).map_err(|limit| limited(state, limit))
}

/// Counts what the guest writes.
fn take_written(state: &mut HostState, bytes: usize) -> Result<(), Error> {
    state.guard.take_written(bytes as u64).map_err(|limit| limited(state, limit))
}

impl HostBucket for Doorway<'_, KeyValue> {
    async fn get(&mut self, this: Resource<Bucket>, name: String) -> Answer<Option<theirs::Entry>> {
        let state = self.enter()?;
        let Bucket(bucket) = state.table.get(&this)?;
        match bucket.get(&name).await {
            Ok(None) => Ok(Ok(None)),
            Ok(Some(Entry { value, revision })) => match take_read(state, value.len()) {
                Ok(()) => Ok(Ok(Some(theirs::Entry { value: value.into(), revision }))),
                Err(limit) => Ok(Err(limit)),
            },
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn put(&mut self, this: Resource<Bucket>, name: String, value: Vec<u8>) -> Answer<String> {
        let state = self.enter()?;
        if let Err(limit) = take_written(state, value.len()) {
            return Ok(Err(limit));
        }
        let Bucket(bucket) = state.table.get(&this)?;
        match bucket.put(&name, Bytes::from(value)).await {
            Ok(revision) => Ok(Ok(revision)),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn compare_and_swap(
        &mut self,
        this: Resource<Bucket>,
        name: String,
        expected: Option<String>,
        value: Vec<u8>,
    ) -> Answer<String> {
        let state = self.enter()?;
        if let Err(limit) = take_written(state, value.len()) {
            return Ok(Err(limit));
        }
        let Bucket(bucket) = state.table.get(&this)?;
        match bucket.compare_and_swap(&name, expected.as_deref(), Bytes::from(value)).await {
            Ok(revision) => Ok(Ok(revision)),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn remove(&mut self, this: Resource<Bucket>, name: String) -> Answer<bool> {
        let state = self.enter()?;
        let Bucket(bucket) = state.table.get(&this)?;
        match bucket.remove(&name).await {
            Ok(removed) => Ok(Ok(removed)),
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn list_page(
        &mut self,
        this: Resource<Bucket>,
        prefix: String,
        token: Option<String>,
        limit: u32,
    ) -> Answer<theirs::Page> {
        let state = self.enter()?;
        let Bucket(bucket) = state.table.get(&this)?;
        match bucket.list_page(&prefix, token.as_deref(), limit).await {
            Ok(NamesPage { names, next }) => match take_read(state, names.iter().map(String::len).sum()) {
                Ok(()) => Ok(Ok(theirs::Page { names, next })),
                Err(limit) => Ok(Err(limit)),
            },
            Err(error) => Ok(Err(answer(state, error))),
        }
    }

    async fn drop(&mut self, this: Resource<Bucket>) -> wasmtime::Result<()> {
        self.enter()?.table.delete(this)?;
        Ok(())
    }
}
