//! Ops that reach out: HTTP with a secret that nobody is to see, and secrets that an op may see.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{Project, set};
use crate::server::Server;

/// The bytes that are looked for, and where they come from.
const KEY: (&str, &str) = ("OPYARD_TEST_API_KEY", "canary-key-b7e151628aed2a6a");
const TOKEN: &str = "canary-token-3243f6a8885a308d";

fn project(origin: &str) -> Project {
    let project = Project::new(&format!(
        "opyard: 1
components: {{ probe: {{ path: \"{{{{probe}}}}\" }} }}
secrets:
  api_key: {{ env: {} }}
  db_token: {{ file: secrets/token }}
resources:
  api:
    kind: http_client
    origins: [\"{origin}\", \"http://169.254.169.254\"]
    allow_private: true
    headers: {{ authorization: {{ secret: api_key, prefix: \"Bearer \" }} }}
grants:
  probe.fetch: {{ resources: {{ api: api }} }}
  probe.reveal_secret: {{ reveal: {{ token: db_token }} }}
  probe.blab: {{ reveal: {{ token: db_token }} }}
jobs:
  work:
    steps:
      fetch: {{ op: probe.fetch, config: {{ url: \"{origin}/rows\", must: true }} }}
      reveal: {{ op: probe.reveal_secret }}
  talk:
    steps:
      blab: {{ op: probe.blab, config: {{ ending: failure }} }}
  wander:
    steps:
      fetch: {{ op: probe.fetch, config: {{ url: \"https://evil.example/?q=1\", must: true }} }}
environments:
  public: {{ resources: {{ api: {{ allow_private: false }} }} }}
",
        KEY.0
    ));
    std::fs::create_dir(project.path().join("secrets")).unwrap();
    std::fs::write(project.path().join("secrets/token"), format!("{TOKEN}\n")).unwrap();
    project
}

/// The binary, with the key in its environment, and proxies there that nobody is to use.
fn with_key(project: &Project, arguments: &[&str]) -> Command {
    let mut command = project.command(arguments);
    command.env(KEY.0, KEY.1);
    for proxy in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(proxy, "http://127.0.0.1:9");
    }
    command
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs the binary with the key, and expects this exit code.
fn expect(project: &Project, arguments: &[&str], code: i32) -> String {
    let output = with_key(project, arguments).output().unwrap();
    let told = told(&output);
    assert_eq!(output.status.code(), Some(code), "opyard {}\n{told}", arguments.join(" "));
    told
}

/// The forms in which bytes of a secret would give it away.
fn forms() -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for secret in [KEY.1, TOKEN] {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        forms.extend([secret.as_bytes().to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()]);
    }
    forms
}

fn holds_a_secret(bytes: &[u8]) -> bool {
    forms().iter().any(|form| bytes.windows(form.len()).any(|window| window == form))
}

/// How many files of a folder were looked into. None may hold a secret.
pub(crate) fn searched(folder: &Path, holds_a_secret: &dyn Fn(&[u8]) -> bool) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += searched(&path, holds_a_secret);
        } else {
            assert!(!holds_a_secret(&std::fs::read(&path).unwrap()), "a secret is in {}", path.display());
            count += 1;
        }
    }
    count
}

/// Invariant: the bytes of secrets are in no database, log, artifact or message.
#[test]
fn secrets_are_used_and_nowhere_kept() {
    let server = Server::new();
    let project = project(&server.origin());
    let checked = expect(&project, &["check"], 0);
    assert!(!checked.contains("OPY-319"), "{checked}");
    let mut all = checked + &expect(&project, &["run", "work"], 0);
    let run = project.last_run();
    assert_eq!(run.steps("step_success"), set(&["fetch", "reveal"]));
    let requests = server.requests();
    assert!(requests.len() == 1 && requests[0].header("authorization") == Some(&format!("Bearer {}", KEY.1)));
    assert!(expect(&project, &["cat", "latest", "fetch"], 0).contains("rows"));
    assert_eq!(expect(&project, &["cat", "latest", "reveal"], 0).trim(), TOKEN.len().to_string());

    // It says that it was shown, to which step, and under which name.
    let events = expect(&project, &["events", "--json"], 0);
    let shown = events.lines().find(|line| line.contains("was shown the secret `db_token`")).unwrap();
    for part in ["engine_event", "\"reveal\"", "\"token\"", "reveal_secret"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    all += &events;

    // What an op says of it by itself is recorded without it.
    let talk = expect(&project, &["run", "talk"], 100) + &expect(&project, &["events", "--json"], 0);
    assert!(talk.contains("no [redacted:db_token]") && talk.contains("it is [redacted:db_token]"), "{talk}");
    all += &talk;

    // The same of what fails: an origin that is not allowed, an address that is not, and a server that is gone.
    for environment in [&["run", "wander"][..], &["run", "work", "-e", "public"]] {
        all += &expect(&project, environment, 100);
        all += &expect(&project, &["events"], 0);
    }
    assert_eq!(server.requests().len(), 1, "nothing more arrived");
    drop(server);
    let gone = expect(&project, &["run", "work"], 100);
    assert!(gone.contains("OPY-306") && gone.contains("cannot be reached"), "{gone}");
    all += &gone;
    for arguments in [
        &["show", "--json"][..],
        &["show"],
        &["events"],
        &["events", "--json"],
        &["plan", "work", "--json"],
        &["plan", "work"],
        &["runs", "--json"],
        &["query", "select * from events", "--json"],
        &["doctor"],
    ] {
        let output = with_key(&project, arguments).output().unwrap();
        all += &told(&output);
    }
    assert!(!holds_a_secret(all.as_bytes()), "a secret was printed:\n{all}");
    // The search finds what is there.
    assert!(holds_a_secret(format!("xx{TOKEN}").as_bytes()) && holds_a_secret(KEY.1.as_bytes()));
    assert!(searched(&project.path().join(".opyard"), &holds_a_secret) > 3);
}

#[test]
fn what_is_refused_is_told_to_the_operator() {
    let server = Server::new();
    let origin = server.origin();
    let project = project(&origin);
    let out = expect(&project, &["run", "wander"], 100);
    assert!(out.contains("denied") && out.contains("evil.example"), "{out}");
    let events = expect(&project, &["events"], 0);
    assert!(events.contains("`api` refused a request: https://evil.example is not among its origins"), "{events}");
    expect(&project, &["run", "work", "-e", "public"], 100);
    let events = expect(&project, &["events"], 0);
    let rule = format!("`api` refused a request: {origin} is at an address that may not be reached");
    assert!(events.contains(&rule) && events.contains("allow_private: true"), "{events}");

    // A secret that is not there: told before, and told by the step.
    std::fs::remove_file(project.path().join("secrets/token")).unwrap();
    let (out, err) = project.expect(&["check"], 0);
    let warned = out + &err;
    for part in ["warning[OPY-319]", "the secret `api_key` cannot be had now: it is not set", "there is no such file"] {
        assert!(warned.contains(part), "{part} is not in:\n{warned}");
    }
    let (out, err) = project.expect(&["run", "work"], 100);
    let failed = out + &err;
    for part in ["OPY-319", "`api_key` cannot be had from the environment variable OPYARD_TEST_API_KEY", "`db_token`"] {
        assert!(failed.contains(part), "{part} is not in:\n{failed}");
    }
    assert!(server.requests().is_empty());
}
