//! Whatever a person may hand over by mistake, or a stranger on purpose: each is answered once, with a code, the right exit
//! code, and nothing that could drive a terminal.

use std::collections::BTreeSet;
use std::path::Path;

use opyard_server::Project as Definitions;
use opyard_server::model::definitions::{Definitions as Parsed, Setting};
use opyard_server::model::diagnostic::{Diagnostics, Drawing, Source};
use opyard_server::model::plan::Launch;

use crate::harness::{Project, component, root, runtime};

const PLAIN: &str = "opyard: 1
components: { probe: { path: \"{{probe}}\" } }
jobs: { work: { steps: { one: { op: probe.const, config: { value: 1 } }, two: { op: probe.noop, inputs: { after: [] }, after: [one] } } } }
";

/// The Big List of Naughty Strings in two editions, and some of our own.
fn naughty() -> Vec<String> {
    let mut list = BTreeSet::new();
    for edition in ["blns.json", "blns-python.json"] {
        let text = std::fs::read_to_string(root().join("tests/data/naughty").join(edition)).unwrap();
        list.extend(serde_json::from_str::<Vec<String>>(&text).unwrap());
    }
    let mut list: Vec<_> = list.into_iter().collect();
    let own =
        ["\u{1b}]0;title\u{7}", "\u{9b}2J", "a\u{202e}b", "a\rb", "x\u{0}y", "a\nb", "\u{feff}", ".", "..", "a.b.c"];
    list.extend(own.map(str::to_owned));
    list.push("n".repeat(100_000));
    list
}

/// Text for a terminal that holds nothing but text.
fn is_harmless(text: &str) -> bool {
    let drives = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.chars().any(|c| drives(c) && c != '\n' && c != '\t')
}

/// The text without colours and weights: what else drives a terminal stays.
fn without_styles(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        match part.split_once('m') {
            Some((style, rest)) if style.bytes().all(|byte| byte.is_ascii_digit() || byte == b';') => {
                out.push_str(rest)
            }
            _ => out.extend(["\u{1b}[", part]),
        }
    }
    out
}

fn expect_problems(found: &Diagnostics, told: &str) {
    assert!(found.has_errors(), "{told}: nothing is wrong, and yet it is refused");
    let text = found.render(Drawing::Plain);
    assert!(text.contains("error[OPY-2"), "{told}:\n{text}");
    assert!(is_harmless(&text), "{told}: {text:?}");
    assert!(text.len() < 1 << 20, "{told}: {} bytes of text", text.len());
}

#[test]
fn naughty_strings_in_a_definitions_file_are_names_or_mistakes() {
    // `{n}` is the string as YAML quotes it, `{r}` the string as it is: whatever that makes of the file.
    let places = [
        "opyard: 1\njobs: { {n}: { steps: { a: { op: p.o } } } }\n",
        "opyard: 1\njobs: { j: { steps: { {n}: { op: p.o } } } }\n",
        "opyard: 1\njobs: { j: { steps: { a: { op: {n} } } } }\n",
        "opyard: 1\njobs: { j: { tags: { {n}: {n} }, steps: { a: { op: p.o, inputs: { i: {n} }, timeout: {n} } } } }\n",
        "opyard: 1\njobs: { j: { steps: { a: { op: p.o, inputs: { {n}: [{n}, a.{r}] }, after: [{n}] } } } }\n",
        "opyard: 1\ncomponents: { {n}: { path: {n} } }\n",
        "opyard: 1\nresources: { {n}: { kind: object_store, url: {n}, access: {n} } }\nenvironments: { {n}: {} }\n",
        "opyard: 1\nio_managers: { x: { kind: object_store, url: \"file:./x\", path: {n} } }\n",
        "opyard: 1\nschedules: { s: { job: {n}, cron: {n}, timezone: {n} } }\ngrants: { {n}: { resources: { {n}: {n} } } }\n",
        "opyard: 1\n{n}: {n}\n",
        "opyard: 1\njobs:\n  {r}:\n    steps: { a: { op: {r} } }\n",
        "{r}",
    ];
    let folder = Path::new("/nowhere");
    for string in naughty() {
        let quoted = serde_json::to_string(&string).unwrap();
        for place in places {
            let text = place.replace("{n}", &quoted).replace("{r}", &string);
            let source = match Source::from_bytes(&string, text.as_bytes()) {
                Ok(source) => source,
                Err(found) => {
                    expect_problems(&found, &text);
                    continue;
                }
            };
            if let Err(found) = Parsed::parse(&source, folder) {
                expect_problems(&found, &text);
            }
        }
        for setting in [string.clone(), format!("{string}=1"), format!("a.{string}=1"), format!("a.k={string}")] {
            if let Err(found) = Setting::parse(&setting) {
                expect_problems(&found, &setting);
            }
        }
    }
}

/// With the real ops, as far as a plan; and as paths.
#[test]
fn naughty_strings_reach_no_plan_that_they_do_not_fit() {
    let project = Project::new(PLAIN);
    runtime().block_on(async {
        let yard = project.yard();
        let loaded = Definitions::load(&yard, &project.path().join("opyard.yaml")).await.unwrap();
        for string in naughty() {
            let setting = serde_json::to_string(&string).unwrap();
            let settings: Vec<_> = [format!("one.value={setting}"), format!("one.{string}=1")]
                .iter()
                .filter_map(|text| Setting::parse(text).ok())
                .collect();
            let right = Launch { job: "work", environment: None, settings: &settings[..1] };
            loaded.plan(&yard, &right).await.unwrap();
            for (job, environment, settings) in
                [(string.as_str(), None, &[][..]), ("work", Some(string.as_str()), &[][..]), ("work", None, &settings)]
            {
                match loaded.plan(&yard, &Launch { job, environment, settings }).await {
                    Ok(_) => assert!(settings.len() == 1, "{string:?} is no name of anything"),
                    Err(opyard_server::YardError::Definitions(found)) => expect_problems(&found, &string),
                    Err(error) => panic!("{string:?}: {error}"),
                }
            }
            // A path that names nothing, or something else than a file.
            match Definitions::load(&yard, &project.path().join("sub").join(&string)).await.unwrap_err() {
                opyard_server::YardError::Failed(failure) => {
                    assert!(["OPY-243", "OPY-313"].contains(&failure.code.to_string().as_str()), "{failure}");
                }
                opyard_server::YardError::Definitions(found) => expect_problems(&found, &string),
            }
        }
        yard.close().await;
    });
}

/// A sample on the real command line: every seventh string, in every place at once.
#[test]
fn naughty_strings_on_the_command_line_are_answered() {
    let project = Project::new(PLAIN);
    project.expect(&["run", "work"], 0);
    // What the system itself takes as an argument.
    let list = naughty().into_iter().filter(|string| !string.contains('\0') && string.len() < 4_096);
    let ours = ["\u{1b}]0;title\u{7}", "\u{9b}2J", "a\u{202e}b"].map(str::to_owned);
    for (number, string) in list.step_by(7).chain(ours).enumerate() {
        let (tag, set) = (format!("k={string}"), format!("--set={string}"));
        let text = string.as_str();
        let calls: [&[&str]; 9] = [
            &["run", "--", text],
            &["check", "-f", text],
            &["run", "work", &set],
            &["run", "work", "--tag", &tag],
            &["plan", "work", "-e", text],
            &["show", "--", text],
            &["cat", "latest", "--", text],
            &["query", "--", text],
            &[text],
        ];
        let call = calls[number % calls.len()];
        let output = project.opyard(&[&["--color", "always"], call].concat());
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let told = without_styles(&told);
        assert!(is_harmless(&told), "{call:?}: {told:?}");
        match output.status.code() {
            Some(0) => {}
            Some(2) => assert!(told.contains("OPY-") || told.contains("Usage:"), "{call:?}: {told}"),
            code => panic!("{call:?}: exit {code:?}\n{told}"),
        }
    }
    // What was recorded is shown without harm, too.
    for call in [&["run", "work", "--tag", "k=\u{1b}[2J"][..], &["show", "latest"], &["runs"], &["events", "latest"]] {
        let (out, err) = project.expect(&[&["--color", "always"], call].concat(), 0);
        let (out, err) = (without_styles(&out), without_styles(&err));
        assert!(is_harmless(&out) && is_harmless(&err), "{call:?}: {out:?} {err:?}");
    }
}

/// Each file that is not a component for this host: named in definitions, and looked at.
#[test]
fn what_is_not_a_component_is_told_by_name() {
    let project = Project::new("opyard: 1\n");
    let good = std::fs::read(component("probe")).unwrap();
    let mut noise = b"\0asm\x0d\0\x01\0".to_vec();
    noise.extend((0..50_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]));
    let files: [(&str, Vec<u8>, &str, &str); 8] = [
        ("empty", Vec::new(), "OPY-231", "not a WebAssembly file"),
        ("text", b"#!/bin/sh\nexit 0\n".to_vec(), "OPY-231", "not a WebAssembly file"),
        ("core", b"\0asm\x01\0\0\0".to_vec(), "OPY-231", "core WebAssembly module"),
        ("foreign", b"\0asm\x0d\0\x01\0".to_vec(), "OPY-231", "ships no ops"),
        ("cut", good[..good.len() / 2].to_vec(), "OPY-231", "not a valid component"),
        ("noise", noise, "OPY-231", "not a valid component"),
        ("newer", replaced(&good, b"@0.1.0", b"@0.9.0"), "OPY-232", "0.9.0"),
        ("stranger", replaced(&good, b"opyard:op/io@", b"acmeco:op/io@"), "OPY-233", "acmeco:op/io@0.1.0"),
    ];
    let mut wrong: Vec<(String, &str, &str)> = Vec::new();
    for (name, bytes, code, words) in files {
        let file = format!("{name}.wasm");
        std::fs::write(project.path().join(&file), bytes).unwrap();
        wrong.push((file, code, words));
    }
    std::fs::create_dir(project.path().join("folder.wasm")).unwrap();
    wrong.push(("folder.wasm".to_owned(), "OPY-230", "a folder, not a file"));
    wrong.push(("missing.wasm".to_owned(), "OPY-230", "there is no such file"));
    #[cfg(unix)]
    {
        let pipe = project.path().join("pipe.wasm");
        assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
        wrong.push(("pipe.wasm".to_owned(), "OPY-230", "not a regular file"));
    }
    for (file, code, words) in wrong {
        let (_, err) = project.expect(&["op", "inspect", &file], 2);
        for part in [&file, code, words] {
            assert!(err.contains(part), "op inspect {file}: `{part}` is not in:\n{err}");
        }
        project.define(&format!("opyard: 1\ncomponents:\n  it: {{ path: {file} }}\n"));
        let (out, _) = project.expect(&["check"], 2);
        for part in [file.as_str(), code, words, "opyard.yaml:3:3"] {
            assert!(out.contains(part), "check with {file}: `{part}` is not in:\n{out}");
        }
    }
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let places: Vec<_> = (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

/// Files that are no definitions; what is wrong in definitions is told in `host/model/tests/mistakes`.
#[test]
fn what_is_not_a_definitions_file_is_told() {
    let project = Project::new(PLAIN);
    let mut bomb = b"opyard: 1\na: &a [x]\n".to_vec();
    while bomb.len() < 10 << 20 {
        bomb.extend_from_slice(b"b: [*a, *a, *a, *a, *a, *a, *a, *a]\n");
    }
    let files: [(&str, &[u8], &str, &str); 6] = [
        ("empty.yaml", b"", "OPY-203", "the file is empty"),
        ("utf16.yaml", b"\xff\xfeo\0p\0", "OPY-201", "not UTF-8"),
        ("tab.yaml", b"opyard: 1\njobs:\n\twork: {}\n", "OPY-201", "tab"),
        ("bomb.yaml", &bomb, "OPY-234", "a definitions file has at most"),
        ("alias.yaml", &bomb[..1 << 20], "OPY-201", "anchors and aliases"),
        ("nul.yaml", b"opyard: 1\njobs: \0\n", "OPY-201", "YAML"),
    ];
    for (file, bytes, code, words) in files {
        std::fs::write(project.path().join(file), bytes).unwrap();
        for verb in [&["check"][..], &["run", "work"]] {
            let (out, err) = project.expect(&[verb, &["-f", file]].concat(), 2);
            let told = out + &err;
            for part in [file, code, words] {
                assert!(told.contains(part), "{verb:?} {file}: `{part}` is not in:\n{told}");
            }
        }
    }
    for (file, words) in
        [(".", "is a folder"), ("nothing.yaml", "no file"), ("opyard.yaml/x", "cannot be"), ("/dev/null", "regular")]
    {
        let (_, err) = project.expect(&["run", "work", "-f", file], 2);
        assert!(err.contains("OPY-243") && err.contains(words), "{file}:\n{err}");
    }
}

#[test]
fn wrong_calls_are_told() {
    let project = Project::new(PLAIN);
    let expect = |call: &[&str], code: &str, words: &str| {
        let (out, err) = project.expect(call, 2);
        let told = out + &err;
        for part in [code, words] {
            assert!(told.contains(part), "opyard {call:?}: `{part}` is not in:\n{told}");
        }
        assert!(!told.lines().any(|line| line.trim() == "|" && !told.contains(" --> ")), "an empty gutter:\n{told}");
    };
    expect(&["show"], "OPY-238", "there is no yard at");
    project.expect(&["run", "work"], 0);
    expect(&["rnu", "work"], "OPY-244", "unrecognized subcommand 'rnu'");
    expect(&["run"], "OPY-244", "<JOB>");
    expect(&["run", "work", "--sett", "x"], "OPY-244", "'--set'");
    expect(&["run", "wrok"], "OPY-214", "did you mean `work`?");
    expect(&["plan", "work", "-e", "prod"], "OPY-213", "which has none");
    expect(&["run", "work", "--set", "one.value"], "OPY-228", "there is no `=`");
    expect(&["run", "work", "--set", "three.value=1"], "OPY-207", "`one`, `two`");
    expect(&["run", "work", "--set", "one.valu=1"], "OPY-219", "valu");
    expect(&["run", "work", "--config", "nothing.yaml"], "OPY-228", "there is no such file");
    expect(&["run", "work", "--config", "."], "OPY-228", "a folder");
    expect(&["run", "work", "--tag", "x"], "OPY-244", "KEY=VALUE");
    expect(&["show", "zzzz"], "OPY-238", "'zzzz'");
    expect(&["show", "run_01J0000000000000000000000000"], "OPY-238", "run_01J");
    expect(&["cat", "latest", "one.resul"], "OPY-240", "did you mean `one.result`?");
    expect(&["cat", "latest", "three"], "OPY-240", "opyard artifacts");
    expect(&["events", "--step", "three"], "OPY-207", "`one`, `two`");
    expect(&["cancel", "latest"], "OPY-249", "ended before: success");
    expect(&["query", "selec 1"], "OPY-239", "syntax error");
    expect(&["query", "select * from artefacts"], "OPY-239", "artifacts");
    expect(&["query", "drop table runs"], "OPY-239", "query");
    expect(&["query", ""], "OPY-239", "empty");
    expect(&["runs", "--status", "done"], "OPY-244", "success");
    let (_, err) = project.expect(&["events", "--kind", "step_sucess"], 0);
    assert!(err.contains("no such events") && err.contains("step_success"), "{err}");
    // For machines, the same as data.
    for call in [&["rnu", "--json"][..], &["cancel", "latest", "--json"]] {
        let (_, err) = project.expect(call, 2);
        let told: serde_json::Value = serde_json::from_str(&err).unwrap();
        assert_eq!(told["error"]["blame"], "author", "{told}");
    }
}

#[test]
fn an_upgrade_is_told_from_what_it_replaces() {
    let project = Project::new("opyard: 1\n");
    let (textkit, penguins) = (component("textkit"), component("penguins"));
    let (old, new) = (textkit.to_str().unwrap(), penguins.to_str().unwrap());
    let (out, _) = project.expect(&["op", "diff", old, new], 0);
    for part in ["breaks", "op 'merge'", "it is gone", "adds", "op 'fit'", "it is new", "may need other definitions"] {
        assert!(out.contains(part), "`{part}` is not in:\n{out}");
    }
    let (out, _) = project.expect(&["op", "diff", old, old], 0);
    assert!(out.contains("the same component"), "{out}");
    // The binaries say what they import, whatever they say of themselves.
    let probe = component("probe");
    let (out, _) = project.expect(&["op", "diff", "--json", new, probe.to_str().unwrap()], 0);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["changes"][0]["gravity"], "reaches");
    let words = told["changes"].as_array().unwrap().iter().filter_map(|change| change["what"].as_str());
    assert!(words.into_iter().any(|what| what == "it imports 'opyard:op/execution@0.1.0'"), "{out}");
    project.expect(&["op", "diff", old, "nothing.wasm"], 2);
    assert!(!project.path().join(".opyard").exists(), "looking at files makes no yard");
}
