//! Components of a few lines of WebAssembly text: what tests need of guests that no honest toolchain makes.

use std::fmt::Write as _;
use std::path::Path;

/// Where the description of [`op`] stands in memory: far behind what cases write, within the two pages that there are.
const DESCRIPTION: u32 = 120_000;

/// What the host gives beside the contract: parts of WASI.
const WASI: &str = "
    package wasi:random@0.2.3 { interface random { get-random-u64: func() -> u64; } }
    package wasi:clocks@0.2.0 {
        interface monotonic-clock {
            use wasi:io/poll@0.2.0.{pollable};
            now: func() -> u64;
            subscribe-duration: func(when: u64) -> pollable;
        }
        interface wall-clock {
            record datetime { seconds: u64, nanoseconds: u32 }
            now: func() -> datetime;
        }
    }
    package wasi:io@0.2.0 {
        interface error { resource error; }
        interface poll { resource pollable { block: func(); } }
        interface streams {
            use error.{error};
            variant stream-error { last-operation-failed(error), closed }
            resource output-stream {
                blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
            }
        }
    }
    package wasi:cli@0.2.0 {
        interface stderr { use wasi:io/streams@0.2.0.{output-stream}; get-stderr: func() -> output-stream; }
        interface stdout { use wasi:io/streams@0.2.0.{output-stream}; get-stdout: func() -> output-stream; }
        interface exit { exit: func(status: result); }
        interface environment { get-arguments: func() -> list<string>; }
    }
    package wasi:filesystem@0.2.0 {
        interface types { resource descriptor; }
        interface preopens {
            use types.{descriptor};
            get-directories: func() -> list<tuple<descriptor, string>>;
        }
    }
    package wasi:sockets@0.2.0 { interface tcp-create-socket { create-tcp-socket: func(family: u8) -> u32; } }";

/// All that a guest may import; what its module does not is left out.
const IMPORTS: &str = "
    import wasi:random/random@0.2.3;
    import wasi:clocks/monotonic-clock@0.2.0;
    import wasi:clocks/wall-clock@0.2.0;
    import wasi:io/poll@0.2.0;
    import wasi:cli/stderr@0.2.0;
    import wasi:cli/stdout@0.2.0;
    import wasi:cli/exit@0.2.0;
    import wasi:cli/environment@0.2.0;
    import wasi:filesystem/preopens@0.2.0;
    import wasi:sockets/tcp-create-socket@0.2.0;
    include opyard:op/op@0.1.0;
    import opyard:op/execution@0.1.0;
    import opyard:resources/object-store@0.1.0;
    import opyard:resources/key-value@0.1.0;";

/// `(func $execute ..)` around a body, which may use a local `$n`, after other parts of a module.
#[must_use]
pub fn execute(parts: &str, body: &str) -> String {
    format!("{parts} (func $execute (param i32 i32) (result i32) (local $n i32) {body} (i32.const 0))")
}

/// Encodes a component of the world `op` from parts of a core module: imports, then everything else. `$execute` is what
/// the op does; `describe` gives an empty list unless `text` defines `$describe`.
#[must_use]
pub fn component(text: &str) -> Vec<u8> {
    let describe = if text.contains("(func $describe") { "" } else { "(func $describe (result i32) (i32.const 0))" };
    let memory = if text.contains("(memory (") { "" } else { "(memory (export \"memory\") 2)" };
    let realloc = if text.contains("cabi_realloc") {
        ""
    } else {
        "(global $heap (mut i32) (i32.const 8192))
         (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32)
           (local $at i32)
           (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
           (global.set $heap (i32.add (local.get $at) (local.get 3)))
           (local.get $at))"
    };
    module(&format!(
        "(module {text} {memory} {realloc} {describe}
           (export \"opyard:op/ops@0.1.0#describe\" (func $describe))
           (export \"opyard:op/ops@0.1.0#execute\" (func $execute)))"
    ))
}

/// The same, with a description: the op `case` with the optional outputs `out` (json) and `raw` (bytes) and the dynamic
/// output `items` (json), and the same by the name `worldly`, which is not hermetic.
#[must_use]
pub fn op(text: &str) -> Vec<u8> {
    let mut memory = Layout(Vec::new());
    let outputs = [
        memory.output("out", ("json", "application/json"), false),
        memory.output("raw", ("bytes", "application/octet-stream"), false),
        memory.output("items", ("json", "application/json"), true),
    ];
    let outputs = memory.put(&outputs.concat());
    let names = [memory.text("case"), memory.text("worldly")];
    // As the canonical ABI lays out `op-definition`: no description, no inputs, these outputs, no resources; whether it uses
    // `execution`; no config, tags, retries; it is deterministic; no attributes.
    let op =
        |name: [u32; 2], worldly: u32| [&name[..], &[0; 5], &[outputs, 3, 0, 0, worldly], &[0; 9], &[1, 0, 0]].concat();
    let ops = memory.put(&[op(names[0], 0), op(names[1], 1)].concat());
    let list = memory.put(&[ops, 2]);
    let bytes = memory.0.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:02x}");
        text
    });
    component(&format!(
        "{text} (data (i32.const {DESCRIPTION}) \"{bytes}\") (func $describe (result i32) (i32.const {list}))"
    ))
}

/// Memory from [`DESCRIPTION`] on.
struct Layout(Vec<u8>);

impl Layout {
    fn at(&mut self) -> u32 {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        DESCRIPTION + u32::try_from(self.0.len()).expect("it is small")
    }

    /// Words, and where they are.
    fn put(&mut self, words: &[u32]) -> u32 {
        let at = self.at();
        self.0.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        at
    }

    /// A string: where it is and how long.
    fn text(&mut self, text: &str) -> [u32; 2] {
        let at = self.at();
        self.0.extend(text.as_bytes());
        [at, u32::try_from(text.len()).expect("it is short")]
    }

    /// An `output-definition`: optional unless it is dynamic.
    fn output(&mut self, name: &str, (type_name, media_type): (&str, &str), dynamic: bool) -> Vec<u32> {
        let (name, type_name, media_type) = (self.text(name), self.text(type_name), self.text(media_type));
        let flags = u32::from(!dynamic) | u32::from(dynamic) << 8;
        [&name[..], &[0, 0, 0], &type_name, &media_type, &[flags, 0, 0]].concat()
    }
}

/// Encodes a component from a whole core module, with whatever it imports of what there is. One that names
/// `opyard:test/things` has a resource type of its own, `thing`.
///
/// # Panics
/// When it is none: the text is that of a test.
#[must_use]
pub fn module(text: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).expect("the text is a module");
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")).expect("the contract is there");
    let things = if text.contains("opyard:test/things") { "export things;" } else { "" };
    let world = format!(
        "package opyard:test; {WASI}
         interface things {{ resource thing {{ constructor(); }} }}
         world test {{ {IMPORTS} {things} }}"
    );
    let package = resolve.push_str("test.wit", &world).expect("the world is well-formed");
    let world = resolve.select_world(&[package], None).expect("there is one world");
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8)
        .expect("the metadata can be embedded");
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|mut encoder| encoder.encode())
        .expect("the module fits the world")
}
