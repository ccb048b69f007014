//! The schema of the file, and its reference, against what is really read.

use jsonschema::Validator;
use opyard_model::definitions::schema;
use opyard_model::error::Code;
use opyard_model::limits::Limits;

fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

fn json(text: &str) -> serde_json::Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn the_schema_takes_what_is_right() {
    let validator = validator();
    let problems: Vec<_> =
        validator.iter_errors(&json(include_str!("../example.yaml"))).map(|e| e.to_string()).collect();
    assert_eq!(problems, Vec::<String>::new());
    for wrong in
        ["{}", "opyard: 2", "{ opyard: 1, componets: {} }", "{ opyard: 1, jobs: { a: { steps: { b: { op: x } } } } }"]
    {
        assert!(!validator.is_valid(&json(wrong)), "{wrong}");
    }
}

/// The definitions of the examples are right in themselves, and the schema agrees.
#[test]
fn the_schema_takes_the_examples() {
    let mut seen = 0;
    for folder in std::fs::read_dir(root().join("guest-examples")).unwrap() {
        let path = folder.unwrap().path().join("opyard.yaml");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        seen += 1;
        crate::parse(&text).unwrap_or_else(|found| panic!("{}: {found}", path.display()));
        let problems: Vec<_> = validator().iter_errors(&json(&text)).map(|error| error.to_string()).collect();
        assert_eq!(problems, Vec::<String>::new(), "{}", path.display());
    }
    assert!(seen > 0);
}

#[test]
fn the_schema_knows_every_limit() {
    let schema = schema();
    let known: Vec<_> = schema["$defs"]["limits"]["properties"].as_object().unwrap().keys().cloned().collect();
    let mut fields: Vec<_> = Limits::FIELDS.iter().map(|(name, _)| (*name).to_owned()).collect();
    fields.sort();
    assert_eq!(known, fields);
    let each: Vec<_> = Limits::FIELDS
        .iter()
        .map(|(name, text)| {
            let value = if text.contains("(size)") {
                "1MiB"
            } else if text.contains("(duration)") {
                "1s"
            } else {
                "1"
            };
            format!("{name}: {value}")
        })
        .collect();
    let text = format!(
        "opyard: 1\ncomponents: {{ shapes: {{ path: x }} }}\njobs: {{ a: {{ limits: {{ {} }}, steps: {{ b: {{ op: shapes.list }} }} }} }}\n",
        each.join(", ")
    );
    let (plan, _) = crate::plan(&text, None, &[]).unwrap_or_else(|found| panic!("{found}"));
    let limits = serde_json::to_value(&plan.steps[0].limits).unwrap();
    let (size, second) = (serde_json::json!(1 << 20), serde_json::json!({ "secs": 1, "nanos": 0 }));
    assert!(limits.as_object().unwrap().values().all(|value| *value == size || *value == second || *value == 1));
}

/// Every fenced `yaml` block of the reference that is a whole file is one, and the schema agrees.
#[test]
fn the_examples_of_the_reference_are_right() {
    let text = std::fs::read_to_string(root().join("docs/definitions.md")).unwrap();
    let whole: Vec<_> = text
        .split("```yaml\n")
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .filter(|block| block.starts_with("opyard: 1"))
        .collect();
    assert!(!whole.is_empty());
    for block in whole {
        let (_, warnings) = crate::plan(block, None, &[]).unwrap_or_else(|found| panic!("{found}"));
        assert!(warnings.is_empty(), "{warnings}");
        let problems: Vec<_> = validator().iter_errors(&json(block)).map(|error| error.to_string()).collect();
        assert_eq!(problems, Vec::<String>::new());
    }
    for (name, _) in Limits::FIELDS {
        assert!(text.contains(&format!("`{name}`")), "the reference lacks the limit {name}");
    }
}

/// Every page restates its summary, says whose move it is, and has the sections that a reader looks for.
#[test]
fn every_page_says_what_it_has_to() {
    let folder = root().join("docs/errors");
    for code in Code::ALL {
        let text = std::fs::read_to_string(folder.join(format!("{code}.md"))).unwrap_or_default();
        let title = format!("# {code}: {}\n", code.summary());
        assert!(text.starts_with(&title), "docs/errors/{code}.md does not start with {title:?}");
        for part in ["**Whose move:**", "## What happened", "## What to try", "## Example"] {
            assert!(text.contains(part), "docs/errors/{code}.md lacks {part:?}");
        }
        assert!(text.contains(&format!("**Whose move:** {}", code.blame())), "docs/errors/{code}.md blames another");
    }
    for page in std::fs::read_dir(folder).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        let code = name.trim_end_matches(".md");
        assert!(code == "README" || code.parse::<Code>().is_ok(), "docs/errors/{name} is of no code");
    }
}
