//! Whatever comes in, nothing panics, and what is built holds what a plan promises.

use opyard_model::definitions::{Definitions, Setting};
use opyard_model::diagnostic::{Drawing, Source};
use opyard_model::plan::{Launch, Plan};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../example.yaml");

/// Parses, plans every job, and draws what is said.
fn take(bytes: &[u8]) {
    let source = match Source::from_bytes("opyard.yaml", bytes) {
        Ok(source) => source,
        Err(found) => return drop(found.render(Drawing::Coloured)),
    };
    match Definitions::parse(&source, std::path::Path::new("/yard")) {
        Ok(definitions) => crate::with_planning(|planning| match definitions.check(planning) {
            Ok(found) | Err(found) => drop((found.render(Drawing::Plain), serde_json::to_string(&found).unwrap())),
        }),
        Err(found) => drop((found.render(Drawing::Coloured), serde_json::to_string(&found).unwrap())),
    }
}

/// What may be put anywhere into a file: YAML's marks, and words that mean something here.
fn scrap() -> impl Strategy<Value = String> {
    prop_oneof![
        "[\\{\\}\\[\\]:,&*#|>!%@'\"\n\t$. -]{1,4}",
        prop::sample::select(vec![
            "op",
            "graph",
            "steps",
            "$rows",
            "load",
            "split.train",
            "value",
            "collect",
            "null",
            "1e9",
            "~",
            "é\u{202e}",
            "\r\n",
            "\n  ",
            "---\n",
            "penguins.fit",
            "inputs:",
            "{ }",
            "- ",
            "file:",
            "? ",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ]
}

/// A random DAG of sums: each step takes some of those before it, in shuffled order of the file.
fn dag() -> impl Strategy<Value = (Vec<Vec<usize>>, Vec<usize>)> {
    (1usize..40).prop_flat_map(|count| {
        let needs: Vec<_> =
            (0..count).map(|index| prop::collection::vec(0..index.max(1), 0..4usize.min(index + 1))).collect();
        (needs, Just((0..count).collect::<Vec<_>>()).prop_shuffle())
    })
}

proptest! {
    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        take(&bytes);
    }

    #[test]
    fn mutated_examples_do_not_panic(
        edits in prop::collection::vec((0..EXAMPLE.len(), 0usize..30, scrap()), 1..5),
    ) {
        let mut text = EXAMPLE.as_bytes().to_vec();
        for (at, length, scrap) in edits {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, scrap.bytes());
        }
        take(&text);
    }

    #[test]
    fn settings_do_not_panic(text in "[a-z.:=\\{\\}\"0-9é]{0,30}") {
        drop(Setting::parse(&text));
        drop(Setting::from_file(&Source::new("config", &text)));
    }

    #[test]
    fn plans_are_in_topological_order((needs, order) in dag()) {
        let mut text = String::from("opyard: 1\ncomponents: { shapes: { path: s.wasm } }\njobs:\n  job:\n    steps:\n");
        for index in &order {
            let names: Vec<_> = needs[*index].iter().filter(|need| *need < index).map(|need| format!("s{need}")).collect();
            let items = if names.is_empty() { "{ value: 1 }".to_owned() } else { format!("[{}]", names.join(", ")) };
            text += &format!("      s{index}: {{ op: shapes.sum, inputs: {{ items: {items} }} }}\n");
        }
        let definitions = crate::parse(&text).unwrap();
        let launch = Launch { job: "job", environment: None, settings: &[] };
        let (plan, _) = crate::with_planning(|planning| Plan::build(&definitions, &launch, planning)).unwrap();
        prop_assert_eq!(plan.steps.len(), needs.len());
        for ix in plan.indices() {
            let step = plan.step(ix);
            prop_assert!(step.sources().all(|slot| slot.step < ix));
            let index: usize = step.path.as_str()[1..].parse().unwrap();
            let wanted: Vec<_> = needs[index].iter().filter(|need| **need < index).map(|need| format!("s{need}")).collect();
            let wired: Vec<_> = step.sources().map(|slot| plan.step(slot.step).path.to_string()).collect();
            prop_assert_eq!(wanted, wired);
        }
    }

    /// However a config is written, the guest is given the same text.
    #[test]
    fn the_text_of_a_config_is_stable(seed in 0u32..1000, fraction in 1u32..999, flip: bool, quote: bool) {
        let seed_key = if quote { "\"seed\"" } else { "seed" };
        let (a, b) = (format!("{seed_key}: {seed}"), format!("test_fraction: 0.{fraction:03}"));
        let config = if flip { format!("{{ {a}, {b} }}") } else { format!("\n          {b}\n          {a}") };
        let text = EXAMPLE.replace("{ test_fraction: 0.25, seed: 7 } }", "{} }").replace("config: {} }", "config: CONFIG }");
        let with = |config: &str| {
            let text = text.replace("      split:  { op: penguins.split,    inputs: { rows: clean }, config: CONFIG }",
                &format!("      split:\n        op: penguins.split\n        inputs: {{ rows: clean }}\n        config: {config}"));
            let (plan, _) = crate::plan(&text, None, &[]).unwrap();
            plan.step(plan.find("split").unwrap()).config.clone()
        };
        let canonical = serde_json::json!({ "seed": seed, "test_fraction": f64::from(fraction) / 1000.0 });
        prop_assert_eq!(with(&config).to_value(), canonical.clone());
        prop_assert_eq!(with(&config), with(&canonical.to_string()));
    }
}
