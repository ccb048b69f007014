//! Guests that mean harm: each ends in a failure that says what it did, and the host goes on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use opyard_model::digest::Digest;
use opyard_model::error::Code;
use opyard_model::limits::{ByteSize, Limits};
use opyard_model::step::Saying;
use opyard_model::value::ArtifactRef;
use opyard_sandbox::SandboxSettings;
use opyard_store::artifact::{ArtifactReader, ArtifactStore, ArtifactWriter, Put};
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_tests::guests::{component, execute};
use serde_json::json;

use crate::harness::{Bench, Came, Probe, cache};

const MIB: u64 = 1 << 20;

const LOG: &str = "(import \"opyard:op/events@0.1.0\" \"log\" (func $log (param i32 i32 i32 i32 i32)))";
const OUTPUT: &str = "(import \"opyard:op/io@0.1.0\" \"output\" (func $output (param i32 i32 i32)))
    (import \"opyard:op/values@0.1.0\" \"[static]writer.commit\" (func $commit (param i32 i32)))
    (import \"opyard:op/values@0.1.0\" \"[method]writer.write\" (func $write (param i32 i32 i32 i32)))";
const STORE: &str = "(import \"opyard:op/io@0.1.0\" \"store\" (func $store (param i32 i32 i32 i32 i32)))
    (data (i32.const 1024) \"out\") (data (i32.const 1040) \"{\\22a\\22: [1, 2}\")";

async fn run(text: &str, limits: Limits) -> Came {
    let bench = Bench::new();
    let came = bench.run_text(text, limits).await;
    // The host goes on.
    let after = bench.run_text(&execute("", ""), Limits::default()).await;
    assert!(after.outputs().is_empty());
    came
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spinning_ends_at_the_limit_of_cpu_fuel_or_wall_time() {
    let spin = execute("", "(loop $l (br $l))");
    let cpu = Limits { cpu: Duration::from_millis(30), fuel: u64::MAX, ..Limits::default() };
    let came = run(&spin, cpu).await;
    assert_eq!(came.code(), Code::CpuExceeded);
    assert!(came.outcome.usage.cpu >= Duration::from_millis(30));
    let fuel = Limits { fuel: 1_000_000, ..Limits::default() };
    let came = run(&spin, fuel).await;
    assert_eq!((came.code(), came.outcome.usage.fuel), (Code::FuelExhausted, 1_000_000));
    let wall = Limits { wall: Duration::from_millis(50), fuel: u64::MAX, ..Limits::default() };
    let came = run(&spin, wall).await;
    assert_eq!(came.code(), Code::WallExceeded);
    assert!(came.failure().is_of_the_surroundings());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_function_is_limited_too() {
    let text = format!("{} (func $spin (loop $l (br $l))) (start $spin)", execute("", ""));
    let came = run(&text, Limits { fuel: 1_000_000, ..Limits::default() }).await;
    assert_eq!(came.code(), Code::FuelExhausted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_work_is_paid_in_fuel() {
    let fill = execute("", "(loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 131072)) (br $l))");
    let came = run(&fill, Limits { fuel: 10_000_000, ..Limits::default() }).await;
    assert_eq!(came.code(), Code::FuelExhausted);
    assert!(came.outcome.usage.cpu < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_beyond_the_limit_traps_but_a_modules_own_maximum_does_not() {
    let grow = execute("", "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))");
    let came = run(&grow, Limits { memory: ByteSize(8 * MIB), ..Limits::default() }).await;
    assert_eq!(came.code(), Code::MemoryExceeded);
    assert!(came.outcome.usage.peak_memory <= 8 * MIB && came.outcome.usage.peak_memory > 7 * MIB);

    let own = format!("{grow} (memory (export \"memory\") 2 20)");
    let came = run(&own, Limits::default()).await;
    assert!(came.memoisable(), "{came:?}");

    let declared = format!("{} (memory (export \"memory\") 4096)", execute("", ""));
    let came = run(&declared, Limits { memory: ByteSize(8 * MIB), ..Limits::default() }).await;
    assert_eq!(came.code(), Code::MemoryExceeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_count_as_memory() {
    let grow =
        execute("(table $t 1 funcref)", "(loop $l (drop (table.grow $t (ref.null func) (i32.const 1000))) (br $l))");
    let came = run(&grow, Limits { memory: ByteSize(256 << 10), ..Limits::default() }).await;
    assert_eq!(came.code(), Code::MemoryExceeded);
    let came = run(&grow, Limits::default()).await;
    assert_eq!(came.code(), Code::MemoryExceeded, "the pool's bound is a limit too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_of_more_instances_than_it_may_have_is_not_started() {
    // With what hands texts over, it is linked of three modules at least.
    let text = execute(LOG, "");
    let came = run(&text, Limits { instances: 1, ..Limits::default() }).await;
    assert_eq!(came.code(), Code::MemoryExceeded, "{}", came.failure());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_recursion_overflows_the_guests_stack_only() {
    let recurse = format!("{} (func $f (call $f) (call $f))", execute("", "(call $f)"));
    assert_eq!(run(&recurse, Limits::default()).await.code(), Code::StackOverflow);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_text_does_not_cross() {
    let text = execute(
        LOG,
        "(drop (memory.grow (i32.const 1600)))
         (call $log (i32.const 1) (i32.const 0) (i32.const 104857600) (i32.const 0) (i32.const 0))",
    );
    assert_eq!(run(&text, Limits::default()).await.code(), Code::HostCallLimit);
    // A list of five million empty fields.
    let list = execute(
        LOG,
        "(drop (memory.grow (i32.const 1600)))
         (call $log (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 5000000))",
    );
    assert_eq!(run(&list, Limits::default()).await.code(), Code::HostCallLimit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_host_calls_trap() {
    let flood = execute(
        LOG,
        "(loop $l (call $log (i32.const 1) (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 0)) (br $l))",
    );
    let came = run(&flood, Limits { host_calls: 20_000, ..Limits::default() }).await;
    assert_eq!(came.code(), Code::HostCallLimit);
    assert_eq!(came.outcome.usage.host_calls, 20_001);
    assert!(came.said.iter().any(|saying| matches!(saying, Saying::LimitReached { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_are_few_and_cannot_be_forged() {
    let flood = execute(
        &format!("{OUTPUT} (data (i32.const 1024) \"out\")"),
        "(loop $l (call $output (i32.const 1024) (i32.const 3) (i32.const 2048)) (br $l))",
    );
    let came = run(&flood, Limits { handles: 100, ..Limits::default() }).await;
    assert_eq!(came.code(), Code::HandleLimit);
    let forged = execute(OUTPUT, "(call $commit (i32.const 77) (i32.const 2048))");
    assert_eq!(run(&forged, Limits::default()).await.code(), Code::HandleLimit);
    let twice = execute(
        &format!("{OUTPUT} (data (i32.const 1024) \"out\")"),
        "(call $output (i32.const 1024) (i32.const 3) (i32.const 2048))
         (call $commit (i32.load (i32.const 2052)) (i32.const 2048))
         (call $commit (i32.load (i32.const 2052)) (i32.const 2048))",
    );
    assert_ne!(run(&twice, Limits::default()).await.code(), Code::HostPanic);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interface_that_the_op_does_not_list_traps_and_is_named() {
    let open = "(import \"opyard:resources/key-value@0.1.0\" \"open\" (func $open (param i32 i32 i32)))";
    let text = execute(open, "(call $open (i32.const 0) (i32.const 0) (i32.const 2048))");
    let came = run(&text, Limits::default()).await;
    assert_eq!(came.code(), Code::ForbiddenImport);
    assert!(came.failure().description.contains("opyard:resources/key-value@0.1.0"));

    let probe = Probe::new().await;
    let came = probe.run("unlisted", json!({}), Vec::new()).await;
    assert_eq!(came.code(), Code::ForbiddenImport);
    assert!(came.failure().description.contains("opyard:resources/object-store@0.1.0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn describing_needs_nothing_and_takes_little() {
    let bench = Bench::new();
    let calling = format!(
        "{} (func $describe (result i32)
              (call $log (i32.const 1) (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 0)) (i32.const 0))",
        execute(LOG, "")
    );
    let digest = bench.load(component(&calling)).await.unwrap().digest;
    let failure = bench.describe(digest).await.unwrap_err();
    assert_eq!(failure.code, Code::ForbiddenImport);
    assert!(failure.description.contains("described itself"), "{failure}");

    let spinning = format!("{} (func $describe (result i32) (loop $l (br $l)) (i32.const 0))", execute("", ""));
    let digest = bench.load(component(&spinning)).await.unwrap().digest;
    let code = bench.describe(digest).await.unwrap_err().code;
    // Which of its bounds is met first, a busy machine decides.
    assert!(matches!(code, Code::FuelExhausted | Code::CpuExceeded | Code::WallExceeded), "{code}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_is_not_what_its_type_says_is_refused() {
    let store = "(call $store (i32.const 1024) (i32.const 3) (i32.const 1040) (i32.const 12) (i32.const 2048))";
    let came = run(&execute(STORE, store), Limits::default()).await;
    assert_eq!(came.code(), Code::OutputInvalid);
    assert!(came.failure().description.contains("'out'"), "{}", came.failure());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_commit_wins() {
    let good = STORE.replace("{\\22a\\22: [1, 2}", "[1]");
    let store = "(call $store (i32.const 1024) (i32.const 3) (i32.const 1040) (i32.const 3) (i32.const 2048))";
    // The second answer has the discriminants `error` and `already-committed`.
    let check = "(if (i32.or (i32.ne (i32.load8_u (i32.const 2048)) (i32.const 1))
                             (i32.ne (i32.load8_u (i32.const 2052)) (i32.const 1))) (then unreachable))";
    let came = run(&execute(&good, &format!("{store} {store} {check}")), Limits::default()).await;
    assert_eq!(came.outputs().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_output_that_is_missing_is_named() {
    let probe = Probe::new().await;
    let mut call = probe.call("maybe", json!({}), Vec::new());
    Arc::make_mut(&mut call.outputs)[0].optional = false;
    let came = probe.bench.request(opyard_model::step::Call::Op(Box::new(call)), Limits::default()).await;
    assert_eq!(came.code(), Code::OutputMissing);
    assert!(came.failure().description.ends_with("result"), "{}", came.failure());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hog_and_a_spinner_do_not_stop_their_neighbours() {
    let probe = Probe::new().await;
    let spin = probe.with_limits(
        "spin",
        json!({}),
        Vec::new(),
        Limits { cpu: Duration::from_millis(200), fuel: u64::MAX, ..Limits::default() },
    );
    let hog = probe.run("hog", json!({}), Vec::new());
    let neighbour = probe.run("text", json!({ "text": "x" }), Vec::new());
    let (spin, hog, neighbour) = tokio::join!(spin, hog, neighbour);
    assert_eq!((spin.code(), hog.code()), (Code::CpuExceeded, Code::MemoryExceeded));
    assert_eq!(neighbour.outputs().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_frees_its_place_and_leaves_nothing() {
    let bench =
        Bench::with(&SandboxSettings { slots: 1, cache_dir: Some(cache().to_owned()), ..SandboxSettings::default() });
    for _ in 0..3 {
        let spin = execute("", "(loop $l (br $l))");
        let endless = Limits { fuel: u64::MAX, ..Limits::default() };
        tokio::time::timeout(Duration::from_millis(30), bench.run_text(&spin, endless)).await.unwrap_err();
    }
    assert!(bench.run_text(&execute("", ""), Limits::default()).await.memoisable());
}

/// A store that does to small values what it was made for.
struct Broken(Arc<dyn ArtifactStore>, fn() -> StoreError);

#[async_trait]
impl ArtifactStore for Broken {
    async fn put(&self, _: Bytes) -> Result<Put, StoreError> {
        Err(self.1())
    }

    async fn begin(&self) -> Result<Box<dyn ArtifactWriter>, StoreError> {
        self.0.begin().await
    }

    async fn get(&self, digest: Digest) -> Result<Box<dyn ArtifactReader>, StoreError> {
        self.0.get(digest).await
    }

    async fn keep(&self, digests: &[Digest]) -> Result<(), StoreError> {
        self.0.keep(digests).await
    }

    fn list(&self) -> BoxStream<'static, Result<ArtifactRef, StoreError>> {
        self.0.list()
    }
}

/// Stores one byte as `raw`, and traps when that is not answered with success.
fn stores() -> String {
    execute(
        "(import \"opyard:op/io@0.1.0\" \"store\" (func $store (param i32 i32 i32 i32 i32)))
         (data (i32.const 1024) \"raw\")",
        "(call $store (i32.const 1024) (i32.const 3) (i32.const 1024) (i32.const 1) (i32.const 2048))
         (if (i32.load8_u (i32.const 2048)) (then unreachable))",
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_the_host_costs_one_step() {
    let bench = Bench::over(|store| Arc::new(Broken(store, || panic!("a bug of ours"))));
    let came = bench.run_text(&stores(), Limits::default()).await;
    assert_eq!(came.code(), Code::HostPanic);
    assert!(came.failure().description.ends_with("a bug of ours"));
    assert!(bench.run_text(&execute("", ""), Limits::default()).await.memoisable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_op_that_fails_because_something_is_out_of_reach_did_not_fail_by_itself() {
    let down = || StoreError::new("putting a value", StoreErrorKind::Unavailable("the disk is gone".to_owned()));
    let bench = Bench::over(move |store| Arc::new(Broken(store, down)));
    let came = bench.run_text(&stores(), Limits::default()).await;
    assert_eq!(came.code(), Code::StoreUnavailable);
    assert!(came.failure().is_of_the_surroundings());
}
