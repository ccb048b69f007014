//! Which bytes become a component that can be called, and what is kept of them.

use std::fs;

use opyard_model::error::Code;
use opyard_model::limits::ByteSize;
use opyard_sandbox::{ComponentBounds, SandboxSettings};
use opyard_tests::guests::component;

use crate::harness::Bench;

const NOTHING: &str = "(func $execute (param i32 i32) (result i32) (i32.const 0))";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_a_component_for_this_host_is_refused_with_its_own_words() {
    let bench = Bench::with(&SandboxSettings {
        bounds: ComponentBounds { size: ByteSize(1 << 20), ..ComponentBounds::default() },
        ..SandboxSettings::default()
    });
    let text = |text: &str| wat::parse_str(text).unwrap();
    let loops = format!("{} {}", "(loop ".repeat(1_000), ")".repeat(1_000));
    let cases: Vec<(Vec<u8>, Code, &str)> = vec![
        (b"#!/bin/sh".to_vec(), Code::ComponentInvalid, "not a WebAssembly file"),
        (text("(module)"), Code::ComponentInvalid, "a core WebAssembly module"),
        (text("(component)"), Code::ComponentInvalid, "ships no ops"),
        (
            text("(component (import \"acme:files/all@1.0.0\" (instance)))"),
            Code::UnknownImport,
            "'acme:files/all@1.0.0'",
        ),
        (
            text("(component (import \"wasi:http/types@0.2.0\" (instance)))"),
            Code::UnknownImport,
            "'wasi:http/types@0.2.0'",
        ),
        (text("(component (import \"wasi:io/poll@0.3.0\" (instance)))"), Code::UnknownImport, "'wasi:io/poll@0.3.0'"),
        (text("(component (import \"opyard:op/io@0.9.0\" (instance)))"), Code::ContractVersion, "'opyard:op/io@0.9.0'"),
        (
            text("(component (instance $i) (export \"opyard:op/ops@0.2.0\" (instance $i)))"),
            Code::ContractVersion,
            "'opyard:op/ops@0.2.0'",
        ),
        (
            text("(component (instance $i) (export \"opyard:op/ops@0.1.0\" (instance $i)))"),
            Code::ComponentInvalid,
            "cannot be used",
        ),
        (component(NOTHING)[..200].to_vec(), Code::ComponentInvalid, "not a valid component"),
        (vec![0; (1 << 20) + 1], Code::TooLarge, "at most 1048576"),
        (component(&format!("{NOTHING} (func {loops})")), Code::TooLarge, "loops inside each other"),
        (text(&format!("(component {})", "(core module)".repeat(65))), Code::TooLarge, "core modules"),
        (text(&format!("{}{}", "(component ".repeat(17), ")".repeat(17))), Code::TooLarge, "inside each other"),
    ];
    for (bytes, code, words) in cases {
        let failure = bench.load(bytes).await.unwrap_err();
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.description.contains(words), "{failure} / {words}");
    }
}

/// What is not needed is off: most holes of the past were there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_wasm_can_do_beyond_need_is_refused() {
    let bench = Bench::new();
    for feature in [
        "(func $f (return_call $f))",
        "(tag $e) (func $f (throw $e))",
        "(type $s (struct)) (func $f (drop (struct.new $s)))",
        "(func $f (atomic.fence))",
        "(func $f (drop (i32x4.relaxed_trunc_f32x4_s (v128.const i32x4 0 0 0 0))))",
    ] {
        let call = "(func $execute (param i32 i32) (result i32) (call $f) (i32.const 0))";
        let failure = bench.load(component(&format!("{feature} {call}"))).await.unwrap_err();
        assert_eq!(failure.code, Code::ComponentInvalid, "{feature}: {failure}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_digest_alone_authorises_nothing() {
    let bench = Bench::new();
    let digest = bench.load(component(NOTHING)).await.unwrap().digest;
    assert!(bench.describe(digest).await.unwrap().ops.is_empty());
    let mut other = bench;
    other.tenant = "other".parse().unwrap();
    assert_eq!(other.describe(digest).await.unwrap_err().code, Code::ComponentUnreadable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_altered_cache_file_is_reported_compiled_again_and_never_used() {
    let dir = tempfile::tempdir().unwrap();
    let settings = SandboxSettings { cache_dir: Some(dir.path().to_owned()), ..SandboxSettings::default() };
    let code_file = || {
        let files = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|ext| ext == "cwasm")).collect::<Vec<_>>()
    };
    let bytes = component(NOTHING);
    let first = Bench::with(&settings);
    first.load(bytes.clone()).await.unwrap();
    let [file] = code_file().try_into().unwrap();
    let written = fs::read(&file).unwrap();

    let again = Bench::with(&settings);
    again.load(bytes.clone()).await.unwrap();
    assert!(again.sandbox.take_cache_integrity().is_empty());

    for (at, cut) in [(0, false), (written.len() / 2, false), (written.len() - 1, false), (10, true)] {
        let mut altered = written.clone();
        altered[at] ^= 1;
        altered.truncate(if cut { at } else { written.len() });
        fs::write(&file, &altered).unwrap();
        let bench = Bench::with(&settings);
        let digest = bench.load(bytes.clone()).await.unwrap().digest;
        let reports = bench.sandbox.take_cache_integrity();
        assert_eq!(reports.iter().map(|report| report.component).collect::<Vec<_>>(), [digest]);
        assert_ne!(fs::read(&file).unwrap(), altered, "written anew");
    }

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let secret = dir.path().join("secret");
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
