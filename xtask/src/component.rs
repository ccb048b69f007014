//! From a core module to a component.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use wasm_encoder::{Module, RawSection};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, DecodedWasm};

/// What the world a module was built for is kept in, until it is a component.
const WORLD_SECTION: &str = "component-type";
/// Names of functions: a trap says where it happened.
const NAME_SECTION: &str = "name";

/// Makes a component of a core module: without sections that nothing reads, valid, and asking for no more than it uses.
pub(crate) fn encode(module: &[u8]) -> Result<Vec<u8>> {
    let module = strip(module).context("not a core module")?;
    ComponentEncoder::default().validate(true).module(&module)?.encode()
}

/// Drops every custom section but the world and the names.
fn strip(module: &[u8]) -> Result<Vec<u8>> {
    let mut stripped = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        if let Payload::CustomSection(section) = &payload
            && section.name() != NAME_SECTION
            && !section.name().starts_with(WORLD_SECTION)
        {
            continue;
        }
        if let Some((id, range)) = payload.as_section() {
            stripped.section(&RawSection { id, data: &module[range] });
        }
    }
    Ok(stripped.finish())
}

/// What a component can reach and what it offers: the names of its imports and exports.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) imports: BTreeSet<String>,
    pub(crate) exports: BTreeSet<String>,
}

impl World {
    /// Reads it from the component, without running anything.
    pub(crate) fn of(component: &[u8]) -> Result<Self> {
        let DecodedWasm::Component(resolve, world) = wit_component::decode(component)? else {
            bail!("not a component");
        };
        let world = &resolve.worlds[world];
        let names = |items: Vec<_>| items.into_iter().map(|key| resolve.name_world_key(key)).collect();
        Ok(Self { imports: names(world.imports.keys().collect()), exports: names(world.exports.keys().collect()) })
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use wasm_encoder::{CustomSection, MemorySection, MemoryType};

    use super::*;

    #[test]
    fn names_and_world_stay_and_the_rest_goes() {
        let custom = |name: &'static str| CustomSection { name: name.into(), data: Cow::Borrowed(&[0]) };
        let memory = MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None };
        let mut memories = MemorySection::new();
        memories.memory(memory);
        let mut module = Module::new();
        module.section(&custom("component-type:guest")).section(&memories).section(&custom(".debug_info"));
        module.section(&custom("name")).section(&custom("producers"));

        let stripped = strip(&module.finish()).unwrap();
        let kept = Parser::new(0).parse_all(&stripped).filter_map(|payload| match payload.unwrap() {
            Payload::CustomSection(section) => Some(section.name().to_owned()),
            Payload::MemorySection(_) => Some("(memory)".to_owned()),
            _ => None,
        });
        assert_eq!(kept.collect::<Vec<_>>(), ["component-type:guest", "(memory)", "name"]);
        assert!(strip(b"no module").is_err());
    }
}
