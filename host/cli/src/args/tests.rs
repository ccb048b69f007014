//! What a call may look like.

use clap::CommandFactory as _;
use opyard_server::YardError;
use opyard_server::model::error::Code;

use super::*;
use crate::error::{CliError, wrong_call};
use crate::render::text::block;

#[test]
fn the_command_line_is_consistent_and_every_verb_has_an_example() {
    let command = Cli::command();
    command.clone().debug_assert();
    let mut todo: Vec<_> = command.get_subcommands().collect();
    while let Some(verb) = todo.pop() {
        if verb.has_subcommands() {
            todo.extend(verb.get_subcommands());
            continue;
        }
        let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains(verb.get_name()), "{verb}");
        assert!(help.starts_with("Example:\n  opyard "), "{verb}");
    }
}

/// Whatever is typed is an argument or a mistake, and a mistake is told with a code and without driving the terminal.
#[test]
fn naughty_strings_are_arguments_or_mistakes() {
    let editions = [
        include_str!("../../../../tests/data/naughty/blns.json"),
        include_str!("../../../../tests/data/naughty/blns-python.json"),
    ];
    let mut list: Vec<String> =
        editions.iter().flat_map(|text| serde_json::from_str::<Vec<String>>(text).unwrap()).collect();
    list.extend(["\u{1b}]0;title\u{7}", "\u{9b}2J", "a\u{202e}b", "a\rb"].map(str::to_owned));
    for string in list {
        let text = string.as_str();
        for arguments in [
            &[text][..],
            &["run", text],
            &["run", "job", text],
            &["run", "job", "--tag", text],
            &["run", "job", "-f", text, "-e", text, "--set", text, "--config", text],
            &["runs", "--status", text, "-n", text],
            &["query", text, "--format", text],
            &["op", text, text],
            &["show", "--color", text],
        ] {
            let Err(answer) = Cli::try_parse_from(["opyard"].iter().chain(arguments)) else { continue };
            if !answer.use_stderr() {
                continue;
            }
            let CliError::Yard(YardError::Failed(failure)) = wrong_call(&answer) else { panic!("{answer}") };
            assert_eq!(failure.code, Code::BadCall);
            let told = block(&failure.description, "");
            assert!(!told.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{told:?}");
        }
    }
}

#[test]
fn every_verb_is_in_the_manual() {
    let manual = include_str!("../../../../docs/cli.md");
    for verb in Cli::command().get_subcommands() {
        assert!(manual.contains(&format!("## `opyard {}", verb.get_name())), "{verb}");
        for argument in verb.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(manual.contains(&format!("--{argument}")), "{verb} --{argument}");
        }
    }
}

#[test]
fn a_run_takes_settings_tags_and_global_flags_anywhere() {
    let cli = Cli::try_parse_from([
        "opyard",
        "run",
        "train",
        "--set",
        "split.seed=8",
        "--set",
        "a.b:c=d=e",
        "--tag",
        "k=v=w",
        "--yard",
        "y",
        "--json",
        "-e",
        "prod",
        "--no-memo",
    ]);
    let Cli { global, verb: Verb::Run(run) } = cli.unwrap() else { panic!("not a run") };
    assert_eq!((global.yard.unwrap(), global.json), (PathBuf::from("y"), true));
    assert_eq!(run.overlay.set, ["split.seed=8", "a.b:c=d=e"]);
    assert_eq!(run.tag, [("k".to_owned(), "v=w".to_owned())]);
    assert_eq!((run.job.as_str(), run.overlay.env.as_deref(), run.no_memo), ("train", Some("prod"), true));
}

#[test]
fn wrong_calls_are_refused() {
    for wrong in [
        &["opyard", "run"][..],
        &["opyard", "run", "a", "--tag", "x"],
        &["opyard", "run", "a", "--tag", "=x"],
        &["opyard", "cancel"],
        &["opyard", "cat", "latest"],
        &["opyard", "runs", "-n", "0"],
        &["opyard", "query", "select 1", "--format", "xml"],
        &["opyard", "rerun", "x", "--all", "--from", "y"],
    ] {
        assert!(Cli::try_parse_from(wrong).unwrap_err().use_stderr(), "{wrong:?}");
    }
}
