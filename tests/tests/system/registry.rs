//! Components from a real registry: pushed, signed, pinned, moved, and what of that a run records. Debian's `docker-registry`, with
//! a name and a password (`cargo xtask test registry`).

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::harness::{Project, component};

/// Keys that `openssl genpkey -algorithm ed25519` made, for these tests alone.
const RELEASE: [&str; 2] = [
    "MC4CAQAwBQYDK2VwBCIEIKWuQd1q+2g4L2JP3KVlZh8Rk52CRAys/daMSUh6fwRD",
    "MCowBQYDK2VwAyEAMKUSQUeoiPgoflvF1Ag0VZJiNxp+A2fF2pXM5qEtKWk=",
];
const STRANGER: [&str; 2] = [
    "MC4CAQAwBQYDK2VwBCIEIAO3qObshjHYIqtyjlmY5txc6klvQ0bRZjFWzZctutea",
    "MCowBQYDK2VwAyEAb6eldo1uIQVQrlgCli/NKVQAAN/lvfEg5k4AEELqOOc=",
];

/// Definitions whose one component comes from the registry.
fn definitions(component: &str) -> String {
    format!(
        "opyard: 1\ncomponents:\n  text: {component}\njobs:\n  count:\n    steps:\n      \
         words: {{ op: text.stats, inputs: {{ text: {{ value: to be or not to be }} }} }}\n      \
         whole: {{ op: text.merge, inputs: {{ parts: [words] }} }}\n"
    )
}

/// A project whose yard knows the namespace `acme`, at a place of the registry where nobody else is.
struct Published {
    project: Project,
    url: String,
}

impl Published {
    fn new(component: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = std::env::var("OPYARD_TEST_REGISTRY").expect("OPYARD_TEST_REGISTRY names a registry");
        let place = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let this = Self { project: Project::new(&definitions(component)), url: format!("{server}/{place}") };
        for (name, [private, _]) in [("release.pem", RELEASE), ("stranger.pem", STRANGER)] {
            let pem = format!("-----BEGIN PRIVATE KEY-----\n{private}\n-----END PRIVATE KEY-----\n");
            std::fs::write(this.project.path().join(name), pem).unwrap();
        }
        this.operator(&this.url, "unsigned: allow");
        this
    }

    /// Writes the operator's file.
    fn operator(&self, url: &str, policy: &str) {
        let user = std::env::var("OPYARD_TEST_REGISTRY_USER").unwrap();
        let yard = self.project.path().join(".opyard");
        std::fs::create_dir_all(&yard).unwrap();
        let text = format!(
            "opyard_registries: 1\nnamespaces:\n  acme: {{ url: \"{url}\", username: {user}, password: {{ env: \
             OPYARD_TEST_REGISTRY_PASSWORD }} }}\ntenants:\n  default: {{ {policy} }}\n"
        );
        std::fs::write(yard.join("registries.yaml"), text).unwrap();
    }

    fn push(&self, name: &str, reference: &str, more: &[&str]) -> String {
        let file = component(name).display().to_string();
        self.project.expect(&[&["op", "push", &file, reference], more].concat(), 0).0
    }

    fn sign(&self, name: &str, reference: &str, key: &str) {
        let file = component(name).display().to_string();
        self.project.expect(&["op", "sign", &file, reference, "--key", key], 0);
    }

    /// The call fails, and says that code.
    fn refused(&self, arguments: &[&str], exit: i32, code: &str) -> String {
        let (out, err) = self.project.expect(arguments, exit);
        let told = format!("{out}{err}");
        assert!(told.contains(code), "{arguments:?}\n{told}");
        told
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.project.expect(&[arguments, &["--json"]].concat(), 0).0).unwrap()
    }

    fn lock(&self) -> Value {
        let text = std::fs::read_to_string(self.project.path().join("opyard.lock")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["components"]["text"].clone()
    }
}

#[test]
#[ignore = "needs a server: set OPYARD_TEST_REGISTRY"]
fn registry_references_are_pinned_and_told_when_they_move() {
    let it = Published::new("{ oci: \"acme/tools/textkit:1.0\" }");
    it.refused(&["check"], 2, "OPY-230");
    let first = it.push("textkit", "acme/tools/textkit:1.0", &["--version", "1.0.1"]);
    assert_eq!(first, it.push("textkit", "acme/tools/textkit:1.0", &["--version", "1.0.1"]), "the same bytes again");
    it.refused(&["op", "push", &component("probe").display().to_string(), "acme/tools/textkit:1.0"], 2, "OPY-271");

    it.project.expect(&["run", "count"], 0);
    let pinned = it.lock();
    assert_eq!(pinned["version"], "1.0.1");
    // What is pinned and kept is not asked for: here is nobody who could answer.
    let there = it.url.clone();
    it.operator("http://127.0.0.1:9", "unsigned: allow");
    it.project.expect(&["run", "count"], 0);
    it.refused(&["op", "pull"], 75, "OPY-332");
    it.operator(&there, "unsigned: allow");
    assert_eq!(it.json(&["op", "pull"])[0]["standing"], "same");

    // Another component under the same tag: runs go on with what is pinned, and whoever asks is told.
    it.push("probe", "acme/tools/textkit:1.0", &["--replace", "--version", "1.0.2"]);
    it.project.expect(&["run", "count"], 0);
    it.refused(&["op", "pull"], 2, "OPY-271");
    assert_eq!(it.lock(), pinned);
    assert_eq!(it.json(&["op", "pull", "--update"])[0]["standing"], "moved");
    assert_ne!(it.lock()["component"], pinned["component"]);
    it.refused(&["run", "count"], 2, "OPY-205");

    // Back to the older one, which may have a hole that the newer one closed.
    it.push("textkit", "acme/tools/textkit:1.0", &["--replace", "--version", "1.0.1"]);
    it.refused(&["op", "pull", "--update"], 2, "OPY-272");
    it.project.expect(&["op", "pull", "--update", "--allow-downgrade"], 0);
    assert_eq!(it.lock(), pinned);

    // A tag that is a version says no other one, and what the definitions pin is what comes.
    it.refused(
        &["op", "push", &component("textkit").display().to_string(), "acme/a:2.0.0", "--version", "1.0.0"],
        2,
        "OPY-244",
    );
    let other = format!("{{ oci: \"acme/tools/textkit:1.0\", digest: \"sha256:{}\" }}", "0a".repeat(32));
    it.project.define(&definitions(&other));
    it.refused(&["check"], 2, "OPY-271");
}

#[test]
#[ignore = "needs a server: set OPYARD_TEST_REGISTRY"]
fn registry_components_run_when_somebody_trusted_has_signed_them() {
    let it = Published::new("{ oci: \"acme/textkit:1.2.0\" }");
    let trust = format!("unsigned: refuse, trust: {{ acme: {{ release: {{ ed25519: \"{}\" }} }} }}", RELEASE[1]);
    it.push("textkit", "acme/textkit:1.2.0", &[]);
    it.operator(&it.url, "unsigned: refuse");
    it.refused(&["check"], 2, "OPY-274");
    it.operator(&it.url, &trust);
    let told = it.refused(&["check"], 2, "OPY-274");
    assert!(told.contains("it is not signed"), "{told}");
    it.sign("textkit", "acme/textkit:1.2.0", "stranger.pem");
    it.refused(&["check"], 2, "OPY-274");
    assert!(!it.project.path().join("opyard.lock").exists(), "what may not be run is not pinned");
    // Nobody signs what the registry says instead of what is there.
    let probe = component("probe").display().to_string();
    it.refused(&["op", "sign", &probe, "acme/textkit:1.2.0", "--key", "release.pem"], 2, "OPY-271");
    it.sign("textkit", "acme/textkit:1.2.0", "release.pem");
    it.sign("textkit", "acme/textkit:1.2.0", "release.pem");
    assert_eq!(it.json(&["op", "verify", "acme/textkit:1.2.0"])["signed_by"][0]["name"], "release");
    it.project.expect(&["op", "verify", "acme/textkit:1.2.0", "--key", STRANGER[1]], 0);
    it.project.expect(&["run", "count"], 0);

    // The same component under another name was signed by nobody.
    it.push("textkit", "acme/other:1.2.0", &[]);
    it.refused(&["op", "verify", "acme/other:1.2.0"], 2, "OPY-274");
    // A key that is trusted no more: what is pinned and kept is not run either.
    it.operator(&it.url, &trust.replace(RELEASE[1], STRANGER[1]));
    it.project.expect(&["run", "count"], 0);
    it.operator(&it.url, "unsigned: refuse");
    it.refused(&["run", "count"], 2, "OPY-274");
    // Definitions ask for more, never for less.
    it.operator(&it.url, &trust);
    let verify = |name: &str| {
        let text = definitions("{ oci: \"acme/textkit:1.2.0\", verify: mine }");
        it.project.define(&format!("{text}trust: {{ mine: {{ ed25519: \"{name}\" }} }}\n"));
    };
    verify(STRANGER[1]);
    it.project.expect(&["check"], 0);
    verify("MCowBQYDK2VwAyEABwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
    it.refused(&["check"], 2, "OPY-274");
}

#[test]
#[ignore = "needs a server: set OPYARD_TEST_REGISTRY"]
fn registry_origins_are_recorded_with_what_they_made() {
    let it = Published::new("{ oci: \"acme/textkit:1.2.0\" }");
    let manifest = it.json(&["op", "push", &component("textkit").display().to_string(), "acme/textkit:1.2.0"]);
    it.sign("textkit", "acme/textkit:1.2.0", "release.pem");
    it.operator(&it.url, &format!("trust: {{ acme: {{ release: {{ ed25519: \"{}\" }} }} }}", RELEASE[1]));
    it.project.expect(&["run", "count"], 0);
    // Years later the registry is gone.
    it.operator("http://127.0.0.1:9", "unsigned: refuse");
    let (text, _) = it.project.expect(&["provenance", "latest", "whole"], 0);
    let statement: Value = serde_json::from_str(&text).unwrap();
    let component = &statement["predicate"]["buildDefinition"]["resolvedDependencies"][0];
    assert_eq!(component["uri"], "oci:acme/textkit:1.2.0");
    assert_eq!(component["annotations"]["manifest"], manifest["manifest"]);
    assert_eq!(component["annotations"]["signedBy"][0]["ed25519"], RELEASE[1]);
    it.project.expect(&["verify", "latest", "--at", "elsewhere"], 0);
}

#[test]
#[ignore = "needs a server: set OPYARD_TEST_REGISTRY"]
fn registry_credentials_are_the_operators() {
    let it = Published::new("{ oci: \"nobody/textkit:1.0.0\" }");
    it.refused(&["check"], 2, "OPY-275");
    it.project.define(&definitions("{ oci: \"acme/textkit:1.0.0\" }"));
    let mut wrong = it.project.command(&["check"]);
    let output = wrong.env("OPYARD_TEST_REGISTRY_PASSWORD", "wr0ng-password").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(75) && told.contains("OPY-332"), "{told}");
    assert!(!told.contains("wr0ng-password"), "{told}");
    let output = it.project.command(&["check"]).env_remove("OPYARD_TEST_REGISTRY_PASSWORD").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("OPY-319"));
}
