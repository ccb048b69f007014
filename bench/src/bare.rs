//! The reference: wasmtime alone, in the sandbox's own configuration, doing the least that runs an op of a component.
//!
//! No admission, no limits but those that wasmtime needs, no events, no store: a fresh `wasmtime::Store`, an instance, one
//! call, and host functions that hand over a few bytes.

use std::fs::File;
use std::io::Write as _;

use anyhow::{Context as _, Result, bail};
use opyard_sandbox::SandboxSettings;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker, Resource, ResourceTable, ResourceType};
use wasmtime::{Engine, Store};

use bindings::opyard::op::types::{IoError, MetadataEntry};
use bindings::opyard::op::{io, values};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package opyard:bench;
            world bare {
                import opyard:op/values@0.1.0;
                import opyard:op/io@0.1.0;
                export opyard:op/ops@0.1.0;
            }
        ",
        world: "opyard:bench/bare",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "opyard:op/values.reader": super::Reader,
            "opyard:op/values.writer": super::Writer,
        },
    });
}

/// The input.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
#[derive(Debug)]
pub struct Reader;

/// The output.
#[expect(unreachable_pub, reason = "the generated bindings name it")]
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

#[derive(Default)]
struct State {
    table: ResourceTable,
    input: Vec<u8>,
    output: Vec<u8>,
}

type Answer<T> = wasmtime::Result<std::result::Result<T, IoError>>;

impl io::Host for State {
    fn input(&mut self, _: String) -> Answer<Option<Resource<Reader>>> {
        Ok(Ok(Some(self.table.push(Reader)?)))
    }

    fn inputs(&mut self, _: String) -> Answer<Vec<Resource<Reader>>> {
        Ok(Ok(Vec::new()))
    }

    fn output(&mut self, _: String) -> Answer<Resource<Writer>> {
        Ok(Ok(self.table.push(Writer::default())?))
    }

    fn dynamic_output(&mut self, _: String, _: String) -> Answer<Resource<Writer>> {
        Ok(Ok(self.table.push(Writer::default())?))
    }

    fn load(&mut self, _: String) -> Answer<Option<Vec<u8>>> {
        Ok(Ok(Some(self.input.clone())))
    }

    fn store(&mut self, _: String, bytes: Vec<u8>) -> Answer<()> {
        self.output = bytes;
        Ok(Ok(()))
    }
}

impl values::Host for State {}

impl values::HostReader for State {
    fn type_name(&mut self, _: Resource<Reader>) -> wasmtime::Result<String> {
        Ok("json".to_owned())
    }

    fn media_type(&mut self, _: Resource<Reader>) -> wasmtime::Result<String> {
        Ok("application/json".to_owned())
    }

    fn size(&mut self, _: Resource<Reader>) -> wasmtime::Result<u64> {
        Ok(self.input.len() as u64)
    }

    fn metadata(&mut self, _: Resource<Reader>) -> wasmtime::Result<Vec<MetadataEntry>> {
        Ok(Vec::new())
    }

    fn mapping_key(&mut self, _: Resource<Reader>) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }

    fn read(&mut self, _: Resource<Reader>, _: u32) -> Answer<Vec<u8>> {
        Ok(Ok(self.input.clone()))
    }

    fn read_at(&mut self, _: Resource<Reader>, _: u64, _: u32) -> Answer<Vec<u8>> {
        Ok(Ok(self.input.clone()))
    }

    fn drop(&mut self, this: Resource<Reader>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl values::HostWriter for State {
    fn write(&mut self, this: Resource<Writer>, bytes: Vec<u8>) -> Answer<()> {
        self.table.get_mut(&this)?.0.extend_from_slice(&bytes);
        Ok(Ok(()))
    }

    fn add_metadata(&mut self, _: Resource<Writer>, _: Vec<MetadataEntry>) -> Answer<()> {
        Ok(Ok(()))
    }

    fn commit(&mut self, this: Resource<Writer>) -> Answer<()> {
        self.output = self.table.delete(this)?.0;
        Ok(Ok(()))
    }

    fn drop(&mut self, this: Resource<Writer>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

/// A component, ready to be instantiated.
pub(crate) struct Bare {
    pre: bindings::BarePre<State>,
}

impl Bare {
    /// Compiles a component.
    pub(crate) fn compile(bytes: &[u8]) -> Result<Self> {
        let engine = engine()?;
        Self::link(&Component::new(&engine, bytes)?)
    }

    /// Loads what [`precompile`] gave.
    pub(crate) fn load(code: &[u8]) -> Result<Self> {
        let engine = engine()?;
        // SAFETY: `code` is what the parent process compiled a moment ago, in a folder of its own.
        #[expect(unsafe_code, reason = "the reference of a start with compiled code loads compiled code")]
        let component = unsafe { Component::deserialize(&engine, code) }?;
        Self::link(&component)
    }

    fn link(component: &Component) -> Result<Self> {
        let mut linker = Linker::new(component.engine());
        values::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
        io::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
        trap_the_rest(&mut linker, component)?;
        Ok(Self { pre: bindings::BarePre::new(linker.instantiate_pre(component)?)? })
    }

    /// Runs an op in a fresh store, and gives what it wrote.
    pub(crate) async fn call(&self, op: &str, input: &[u8]) -> Result<Vec<u8>> {
        let mut store = Store::new(self.pre.engine(), State { input: input.to_owned(), ..State::default() });
        store.set_fuel(1 << 40)?;
        store.set_epoch_deadline(1 << 40);
        let instance = self.pre.instantiate_async(&mut store).await?;
        if instance.opyard_op_ops().call_execute(&mut store, op).await?.is_err() {
            bail!("`{op}` failed in the bare loop");
        }
        Ok(std::mem::take(&mut store.data_mut().output))
    }
}

/// Links what the measured ops never call.
fn trap_the_rest(linker: &mut Linker<State>, component: &Component) -> Result<()> {
    let engine = component.engine().clone();
    for (import, item) in component.component_type().imports(&engine) {
        let linked = ["opyard:op/values@", "opyard:op/io@", "opyard:op/types@"];
        let ComponentItem::ComponentInstance(interface) = item.ty else { continue };
        if linked.iter().any(|linked| import.starts_with(linked)) {
            continue;
        }
        let mut instance = linker.instance(import)?;
        for (name, item) in interface.exports(&engine) {
            match item.ty {
                ComponentItem::Resource(_) => instance.resource(name, ResourceType::host::<()>(), |_, _| Ok(()))?,
                ComponentItem::ComponentFunc(_) => {
                    instance.func_new(name, |_, _, _, _| Err(wasmtime::Error::msg("not in the bare loop")))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn engine() -> Result<Engine> {
    opyard_sandbox::start_engine(&SandboxSettings::default()).context("starting the engine of the bare loop")
}

/// The machine code of a component.
pub(crate) fn precompile(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(engine()?.precompile_component(bytes)?)
}

/// Calls between two syncs of what the bare loop writes.
const GROUP: usize = 256;

/// Where the bare loop puts as many bytes as a durable step does: hashed, written at once, synced in groups.
pub(crate) struct Sink {
    file: File,
    bytes: Vec<u8>,
    written: usize,
}

impl Sink {
    pub(crate) fn new(file: File, bytes_per_call: usize) -> Self {
        Self { file, bytes: vec![b' '; bytes_per_call], written: 0 }
    }

    /// Takes what came of one call.
    pub(crate) fn take(&mut self, input: &[u8], output: &[u8]) -> Result<()> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(input).update(output).update(&self.bytes);
        self.file.write_all(hasher.finalize().as_bytes())?;
        self.file.write_all(&self.bytes)?;
        self.written += 1;
        if self.written.is_multiple_of(GROUP) {
            self.file.sync_data()?;
        }
        Ok(())
    }
}
