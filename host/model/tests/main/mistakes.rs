//! Every file of `mistakes/` is wrong in some way; beside it stands what is said of it. A new case is a new file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use opyard_model::definitions::Setting;
use opyard_model::definitions::op_test::OpTestFile;
use opyard_model::diagnostic::{Diagnostics, Drawing, Source};
use opyard_model::error::Code;
use opyard_model::plan::{Launch, Plan};

fn files(extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

/// What `check`, or `plan` when the file asks for a job, an environment or settings in its comments, says of a file.
fn said_of(path: &Path) -> Diagnostics {
    let bytes = std::fs::read(path).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let asked = |what: &str| -> Vec<String> {
        let prefix = format!("# {what}: ");
        text.lines().filter_map(|line| line.strip_prefix(prefix.as_str())).map(str::to_owned).collect()
    };
    let definitions = match crate::parse(&text) {
        Ok(definitions) => definitions,
        Err(found) => return found,
    };
    let mut settings = Vec::new();
    for setting in asked("set") {
        match Setting::parse(&setting) {
            Ok(setting) => settings.push(setting),
            Err(found) => return found,
        }
    }
    let (jobs, environments) = (asked("job"), asked("environment"));
    crate::with_planning(|planning| {
        if jobs.is_empty() && environments.is_empty() && settings.is_empty() {
            return definitions.check(planning).unwrap_or_else(|found| found);
        }
        let launch = Launch {
            job: jobs.first().map_or("train", String::as_str),
            environment: environments.first().map(String::as_str),
            settings: &settings,
        };
        Plan::build(&definitions, &launch, planning).map_or_else(|found| found, |(_, warnings)| warnings)
    })
}

#[test]
fn every_mistake_is_explained() {
    let mut codes = BTreeSet::new();
    for path in files("yaml") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let found = said_of(&path);
        assert!(!found.is_empty(), "nothing is said of {name}");
        codes.extend(found.iter().map(|diagnostic| diagnostic.code));
        insta::with_settings!({
            snapshot_path => "../mistakes", prepend_module_to_snapshot => false, omit_expression => true,
        }, {
            insta::assert_snapshot!(name, found.render(Drawing::Plain));
        });
    }
    for snapshot in files("snap") {
        assert!(snapshot.with_extension("yaml").is_file(), "{} belongs to no file", snapshot.display());
    }
    // Codes of the author that are found in definitions and settings. The others are of runs, queries, components, and of
    // where components come from.
    let elsewhere = [
        Code::BadSelection,
        Code::ComponentInvalid,
        Code::ContractVersion,
        Code::UnknownImport,
        Code::UnknownRun,
        Code::BadQuery,
        Code::UnknownOutput,
        Code::NoDefinitions,
        Code::BadCall,
        Code::RunEnded,
        Code::UnknownAsset,
        Code::TagMoved,
        Code::Downgrade,
        Code::LockUnusable,
        Code::Untrusted,
        Code::UnknownNamespace,
        Code::KeyUnusable,
        Code::CompileLimit,
    ];
    let missing: Vec<_> = Code::ALL
        .iter()
        .filter(|code| code.blame() == opyard_model::error::Blame::Author)
        .filter(|code| !elsewhere.contains(code) && !codes.contains(code))
        .collect();
    assert!(missing.is_empty(), "no mistake shows {missing:?}");
}

#[test]
fn files_that_cannot_be_read_are_explained() {
    let parse = |bytes: &[u8]| Source::from_bytes("opyard.yaml", bytes).map(|_| ()).unwrap_err().to_string();
    insta::assert_snapshot!("not_utf8", parse(b"opyard: 1\njobs: \xff\xfe\n"));
    insta::assert_snapshot!("too_large", parse(&vec![b'#'; (1 << 20) + 1]));
    let with_mark = Source::from_bytes("opyard.yaml", b"\xef\xbb\xbfopyard: 1\n").unwrap();
    assert_eq!(with_mark.text(), "opyard: 1\n");
}

#[test]
fn bombs_are_refused_at_once() {
    let mut bomb = String::from("opyard: 1\na: &a [x]\n");
    for letter in 'b'..='z' {
        let before = char::from(letter as u8 - 1);
        bomb.push_str(&format!("{letter}: &{letter} [*{before}, *{before}, *{before}, *{before}]\n"));
    }
    let wide = format!("opyard: 1\njobs: [{}]\n", "a,".repeat(400_000));
    let deep = format!("opyard: 1\njobs: {}\n", "[".repeat(500_000));
    let indented: String = (0..1_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let long = format!("opyard: 1\n{}: 1\n", "k".repeat(900_000));
    for (text, code) in [
        (bomb, Code::Syntax),
        (wide, Code::TooLarge),
        (deep, Code::TooLarge),
        (indented, Code::TooLarge),
        (long, Code::Syntax),
    ] {
        let found = crate::parse(&text).unwrap_err();
        let first = found.iter().next().unwrap();
        assert_eq!(first.code, code, "{}", first.message);
        assert!(found.render(Drawing::Coloured).len() < 10_000);
    }
}

/// What is said stays bounded, errors are not crowded out by warnings, and a deep nest of graphs is no deep recursion.
#[test]
fn many_mistakes_stay_readable() {
    let steps = |line: fn(usize) -> String| (0..3_000).map(line).collect::<Vec<_>>().join("\n");
    let head = "opyard: 1\ncomponents: { shapes: { path: s.wasm } }\njobs:\n  job:\n    steps:\n";
    let slips = steps(|n| format!("      t{n}: {{ op: shapes.square, inputs: {{ item: q{n} }} }}"));
    let found = crate::parse(&format!("{head}{slips}\n")).unwrap_err();
    assert_eq!(found.iter().count(), opyard_model::diagnostic::MAX_DIAGNOSTICS);
    let warned = steps(|n| format!("      t{n}: {{ op: shapes.list, retry: {{}} }}"));
    let (plan, found) = crate::plan(&format!("{head}{warned}\n"), None, &[]).unwrap();
    assert_eq!((plan.steps.len(), found.iter().count()), (3_000, opyard_model::diagnostic::MAX_DIAGNOSTICS));
    crate::plan(&format!("{head}{warned}\n      x: {{ op: shapes.lst }}\n"), None, &[]).unwrap_err();
    let nest: String = (1..3_000).map(|n| format!("  g{n}: {{ steps: {{ s: {{ graph: g{} }} }} }}\n", n - 1)).collect();
    let nest = format!(
        "opyard: 1\ncomponents: {{ shapes: {{ path: x }} }}\ngraphs:\n  g0: {{ steps: {{ s: {{ op: shapes.list }} }} }}\n{nest}"
    );
    let job = |outer: &str| format!("{nest}jobs: {{ job: {{ steps: {{ s: {{ graph: {outer} }} }} }} }}\n");
    assert_eq!(crate::plan(&job("g480"), None, &[]).unwrap().0.steps.len(), 1);
    assert_eq!(crate::plan(&job("g2999"), None, &[]).unwrap_err().iter().next().unwrap().code, Code::TooLarge);
}

#[test]
fn diagnostics_serialise_for_machines() {
    let found = crate::parse("opyard: 1\njobs: { train: { steps: { a: { op: nodot } } } }\n").unwrap_err();
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&found).unwrap());
}

/// The same for test files of ops.
#[test]
fn every_mistake_of_a_test_file_is_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/op_tests");
    for name in ["mistakes", "no_map"] {
        let bytes = std::fs::read(folder.join(format!("{name}.yaml"))).unwrap();
        let source = Source::from_bytes("ops.test.yaml", &bytes).unwrap();
        let found = OpTestFile::parse(&source, Path::new("/folder")).err().unwrap();
        insta::with_settings!({
            snapshot_path => &folder, prepend_module_to_snapshot => false, omit_expression => true,
        }, {
            insta::assert_snapshot!(name, found.render(Drawing::Plain));
        });
    }
}

/// What its schema allows is read, and what it refuses is not: the two know the same keys.
#[test]
fn the_schema_of_test_files_is_that_of_the_reader() {
    let schema = opyard_model::definitions::op_test::schema();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let good = serde_json::json!({
        "opyard_test": 1, "component": "a.wasm", "components": { "c": { "path": "c.wasm" } }, "op": "o",
        "types": { "t": { "base": "table" } }, "description": "x",
        "cases": { "one": {
            "description": "x", "op": "p", "config": {}, "limits": { "memory": "1MiB" }, "expect": "OPY-101",
            "inputs": { "a": { "text": "x", "media_type": "text/plain" }, "b": [{ "value": 1 }, { "hex": "00" }] },
            "resources": {
                "s": { "kind": "object_store", "access": "read", "objects": { "p": "x", "q": { "file": "f" } } },
                "k": { "kind": "key_value", "values": { "n": { "value": [1] } } },
                "m": { "kind": "model_registry", "models": [{ "model": "m", "files": { "f": "x" }, "metadata": {}, "aliases": ["a"] }] },
                "t": { "kind": "secret", "text": "x" },
                "h": { "kind": "http_client", "origins": ["https://a.example"], "answers": [
                    { "url": "https://a.example/", "method": "POST", "status": 404, "headers": { "a": "b" }, "body": "x" }
                ] },
            },
        } },
    });
    assert!(validator.is_valid(&good), "{:?}", validator.iter_errors(&good).map(|e| e.to_string()).collect::<Vec<_>>());
    let read = |value: &serde_json::Value| {
        let source = Source::from_bytes("ops.test.yaml", value.to_string().as_bytes()).unwrap();
        OpTestFile::parse(&source, Path::new("/folder"))
    };
    read(&good).unwrap();
    for pointer in
        ["", "/cases/one", "/cases/one/inputs/a", "/cases/one/resources/h/answers/0", "/cases/one/resources/m/models/0"]
    {
        let mut bad = good.clone();
        bad.pointer_mut(pointer).unwrap()["nonsense"] = true.into();
        assert!(!validator.is_valid(&bad) && read(&bad).is_err(), "{pointer}");
    }
}
