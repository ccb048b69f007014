//! Interfaces that are known, and behind which there is nothing here: files, sockets, terminals, kinds of resources
//! without a driver.
//!
//! They are linked, since a guest's language may import them for things that it never does; a call is a trap that names
//! the interface, but for the few that have a harmless answer.

use opyard_model::component::Interface;
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceType, Val};

use crate::gate::forbidden;
use crate::imports::{self, Behind, Known};
use crate::state::HostState;

/// What stands behind handles that cannot be had.
struct Nothing;

/// How a call of a function ends.
#[derive(Clone, Copy)]
enum Answer {
    /// A trap.
    Trap,
    /// An empty list: there are no folders.
    NoneOfThem,
    /// None: there is no terminal, and no error code of a file system.
    None,
    /// `denied` for an op that lists the interface, a trap for others.
    Denied(Interface),
}

fn answer(import: &str, function: &str) -> Answer {
    let name = import.split('@').next().unwrap_or(import);
    match (name, function) {
        ("wasi:filesystem/preopens", "get-directories") => Answer::NoneOfThem,
        ("wasi:filesystem/types", "filesystem-error-code")
        | ("wasi:cli/terminal-stdin", "get-terminal-stdin")
        | ("wasi:cli/terminal-stdout", "get-terminal-stdout")
        | ("wasi:cli/terminal-stderr", "get-terminal-stderr") => Answer::None,
        (_, "open") => Interface::from_import(import).map_or(Answer::Trap, Answer::Denied),
        _ => Answer::Trap,
    }
}

/// Links what `component` imports beyond what [`super::linker`] links. Admission has refused imports that nobody knows.
pub(crate) fn add_to_linker(
    linker: &mut Linker<HostState>,
    engine: &Engine,
    component: &Component,
) -> wasmtime::Result<()> {
    for (import, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = item.ty else { continue };
        if imports::known(import) != Known::As(Behind::Nothing) {
            continue;
        }
        let mut instance = linker.instance(import)?;
        for (name, item) in interface.exports(engine) {
            match item.ty {
                ComponentItem::Resource(_) => {
                    instance.resource(name, ResourceType::host::<Nothing>(), |_, _| Ok(()))?;
                }
                ComponentItem::ComponentFunc(_) => function(&mut instance, import, name)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn function(instance: &mut LinkerInstance<'_, HostState>, import: &str, name: &str) -> wasmtime::Result<()> {
    let answer = answer(import, name);
    let import = import.to_owned();
    instance.func_new(name, move |mut store, _, _, results| {
        let state = store.data_mut();
        state.guard.count_call()?;
        let value = match answer {
            Answer::NoneOfThem => Val::List(Vec::new()),
            Answer::None => Val::Option(None),
            Answer::Denied(interface) if state.listed.contains(&interface) => {
                Val::Result(Err(Some(Box::new(Val::Variant("denied".to_owned(), None)))))
            }
            Answer::Denied(_) | Answer::Trap => return Err(forbidden(&import, &state.work).into()),
        };
        if let Some(result) = results.first_mut() {
            *result = value;
        }
        Ok(())
    })
}
