//! The host's side of every interface, one file each. Guest-controlled: every argument.

pub(crate) mod blobs;
pub(crate) mod closed;
pub(crate) mod context;
pub(crate) mod events;
pub(crate) mod grant;
pub(crate) mod http_client;
pub(crate) mod io;
pub(crate) mod key_value;
pub(crate) mod model_registry;
pub(crate) mod object_store;
pub(crate) mod secrets;
pub(crate) mod values;
pub(crate) mod wasi;

use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::bindings::opyard::{op, resources};
use crate::gate::{self, Through};
use crate::state::HostState;

/// Links everything that has something behind it. What a step may call of it is decided at each call, by its doors.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    op::context::add_to_linker::<HostState, Through<gate::Context>>(l, gate::arrive)?;
    op::execution::add_to_linker::<HostState, Through<gate::Execution>>(l, gate::arrive)?;
    op::values::add_to_linker::<HostState, Through<gate::Values>>(l, gate::arrive)?;
    op::io::add_to_linker::<HostState, Through<gate::Io>>(l, gate::arrive)?;
    op::events::add_to_linker::<HostState, Through<gate::Events>>(l, gate::arrive)?;
    resources::blobs::add_to_linker::<HostState, Through<gate::Blobs>>(l, gate::arrive)?;
    resources::object_store::add_to_linker::<HostState, Through<gate::ObjectStore>>(l, gate::arrive)?;
    resources::key_value::add_to_linker::<HostState, Through<gate::KeyValue>>(l, gate::arrive)?;
    resources::model_registry::add_to_linker::<HostState, Through<gate::ModelRegistry>>(l, gate::arrive)?;
    resources::http_client::add_to_linker::<HostState, Through<gate::HttpClient>>(l, gate::arrive)?;
    resources::secrets::add_to_linker::<HostState, Through<gate::Secrets>>(l, gate::arrive)?;
    wasi::add_to_linker(l)?;
    Ok(linker)
}
