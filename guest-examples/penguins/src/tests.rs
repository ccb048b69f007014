//! The pipeline on the real data, as ordinary functions.

use opyard_guest::{Csv, Json};

use crate::evaluate::{Metrics, Report, Score, report, score};
use crate::model::{Fit, fit, predict};
use crate::rows::{Penguin, SplitConfig, clean, split};

const DATA: &str = include_str!("../data/penguins.csv");

fn cleaned(text: &str) -> Vec<Penguin> {
    clean(Csv::parse(text.as_bytes()).unwrap()).unwrap().into_inner()
}

fn metrics(seed: u64) -> Metrics {
    let parts = split(Csv::new(cleaned(DATA)), SplitConfig { test_fraction: 0.25, seed }).unwrap();
    let model = fit(parts.train, Fit { regularisation: 1.0 }).unwrap();
    let predictions = predict(Json::new(model.into_inner()), parts.test).unwrap();
    score(predictions, Score { threshold: 0.0 }).unwrap().into_inner()
}

#[test]
fn the_model_recognises_penguins() {
    let found = metrics(7);
    assert_eq!((found.rows, found.species.len()), (83, 3));
    assert!(found.accuracy >= 0.95, "{found:?}");
    let card = report(Json::new(found), Report { title: "Card".to_owned() }).unwrap();
    assert!(card.starts_with("# Card\n") && card.contains("| Gentoo |"), "{}", *card);
}

#[test]
fn a_change_in_a_row_that_is_dropped_changes_nothing() {
    let rows = cleaned(DATA);
    assert_eq!(rows.len(), 333);
    let dropped = "Adelie,Torgersen,NA,NA,NA,NA,NA,2007";
    let changed = DATA.replace(dropped, "Adelie,Torgersen,NA,NA,NA,NA,NA,2008");
    assert_ne!(changed, DATA);
    assert_eq!(cleaned(&changed), rows);
}

#[test]
fn seeds_choose_and_repeat() {
    let test =
        |seed| split(Csv::new(cleaned(DATA)), SplitConfig { test_fraction: 0.25, seed }).unwrap().test.into_inner();
    assert_eq!(test(7), test(7));
    assert_ne!(test(7), test(8));
}

#[test]
fn a_threshold_that_is_missed_is_a_failure_that_says_by_how_much() {
    let text = "species,predicted,confidence\nGentoo,Adelie,0.9\nGentoo,Gentoo,0.9\n";
    let failure = score(Csv::parse(text.as_bytes()).unwrap(), Score { threshold: 0.95 }).unwrap_err();
    assert_eq!(failure.to_string(), "the accuracy is 0.5000, but 0.95 is demanded");
}
