//! Clean-up against a model: random histories of two processes on one yard, one of which cleans up, or tries to.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use opyard_model::digest::Digest;
use opyard_model::event::RunEvent;
use opyard_model::id::{RunId, TenantId};
use opyard_model::time::Clock as _;
use opyard_model::value::ArtifactRef;
use proptest::prelude::*;

use super::conform::Yard;
use super::flaky::Seen;
use crate::artifact::read_whole;
use crate::conformance::noise;
use crate::conformance::samples::{StillClock, at, enqueued, entry, output, run, yielded};
use crate::control::LEASE;
use crate::error::{StoreError, StoreErrorKind};
use crate::fault::{Fault, Faults, Operation};
use crate::gc::{GcReport, Retention};
use crate::memo::MemoAnswer;
use crate::object::{Objects, Place};
use crate::run::RunFilter;
use crate::sqlite::upkeep::HOLD;
use crate::{Store, StoreSettings, TenantStore};

/// A process: a store of its own on the common yard.
struct Process {
    store: Store,
    tenant: TenantStore,
    objects: Seen,
    faults: Faults,
}

impl Process {
    fn start(folder: &std::path::Path, clock: &Arc<StillClock>, objects: &Arc<InMemory>) -> Self {
        let seen = Seen::new(objects);
        let store = Store::with_objects(
            StoreSettings::new(folder.join("yard.db"), "memory:///", Arc::<StillClock>::clone(clock)),
            Objects::new(Arc::new(seen.clone()), Place::Memory, None),
            tokio::runtime::Handle::current(),
        )
        .unwrap();
        let tenant = store.tenant(&TenantId::default());
        Self { store, tenant, objects: seen, faults: Faults::none() }
    }

    /// Stores a value, however often that fails.
    async fn put(&self, value: &Bytes) -> ArtifactRef {
        let artifacts = self.faults.artifacts(self.tenant.artifacts());
        loop {
            let attempt = async {
                if value.len() <= crate::artifact::MAX_PACKED {
                    let put = artifacts.put(value.clone()).await?;
                    put.durable.wait().await?;
                    return Ok::<_, StoreError>(put.artifact);
                }
                let mut writer = artifacts.begin().await?;
                writer.write(value.clone()).await?;
                Ok(writer.finish().await?.artifact)
            };
            match attempt.await {
                Ok(artifact) => return artifact,
                Err(error) => assert!(may_pass(&error), "{error}"),
            }
        }
    }

    /// Appends an event that names values, which are put again if they have gone meanwhile. False: the run is not ours.
    async fn tell(&self, of: RunId, values: &[Bytes], event: impl Fn() -> RunEvent) -> bool {
        let log = self.faults.events(self.tenant.events());
        let mut conflicts = 0;
        // Who does not know that a run was taken over finds another end of it than its own, again and again.
        while conflicts < 4 {
            for value in values {
                self.put(value).await;
            }
            let known = self.tenant.run(of).await.unwrap().is_some();
            // Through what fails: who was told of a failure has to read again.
            let events = match log.read(of, 0, 10_000).await {
                Ok(events) => events,
                Err(error) => {
                    assert!(may_pass(&error), "{error}");
                    continue;
                }
            };
            let last = if known { events.len() as u64 } else { 0 };
            let attempt = async { log.append(of, last, vec![(at(1), event())]).await?.durable.wait().await };
            match attempt.await {
                Ok(()) => return true,
                Err(StoreError { kind: StoreErrorKind::NotOwner { .. }, .. }) => return false,
                Err(StoreError { kind: StoreErrorKind::Conflict { .. }, .. }) => conflicts += 1,
                Err(StoreError { kind: StoreErrorKind::Missing(_), .. }) => {}
                Err(error) => assert!(may_pass(&error), "{error}"),
            }
            // What was accepted and not acknowledged is committed, or not, before anyone looks again.
            self.store.shared().write(|_, _| Ok(())).await.unwrap();
            // It may be there all the same: then the first event is refused, and any other is told once more.
            if last == 0 && self.tenant.run(of).await.unwrap().is_some() {
                return true;
            }
        }
        false
    }
}

fn may_pass(error: &StoreError) -> bool {
    matches!(error.kind, StoreErrorKind::Unavailable(_) | StoreErrorKind::Locked(_))
}

#[derive(Debug, Clone)]
enum Write {
    Put(u8),
    /// A new run, whose plan names two values.
    Begin(u8, u8),
    /// An output of one of the runs in progress.
    Output(u8, u8),
    End(u8),
    Memo(u8, u8),
}

#[derive(Debug, Clone)]
enum Act {
    /// By the first or the second process, one of whose calls may fail.
    Write(bool, Write, Option<(u8, u8)>),
    /// The first process cleans up, while the second one writes.
    Gc {
        keep_runs: Option<u32>,
        no_memos: bool,
        min_age: bool,
        trouble: Trouble,
        beside: Vec<Write>,
    },
    Wait(u16),
    /// A process ends between two commits, and starts again.
    Restart(bool),
}

/// What happens to a clean-up.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    None,
    /// It says only what it would do.
    Dry,
    /// It ends at its nth turn.
    Ends(u8),
    /// The object store fails after so many calls.
    Objects(u8),
}

fn writes() -> impl Strategy<Value = Write> {
    prop_oneof![
        3 => (0..24u8).prop_map(Write::Put),
        2 => (0..24u8, 0..24u8).prop_map(|(a, b)| Write::Begin(a, b)),
        4 => (any::<u8>(), 0..24u8).prop_map(|(run, value)| Write::Output(run, value)),
        2 => any::<u8>().prop_map(Write::End),
        2 => (0..6u8, 0..24u8).prop_map(|(key, value)| Write::Memo(key, value)),
    ]
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let trouble = prop_oneof![
        3 => Just(Trouble::None),
        1 => Just(Trouble::Dry),
        3 => (0..60u8).prop_map(Trouble::Ends),
        2 => (0..12u8).prop_map(Trouble::Objects),
    ];
    let gc = (
        proptest::option::of(0..3u32),
        any::<bool>(),
        any::<bool>(),
        trouble,
        proptest::collection::vec(writes(), 0..6),
    );
    let act = prop_oneof![
        12 => (any::<bool>(), writes(), proptest::option::weighted(0.2, (0..6u8, 0..3u8)))
            .prop_map(|(second, write, fault)| Act::Write(second, write, fault)),
        4 => gc.prop_map(|(keep_runs, no_memos, min_age, trouble, beside)| Act::Gc {
            keep_runs, no_memos, min_age, trouble, beside
        }),
        3 => prop_oneof![Just(1u16), Just(90), Just(900), Just(4_000)].prop_map(Act::Wait),
        1 => any::<bool>().prop_map(Act::Restart),
    ];
    proptest::collection::vec(act, 1..40)
}

/// Small and large values, none like another. Every fourth is large.
fn value(number: u8) -> Bytes {
    noise(if number.is_multiple_of(4) { 70_000 } else { 500 } + usize::from(number))
}

/// What was acknowledged.
#[derive(Default)]
struct Model {
    /// Values that runs in progress or ended name. Runs that were not kept are taken out.
    runs: BTreeMap<RunId, BTreeSet<u8>>,
    plans: BTreeMap<RunId, Bytes>,
    ended: BTreeSet<RunId>,
    memos: BTreeMap<u8, u8>,
    /// What was ever recorded for a key: the first while it is there.
    told: BTreeMap<u8, BTreeSet<u8>>,
    begun: u64,
}

impl Model {
    fn in_progress(&self, pick: u8) -> Option<RunId> {
        let open: Vec<_> = self.runs.keys().filter(|run| !self.ended.contains(run)).collect();
        open.get(usize::from(pick) % open.len().max(1)).map(|run| **run)
    }

    /// Everything that is referenced.
    fn live(&self) -> BTreeMap<Digest, Bytes> {
        let values = self.runs.values().flatten().chain(self.memos.values()).map(|number| value(*number));
        values.chain(self.plans.values().cloned()).map(|bytes| (Digest::of(&bytes), bytes)).collect()
    }

    async fn write(&mut self, process: &Process, write: &Write) {
        match write {
            Write::Put(number) => {
                process.put(&value(*number)).await;
            }
            Write::Begin(one, two) => {
                self.begun += 1;
                let of = run(self.begun);
                let given = [value(*one), value(*two)];
                let names = given.each_ref().map(|bytes| Digest::of(bytes).to_string());
                let plan = Bytes::from(serde_json::json!({ "run": self.begun, "given": names }).to_string());
                let named = ArtifactRef::of(&plan);
                // The plan last: what it names is there by then.
                let values = [given[0].clone(), given[1].clone(), plan.clone()];
                assert!(process.tell(of, &values, || enqueued(named, 1)).await);
                // As the engine does: a clean-up that began before the run may have removed what only its plan names.
                while let Err(error) = process.tenant.artifacts().keep(&given.each_ref().map(|v| Digest::of(v))).await {
                    assert!(may_pass(&error) || matches!(error.kind, StoreErrorKind::Missing(_)), "{error}");
                    process.put(&given[0]).await;
                    process.put(&given[1]).await;
                }
                self.runs.insert(of, [*one, *two].into());
                self.plans.insert(of, plan);
            }
            Write::Output(pick, number) => {
                let Some(of) = self.in_progress(*pick) else { return };
                let bytes = value(*number);
                let artifact = ArtifactRef::of(&bytes);
                if process.tell(of, &[bytes], || output("a", artifact)).await {
                    self.runs.entry(of).or_default().insert(*number);
                }
            }
            Write::End(pick) => {
                let Some(of) = self.in_progress(*pick) else { return };
                // Told once more after a lost acknowledgement, it is refused: the run has no owner any more.
                process.tell(of, &[], || RunEvent::RunSuccess).await;
                if process.tenant.run(of).await.unwrap().is_some_and(|summary| summary.status.is_final()) {
                    self.ended.insert(of);
                }
            }
            Write::Memo(key, number) => {
                let bytes = value(*number);
                let artifact = ArtifactRef::of(&bytes);
                let memos = process.faults.memos(process.tenant.memos());
                let clock = process.store.shared().clock.now();
                loop {
                    process.put(&bytes).await;
                    let made = entry(Digest::of(&[*key]), run(0), artifact, clock);
                    let attempt = async { memos.record(made).await?.wait().await };
                    match attempt.await {
                        Ok(()) => break,
                        Err(StoreError { kind: StoreErrorKind::Missing(_), .. }) => {}
                        Err(error) => assert!(may_pass(&error), "{error}"),
                    }
                }
                self.memos.entry(*key).or_insert(*number);
                self.told.entry(*key).or_default().insert(*number);
            }
        }
    }

    /// Takes out what a clean-up may have removed and did remove.
    async fn look(&mut self, tenant: &TenantStore, keep_runs: Option<u32>, no_memos: bool) {
        let left = tenant.runs(RunFilter { limit: 1_000, ..RunFilter::default() }).await.unwrap();
        let left: BTreeSet<RunId> = left.into_iter().map(|summary| summary.run).collect();
        let gone: Vec<RunId> = self.runs.keys().copied().filter(|run| !left.contains(run)).collect();
        for run in gone {
            let newer = self.ended.range(run..).skip(1).count();
            assert!(self.ended.contains(&run), "only runs that have ended go");
            assert!(keep_runs.is_some_and(|keep| newer >= keep as usize), "the newest runs stay");
            self.runs.remove(&run);
            self.plans.remove(&run);
        }
        self.ended.retain(|run| left.contains(run));
        for run in left {
            tenant.events().read(run, 0, 10_000).await.expect("what is kept is whole");
        }
        if no_memos {
            let keys: Vec<Digest> = self.memos.keys().map(|key| Digest::of(&[*key])).collect();
            let found = tenant.memos().look_up(&keys, None, run(999), Duration::ZERO).await.unwrap();
            let mut found = found.into_iter();
            self.memos.retain(|key, number| {
                let Some(MemoAnswer::Hit(entry)) = found.next() else { return false };
                // The row that was there may have gone while another one was recorded.
                let named = entry.outputs[0].value.artifact.digest;
                let told = self.told[key].iter().find(|told| Digest::of(&value(**told)) == named);
                *number = *told.expect("a memo has what was recorded for its key");
                true
            });
        }
    }
}

/// Polls `work` so many times, then drops it.
async fn polled<T>(work: impl Future<Output = T>, turns: u8) -> Option<T> {
    let mut work = pin!(work);
    let mut left = turns;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        work.as_mut().poll(context).map(Some)
    })
    .await
}

async fn check(model: &Model, processes: &[Process; 2]) {
    let audit = processes[0].store.audit().await.unwrap();
    assert!(audit.is_sound(), "{:?}", audit.findings);
    for (digest, bytes) in model.live() {
        for process in processes {
            let read = read_whole(process.tenant.artifacts().as_ref(), digest, u64::MAX).await.unwrap();
            assert_eq!(read, bytes, "referenced, and whole");
        }
    }
}

/// Starts anew in a second process, so that nothing is read from memory.
async fn check_from_disk(model: &Model, folder: &std::path::Path, clock: &Arc<StillClock>, objects: &Arc<InMemory>) {
    let fresh = [Process::start(folder, clock, objects), Process::start(folder, clock, objects)];
    check(model, &fresh).await;
    for process in fresh {
        process.store.close().await;
    }
}

async fn history(acts: Vec<Act>) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(StillClock::default());
    let objects = Arc::new(InMemory::new());
    let mut processes = [(); 2].map(|()| Process::start(folder.path(), &clock, &objects));
    let mut model = Model::default();
    for act in acts {
        match act {
            Act::Write(second, write, fault) => {
                let process = &processes[usize::from(second)];
                if let Some((operation, nth)) = fault {
                    let operations = [
                        Operation::Put,
                        Operation::Finish,
                        Operation::Append,
                        Operation::Commit,
                        Operation::Record,
                        Operation::Begin,
                    ];
                    let fault = if nth == 1 { Fault::LoseAcknowledgement } else { Fault::Fail };
                    process.faults.at(operations[usize::from(operation)], u64::from(nth) + 1, fault);
                }
                model.write(process, &write).await;
            }
            Act::Gc { keep_runs, no_memos, min_age, trouble, beside } => {
                let retention = Retention {
                    keep_runs,
                    keep_memos_for: no_memos.then_some(Duration::ZERO),
                    min_age: if min_age { Duration::from_secs(3_600) } else { Duration::ZERO },
                    dry_run: matches!(trouble, Trouble::Dry),
                    ..Retention::default()
                };
                if let Trouble::Objects(calls) = trouble {
                    processes[0].objects.fail_after(Some(calls));
                }
                let turns = if let Trouble::Ends(turns) = trouble { turns } else { u8::MAX };
                let [first, second] = &processes;
                let gc = async {
                    match trouble {
                        Trouble::Ends(_) => polled(first.store.gc(&retention), turns).await,
                        _ => Some(first.store.gc(&retention).await),
                    }
                };
                let writing = async {
                    for write in &beside {
                        model.write(second, write).await;
                    }
                };
                let (done, ()) = futures::join!(gc, writing);
                match (done, trouble) {
                    (None, _) => {
                        clock.advance(HOLD);
                        // What it had begun to write is written, or not, before the model looks.
                        processes[0].store.shared().write(|_, _| Ok(())).await.unwrap();
                    }
                    (Some(Ok(_)), _) => {}
                    (Some(Err(error)), _) => {
                        assert!(may_pass(&error), "{error}");
                    }
                }
                processes[0].objects.fail_after(None);
                let (keep_runs, no_memos) = if retention.dry_run { (None, false) } else { (keep_runs, no_memos) };
                model.look(&processes[1].tenant, keep_runs, no_memos).await;
                check(&model, &processes).await;
            }
            Act::Wait(seconds) => clock.advance(Duration::from_secs(seconds.into())),
            Act::Restart(second) => {
                let [first, other] = processes;
                let (ends, stays) = if second { (other, first) } else { (first, other) };
                ends.store.kill().await;
                clock.advance(LEASE);
                let begins = Process::start(folder.path(), &clock, &objects);
                // Its runs go to whoever wants them.
                for run in begins.tenant.control().abandoned(1_000).await.unwrap() {
                    begins.tenant.control().claim_run(run).await.unwrap();
                }
                processes = if second { [stays, begins] } else { [begins, stays] };
            }
        }
    }
    // Quiet: nothing is in progress, nothing was put lately.
    clock.advance(Duration::from_secs(2 * 3_600));
    let retention =
        Retention { keep_runs: Some(2), keep_memos_for: Some(Duration::from_secs(600)), ..Default::default() };
    let last = processes[0].store.gc(&retention).await.unwrap();
    assert_eq!(last.in_progress, None);
    model.look(&processes[1].tenant, Some(2), true).await;
    assert_eq!((model.ended.len().min(2), model.memos.len()), (model.ended.len(), 0));
    for process in processes {
        process.store.close().await;
    }
    check_from_disk(&model, folder.path(), &clock, &objects).await;
    all_else_is_gone(&model, folder.path(), &clock, &objects).await;
}

/// Nothing is there but what is referenced, and at least half of each pack is.
async fn all_else_is_gone(model: &Model, folder: &std::path::Path, clock: &Arc<StillClock>, objects: &Arc<InMemory>) {
    let process = Process::start(folder, clock, objects);
    let listed: Vec<ArtifactRef> = process.tenant.artifacts().list().try_collect().await.unwrap();
    let live = model.live();
    assert_eq!(listed.iter().map(|artifact| artifact.digest).collect::<BTreeSet<_>>(), live.keys().copied().collect());
    let stored: Vec<_> = objects.list(None).try_collect().await.unwrap();
    let there: u64 = stored.iter().map(|object| object.size).sum();
    let needed: u64 = live.values().map(|bytes| bytes.len() as u64).sum();
    assert!(there <= needed * 2, "{there} bytes for {needed}");
    let again = process.store.gc(&Retention::default()).await.unwrap();
    let kept = again.kept;
    assert_eq!((kept.count, kept.bytes), (live.len() as u64, needed));
    assert_eq!(again, GcReport { kept, ..GcReport::default() }, "there is nothing left to do");
    process.store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Invariant 8: what is referenced is never lost, and (after a quiet clean-up) nothing else is there.
    #[test]
    fn clean_up_removes_what_nothing_references_and_nothing_else(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(history(acts));
    }
}

/// What a crash leaves of an upload has no row, and one of them not even a name that the object store lists.
#[tokio::test]
async fn what_crashes_leave_behind_goes() {
    let yard = Yard::new("file:");
    let tenant = yard.tenant("default");
    let put = tenant.artifacts().put(b"kept by the memo".as_slice().into()).await.unwrap();
    let made = entry(Digest::of(b"key"), run(1), put.artifact, yard.clock.now());
    tenant.memos().record(made).await.unwrap().wait().await.unwrap();
    let root = yard.folder.path().join("objects/default");
    let old = ulid::Ulid::from_parts(1_795_409_220_000, 7);
    std::fs::create_dir_all(root.join("large")).unwrap();
    let strays = [format!("large/{old}"), format!("packs/{old}"), format!("large/{old}#1"), format!("packs/{old}#2")];
    let foreign = ["large/notes.txt", "packs/notes#1", "readme"];
    for name in strays.iter().map(String::as_str).chain(foreign) {
        std::fs::write(root.join(name), b"bytes").unwrap();
    }
    yard.clock.advance(Duration::from_secs(2 * 3_600));
    let young = ulid::Ulid::from_parts(u64::try_from(yard.clock.now().as_millis()).unwrap(), 7);
    std::fs::write(root.join(format!("large/{young}#3")), b"going on").unwrap();
    let dry = yard.store.gc(&Retention { dry_run: true, ..Retention::default() }).await.unwrap();
    let done = yard.store.gc(&Retention::default()).await.unwrap();
    assert_eq!(GcReport { dry_run: false, ..dry }, done);
    assert_eq!((done.strays.count, done.strays.bytes, done.freed()), (4, 20, 20));
    assert!(strays.iter().all(|name| !root.join(name).exists()));
    assert!(foreign.iter().all(|name| root.join(name).exists()), "what is not ours stays");
    assert!(root.join(format!("large/{young}#3")).exists(), "what may be going on stays");
    assert!(yard.store.audit().await.unwrap().is_sound());
    yard.store.close().await;
}

/// A pack of which less than half is live is rewritten; who has found the old place reads from the new one.
#[tokio::test]
async fn sparse_packs_are_rewritten() {
    let yard = Yard::new("file:");
    let tenant = yard.tenant("default");
    let artifacts = tenant.artifacts();
    let values: Vec<Bytes> = (0..40).map(|number| noise(4_000 + number)).collect();
    // All of one group commit, or of a few.
    let puts = futures::future::join_all(values.iter().map(|value| artifacts.put(value.clone()))).await;
    for put in puts {
        put.unwrap().durable.wait().await.unwrap();
    }
    for (number, value) in values.iter().enumerate().step_by(5) {
        let mut made = entry(Digest::of(value), run(1), ArtifactRef::of(value), yard.clock.now());
        made.outputs.push(yielded(ArtifactRef::of(&values[number + 1])));
        tenant.memos().record(made).await.unwrap().wait().await.unwrap();
    }
    yard.clock.advance(Duration::from_secs(2 * 3_600));
    let other = Store::open(Yard::settings(yard.folder.path(), "file:", &yard.clock)).unwrap();
    let dry = yard.store.gc(&Retention { dry_run: true, ..Retention::default() }).await.unwrap();
    let done = yard.store.gc(&Retention::default()).await.unwrap();
    assert_eq!(GcReport { dry_run: false, ..dry }, done, "a dry run says what a real one does");
    assert_eq!((done.artifacts.count, done.kept.count, done.waiting.count), (24, 16, 0));
    assert!(done.rewritten.count > 0 && done.rewritten_into > 0 && done.freed() > 0, "{done:?}");
    for (number, value) in values.iter().enumerate() {
        for store in [&yard.store, &other] {
            let read = store.tenant(tenant.tenant()).artifacts().get(Digest::of(value)).await;
            assert_eq!(read.is_ok(), number % 5 < 2, "{number}");
        }
    }
    assert!(other.audit().await.unwrap().is_sound());
    // What went is put as if it had never been there, by both: also by the one that had it in memory.
    for store in [&yard.store, &other] {
        let artifacts = store.tenant(tenant.tenant()).artifacts();
        artifacts.put(values[2].clone()).await.unwrap().durable.wait().await.unwrap();
    }
    assert!(other.tenant(tenant.tenant()).artifacts().get(Digest::of(&values[2])).await.is_ok());
    yard.store.close().await;
    other.close().await;
}

/// One cleans up; the other, which has the same values in memory, is about to name one that nobody references.
#[tokio::test]
async fn a_put_of_what_is_being_removed_is_safe() {
    let yard = Yard::new("file:");
    let other = Store::open(Yard::settings(yard.folder.path(), "file:", &yard.clock)).unwrap();
    let here = other.tenant(&TenantId::default());
    for value in [noise(300), noise(200_000)] {
        let there = yard.tenant("default").artifacts();
        let mut writer = there.begin().await.unwrap();
        writer.write(value.clone()).await.unwrap();
        writer.finish().await.unwrap().durable.wait().await.unwrap();
    }
    read_whole(here.artifacts().as_ref(), Digest::of(&noise(300)), 1_000).await.unwrap();
    yard.clock.advance(Duration::from_secs(2 * 3_600));
    // Put again: it counts as used from now on, whichever process had it, and wherever it found it.
    for value in [noise(300), noise(200_000)] {
        let mut writer = here.artifacts().begin().await.unwrap();
        writer.write(value.clone()).await.unwrap();
        writer.finish().await.unwrap().durable.wait().await.unwrap();
    }
    let done = yard.store.gc(&Retention::default()).await.unwrap();
    assert_eq!((done.artifacts.count, done.waiting.count), (0, 2));
    // Cleaned up under its feet all the same: the event that names it is refused, and the next put stores it.
    yard.clock.advance(Duration::from_secs(1));
    yard.store.gc(&Retention { min_age: Duration::ZERO, ..Retention::default() }).await.unwrap();
    let stale = here.artifacts().put(noise(300)).await.unwrap();
    let begin = || vec![(at(1), enqueued(stale.artifact, 1))];
    let refused = here.events().append(run(1), 0, begin()).await.unwrap().durable.wait().await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Missing(stale.artifact.digest));
    here.artifacts().put(noise(300)).await.unwrap();
    here.events().append(run(1), 0, begin()).await.unwrap().durable.wait().await.unwrap();
    assert!(matches!(
        here.artifacts().keep(&[Digest::of(b"nothing")]).await.unwrap_err().kind,
        StoreErrorKind::Missing(_)
    ));
    yard.store.close().await;
    other.close().await;
}

#[tokio::test]
async fn one_cleans_up_at_a_time_and_a_plan_that_cannot_be_read_stops_it() {
    let yard = Yard::new("file:");
    let other = Store::open(Yard::settings(yard.folder.path(), "file:", &yard.clock)).unwrap();
    let hold = crate::sqlite::upkeep::Hold::take(other.shared()).await.unwrap();
    let refused = yard.store.gc(&Retention::default()).await.unwrap_err();
    assert!(matches!(refused.kind, StoreErrorKind::Locked(_)), "{refused}");
    yard.clock.advance(HOLD);
    yard.store.gc(&Retention::default()).await.unwrap();
    assert!(hold.write(|_, _| Ok(())).await.is_err(), "who was silent for too long has lost it");

    let tenant = yard.tenant("default");
    let plan = tenant.artifacts().put(b"no JSON".as_slice().into()).await.unwrap().artifact;
    let begun = tenant.events().append(run(1), 0, vec![(at(1), enqueued(plan, 1))]).await.unwrap();
    begun.durable.wait().await.unwrap();
    tenant.artifacts().put(b"unreferenced".as_slice().into()).await.unwrap().durable.wait().await.unwrap();
    yard.clock.advance(Duration::from_secs(2 * 3_600));
    let stopped = yard.store.gc(&Retention::default()).await.unwrap_err();
    assert!(matches!(stopped.kind, StoreErrorKind::Unreadable(_)), "{stopped}");
    assert!(tenant.artifacts().get(Digest::of(b"unreferenced")).await.is_ok());
    yard.store.close().await;
    other.close().await;
}

/// A yard of the format before is brought up to date, and its artifacts are left alone for as long as new ones are.
#[tokio::test]
async fn an_older_yard_is_upgraded() {
    let yard = Yard::new("file:");
    let tenant = yard.tenant("default");
    tenant.artifacts().put(b"old".as_slice().into()).await.unwrap().durable.wait().await.unwrap();
    yard.store.close().await;
    let raw = rusqlite::Connection::open(yard.folder.path().join("yard.db")).unwrap();
    let shape = |raw: &rusqlite::Connection| -> Vec<(String, String, String)> {
        raw.prepare(
            "SELECT m.name, p.name, p.type || p.\"notnull\" || p.pk FROM sqlite_schema AS m, pragma_table_info(m.name) AS p \
             WHERE m.type = 'table' ORDER BY 1, 2",
        )
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
    };
    let newest = shape(&raw);
    raw.execute_batch(
        "ALTER TABLE artifacts DROP COLUMN used_at; DROP TABLE upkeep; DROP TABLE buckets; DROP TABLE key_values;
         ALTER TABLE runs DROP COLUMN reused; ALTER TABLE runs DROP COLUMN parent_run;
         ALTER TABLE runs DROP COLUMN root_run; PRAGMA user_version = 1;
         DROP TABLE memo;
         CREATE TABLE memo (tenant TEXT NOT NULL, key BLOB NOT NULL, at INTEGER NOT NULL, op TEXT NOT NULL,
             wasmtime TEXT NOT NULL, entry TEXT NOT NULL, PRIMARY KEY (tenant, key)) STRICT, WITHOUT ROWID;
         INSERT INTO memo VALUES ('default', x'02', 7, 'a', 'w', '{}'), ('default', x'01', 8, 'b', 'w', '{}');",
    )
    .unwrap();
    assert_ne!(shape(&raw), newest);
    let store = Store::open(Yard::settings(yard.folder.path(), "file:", &yard.clock)).unwrap();
    assert_eq!(shape(&raw), newest);
    let ops: String =
        raw.query_row("SELECT group_concat(op) FROM (SELECT op FROM memo ORDER BY key)", [], |row| row.get(0)).unwrap();
    assert_eq!(ops, "b,a");
    raw.execute("DELETE FROM memo", []).unwrap();
    let artifacts = store.tenant(&TenantId::default()).artifacts();
    assert_eq!(read_whole(artifacts.as_ref(), Digest::of(b"old"), 10).await.unwrap(), b"old");
    assert!(store.audit().await.unwrap().is_sound());
    store.close().await;
}

/// What an object store that is not ours holds is not touched, nor is the yard when nothing is to be done.
#[tokio::test]
async fn an_empty_yard_stays_as_it_is() {
    let yard = Yard::new("memory:///");
    let report = yard.store.gc(&Retention { keep_runs: Some(0), ..Retention::default() }).await.unwrap();
    assert_eq!(report, GcReport::default());
    yard.store.objects().store.put(&"a/b/c/d".into(), b"x".as_slice().into()).await.unwrap();
    yard.clock.advance(Duration::from_secs(1 << 20));
    assert_eq!(yard.store.gc(&Retention::default()).await.unwrap(), GcReport::default());
    yard.store.close().await;
}
