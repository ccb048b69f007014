//! Hooks: a real server is told what became of steps, and the run goes on whatever becomes of that.

use std::collections::BTreeSet;

use opyard_server::model::error::Code;
use opyard_server::model::event::RunEvent;
use opyard_server::model::hook::Outcome;
use serde_json::{Value, json};

use crate::harness::Project;
use crate::network::searched;
use crate::server::Server;

/// The path of the address that nobody may see.
const PATH: &str = "canary-path-9e3779b97f4a7c15";

fn project(server: &Server) -> Project {
    let origin = server.origin();
    let project = Project::new(&format!(
        "opyard: 1
components: {{ probe: {{ path: \"{{{{probe}}}}\" }}, notify: {{ path: \"{{{{notify}}}}\" }} }}
secrets:
  oncall: {{ file: secrets/oncall }}
  token:  {{ file: secrets/token }}
resources:
  hub: {{ kind: http_client, origins: [\"{origin}\"], access: read_write, allow_private: true }}
grants:
  notify.post: {{ resources: {{ hub: hub }} }}
jobs:
  work:
    hooks:
      on_failure:
        - webhook:
            url: {{ secret: oncall }}
            text: \"{{{{ step }}}} failed: {{{{ description }}}}\"
            headers: {{ authorization: {{ secret: token, prefix: \"Bearer \" }} }}
            allow_private: true
        - {{ with: notify.post, config: {{ url: \"{origin}/chat\", on_call: ada }} }}
      on_success:
        - webhook: {{ url: \"{origin}/status/503\", allow_private: true }}
        - webhook: {{ url: \"{origin}/private\" }}
    steps:
      good: {{ op: probe.text, config: {{ text: x }} }}
      bad:
        op: probe.fan
        config: {{ items: 2, fail_after: 1 }}
        retry: {{ max_retries: 1 }}
        hooks:
          on_failure:
            - webhook:
                url: \"{origin}/json\"
                json: {{ content: [\"{{{{ code }}}} of {{{{ op }}}}\", 7], user: opyard }}
                allow_private: true
            - webhook: {{ url: \"{origin}/whole\", allow_private: true }}
"
    ));
    std::fs::create_dir(project.path().join("secrets")).unwrap();
    std::fs::write(project.path().join("secrets/oncall"), format!("{origin}/{PATH}\n")).unwrap();
    std::fs::write(project.path().join("secrets/token"), "canary-token-3243f6a8885a308d\n").unwrap();
    project
}

#[test]
fn hooks_tell_a_server_what_became_of_steps() {
    let server = Server::new();
    let project = project(&server);
    let (mut out, err) = project.expect(&["run", "work"], 100);
    out += &err;
    let run = project.last_run();
    let requests = server.requests();
    let body = |path: &str| -> Value {
        let asked = requests.iter().find(|asked| asked.path() == path).unwrap_or_else(|| panic!("nobody asked {path}"));
        assert!(
            asked.head.starts_with("POST ") && asked.header("content-type") == Some("application/json"),
            "{asked:?}"
        );
        let key = asked.header("idempotency-key").unwrap();
        assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
        serde_json::from_str(&asked.body).unwrap()
    };
    assert_eq!(body(&format!("/{PATH}")), json!({ "text": "bad failed: failed after 1 items, as asked" }));
    assert_eq!(body("/json"), json!({ "content": ["OPY-101 of probe.fan", 7], "user": "opyard" }));
    assert_eq!(body("/chat")["text"], "@ada work: bad failed: failed after 1 items, as asked");
    let whole = body("/whole");
    let told: Vec<_> = ["opyard", "job", "run", "step", "op", "outcome", "attempt", "code", "environment"]
        .map(|field| whole[field].clone())
        .into();
    let expected = json!([1, "work", run.run.to_string(), "bad", "probe.fan", "failure", 0, "OPY-101", null]);
    assert_eq!(Value::from(told), expected, "{whole}");
    let secret = requests.iter().find(|asked| asked.path().contains("canary")).unwrap();
    assert_eq!(secret.header("authorization"), Some("Bearer canary-token-3243f6a8885a308d"));
    let keys: BTreeSet<_> = requests.iter().map(|asked| asked.header("idempotency-key").unwrap()).collect();
    assert_eq!((requests.len(), keys.len()), (5, 5), "each was told once: {requests:?}");

    // Of the step that succeeded, one server has no time, and one address is private.
    let mut completed = 0;
    let mut errored: Vec<_> = Vec::new();
    for recorded in &run.events {
        match &recorded.event {
            RunEvent::HookCompleted { of, hook, lines, .. } => {
                assert_eq!((of.step.to_string().as_str(), hook.on), ("bad", Outcome::Failure));
                assert_eq!(lines.len(), usize::from(hook.name == "notify.post"));
                completed += 1;
            }
            RunEvent::HookErrored { of, failure, .. } => errored.push((of.step.to_string(), failure.code)),
            _ => {}
        }
    }
    errored.sort();
    let good = "good".to_owned();
    let expected = [(good.clone(), Code::ResourceUnavailable), (good, Code::ResourceDenied)];
    assert_eq!((completed, errored.as_slice()), (4, &expected[..]));
    assert!(matches!(run.events.last().unwrap().event, RunEvent::RunFailure { .. }));

    // Remembered: nothing ran, so nobody is told. What failed is told again.
    out += &project.expect(&["run", "work"], 100).0;
    assert_eq!(server.requests().len(), 9);

    // Neither the address nor the token is kept or shown anywhere, also when nobody listens there any more.
    drop(server);
    let (gone, err) = project.expect(&["run", "work"], 100);
    out = out + &gone + &err;
    for arguments in [&["events", "--json"][..], &["events"], &["show", "--json"], &["plan", "work", "--json"]] {
        let output = project.opyard(arguments);
        out += &format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    assert!(out.contains("the server cannot be reached") && !out.contains("canary"), "{out}");
    assert!(searched(&project.path().join(".opyard"), &|bytes| bytes.windows(6).any(|at| at == b"canary")) > 3);
}
