//! Hermetic means hermetic: an op that is linked to nothing through which anything could come in gives the same bits, whoever
//! runs it, when, how often, beside whom and with how much of everything.

use std::time::Duration;

use opyard_model::id::{RunId, TenantId};
use opyard_model::limits::{ByteSize, Limits};
use opyard_model::step::{Call, OpCall, Said, Saying, StepExecutor as _, StepIdentity, StepRequest, StepResult};
use opyard_model::value::ValueRef;
use opyard_sandbox::SandboxSettings;

use crate::harness::{Bench, cache, name};

/// Bytes that [`CURIOUS`] stores.
const STORED: usize = 192;

/// Looks at all that could differ: randomness, both clocks, its config, memory that it never wrote to, what growing answers,
/// and the bits of numbers that are none.
const CURIOUS: &str = "
    (import \"wasi:random/random@0.2.3\" \"get-random-u64\" (func $random (result i64)))
    (import \"wasi:clocks/monotonic-clock@0.2.0\" \"now\" (func $now (result i64)))
    (import \"wasi:clocks/wall-clock@0.2.0\" \"now\" (func $wall (param i32)))
    (import \"opyard:op/context@0.1.0\" \"config\" (func $config (param i32)))
    (import \"opyard:op/io@0.1.0\" \"store\" (func $store (param i32 i32 i32 i32 i32)))
    (data (i32.const 1024) \"raw\")
    (table $t 3 funcref)
    (func $execute (param i32 i32) (result i32)
      (local $at i32) (local $sum i64)
      ;; What is there before anything was written, and in pages that are new.
      (i32.store (i32.const 3100) (memory.grow (i32.const 3)))
      (i32.store (i32.const 3104) (memory.size))
      (i32.store (i32.const 3108) (table.grow $t (ref.null func) (i32.const 5)))
      (local.set $at (i32.const 131072))
      (loop $l
        (local.set $sum (i64.add (local.get $sum) (i64.load (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $l (i32.lt_u (local.get $at) (i32.const 327680))))
      (i64.store (i32.const 3112) (local.get $sum))
      (i64.store (i32.const 3000) (call $random))
      (i64.store (i32.const 3008) (call $now))
      (call $wall (i32.const 3016))
      (i64.store (i32.const 3032) (call $random))
      (i64.store (i32.const 3040) (call $now))
      (call $config (i32.const 2048))
      (i32.store (i32.const 3048) (i32.load (i32.const 2052)))
      ;; Numbers that are none, made in ways whose bits differ between processors.
      (f32.store (i32.const 3056) (f32.div (f32.const 0) (f32.const 0)))
      (f64.store (i32.const 3064) (f64.sqrt (f64.const -1)))
      (f64.store (i32.const 3072) (f64.promote_f32 (f32.reinterpret_i32 (i32.const 0x7fa00001))))
      (f32.store (i32.const 3080) (f32.demote_f64 (f64.reinterpret_i64 (i64.const 0xfff4000000000123))))
      (f32.store (i32.const 3084) (f32.min (f32.reinterpret_i32 (i32.const 0xffc12345)) (f32.const 1)))
      (f64.store (i32.const 3088) (f64.mul (f64.const inf) (f64.const 0)))
      (v128.store (i32.const 3120) (f32x4.sqrt (f32x4.splat (f32.const -2))))
      (v128.store (i32.const 3136) (f64x2.div (f64x2.splat (f64.const 0)) (f64x2.splat (f64.const 0))))
      (f64.store (i32.const 3152) (f64.sqrt (f64.const 2)))
      (f32.store (i32.const 3160) (f32.convert_i64_u (i64.const -1)))
      (call $store (i32.const 1024) (i32.const 3) (i32.const 3000) (i32.const 192) (i32.const 2048))
      (i32.const 0))";

struct Nobody;

impl Said for Nobody {
    fn say(&self, _: Saying) {}
}

/// Who asks: an attempt of a step of a run.
fn asks(call: &OpCall, limits: Limits, nth: u32) -> StepRequest {
    let key = format!("graph.step-{nth}[k]").parse().unwrap();
    let run = RunId::from_parts(u64::from(nth) + 1, 7);
    let step = StepIdentity { job: name(&format!("job-{nth}")), run, key, attempt: nth };
    StepRequest { tenant: TenantId::default(), step: Some(step), call: Call::Op(Box::new(call.clone())), limits }
}

async fn stored(bench: &Bench, request: StepRequest) -> (ValueRef, u64) {
    let outcome = bench.sandbox.execute(request, &Nobody).await;
    let StepResult::Success { outputs, memoisable: true, .. } = outcome.result else { panic!("{outcome:?}") };
    (outputs[0].value.clone(), outcome.usage.fuel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hermetic_op_gives_the_same_bits_whatever_is_around_it() {
    let cached = || SandboxSettings { cache_dir: Some(cache().to_owned()), ..SandboxSettings::default() };
    let settings = [
        cached(),
        SandboxSettings { slots: 1, ..cached() },
        SandboxSettings { slots: 9, max_memory: ByteSize(16 << 20), ..cached() },
        SandboxSettings::default(),
    ];
    let limits = [
        Limits::default(),
        Limits { memory: ByteSize(1 << 20), handles: 10, host_calls: 100, ..Limits::default() },
        Limits {
            fuel: 1 << 40,
            cpu: Duration::from_secs(1_000),
            wall: Duration::from_secs(9_000),
            ..Limits::default()
        },
    ];
    let mut seen: Option<(ValueRef, u64)> = None;
    for settings in &settings {
        let bench = Bench::with(settings);
        let call = bench.text_call(CURIOUS).await;
        // What others leave behind in the places of the pool: all of its memory written to.
        let smear = bench.text_call(SMEAR).await;
        for (nth, limits) in (0..).zip(limits.iter().cycle().take(9)) {
            let (mine, other) = tokio::join!(
                stored(&bench, asks(&call, limits.clone(), nth)),
                bench.sandbox.execute(asks(&smear, Limits::default(), nth), &Nobody),
            );
            assert!(matches!(other.result, StepResult::Success { .. }), "{other:?}");
            let first = seen.get_or_insert_with(|| mine.clone());
            assert_eq!(&mine, first, "{settings:?} {nth}");
            let bytes = bench.bytes(&mine.0).await;
            assert_eq!(bytes.len(), STORED);
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            // Two pages and three more; nobody else's bytes.
            assert_eq!((word(100), word(104), word(108), long(112)), (2, 5, 3, 0));
            for (at, wide) in [(56, false), (64, true), (72, true), (80, false), (84, false), (88, true)] {
                match wide {
                    true => assert_eq!(long(at), 0x7ff8_0000_0000_0000, "at {at}"),
                    false => assert_eq!(word(at), 0x7fc0_0000, "at {at}"),
                }
            }
            assert_eq!((word(120), word(132), long(136), long(144)), {
                (0x7fc0_0000, 0x7fc0_0000, 0x7ff8_0000_0000_0000, 0x7ff8_0000_0000_0000)
            });
        }
    }
}

/// Writes to all the memory that it can have, and keeps a table full.
const SMEAR: &str = "
    (table $t 100 funcref)
    (func $execute (param i32 i32) (result i32)
      (drop (memory.grow (i32.const 60)))
      (memory.fill (i32.const 20000) (i32.const 0xa5) (i32.const 4000000))
      (table.fill $t (i32.const 0) (ref.func $execute) (i32.const 100))
      (i32.const 0))
    (elem declare func $execute)";
