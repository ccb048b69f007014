//! Compiling, in a process of its own: what it may not do, what it may not take, and what becomes of it.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use opyard_server::model::error::Code;
use opyard_server::model::limits::ByteSize;
use opyard_server::{CompileLimits, CompileWorker, ComponentBounds, Yard, YardError, YardSettings};
use serde_json::Value;

use crate::failing::wait_until;
use crate::harness::{Project, binaries, component, runtime};

const GREETING: usize = 48;

/// A component that exports what it should, and holds this core module.
fn around(module: &str) -> Vec<u8> {
    let text =
        format!("(component (core module {module}) (instance $i) (export \"opyard:op/ops@0.1.0\" (instance $i)))");
    wat::parse_str(text).unwrap()
}

/// Loops inside each other, each of which may go round again.
fn loops(nested: usize) -> Vec<u8> {
    let round = "(br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))";
    around(&format!("(func (param i32) {}{})", "(loop ".repeat(nested), round.repeat(nested)))
}

/// A function whose values are all alive at its end: seconds of looking for registers.
fn live_values(count: usize) -> Vec<u8> {
    let loads: String = (0..count).map(|at| format!("(i32.load offset={} (local.get 0))", at * 4)).collect();
    around(&format!("(memory 2) (func (param i32) (result i32) {loads} {})", "i32.add ".repeat(count - 1)))
}

/// A function of so many branches, each of which may set each of its variables: memory.
fn branches(count: usize, locals: usize) -> Vec<u8> {
    let set = |at: usize| format!("(if (local.get 0) (then (local.set {} (i32.const {at}))))", 1 + at % locals);
    let body: String = (0..count).map(set).collect();
    around(&format!("(func (param i32) {} {body})", "(local i32)".repeat(locals)))
}

/// Bounds that let through what is meant to be stopped behind them.
const NONE: ComponentBounds = ComponentBounds {
    loop_nesting: u32::MAX,
    loops: u32::MAX,
    nesting: usize::MAX,
    body: usize::MAX,
    ..ComponentBounds::CHOSEN
};

/// The real program, as what compiles.
fn worker() -> CompileWorker {
    CompileWorker {
        program: binaries().join("opyard"),
        arguments: vec!["compile-component".into()],
        limits: CompileLimits::default(),
    }
}

/// A shell script, as what compiles.
fn script(text: &str) -> CompileWorker {
    CompileWorker { program: "/bin/sh".into(), arguments: vec!["-c".into(), text.into()], ..worker() }
}

/// A yard in a folder of its own, and a component file.
struct Place {
    folder: tempfile::TempDir,
    file: PathBuf,
}

impl Place {
    fn new(component: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("component.wasm");
        std::fs::write(&file, component).unwrap();
        Self { folder, file }
    }

    fn yard(&self, worker: CompileWorker, bounds: ComponentBounds) -> Yard {
        let settings = YardSettings::new(self.folder.path().join("yard"));
        Yard::open(&YardSettings { compile_worker: Some(worker), bounds, ..settings }).unwrap()
    }

    /// What comes of looking at the component, and in what time.
    async fn inspected(&self, worker: CompileWorker, bounds: ComponentBounds) -> (Result<(), YardError>, Duration) {
        let (yard, start) = (self.yard(worker, bounds), Instant::now());
        let inspected = yard.inspect(&self.file).await.map(drop);
        (inspected, start.elapsed())
    }
}

fn code(inspected: &Result<(), YardError>) -> Code {
    match inspected {
        Err(YardError::Failed(failure)) => failure.code,
        other => panic!("expected a failure: {other:?}"),
    }
}

/// The processes that a process has started and that have not ended.
fn children(of: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // Behind the name, which may hold anything: the state and the parent.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let mut fields = rest.split_whitespace();
        let (state, parent) = (fields.next(), fields.next());
        if parent == Some(&of.to_string()) && state != Some("Z") {
            found.push(pid);
        }
    }
    found
}

fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
}

/// What stands in the file of a process.
fn about(pid: u32, file: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap()).into_owned()
}

/// Starts a worker that has been left a file open, and waits until it says that its walls stand.
fn greeted() -> (Child, ChildStdout) {
    let mut shell = Command::new("/bin/sh");
    let start = "exec 7</etc/passwd 9>&2; exec \"$0\" compile-component 2147483648 30";
    shell.args(["-c", start]).arg(binaries().join("opyard"));
    let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut greeting = [0; GREETING];
    stdout.read_exact(&mut greeting).unwrap();
    assert!(greeting.starts_with(b"opyard compile 1"));
    (child, stdout)
}

#[test]
fn what_compiles_is_shut_in_before_it_is_given_a_byte() {
    let (mut child, mut stdout) = greeted();
    let pid = child.id();
    let status = about(pid, "status");
    assert!(status.contains("Seccomp:\t2\n") && status.contains("NoNewPrivs:\t1\n"), "{status}");
    let limits = about(pid, "limits");
    for (name, soft, hard) in [
        ("Max address space", "2147483648", "2147483648"),
        ("Max cpu time", "30", "31"),
        ("Max core file size", "0", "0"),
        ("Max file size", "0", "0"),
        ("Max open files", "0", "0"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let words: Vec<_> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(words, [soft, hard], "{name}");
    }
    let mut open: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2"]);

    // It works nevertheless, and says what is wrong with a component.
    child.stdin.take().unwrap().write_all(b"\0asm\x0d\0\x01\0\x07\x01\x99").unwrap();
    let mut answer = Vec::new();
    stdout.read_to_end(&mut answer).unwrap();
    assert_eq!(answer[0], 1, "{}", String::from_utf8_lossy(&answer));
    assert!(child.wait().unwrap().success());
}

/// H24, H25: whatever is let through, the process ends at its limits, and nothing else does.
#[test]
fn a_component_that_takes_too_long_or_too_much_memory_costs_its_process_alone() {
    let quick = CompileLimits { cpu: Duration::from_secs(1), ..CompileLimits::default() };
    let small = CompileLimits { memory: ByteSize(256 << 20), ..CompileLimits::default() };
    let cases = [
        ("1,000 nested loops", loops(1_000), quick, Code::CompileLimit),
        ("10,000 nested loops", loops(10_000), quick, Code::CompileLimit),
        ("live values", live_values(20_000), quick, Code::CompileLimit),
        ("branches", branches(20_000, 200), small, Code::CompileLimit),
    ];
    let whole = std::fs::read(component("textkit")).unwrap();
    runtime().block_on(async {
        for (what, bytes, limits, expected) in cases {
            let place = Place::new(&bytes);
            let (inspected, took) = place.inspected(CompileWorker { limits, ..worker() }, NONE).await;
            assert_eq!(code(&inspected), expected, "{what}: {inspected:?}");
            assert!(took < Duration::from_secs(30), "{what}: {took:?}");
            assert!(children(std::process::id()).is_empty(), "{what}");
            // The host goes on.
            std::fs::write(&place.file, &whole).unwrap();
            let (inspected, _) = place.inspected(worker(), ComponentBounds::STRANGERS).await;
            inspected.unwrap();
        }
    });
}

/// H24, H26: what is known to be too much is refused before anything is started.
#[test]
fn what_is_too_tangled_is_refused_at_once() {
    let functions = |count: usize| around(&"(func)".repeat(count));
    let cases = [
        ("1,000 nested loops", loops(1_000), "loops inside each other"),
        ("10,000 nested loops", loops(10_000), "loops inside each other"),
        ("a million functions", functions(1_000_000), "functions"),
        ("50,000 variables", around(&format!("(func {})", "(local i32)".repeat(50_000))), "local variables"),
        ("a body of 7 MB", around(&format!("(func {})", "nop ".repeat(7 << 20))), "bytes in one function"),
    ];
    let strangers = [
        ("live values", live_values(40_000), "bytes in one function"),
        (
            "300 blocks",
            around(&format!("(func {}{})", "(block ".repeat(300), ")".repeat(300))),
            "blocks inside each other",
        ),
        ("600 loops", around(&format!("(func {})", "(loop) ".repeat(600))), "loops in one function"),
        (
            "a table of 5,000 targets",
            around(&format!("(func (br_table {} (i32.const 0)))", "0 ".repeat(5_000))),
            "targets in one jump table",
        ),
        (
            "40 modules",
            {
                let text = format!("(component {})", "(core module) ".repeat(40));
                wat::parse_str(text).unwrap()
            },
            "core modules",
        ),
    ];
    let project = Project::new("");
    for (what, bytes, words) in &cases {
        let file = project.path().join("component.wasm");
        std::fs::write(&file, bytes).unwrap();
        let start = Instant::now();
        let (_, err) = project.expect(&["op", "inspect", file.to_str().unwrap()], 2);
        assert!(err.contains("OPY-234") && err.contains(words), "{what}:\n{err}");
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: {:?}", start.elapsed());
    }
    runtime().block_on(async {
        for (what, bytes, words) in strangers {
            let place = Place::new(&bytes);
            // A worker that cannot be started: it is not needed.
            let nobody = CompileWorker { program: "/nowhere".into(), ..worker() };
            let (inspected, _) = place.inspected(nobody, ComponentBounds::STRANGERS).await;
            assert_eq!(code(&inspected), Code::TooLarge, "{what}");
            assert!(inspected.unwrap_err().to_string().contains(words), "{what}");
        }
    });
}

/// H27: types that are deep, wide, or of themselves.
#[test]
fn types_that_explode_are_refused_soon() {
    let deep = format!("(component {} (type $t (list $t0)))", {
        let step = |at: usize| format!("(type $t{} (list $t{}))", at, at + 1);
        let mut text = String::from("(type $t100 (list u8))");
        (0..100).rev().for_each(|at| text.push_str(&step(at)));
        text
    });
    // Each record has the one before twice: 2^60 fields.
    let doubled = format!("(component (type $r0 (record (field \"a\" u8))) {})", {
        let step = |at: usize| format!("(type $r{} (record (field \"a\" $r{}) (field \"b\" $r{})))", at + 1, at, at);
        (0..60).map(step).collect::<String>()
    });
    let fields: String = (0..10_000).map(|at| format!("(field \"f{at}\" u8)")).collect();
    let wide = format!("(component (type $r (record {fields})))");
    let nested = format!("{}{}", "(component ".repeat(17), ")".repeat(17));
    let project = Project::new("");
    for (what, text) in [("deep", deep), ("doubled", doubled), ("wide", wide), ("nested", nested)] {
        // With what it should export, so that it is not refused for lack of that.
        let text = text.strip_suffix(')').unwrap().to_owned()
            + "(instance $i) (export \"opyard:op/ops@0.1.0\" (instance $i)))";
        let file = project.path().join("component.wasm");
        std::fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
        let start = Instant::now();
        let (_, err) = project.expect(&["op", "inspect", file.to_str().unwrap()], 2);
        assert!(err.contains("error[OPY-231]") || err.contains("error[OPY-234]"), "{what}:\n{err}");
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: {:?}", start.elapsed());
    }
}

/// A project whose component takes many seconds to compile, being compiled.
fn compiling() -> (Project, Child, u32) {
    let project = Project::new("");
    let file = project.path().join("component.wasm");
    std::fs::write(&file, live_values(20_000)).unwrap();
    let mut command = project.command(&["op", "inspect", "component.wasm"]);
    // A secret of the caller's.
    command.env("CANARY", "a secret").stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let busy = |pid: u32| about(pid, "status").contains("Seccomp:\t2\n");
    wait_until(|| children(child.id()).iter().any(|pid| busy(*pid)));
    let pid = children(child.id())[0];
    (project, child, pid)
}

#[test]
fn a_worker_that_is_killed_is_told_and_the_next_one_does_the_work() {
    let (project, child, pid) = compiling();
    assert_eq!(about(pid, "environ"), "");
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    kill(pid);
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{err}");
    assert!(err.contains("error[OPY-330]") && err.contains("SIGKILL"), "{err}");
    project.expect(&["op", "inspect", component("textkit").to_str().unwrap()], 0);
}

#[test]
fn a_worker_dies_with_whoever_started_it() {
    let (_project, mut child, pid) = compiling();
    kill(child.id());
    child.wait().unwrap();
    wait_until(|| is_gone(pid));
}

#[test]
fn a_worker_is_ended_when_nobody_waits_for_it() {
    let place = Place::new(&live_values(20_000));
    runtime().block_on(async {
        let yard = place.yard(worker(), ComponentBounds::CHOSEN);
        let mine = || children(std::process::id());
        tokio::select! {
            _ = yard.inspect(&place.file) => panic!("it takes seconds"),
            () = async { while mine().is_empty() { tokio::task::yield_now().await } } => {}
        }
        wait_until(|| mine().is_empty());
    });
}

/// Whatever the process says or does not say: one failure, in bounded time and memory, and no process left.
#[test]
fn a_worker_that_talks_nonsense_is_not_believed() {
    let greeting = {
        let mut command = Command::new(binaries().join("opyard"));
        let output = command.args(["compile-component", "2147483648", "30"]).stdin(Stdio::null()).output().unwrap();
        output.stdout[..GREETING].to_vec()
    };
    let place = Place::new(&std::fs::read(component("textkit")).unwrap());
    let said = |name: &str, bytes: &[u8]| {
        let path = place.folder.path().join(name);
        std::fs::write(&path, [&greeting, bytes].concat()).unwrap();
        format!("cat '{}'; cat >/dev/null", path.display())
    };
    let header = |kind: u8, length: u64| [&[kind][..], &length.to_le_bytes()].concat();
    let no_code = [header(0, 5), b"hello".to_vec()].concat();
    let cases = [
        ("no greeting", "echo hello; exec sleep 1000".to_owned(), "was the program replaced"),
        ("endless noise", "exec cat /dev/zero".to_owned(), "was the program replaced"),
        ("an exit", "echo 'no luck' >&2; exit 3".to_owned(), "no luck"),
        ("endless complaints", "cat /dev/zero >&2; exit 3".to_owned(), "longer than"),
        ("silence", "exec sleep 1000".to_owned(), "longer than"),
        ("a closed pipe", "exec >&-; exec sleep 1000".to_owned(), "was ended"),
        ("a kill", "kill -KILL $$".to_owned(), "was ended"),
        ("half an answer", said("half", &no_code[..11]), "without an answer"),
        ("endless code", said("endless", &header(0, u64::MAX)), "was the program replaced"),
        ("a long text", said("long", &header(1, 1 << 40)), "was the program replaced"),
        ("another kind", said("kind", &header(99, 0)), "was the program replaced"),
        ("code that is none", said("none", &no_code), "cannot be loaded"),
    ];
    let limits = CompileLimits { wall: Duration::from_secs(3), ..CompileLimits::default() };
    runtime().block_on(async {
        for (what, text, words) in cases {
            let worker = CompileWorker { limits, ..script(&text) };
            let (inspected, took) = place.inspected(worker, ComponentBounds::CHOSEN).await;
            assert_eq!(code(&inspected), Code::CompilerFailed, "{what}: {inspected:?}");
            let told = inspected.unwrap_err().to_string();
            assert!(told.contains(words) && told.len() < 3_000, "{what}: {told}");
            assert!(took < Duration::from_secs(20), "{what}: {took:?}");
            wait_until(|| children(std::process::id()).is_empty());
        }
        // None of it was kept.
        let (inspected, _) = place.inspected(worker(), ComponentBounds::CHOSEN).await;
        inspected.unwrap();
    });
}

/// Callers at the same time wait for one compilation; what cannot be compiled is not tried again for each of them.
#[test]
fn two_callers_one_compilation() {
    let good = std::fs::read(component("textkit")).unwrap();
    for (bytes, ends_well) in [(good, true), (loops(2_000), false)] {
        let place = Place::new(&bytes);
        let count = place.folder.path().join("count");
        let text = format!("echo once >> '{}'; exec '{}' compile-component \"$@\"", count.display(), {
            binaries().join("opyard").display().to_string()
        });
        let limits = CompileLimits { cpu: Duration::from_secs(1), ..CompileLimits::default() };
        let mut counting = CompileWorker { limits, ..script(&text) };
        counting.arguments.push("sh".into());
        runtime().block_on(async {
            let yard = place.yard(counting, NONE);
            let callers = (0..4).map(|_| yard.inspect(&place.file));
            let inspected = futures::future::join_all(callers).await;
            assert!(inspected.iter().all(|inspected| inspected.is_ok() == ends_well), "{inspected:?}");
        });
        assert_eq!(std::fs::read_to_string(&count).unwrap().lines().count(), 1);
    }
}

const JOB: &str = "opyard: 1
components: { probe: { path: \"{{probe}}\" } }
jobs:
  work:
    steps:
      a: { op: probe.const, config: { value: 17 } }
      b: { op: probe.add, inputs: { numbers: [a] } }
";

fn code_files(project: &Project) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(project.path().join(".opyard/code")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).collect()
}

/// H28: compiled code comes from nobody but this host.
#[test]
fn compiled_code_is_taken_from_nobody_and_never_altered() {
    let project = Project::new(JOB);
    project.expect(&["check"], 0);
    let [file] = code_files(&project).try_into().unwrap();
    let kept = std::fs::read(&file).unwrap();

    // Uploaded, as it is and without what seals it.
    for bytes in [&kept[..], &kept[32..]] {
        std::fs::write(project.path().join("code.wasm"), bytes).unwrap();
        let (_, err) = project.expect(&["op", "inspect", "code.wasm"], 2);
        assert!(err.contains("error[OPY-231]") && err.contains("not a WebAssembly file"), "{err}");
    }

    let (_, err) = project.expect(&["check"], 0);
    assert!(!err.contains("OPY-312"), "{err}");
    let told = |arguments: &[&str]| {
        let (out, err) = project.expect(arguments, 0);
        (out + &err).matches("warning[OPY-312]").count()
    };
    let mut altered = kept.clone();
    altered[kept.len() / 2] ^= 1;
    for verb in [&["check"][..], &["plan", "work"], &["run", "work"]] {
        std::fs::write(&file, &altered).unwrap();
        assert_eq!(told(verb), 1, "{verb:?}");
        assert_ne!(std::fs::read(&file).unwrap(), altered, "written anew");
        assert_eq!(told(verb), 0, "{verb:?}");
    }

    // Sealed by another host: its key is not ours.
    let other = Project::new(JOB);
    other.expect(&["check"], 0);
    std::fs::copy(&code_files(&other)[0], &file).unwrap();
    assert_eq!(told(&["check"]), 1);
    // Ours, but of another component.
    let more = Project::new(&JOB.replace("{{probe}}", "{{textkit}}").replace("probe.", "textkit."));
    let (_, err) = more.expect(&["op", "inspect", component("textkit").to_str().unwrap()], 0);
    assert!(err.is_empty(), "{err}");
    project.expect(&["op", "inspect", component("textkit").to_str().unwrap()], 0);
    let two = code_files(&project);
    let another = two.iter().find(|path| **path != file).unwrap();
    std::fs::copy(another, &file).unwrap();
    assert_eq!(told(&["check"]), 1);
}

/// A run that finds its code altered says so in its own log.
#[test]
fn a_run_that_finds_altered_code_has_it_on_record() {
    let project = Project::new(JOB);
    let output = project.command(&["run", "work"]).env("OPYARD_CRASH", "instantiated:2").output().unwrap();
    assert_eq!(output.status.code(), None, "it was to be killed");
    for file in code_files(&project) {
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }
    project.expect(&["rerun", "latest"], 0);
    let events = project.expect(&["events", "latest", "--json"], 0).0;
    let told: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|event: &Value| event["kind"] == "engine_event" && event.to_string().contains("OPY-312"))
        .collect();
    assert_eq!(told.len(), 1, "{events}");
}

/// Looks whether the compiler works, and what it may take.
#[test]
fn the_doctor_tries_the_compiler() {
    let project = Project::new(JOB);
    project.expect(&["check"], 0);
    let (out, _) = project.expect(&["doctor"], 0);
    assert!(out.contains("compiler     each component is compiled in a process of its own"), "{out}");
}
