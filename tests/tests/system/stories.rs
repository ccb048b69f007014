//! What `docs/stories.md` tells.

use serde_json::Value;

use crate::harness::{Project, root, set};

/// A folder of its own with one of the stories, whose components and data are those of the checkout.
fn story(file: &str) -> Project {
    let text = std::fs::read_to_string(root().join("guest-examples/stories").join(file)).unwrap();
    let text = text
        .replace("../../target/guests", &root().join("target/guests").display().to_string())
        .replace("file:../", &format!("file://{}/", root().join("guest-examples").display()));
    Project::new(&text)
}

fn json(project: &Project, output: &str) -> Value {
    serde_json::from_str(&project.expect(&["cat", "latest", output], 0).0).unwrap()
}

/// Trains and classifies; tells the version and how good it is.
fn train_and_classify(project: &Project, environment: &str) -> (Value, Value) {
    project.expect(&["run", "train", "-e", environment], 0);
    let version = json(project, "publish")["version"].clone();
    project.expect(&["run", "classify", "-e", environment], 0);
    let run = project.last_run();
    assert!(run.steps("step_start").is_superset(&set(&["load", "model"])), "what is outside is looked at each time");
    (version, json(project, "score.metrics")["accuracy"].clone())
}

#[test]
fn the_page_shows_the_real_files() {
    let page = std::fs::read_to_string(root().join("docs/stories.md")).unwrap();
    for file in ["models.yaml", "drift.yaml"] {
        let real = std::fs::read_to_string(root().join("guest-examples/stories").join(file)).unwrap();
        assert!(page.contains(&format!("```yaml\n{}\n```", real.trim_end())), "{file} is other than on the page");
    }
}

#[test]
fn the_environment_says_where_the_model_is() {
    let project = story("models.yaml");
    let text = std::fs::read_to_string(project.path().join("opyard.yaml")).unwrap();
    project.define(&text.replace("s3://example-models/penguins", "file:./elsewhere"));
    let (version, accuracy) = train_and_classify(&project, "test");
    assert_eq!(version, 1);
    assert!(accuracy.as_f64().unwrap() > 0.95, "{accuracy}");
    // Nothing has been published there yet: the op says so, and whose move it is is plain.
    let (told, _) = project.expect(&["run", "classify", "-e", "prod"], 100);
    assert!(told.contains("penguins"), "{told}");
    assert_eq!(train_and_classify(&project, "prod"), (version, accuracy));
    assert!(project.path().join("models/penguins").is_dir() && project.path().join("elsewhere/penguins").is_dir());
}

/// The same story on a server.
#[test]
#[ignore = "needs a server: set OPYARD_TEST_OBJECTS"]
fn remote_production_has_the_same_model() {
    let place = std::env::var("OPYARD_TEST_OBJECTS").expect("OPYARD_TEST_OBJECTS names an empty place");
    let project = story("models.yaml");
    let text = std::fs::read_to_string(project.path().join("opyard.yaml")).unwrap();
    project.define(&text.replace("s3://example-models", &format!("{place}/{}-story", std::process::id())));
    assert_eq!(train_and_classify(&project, "test"), train_and_classify(&project, "prod"));
}

#[test]
fn drift_is_told_column_by_column() {
    let project = story("drift.yaml");
    let (out, err) = project.expect(&["check"], 0);
    assert!(format!("{out}{err}").contains("OPY-250"), "a warning: {out}{err}");
    let (out, err) = project.expect(&["run", "watch"], 2);
    let told = format!("{out}{err}");
    assert!(told.contains("OPY-250") && told.contains("opyard run train"), "{told}");
    project.expect(&["run", "train"], 0);
    let trained = project.last_run().run.to_string();

    project.expect(&["run", "watch"], 0);
    assert_eq!(json(&project, "drift")["drifted"], serde_json::json!([]));
    assert!(project.last_run().metric("largest_shift").unwrap() < 0.1);
    let (plan, _) = project.expect(&["show", "latest", "--json"], 0);
    assert!(plan.contains(&trained), "which training it was compared with is on record: {plan}");

    // Heavier penguins.
    let data = project.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let rows = std::fs::read_to_string(root().join("guest-examples/penguins/data/penguins.csv")).unwrap();
    let mut heavier = rows.lines().next().unwrap().to_owned() + "\n";
    let mass = heavier.split(',').position(|column| column == "body_mass_g").unwrap();
    for row in rows.lines().skip(1) {
        let cells = row.split(',').enumerate().map(|(at, cell)| match cell.parse::<f64>() {
            Ok(grams) if at == mass => (grams + 1500.0).to_string(),
            _ => cell.to_owned(),
        });
        heavier += &(cells.collect::<Vec<_>>().join(",") + "\n");
    }
    std::fs::write(data.join("penguins.csv"), heavier).unwrap();
    let text = std::fs::read_to_string(project.path().join("opyard.yaml")).unwrap();
    let raw = format!("file://{}/guest-examples/penguins/data", root().display());
    project.define(&text.replace(&raw, "file:./data"));
    project.expect(&["run", "watch"], 0);
    assert_eq!(json(&project, "drift")["drifted"], serde_json::json!(["body_mass_g"]));
    assert!(project.last_run().metric("largest_shift").unwrap() > 1.0);
}
