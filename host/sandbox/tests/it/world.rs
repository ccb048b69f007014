//! What WASI is here: virtual for hermetic ops, harmless for all.

use opyard_model::digest::Digest;
use opyard_model::error::Code;
use opyard_model::event::{Level, Stream};
use opyard_model::limits::Limits;
use opyard_model::step::{Call, Saying};

use crate::harness::Bench;

const CLOCK_AND_RANDOM: &str = "
    (import \"wasi:random/random@0.2.3\" \"get-random-u64\" (func $random (result i64)))
    (import \"wasi:clocks/monotonic-clock@0.2.0\" \"now\" (func $now (result i64)))
    (import \"wasi:clocks/wall-clock@0.2.0\" \"now\" (func $wall (param i32)))
    (import \"opyard:op/io@0.1.0\" \"store\" (func $store (param i32 i32 i32 i32 i32)))
    (data (i32.const 1024) \"raw\")
    (func $execute (param i32 i32) (result i32)
      (i64.store (i32.const 3000) (call $random))
      (i64.store (i32.const 3008) (call $now))
      (call $wall (i32.const 3016))
      (call $store (i32.const 1024) (i32.const 3) (i32.const 3000) (i32.const 32) (i32.const 2048))
      (i32.const 0))";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hermetic_op_sees_the_same_world_each_time_and_others_the_real_one() {
    let bench = Bench::new();
    let call = bench.text_call(CLOCK_AND_RANDOM).await;
    let run = async |hermetic, seed: &[u8]| {
        let mut call = call.clone();
        call.hermetic = hermetic;
        call.seed = Digest::of(seed);
        let came = bench.request(Call::Op(Box::new(call)), Limits::default()).await;
        bench.bytes(&came.outputs()[0].1).await.to_vec()
    };
    let first = run(true, b"a").await;
    assert_eq!(run(true, b"a").await, first);
    assert_ne!(run(true, b"b").await[..8], first[..8]);
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!((word(&first, 8), word(&first, 16)), (0, 946_684_800));
    let real = run(false, b"a").await;
    assert_ne!(real[..8], first[..8]);
    assert!(word(&real, 16) > 1_700_000_000);
    assert_eq!(word(&real, 8) % 1_000_000, 0, "whole milliseconds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_printed_becomes_log_lines() {
    let print = "
        (import \"wasi:cli/stdout@0.2.0\" \"get-stdout\" (func $stdout (result i32)))
        (import \"wasi:io/streams@0.2.0\" \"[method]output-stream.blocking-write-and-flush\"
          (func $write (param i32 i32 i32 i32)))
        (data (i32.const 1024) \"one\\0atw\\1bo\\0athree\")
        (func $execute (param i32 i32) (result i32)
          (call $write (call $stdout) (i32.const 1024) (i32.const 14) (i32.const 2048)) (i32.const 0))";
    let bench = Bench::new();
    let came = bench.run_text(print, Limits::default()).await;
    let lines = came.said.iter().filter_map(|saying| match saying {
        Saying::Log(line) => Some((line.stream, line.message.as_str())),
        _ => None,
    });
    assert_eq!(lines.collect::<Vec<_>>(), ["one", "tw\\u{1b}o", "three"].map(|line| (Some(Stream::Stdout), line)));

    let came = bench.run_text(&print.replace("stdout", "stderr"), Limits::default()).await;
    let streams = came.said.iter().filter_map(|saying| match saying {
        Saying::Log(line) => Some((line.stream, line.level)),
        _ => None,
    });
    assert_eq!(streams.collect::<Vec<_>>(), [(Some(Stream::Stderr), Level::Warning); 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_no_files_no_arguments_and_no_sockets() {
    let bench = Bench::new();
    let none = "
        (import \"wasi:filesystem/preopens@0.2.0\" \"get-directories\" (func $folders (param i32)))
        (import \"wasi:cli/environment@0.2.0\" \"get-arguments\" (func $arguments (param i32)))
        (func $execute (param i32 i32) (result i32)
          (call $folders (i32.const 2048)) (call $arguments (i32.const 2056))
          (if (i32.or (i32.load (i32.const 2052)) (i32.load (i32.const 2060))) (then unreachable))
          (i32.const 0))";
    assert!(bench.run_text(none, Limits::default()).await.memoisable());

    let socket = "
        (import \"wasi:sockets/tcp-create-socket@0.2.0\" \"create-tcp-socket\" (func $socket (param i32) (result i32)))
        (func $execute (param i32 i32) (result i32) (drop (call $socket (i32.const 0))) (i32.const 0))";
    let came = bench.run_text(socket, Limits::default()).await;
    assert_eq!(came.code(), Code::ForbiddenImport);
    assert!(came.failure().description.contains("wasi:sockets/tcp-create-socket@0.2.0"));

    let exit = "
        (import \"wasi:cli/exit@0.2.0\" \"exit\" (func $exit (param i32)))
        (func $execute (param i32 i32) (result i32) (call $exit (i32.const 1)) (i32.const 0))";
    let came = bench.run_text(exit, Limits::default()).await;
    assert_eq!(came.failure().description, "the op ended its own program with exit code 1");
}
