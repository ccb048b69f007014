//! A yard that was damaged behind our back, cannot be written, or is held by somebody else.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rusqlite::Connection;

use crate::harness::{Project, binaries};

const JOB: &str = "opyard: 1
components: { probe: { path: \"{{probe}}\" } }
jobs:
  work:
    steps:
      large: { op: probe.big, config: { mib: 2 } }
      small: { op: probe.const, config: { value: 17 } }
";
/// New consumers: they are in no memo, so they need what the others made.
const MORE: &str = "      of_large: { op: probe.digest, inputs: { value: large } }
      of_small: { op: probe.add, inputs: { numbers: [small, small] } }
";

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

/// Does something to a file.
type Harm = fn(&Path);

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn cut(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

/// The step that needs what is damaged fails with a code, and nothing that was altered is handed on; the next run makes it
/// again.
#[test]
fn damaged_artifacts_are_told_and_made_again() {
    let whole = Project::new(&format!("{JOB}{MORE}"));
    whole.expect(&["run", "work"], 0);
    let of_large = whole.expect(&["cat", "latest", "of_large"], 0).0;
    let damages: [(&str, Harm, &str); 3] = [
        ("removed", |path| std::fs::remove_file(path).unwrap(), "OPY-304"),
        ("cut short", cut, "OPY-305"),
        ("altered", flip, "OPY-305"),
    ];
    for (damage, harm, code) in damages {
        let project = Project::new(JOB);
        project.expect(&["run", "work"], 0);
        files(&project.path().join(".opyard/objects")).iter().for_each(|path| harm(path));
        // Reading the run's plan comes first, and is damaged too.
        let (out, err) = project.expect(&["cat", "latest", "large"], 75);
        assert!(out.is_empty() && err.contains(code), "{damage}:\n{err}");

        project.define(&format!("{JOB}{MORE}"));
        let (out, err) = project.expect(&["run", "work"], 100);
        assert!(out.contains("of_large failed") && out.contains("of_small failed"), "{damage}:\n{out}\n{err}");
        assert_eq!(out.matches(&format!("error[{code}]")).count(), 2, "{damage}:\n{out}");
        let run = project.last_run();
        assert_eq!(run.steps("step_memoized"), crate::harness::set(&["large", "small"]));
        assert!(run.steps("step_success").is_empty());
        let (out, _) = project.expect(&["cat", "latest", "large"], 75);
        assert!(out.is_empty(), "{damage}: {} bytes were handed on", out.len());

        project.expect(&["run", "work"], 0);
        assert_eq!(project.last_run().steps("step_success").len(), 4, "{damage}: all was made again");
        assert_eq!(project.expect(&["cat", "latest", "of_large"], 0).0, of_large);
        assert_eq!(project.expect(&["cat", "latest", "of_small"], 0).0, "34.0");
        assert_eq!(project.opyard(&["cat", "latest", "large"]).stdout.len(), 2 << 20);
    }
}

#[test]
fn a_yard_that_cannot_be_used_says_why() {
    let expect = |project: &Project, code: &str, words: &str| {
        for call in [&["runs"][..], &["run", "work"], &["show"], &["query", "select count(*) from events"]] {
            let (out, err) = project.expect(call, 75);
            assert!(out.is_empty() && err.contains(code) && err.contains(words), "{call:?}:\n{out}{err}");
        }
        let (out, _) = project.expect(&["doctor"], 75);
        assert!(out.contains(code), "{out}");
    };
    let database = |project: &Project| project.path().join(".opyard/opyard.db");

    let project = Project::new(JOB);
    std::fs::write(project.path().join(".opyard"), "a file").unwrap();
    expect(&project, "OPY-313", "it is a file, not a folder");

    let project = Project::new(JOB);
    std::fs::create_dir(project.path().join(".opyard")).unwrap();
    std::fs::write(database(&project), "no database at all, but long enough to look at ".repeat(100)).unwrap();
    expect(&project, "OPY-318", "not a database");

    let project = Project::new(JOB);
    project.expect(&["run", "work"], 0);
    let right = std::fs::read(database(&project)).unwrap();
    Connection::open(database(&project)).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    expect(&project, "OPY-308", "made by a newer version");

    let mut altered = right.clone();
    let (start, end) = (4_096, right.len() - 4_096);
    for (at, byte) in altered[start..end].iter_mut().enumerate() {
        *byte = u32::try_from(at).unwrap().wrapping_mul(2_654_435_761).to_le_bytes()[3];
    }
    for damaged in [&altered[..], &right[..right.len() / 3], &right[..50], &[]] {
        std::fs::write(database(&project), damaged).unwrap();
        expect(&project, "OPY-318", "");
    }
    std::fs::write(database(&project), right).unwrap();
    project.expect(&["run", "work"], 0);
}

/// Somebody holds the database and does not let go.
#[test]
fn a_locked_yard_says_so() {
    let project = Project::new(JOB);
    project.expect(&["run", "work"], 0);
    let other = Connection::open(project.path().join(".opyard/opyard.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (_, err) = project.expect(&["run", "work"], 75);
    assert!(err.contains("OPY-303") && err.contains("wait for the other process"), "{err}");
    other.execute_batch("ROLLBACK").unwrap();
    project.expect(&["run", "work"], 0);
}

/// Runs a script with mounts of its own; none where this machine does not let us.
fn with_own_mounts(script: &str, project: &Project) -> Option<Output> {
    let tried = [&["--mount"][..], &["--mount", "--map-root-user"]].into_iter().find(|flags| {
        let mut unshare = Command::new("unshare");
        let probe = unshare.args(*flags).args(["sh", "-c", "mount -t tmpfs -o size=1m tmpfs \"$0\""]);
        probe.arg(project.path().join("mount")).output().is_ok_and(|output| output.status.success())
    });
    let Some(flags) = tried else {
        eprintln!("not tested: this machine lets nobody mount a file system of their own");
        return None;
    };
    let script = script.replace("opyard ", "\"$OPYARD\" ");
    let mut unshare = Command::new("unshare");
    let output = unshare
        .args(flags)
        .args(["sh", "-c", &script])
        .current_dir(project.path())
        .env("OPYARD", binaries().join("opyard"))
        .env_remove("OPYARD_YARD")
        .output();
    Some(output.unwrap())
}

#[test]
fn a_full_disk_is_told_and_room_heals_it() {
    let project = Project::new(&JOB.replace("mib: 2", "mib: 8"));
    std::fs::create_dir(project.path().join("mount")).unwrap();
    let script = "mount -t tmpfs -o size=3m tmpfs mount
        opyard run work --yard mount; echo \"first $?\"
        dd if=/dev/zero of=mount/filler bs=1k 2>/dev/null
        opyard run work --yard mount; echo \"second $?\"
        rm mount/filler; mount -o remount,size=64m mount
        opyard run work --yard mount; echo \"third $?\"
        opyard doctor --yard mount; echo \"fourth $?\"";
    let Some(output) = with_own_mounts(script, &project) else { return };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let told = format!("{out}\n{err}");
    // The run fails, or its events cannot be kept: it depends on what is written first.
    assert!(out.contains("first 100") || out.contains("first 75"), "{told}");
    assert!(out.contains("second 75") && out.contains("third 0") && out.contains("fourth 0"), "{told}");
    assert!(told.matches("error[OPY-302]").count() >= 2, "{told}");
}

#[test]
fn a_read_only_yard_is_told() {
    let project = Project::new(JOB);
    project.expect(&["run", "work"], 0);
    std::fs::create_dir(project.path().join("mount")).unwrap();
    let script = "mount --bind .opyard .opyard && mount -o remount,ro,bind .opyard || exit 99
        opyard run work; echo \"first $?\"
        opyard runs; echo \"second $?\"";
    let Some(output) = with_own_mounts(script, &project) else { return };
    if output.status.code() == Some(99) {
        eprintln!("not tested: this machine lets nobody mount a folder read-only");
        return;
    }
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("first 75"), "{out}\n{err}");
    assert!(err.contains("error[OPY-313]") && err.contains("may not be written"), "{err}");
    // Whether it can be looked at depends on what the last process left beside the database.
    assert!(out.contains("second 0") || out.contains("second 75"), "{out}\n{err}");
    assert!(!err.contains("error[OPY-301]"), "{err}");
}
