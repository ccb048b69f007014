//! What ops say of assets and series, told over time.

use serde_json::{Value, json};

use crate::harness::Project;

const DEFINITIONS: &str = "opyard: 1
components: { probe: { path: \"{{probe}}\" } }
jobs:
  work:
    steps: { tell: { op: probe.log_all, memo: off } }
";

fn answer(project: &Project, arguments: &[&str]) -> Value {
    serde_json::from_str(&project.expect(arguments, 0).0).unwrap()
}

#[test]
fn assets_and_series_are_told_over_time() {
    let project = Project::new(DEFINITIONS);
    // Looking makes no yard, and finds nothing.
    assert_eq!(answer(&project, &["assets", "--json"]), json!([]));
    for _ in 0..3 {
        project.expect(&["run", "work"], 0);
    }
    let all = answer(&project, &["assets", "--json"]);
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    assert_eq!((&all[0]["asset_key"], &all[0]["kind"]), (&json!(["lake", "penguins"]), &json!("observation")));
    assert_eq!(all[0]["metadata"], json!([{ "label": "rows", "value": { "kind": "int", "value": 344 } }]));

    let one = answer(&project, &["assets", "lake/penguins", "--json"]);
    let kinds: Vec<_> = one["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["observation", "materialization"].repeat(3));
    assert_eq!(one["series"][0]["points"].as_array().unwrap().len(), 6);
    let (text, note) = project.expect(&["assets", "lake/penguins", "-n", "2"], 0);
    assert!(text.contains("344     344      344       2  ▄▄") && note.contains("there are more"), "{text}{note}");
    assert_eq!(answer(&project, &["assets", r#"["lake","penguins"]"#, "--json"]), one);

    let series = answer(&project, &["metrics", "--json"]);
    let names: Vec<_> = series.as_array().unwrap().iter().map(|series| series["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["plain", "series"]);
    let points = answer(&project, &["metrics", "series", "--json"]);
    assert_eq!(points["points"].as_array().unwrap().len(), 3);
    assert_eq!((&points["points"][0]["value"], &points["points"][0]["series_step"]), (&json!(0.25), &json!(7)));

    // What is not there is told, with the nearest that is; a quote ends no text.
    for (name, near) in [("lake/pengiuns", Some("lake/penguins")), ("x' OR '1'='1", None)] {
        let (_, told) = project.expect(&["assets", name], 2);
        assert!(told.contains("OPY-261") && near.is_none_or(|near| told.contains(near)), "{told}");
    }
    project.expect(&["metrics", "serie"], 2);
}
