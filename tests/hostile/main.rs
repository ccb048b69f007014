//! The hostile corpus: fifty ways to do harm, each played against a whole yard while another tenant works in the same process.
//! What each must come to is in [`cases`]; what holds for all of them is in [`ground`].
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cases;
mod corpora;
mod ground;
mod shapes;

use cases::{Attack, CASES};
use ground::Ground;

/// Fifty cases, in order: the table has a place for each, and none can be left out.
#[test]
fn the_corpus_is_whole() {
    let numbers: Vec<_> = CASES.iter().map(|case| case.number).collect();
    let expected: Vec<_> = (1..=50).map(|number| format!("H{number:02}")).collect();
    assert_eq!(numbers, expected);
    for case in &CASES {
        for attack in (case.attacks)() {
            let Attack::Elsewhere(name) = attack else { continue };
            let (file, test) = name.split_once("::").unwrap();
            let text = std::fs::read_to_string(ground::root().join(file));
            let text = text.unwrap_or_else(|error| panic!("{}: {file}: {error}", case.number));
            assert!(text.contains(&format!("fn {test}(")), "{}: {name} is no test", case.number);
        }
    }
}

/// What cannot be played before something that is not there yet. Each of them is one of `docs/security.md`, "What is not there".
#[test]
fn what_is_open_is_known() {
    let attacks = CASES.iter().flat_map(|case| (case.attacks)().into_iter().map(|attack| (case.number, attack)));
    let open = attacks.filter_map(|(number, attack)| match attack {
        Attack::Open(what) => Some((number, what)),
        _ => None,
    });
    let expected =
        [("H40", "steps in processes of their own"), ("H45", "pages"), ("H48", "executing again to compare")];
    assert_eq!(open.collect::<Vec<_>>(), expected);
}

/// In four parts, so that none takes long.
fn play(part: usize) {
    let ground = Ground::new();
    for case in CASES.iter().skip(part).step_by(4) {
        for attack in (case.attacks)() {
            ground.play(&format!("{} {}", case.number, case.what), attack);
        }
    }
    ground.leave();
}

#[test]
fn no_case_harms_host_or_neighbour_1() {
    play(0);
}

#[test]
fn no_case_harms_host_or_neighbour_2() {
    play(1);
}

#[test]
fn no_case_harms_host_or_neighbour_3() {
    play(2);
}

#[test]
fn no_case_harms_host_or_neighbour_4() {
    play(3);
}
