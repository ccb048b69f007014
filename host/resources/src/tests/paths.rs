use std::path::{Component, PathBuf};

use opyard_model::id::{MappingKey, Name, StepKey, StepPath};
use opyard_store::conformance::samples::run;
use opyard_store::io_manager::Slot;
use proptest::prelude::*;

use crate::io::{PathTemplate, TemplateError};
use crate::path::ObjectPath;

/// Segments that have opened doors elsewhere, and harmless ones.
fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just(String::new()),
        Just("%2e%2e".to_owned()),
        Just("..%2f".to_owned()),
        Just("\0".to_owned()),
        Just("C:".to_owned()),
        Just("~".to_owned()),
        Just("a\\..\\b".to_owned()),
        Just("...".to_owned()),
        "[a-z.]{1,4}",
        "\\PC{1,6}",
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is accepted is a plain path below the root, for the file system and for the object store's library.
    #[test]
    fn nothing_escapes(segments in proptest::collection::vec(segment(), 0..6)) {
        let text = segments.join("/");
        if let Ok(path) = ObjectPath::parse(&text) {
            prop_assert_eq!(path.as_str(), &text);
            let joined = PathBuf::from("/root").join(path.as_str());
            prop_assert!(joined.starts_with("/root") && joined.components().count() > 2);
            prop_assert!(joined.components().skip(1).all(|part| matches!(part, Component::Normal(_))));
            prop_assert_eq!(path.as_path().parts().count(), text.split('/').count());
            prop_assert!(!text.contains(['%', '\\', '\0']));
        }
    }

    #[test]
    fn templates_never_panic(text in "([a-z/.]|\\{[a-z]{0,6}\\}|[{}]){0,12}") {
        if let Ok(template) = PathTemplate::parse(&text) {
            template.path(&slot(&["k"])).map(|_| ()).or_else(|_| ObjectPath::parse("x").map(|_| ())).unwrap();
        }
    }
}

fn slot(keys: &[&str]) -> Slot {
    Slot {
        job: Name::new("train").unwrap(),
        run: run(1),
        step: StepKey {
            path: StepPath::new("eval.score").unwrap(),
            mapping: keys.iter().map(|key| MappingKey::new(key).unwrap()).collect(),
        },
        port: Name::new("card").unwrap(),
        type_name: Name::new("text").unwrap(),
        item: None,
    }
}

#[test]
fn plain_paths_are_taken_and_others_refused() {
    for right in [
        "a",
        "penguins.csv",
        "incoming/2026/a b.csv",
        "ünï/çødé",
        "a[b]~!*",
        ".hidden",
        "a..b",
        &"x/".repeat(512)[..1_023],
    ] {
        assert_eq!(ObjectPath::parse(right).unwrap().as_str(), right);
    }
    for wrong in [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "..",
        "a/../b",
        "./a",
        "a/.",
        "a%2fb",
        "a\\b",
        "a\nb",
        "a\u{0}",
        &"x".repeat(256),
        &"x/".repeat(513)[..1_025],
    ] {
        assert!(ObjectPath::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn templates_name_slots() {
    let path = |text: &str, keys: &[&str]| {
        PathTemplate::parse(text).unwrap().path(&slot(keys)).map(|path| path.as_str().to_owned())
    };
    assert_eq!(path("{job}/{step}.{output}.md", &[]).unwrap(), "train/eval.score.card.md");
    assert_eq!(path("{run}/{key}", &["a", "b"]).unwrap(), format!("{}/a.b", run(1)));
    assert_eq!(path("{key}", &[]).unwrap(), "_");
    assert!(path("{step}", &["a"]).is_err(), "items would overwrite each other");
    let unknown = PathTemplate::parse("{jbo}/x").unwrap_err();
    assert_eq!(unknown, TemplateError::Unknown { name: "jbo".into(), nearest: Some("job") });
    assert_eq!(unknown.to_string(), "'{jbo}' means nothing in a path; did you mean '{job}'?");
    for wrong in ["", "{", "}", "{{job}}", "{job", "job}", "../{job}", "/{job}", "{job}//x", "{}", "{nonsense}"] {
        assert!(PathTemplate::parse(wrong).is_err(), "{wrong}");
    }
}
