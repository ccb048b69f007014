//! Ended at any place, by `kill -9` or a power cut, and once more while it recovers: nothing that was acknowledged is lost,
//! nothing is recorded twice, and the run goes on to the result that it would have had.
//!
//! One seed is one history; `cargo xtask chaos` tries more of them, or one again.

mod job;
mod power;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;
use std::sync::OnceLock;
use std::time::Duration;

use futures::TryStreamExt;
use opyard_server::model::digest::Digest;
use opyard_server::model::event::{Recorded, RunEvent, RunStatus};
use opyard_server::model::id::TenantId;
use opyard_server::model::state::Tally;
use opyard_server::model::value::ArtifactRef;
use opyard_server::store::crash::CrashPoint;
use opyard_server::store::error::StoreErrorKind;
use opyard_server::store::gc::{GcReport, Retention};
use opyard_server::store::run::{RunFilter, RunSummary};
use opyard_server::{Yard, YardSettings};

use self::job::{Job, Random};
use self::power::Power;
use crate::harness::{Project, runtime};

/// How the end comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    PowerCut,
}

/// One history.
#[derive(Debug, Clone, Copy)]
struct Case {
    point: CrashPoint,
    end: End,
    seed: u64,
}

/// Seeds tried in each of the two ways.
const SEEDS: u64 = 20;

/// Which seeds: `OPYARD_CHAOS=FIRST..LAST`.
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("OPYARD_CHAOS") else { return 0..SEEDS };
    let (first, last) = text.split_once("..").unwrap();
    first.parse().unwrap()..last.parse().unwrap()
}

fn point(point: CrashPoint) {
    if let Ok(only) = std::env::var("OPYARD_CHAOS_POINT") {
        // A name that no point has would pass without a single history.
        let only: CrashPoint = only.parse().unwrap();
        if only != point {
            return;
        }
    }
    let (mut played, mut ended) = (0, 0);
    for seed in seeds() {
        for end in [End::Kill, End::PowerCut] {
            played += 1;
            ended += u32::from(Case { point, end, seed }.run());
        }
    }
    eprintln!("{ended} of {played} histories came to {}", point.name());
    let is_enough = ended * 2 >= played || std::env::var_os("OPYARD_CHAOS").is_some();
    assert!(is_enough, "only {ended} of {played} histories came to {}", point.name());
}

macro_rules! points {
    ($($test:ident $point:ident)*) => {
        $(#[test] fn $test() { point(CrashPoint::$point); })*

        /// A point without a test does not compile.
        const _: fn(CrashPoint) = |point| match point { $(CrashPoint::$point => {})* };
    };
}

points! {
    ended_when_the_run_is_recorded RunRecorded
    ended_when_the_run_is_taken_over LeaseTaken
    ended_when_it_was_decided Decided
    ended_when_a_guest_is_loaded Instantiated
    ended_when_a_guest_reads InputOpened
    ended_when_a_guest_writes OutputUploading
    ended_when_events_were_accepted Appended
    ended_when_a_pack_was_written PackWritten
    ended_before_a_commit BeforeCommit
    ended_after_a_commit Committed
    ended_when_a_large_artifact_was_stored LargeStored
    ended_when_a_result_was_remembered MemoRecorded
    ended_when_the_run_has_ended RunEnded
    ended_when_code_was_compiled CodeCached
}

/// Compiled code of the probe, so that not every history compiles it.
fn warm() -> &'static Project {
    static WARM: OnceLock<Project> = OnceLock::new();
    WARM.get_or_init(|| {
        let project = Project::new(&Job::new(&mut Random::new(0)).definitions);
        project.expect(&["plan", "work"], 0);
        project
    })
}

impl Case {
    /// Plays it; true when the process came to the point.
    fn run(self) -> bool {
        let told =
            format!("{self:?}: play it again with `cargo xtask chaos --seed {} {}`", self.seed, self.point.name());
        let mut random = Random::new(self.seed ^ ((self.point as u64) << 32) ^ ((self.end as u64) << 48));
        let job = Job::new(&mut random);
        let project = Project::new(&job.definitions);
        std::fs::create_dir(project.path().join("outside")).unwrap();
        if self.point != CrashPoint::CodeCached {
            copy(&warm().path().join(".opyard"), &project.path().join(".opyard"), &["code", "components"]);
        }
        let mut acknowledged = BTreeSet::new();
        let mut ended = false;
        // The point itself; in every second history some other point while it recovers.
        let first = match self.point {
            CrashPoint::LeaseTaken => CrashPoint::Decided,
            point => point,
        };
        let mut rounds = vec![(first, 1 + random.below(reach(first)))];
        if self.point == CrashPoint::LeaseTaken {
            rounds.push((self.point, 1));
        } else if random.below(2) == 0 {
            let all = CrashPoint::ALL;
            rounds.push((all[usize::try_from(random.below(all.len() as u64)).unwrap()], 1 + random.below(6)));
        }
        for (point, nth) in rounds {
            let power = (self.end == End::PowerCut).then(|| Power::on(project.path()));
            let output = drive(&project, Some(&format!("{}:{nth}", point.name())), power.as_ref());
            let crashed = output.status.code().is_none();
            assert!(crashed || output.status.success(), "{told}\n{output:?}");
            ended |= crashed && (point == self.point);
            acknowledged.extend(announced(&output));
            if let Some(power) = power.filter(|_| crashed) {
                power.cut(&mut random);
            }
        }
        for _ in 0..3 {
            let output = drive(&project, None, None);
            assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
            acknowledged.extend(announced(&output));
        }
        check(&project, &job, &acknowledged, &told);
        ended
    }
}

/// How often a small run comes to a point, about.
fn reach(point: CrashPoint) -> u64 {
    match point {
        CrashPoint::RunRecorded
        | CrashPoint::LeaseTaken
        | CrashPoint::LargeStored
        | CrashPoint::RunEnded
        | CrashPoint::CodeCached => 1,
        CrashPoint::PackWritten | CrashPoint::BeforeCommit | CrashPoint::Committed => 3,
        CrashPoint::Decided
        | CrashPoint::Instantiated
        | CrashPoint::InputOpened
        | CrashPoint::OutputUploading
        | CrashPoint::Appended
        | CrashPoint::MemoRecorded => 9,
    }
}

/// Does what a user would: goes on with the run that was left unfinished, or begins one if there is none.
fn drive(project: &Project, crash: Option<&str>, power: Option<&Power>) -> Output {
    let supplied = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        if let Some(power) = power {
            power.supply(&mut command);
        }
        command
    };
    let runs = supplied(&["runs", "--json"]).output().unwrap();
    assert!(runs.status.success(), "{runs:?}");
    let runs: serde_json::Value = serde_json::from_slice(&runs.stdout).unwrap();
    let unfinished = runs.as_array().unwrap().iter().find(|run| run["ended_at"].is_null());
    let mut command = match unfinished {
        Some(run) => supplied(&["rerun", run["run"].as_str().unwrap()]),
        None => supplied(&["run", "work"]),
    };
    if let Some(crash) = crash {
        command.env("OPYARD_CRASH", crash);
    }
    command.output().unwrap()
}

/// The runs that a user was told of.
fn announced(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines()
        .filter(|line| line.starts_with("run_"))
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect()
}

/// DESIGN section 2, and what follows from it.
fn check(project: &Project, job: &Job, acknowledged: &BTreeSet<String>, told: &str) {
    runtime().block_on(async {
        let yard = project.yard();
        let runs = yard.tenant_store().runs(RunFilter::default()).await.unwrap();
        let there: BTreeSet<_> = runs.iter().map(|summary| summary.run.to_string()).collect();
        assert!(acknowledged.is_subset(&there), "{told}: {acknowledged:?} were acknowledged, {there:?} are there");
        assert_eq!(yard.tenant_store().control().abandoned(10).await.unwrap(), [], "{told}: a run has not ended");
        // All runs have ended, so nobody holds a slot, or waits for one.
        for pool in yard.tenant_store().pools().list().await.unwrap() {
            assert!(pool.held.is_empty() && pool.waiting.is_empty(), "{told}: {pool:?}");
        }
        // After a clean-up that spares nothing but what is referenced, so that both are seen: it takes all that crashes left
        // behind, and nothing that is needed.
        let clean = Retention { min_age: Duration::ZERO, ..Retention::default() };
        yard.gc(&clean).await.unwrap();
        let again = yard.gc(&clean).await.unwrap();
        assert_eq!(again, GcReport { kept: again.kept, ..GcReport::default() }, "{told}: left by a clean-up");
        for summary in &runs {
            check_run(&yard, summary, job, told).await;
        }
        let there: Vec<_> = yard.tenant_store().artifacts().list().try_collect().await.unwrap();
        yard.close().await;
        check_stranger(project, &runs, &there, told).await;
    });
    check_memo(project, told);
    let kept = std::fs::read_to_string(project.path().join("files/word.txt")).unwrap();
    assert_eq!(kept, "kept", "{told}");
}

/// Nothing crosses to another tenant: neither in the open, nor to one who knows ids and digests.
async fn check_stranger(project: &Project, runs: &[RunSummary], artifacts: &[ArtifactRef], told: &str) {
    let tenant = TenantId::new("stranger").unwrap();
    let yard = Yard::open(&YardSettings { tenant, ..YardSettings::new(project.path().join(".opyard")) }).unwrap();
    let store = yard.tenant_store();
    assert_eq!(store.runs(RunFilter::default()).await.unwrap(), [], "{told}");
    assert_eq!(store.artifacts().list().try_collect::<Vec<_>>().await.unwrap(), [], "{told}");
    for summary in runs {
        assert_eq!(store.events().read(summary.run, 0, 1).await.unwrap(), [], "{told}");
    }
    assert!(!artifacts.is_empty(), "{told}");
    for artifact in artifacts {
        let opened = store.artifacts().get(artifact.digest).await.map(|reader| reader.artifact());
        assert_eq!(opened.unwrap_err().kind, StoreErrorKind::Missing(artifact.digest), "{told}");
    }
    yard.close().await;
}

/// No lease without an owner: all runs have ended, and no key of the memo is claimed.
fn check_memo(project: &Project, told: &str) {
    let database = rusqlite::Connection::open(project.path().join(".opyard/opyard.db")).unwrap();
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM memo_claims"), 0, "{told}: a key of the memo is claimed");
    assert!(count("SELECT count(*) FROM memo WHERE tenant = 'default'") > 0, "{told}");
    assert_eq!(count("SELECT count(*) FROM memo WHERE tenant <> 'default'"), 0, "{told}");
}

async fn check_run(yard: &Yard, summary: &RunSummary, job: &Job, told: &str) {
    assert_eq!(summary.status, RunStatus::Success, "{told}: {summary:?}");
    // Reading checks the chain of hashes, folding that each event can follow.
    let events = yard.events(summary.run).await.unwrap();
    let (_, state) = yard.state(summary.run).await.unwrap();
    state.audit().unwrap();
    assert!(events.iter().map(|recorded| recorded.seq).eq(1..=events.len() as u64), "{told}: a gap");
    assert_eq!(state.last_seq(), events.len() as u64, "{told}");
    check_order(&events, told);
    let Tally { success, memoized, skipped, failure, canceled, open, reused } = state.tally();
    let counted = summary.steps;
    assert_eq!(
        (success, memoized, reused, skipped, failure, canceled, open),
        (counted.success, counted.memoized, counted.reused, counted.skipped, 0, 0, 0),
        "{told}"
    );
    for found in yard.outputs(summary.run).await.unwrap() {
        let value = &found.output.value;
        let mut reader = yard.open_value(value).await.unwrap();
        let mut bytes = Vec::new();
        while bytes.len() < usize::try_from(value.artifact.size).unwrap() {
            bytes.extend_from_slice(&reader.read_at(bytes.len() as u64, 1 << 20).await.unwrap());
        }
        assert_eq!(Digest::of(&bytes), value.artifact.digest, "{told}: {found:?}");
        if found.step.to_string() == "total" {
            let total: f64 = serde_json::from_slice(&bytes).unwrap();
            assert!((total - job.total).abs() < 1e-9, "{told}: {total} instead of {}", job.total);
        }
    }
}

/// No success twice, and nothing starts after it.
fn check_order(events: &[Recorded], told: &str) {
    let mut succeeded = BTreeMap::new();
    for recorded in events {
        let (key, ends) = match &recorded.event {
            RunEvent::StepStart { of } => ((of.step.to_string(), of.generation), false),
            RunEvent::StepSuccess { of, .. } => ((of.step.to_string(), of.generation), true),
            RunEvent::StepMemoized { step, generation, .. } => ((step.to_string(), *generation), true),
            _ => continue,
        };
        assert!(!succeeded.contains_key(&key), "{told}: {key:?} after its success");
        if ends {
            succeeded.insert(key, recorded.seq);
        }
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path, folders: &[&str]) {
    for folder in folders {
        std::fs::create_dir_all(to.join(folder)).unwrap();
        for entry in std::fs::read_dir(from.join(folder)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
        }
    }
}
