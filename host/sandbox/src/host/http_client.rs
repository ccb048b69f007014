//! `http-client`: HTTP, to the origins that an op was granted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opyard_model::component::Interface;
use opyard_model::error::Failure;
use opyard_model::metadata::{MetadataEntry, MetadataValue};
use opyard_model::step::Saying;
use opyard_resources::{HttpClientResource, HttpRequest, HttpResponse, ResourceError, ResourceFailure};
use wasmtime::component::Resource;

use crate::bindings::opyard::resources::errors::Error;
use crate::bindings::opyard::resources::http_client::{Host, HostClient, HostResponse, Request};
use crate::gate::{Doorway, HttpClient};
use crate::guard::Guard;
use crate::host::grant::{Answer, answer, granted, limited};
use crate::host::values::MAX_CHUNK;
use crate::metadata::short;
use crate::state::HostState;

/// An HTTP client, with the rights of its grant. The headers that the host adds stay on this side.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Client(HttpClientResource, String);

/// An answer whose body is being read.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
pub struct Response {
    response: HttpResponse,
    key: String,
    _flow: Arc<()>,
}

/// One text of an audited event.
pub(super) fn entry(label: &str, text: &str) -> MetadataEntry {
    MetadataEntry { label: label.to_owned(), value: MetadataValue::Text(short(text)) }
}

/// The failure in the contract's words. What the op is not told, the operator is: of a refusal in an event, of what does
/// not answer in the failure of the step, should it fail.
pub(super) fn failed(state: &mut HostState, key: &str, failure: ResourceFailure) -> Error {
    let ResourceFailure { answer: told, detail } = failure;
    match (told, detail) {
        (ResourceError::Denied, Some(detail)) => {
            // Where a name or a redirect leads may be another tomorrow.
            state.guard.tell_of_limit();
            let Failure { code, description, .. } = *detail;
            let metadata = vec![entry("code", &code.to_string()), entry("key", key)];
            state.outbox.event(Saying::Audited { message: description, metadata });
            Error::Denied
        }
        (ResourceError::Unavailable(text), Some(detail)) => {
            state.guard.unavailable.get_or_insert(*detail);
            Error::Unavailable(text)
        }
        (told, _) => answer(state, told),
    }
}

impl Host for Doorway<'_, HttpClient> {
    async fn open(&mut self, key: String) -> Answer<Resource<Client>> {
        let state = self.enter()?;
        let Some((granted, opening)) = granted(state, &key, Interface::HttpClient)? else {
            return Ok(Err(Error::Denied));
        };
        let (resources, tenant) = (state.resources.clone(), state.keeper()?.tenant.clone());
        let opened = resources.http_client(&tenant, &granted.name, &granted.spec, granted.access).await;
        match opened {
            Ok(client) => {
                opening.succeeded(state);
                // A server may send back what it was sent.
                client.secrets().for_each(|(name, secret)| state.redactor.learn(name, secret.expose()));
                Ok(Ok(state.table.push(Client(client, key))?))
            }
            Err(failure) => {
                opening.failed(state, &failure);
                Ok(Err(failed(state, &key, failure)))
            }
        }
    }
}

impl HostClient for Doorway<'_, HttpClient> {
    async fn send(&mut self, this: Resource<Client>, request: Request, body: Vec<u8>) -> Answer<Resource<Response>> {
        let state = self.enter()?;
        let flow = Guard::open_flow(&state.guard.flows)?;
        let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let head = (request.method.len() + request.url.len() + headers) as u64;
        let size = body.len() as u64;
        let guard = &mut state.guard;
        let taken = guard.take_http_call().and_then(|()| guard.take_http_bytes(head.saturating_add(size)));
        if let Err(limit) = taken.and_then(|()| guard.take_written(size)) {
            return Ok(Err(limited(state, limit)));
        }
        let Request { method, url, headers, timeout_ms } = request;
        let timeout = timeout_ms.map(|ms| Duration::from_millis(ms.into()));
        let request = HttpRequest { method, url, headers, timeout };
        let Client(client, key) = state.table.get(&this)?;
        let key = key.clone();
        let response = match client.send(&request, Bytes::from(body)).await {
            Ok(response) => response,
            Err(failure) => return Ok(Err(failed(state, &key, failure))),
        };
        if let Err(limit) = state.guard.take_http_bytes(response.head_bytes()) {
            return Ok(Err(limited(state, limit)));
        }
        Ok(Ok(state.table.push(Response { response, key, _flow: flow })?))
    }

    async fn drop(&mut self, this: Resource<Client>) -> wasmtime::Result<()> {
        self.enter()?.table.delete(this)?;
        Ok(())
    }
}

impl HostResponse for Doorway<'_, HttpClient> {
    async fn status(&mut self, this: Resource<Response>) -> wasmtime::Result<u16> {
        Ok(self.enter()?.table.get(&this)?.response.status())
    }

    async fn headers(&mut self, this: Resource<Response>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.enter()?.table.get(&this)?.response.headers().to_vec())
    }

    async fn read(&mut self, this: Resource<Response>, max: u32) -> Answer<Vec<u8>> {
        let state = self.enter()?;
        let Response { response, key, .. } = state.table.get_mut(&this)?;
        let max = u32::try_from(MAX_CHUNK)?.min(max);
        let bytes = match response.read(max).await {
            Ok(bytes) => bytes,
            Err(failure) => {
                let key = key.clone();
                return Ok(Err(failed(state, &key, failure)));
            }
        };
        // How much there is, is known only now. At most a chunk of it is beyond a limit.
        let (guard, size) = (&mut state.guard, bytes.len() as u64);
        if let Err(limit) = guard.take_http_bytes(size).and_then(|()| guard.take_read(size)) {
            return Ok(Err(limited(state, limit)));
        }
        Ok(Ok(bytes.into()))
    }

    async fn drop(&mut self, this: Resource<Response>) -> wasmtime::Result<()> {
        self.enter()?.table.delete(this)?;
        Ok(())
    }
}
