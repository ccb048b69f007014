//! Which bytes are looked at more closely than by their shape: a structural check before anything is compiled.
//!
//! Compiling is as dangerous as running: 27 KiB of nested loops take half a minute. What is bounded here are the counts
//! that make it so ([`ComponentBounds`]); validity itself is checked by the compiler, with the same parser.

use std::collections::BTreeSet;

use opyard_model::digest::ComponentDigest;
use opyard_model::error::{Code, Failure, sanitize};
use sha2::{Digest as _, Sha256};
use wasmparser::{Encoding, FunctionBody, Operator, Parser, Payload};

use crate::bounds::ComponentBounds;
use crate::imports::{self, CONTRACT_VERSION, Known};

/// What a component exports that ships ops.
pub(crate) const OPS: &str = "opyard:op/ops@0.1.0";
/// What a component exports that ships type checkers.
pub(crate) const TYPE_CHECKS: &str = "opyard:op/type-checks@0.1.0";
/// What a component exports that ships IO managers.
pub(crate) const IO_MANAGERS: &str = "opyard:op/io-managers@0.1.0";
/// What a component exports that ships hooks.
pub(crate) const HOOKS: &str = "opyard:op/hooks@0.1.0";
/// Of what a component has to export one at least: the contract that this host speaks.
const WORLDS: [&str; 4] = [OPS, TYPE_CHECKS, IO_MANAGERS, HOOKS];

/// A component whose shape was checked, and nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) digest: ComponentDigest,
    pub(crate) size: u64,
    /// Sorted.
    pub(crate) imports: Vec<String>,
    /// Sorted.
    pub(crate) exports: Vec<String>,
}

/// The digest that identifies a component.
pub(crate) fn digest(bytes: &[u8]) -> ComponentDigest {
    ComponentDigest::from_bytes(Sha256::digest(bytes).into())
}

/// Checks the shape of what should be a component.
///
/// # Errors
/// `OPY-231`, `OPY-232`, `OPY-233` or `OPY-234`, saying what is wrong.
pub(crate) fn admit(bytes: &[u8], bounds: &ComponentBounds) -> Result<Admitted, Failure> {
    if bytes.len() as u64 > bounds.size.0 {
        let text = format!("the component has {} bytes; at most {} are looked at", bytes.len(), bounds.size.0);
        return Err(Failure::new(Code::TooLarge, text));
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(Failure::new(Code::ComponentInvalid, "not a WebAssembly file"));
    }
    if Parser::is_core_wasm(bytes) {
        return Err(Failure::new(
            Code::ComponentInvalid,
            "a core WebAssembly module, not a component: wrap it with `wasm-tools component new`",
        ));
    }
    let mut survey = Survey::new(bounds);
    for payload in Parser::new(0).parse_all(bytes) {
        survey.look(&payload.map_err(invalid)?)?;
    }
    let Survey { imports, exports, .. } = survey;
    check_imports(&imports)?;
    check_exports(&exports)?;
    Ok(Admitted {
        digest: digest(bytes),
        size: bytes.len() as u64,
        imports: imports.into_iter().collect(),
        exports: exports.into_iter().collect(),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn invalid(error: wasmparser::BinaryReaderError) -> Failure {
    Failure::new(Code::ComponentInvalid, format!("not a valid component: {}", sanitize(&error.to_string(), 1 << 10)))
}

fn too_many(what: &str, max: impl std::fmt::Display) -> Failure {
    Failure::new(Code::TooLarge, format!("the component has more than {max} {what}"))
}

/// What was seen so far.
struct Survey<'a> {
    bounds: &'a ComponentBounds,
    /// How many components and modules are open around the present place.
    depth: usize,
    modules: usize,
    functions: u64,
    items: u64,
    imports: BTreeSet<String>,
    exports: BTreeSet<String>,
}

impl<'a> Survey<'a> {
    fn new(bounds: &'a ComponentBounds) -> Self {
        let (imports, exports) = (BTreeSet::new(), BTreeSet::new());
        Self { bounds, depth: 0, modules: 0, functions: 0, items: 0, imports, exports }
    }

    fn count(&mut self, items: u32) -> Result<(), Failure> {
        self.items += u64::from(items);
        let max = self.bounds.items;
        if self.items > max { Err(too_many("types, imports, exports and the like", max)) } else { Ok(()) }
    }

    fn look(&mut self, payload: &Payload<'_>) -> Result<(), Failure> {
        match payload {
            Payload::Version { encoding, .. } => {
                self.depth += 1;
                if self.depth > self.bounds.depth {
                    return Err(too_many("components inside each other", self.bounds.depth));
                }
                if self.depth == 1 && *encoding != Encoding::Component {
                    return Err(Failure::new(Code::ComponentInvalid, "not a component"));
                }
            }
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::ModuleSection { .. } => {
                self.modules += 1;
                if self.modules > self.bounds.modules {
                    return Err(too_many("core modules", self.bounds.modules));
                }
            }
            Payload::ComponentImportSection(section) => {
                self.count(section.count())?;
                if self.depth == 1 {
                    for import in section.clone() {
                        self.imports.insert(import.map_err(invalid)?.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                self.count(section.count())?;
                if self.depth == 1 {
                    for export in section.clone() {
                        self.exports.insert(export.map_err(invalid)?.name.name.to_owned());
                    }
                }
            }
            Payload::FunctionSection(section) => {
                self.functions += u64::from(section.count());
                if self.functions > self.bounds.functions {
                    return Err(too_many("functions", self.bounds.functions));
                }
            }
            Payload::CodeSectionEntry(body) => check_body(body, self.bounds)?,
            Payload::TypeSection(section) => self.count(section.count())?,
            Payload::ImportSection(section) => self.count(section.count())?,
            Payload::ExportSection(section) => self.count(section.count())?,
            Payload::GlobalSection(section) => self.count(section.count())?,
            Payload::MemorySection(section) => self.count(section.count())?,
            Payload::TableSection(section) => self.count(section.count())?,
            Payload::ElementSection(section) => self.count(section.count())?,
            Payload::DataSection(section) => self.count(section.count())?,
            Payload::InstanceSection(section) => self.count(section.count())?,
            Payload::CoreTypeSection(section) => self.count(section.count())?,
            Payload::ComponentInstanceSection(section) => self.count(section.count())?,
            Payload::ComponentAliasSection(section) => self.count(section.count())?,
            Payload::ComponentTypeSection(section) => self.count(section.count())?,
            Payload::ComponentCanonicalSection(section) => self.count(section.count())?,
            _ => {}
        }
        Ok(())
    }
}

/// Bounds what makes compiling a function take long.
fn check_body(body: &FunctionBody<'_>, bounds: &ComponentBounds) -> Result<(), Failure> {
    if body.range().len() > bounds.body {
        return Err(too_many("bytes in one function", bounds.body));
    }
    let mut locals = 0u32;
    for group in body.get_locals_reader().map_err(invalid)? {
        locals = locals.saturating_add(group.map_err(invalid)?.0);
        if locals > bounds.locals {
            return Err(too_many("local variables in one function", bounds.locals));
        }
    }
    // One entry for each open block: whether it is a loop.
    let mut blocks = Vec::new();
    let (mut nesting, mut loops) = (0u32, 0u32);
    for operator in body.get_operators_reader().map_err(invalid)? {
        match operator.map_err(invalid)? {
            Operator::Block { .. } | Operator::If { .. } => blocks.push(false),
            Operator::Loop { .. } => {
                blocks.push(true);
                nesting += 1;
                loops += 1;
                if nesting > bounds.loop_nesting {
                    return Err(too_many("loops inside each other in one function", bounds.loop_nesting));
                }
                if loops > bounds.loops {
                    return Err(too_many("loops in one function", bounds.loops));
                }
            }
            Operator::End => nesting -= u32::from(blocks.pop() == Some(true)),
            Operator::BrTable { targets } if targets.len() > bounds.targets => {
                return Err(too_many("targets in one jump table", bounds.targets));
            }
            _ => {}
        }
        if blocks.len() > bounds.nesting {
            return Err(too_many("blocks inside each other in one function", bounds.nesting));
        }
    }
    Ok(())
}

fn check_imports(found: &BTreeSet<String>) -> Result<(), Failure> {
    for import in found {
        let shown = || sanitize(import, 200);
        match imports::known(import) {
            Known::As(_) => {}
            Known::OtherContract => {
                let text =
                    format!("the component imports '{}'; this host knows version {CONTRACT_VERSION} of it", shown());
                return Err(Failure::new(Code::ContractVersion, text));
            }
            Known::Not => {
                let text = format!("the component imports '{}', which nothing here answers to", shown());
                return Err(Failure::new(Code::UnknownImport, text));
            }
        }
    }
    Ok(())
}

fn check_exports(exports: &BTreeSet<String>) -> Result<(), Failure> {
    // Of another version, however much it exports of this one: its author means something else by it.
    for world in WORLDS {
        let name = world.split('@').next().unwrap_or(world);
        let other =
            |export: &&String| *export != world && export.strip_prefix(name).is_some_and(|v| v.starts_with('@'));
        if let Some(other) = exports.iter().find(other) {
            let text = format!("the component exports '{}'; this host calls '{world}'", sanitize(other, 200));
            return Err(Failure::new(Code::ContractVersion, text));
        }
    }
    if WORLDS.iter().any(|world| exports.contains(*world)) {
        return Ok(());
    }
    let listed: Vec<_> = exports.iter().take(8).map(|export| format!("'{}'", sanitize(export, 100))).collect();
    let listed = if listed.is_empty() { "nothing".to_owned() } else { listed.join(", ") };
    let text = format!("the component ships no ops: it exports {listed}, not '{OPS}'");
    Err(Failure::new(Code::ComponentInvalid, text))
}
