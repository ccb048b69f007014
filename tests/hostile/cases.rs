//! The table: what is done, and what must come of it.

use opyard_server::model::error::Code;
use opyard_server::model::event::RunEvent;
use opyard_tests::guests::{execute, op};

use crate::ground::Seen;
use crate::shapes::{around, with_instances};

/// One way to do harm.
pub(crate) struct Case {
    pub(crate) number: &'static str,
    pub(crate) what: &'static str,
    pub(crate) attacks: fn() -> Vec<Attack>,
}

/// One attempt at it.
pub(crate) enum Attack {
    /// A component that must not be taken.
    Refused {
        component: Vec<u8>,
        codes: &'static [Code],
        /// Words that the refusal must have, to name what is wrong.
        words: &'static str,
    },
    /// A job.
    Runs { component: Vec<u8>, steps: String, ends: Ends, check: fn(&Seen) -> bool },
    /// Tested beside what it is about: `file::test`.
    Elsewhere(&'static str),
    /// Not before this is there.
    Open(&'static str),
}

/// How a job ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ends {
    /// All of its steps succeed.
    Well,
    /// One of its steps fails, and all that do with one of these.
    With(&'static [Code]),
    /// All succeed, or those that do not fail with this.
    WellOrWith(Code),
}

const LOG: &str = "(import \"opyard:op/events@0.1.0\" \"log\" (func $log (param i32 i32 i32 i32 i32)))";
const METRIC: &str = "(import \"opyard:op/events@0.1.0\" \"metric\" (func $metric (param i32 i32 f64 i32 i64)))
    (data (i32.const 1024) \"loss\")";
const STORE: &str = "(import \"opyard:op/io@0.1.0\" \"store\" (func $store (param i32 i32 i32 i32 i32)))
    (data (i32.const 1024) \"outrawnot\")";
const OUTPUT: &str = "(import \"opyard:op/io@0.1.0\" \"output\" (func $output (param i32 i32 i32)))
    (import \"opyard:op/values@0.1.0\" \"[static]writer.commit\" (func $commit (param i32 i32)))
    (import \"opyard:op/values@0.1.0\" \"[resource-drop]writer\" (func $drop (param i32)))
    (data (i32.const 1024) \"out\")";
const ITEMS: &str = "
    (import \"opyard:op/io@0.1.0\" \"dynamic-output\" (func $item (param i32 i32 i32 i32 i32)))
    (import \"opyard:op/values@0.1.0\" \"[method]writer.write\" (func $write (param i32 i32 i32 i32)))
    (import \"opyard:op/values@0.1.0\" \"[static]writer.commit\" (func $commit (param i32 i32)))
    (data (i32.const 1024) \"items\") (data (i32.const 1040) \"7\")
    ;; Whatever the host says, it says it in the same place.
    (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 16384))
    ;; The key at 1056: eight letters, the half bytes of $n.
    (func $key (param $n i32) (local $at i32)
      (loop $l
        (i32.store8 (i32.add (i32.const 1056) (local.get $at)) (i32.add (i32.const 97)
          (i32.and (i32.shr_u (local.get $n) (i32.mul (local.get $at) (i32.const 4))) (i32.const 15))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $at) (i32.const 8)))))";
const SLEEP: &str = "
    (import \"wasi:clocks/monotonic-clock@0.2.0\" \"subscribe-duration\" (func $after (param i64) (result i32)))
    (import \"wasi:io/poll@0.2.0\" \"[method]pollable.block\" (func $block (param i32)))";
const NOW: &str = "(import \"wasi:clocks/monotonic-clock@0.2.0\" \"now\" (func $now (result i64)))";
const THINGS: &str = "
    (import \"[export]opyard:test/things\" \"[resource-new]thing\" (func $new (param i32) (result i32)))
    (func (export \"opyard:test/things#[constructor]thing\") (result i32) (i32.const 0))";

/// A little CPU time, and so much fuel that it does not matter.
const QUICK: &str = "cpu: 100ms, fuel: 1000000000000";
const STARTS: &[Code] = &[Code::FuelExhausted, Code::CpuExceeded, Code::WallExceeded];
const TOO_MUCH: &[Code] = &[Code::MemoryExceeded, Code::ComponentInvalid, Code::TooLarge];
const INVALID: &[Code] = &[Code::ComponentInvalid];

/// Does something so many times.
fn times(count: u32, body: &str) -> String {
    format!(
        "(loop $l {body} (local.set $n (i32.add (local.get $n) (i32.const 1)))
         (br_if $l (i32.lt_u (local.get $n) (i32.const {count}))))"
    )
}

fn runs(text: &str, limits: &str, codes: &'static [Code], check: fn(&Seen) -> bool) -> Attack {
    let steps = format!("s: {{ op: case.case, limits: {{ {limits} }} }}");
    let ends = if codes.is_empty() { Ends::Well } else { Ends::With(codes) };
    Attack::Runs { component: op(text), steps, ends, check }
}

fn fails(text: &str, limits: &str, codes: &'static [Code]) -> Attack {
    runs(text, limits, codes, |_| true)
}

fn refused(component: Vec<u8>, codes: &'static [Code], words: &'static str) -> Attack {
    Attack::Refused { component, codes, words }
}

fn logged(seen: &Seen) -> impl Iterator<Item = &str> {
    seen.events.iter().filter_map(|event| match event {
        RunEvent::Log { line, .. } => Some(line.message.as_str()),
        _ => None,
    })
}

/// A function that calls itself so deep, and then the host.
fn deep(calls: u32) -> String {
    execute(
        &format!(
            "{LOG} (data (i32.const 1024) \"deep\")
             (func $f (param i32)
               (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1))) (drop (i32.load (i32.const 0))))
                 (else (call $log (i32.const 1) (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0)))))"
        ),
        &format!("(call $f (i32.const {calls}))"),
    )
}

/// What `cabi_realloc` does in place of giving memory.
fn realloc(parts: &str, body: &str) -> String {
    execute(
        &format!(
            "{parts} (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) {body} (i32.const 8192))"
        ),
        "",
    )
}

/// Answers of `store` and `output` are at 2048: traps unless the last one was an error.
const MUST_BE_REFUSED: &str = "(if (i32.eqz (i32.load8_u (i32.const 2048))) (then unreachable))";

/// A core module around parts that the engine does not know here.
fn feature(module: &str) -> Attack {
    refused(around(&format!("(core module {module})")), INVALID, "")
}

macro_rules! case {
    ($number:literal, $what:literal, [$($attack:expr),* $(,)?]) => {
        Case { number: $number, what: $what, attacks: || vec![$($attack),*] }
    };
    ($number:literal, $what:literal, $attacks:path) => {
        Case { number: $number, what: $what, attacks: $attacks }
    };
}

pub(crate) static CASES: [Case; 50] = [
    case!("H01", "spins", [fails(&execute("", "(loop $l (br $l))"), QUICK, &[Code::CpuExceeded])]),
    case!("H02", "spins before it begins", [refused(
        op(&format!("{} (func $spin (loop $l (br $l))) (start $spin)", execute("", ""))),
        STARTS,
        ""
    )]),
    case!("H03", "fills 256 MiB again and again", [fails(
        &execute(
            "",
            "(drop (memory.grow (i32.const 4000)))
             (loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 262000000)) (br $l))"
        ),
        "fuel: 1000000000",
        &[Code::FuelExhausted]
    )]),
    case!("H04", "grows its memory to 4 GiB", [fails(
        &execute("", "(drop (memory.grow (i32.const 65534)))"),
        "memory: 64MiB",
        &[Code::MemoryExceeded]
    )]),
    case!("H05", "has a hundred memories of 64 MiB", [refused(
        with_instances(&op(&execute("", "")), "(memory 1024)", 100),
        TOO_MUCH,
        ""
    )]),
    case!("H06", "begins with 4 GiB", [refused(
        op(&format!("(memory (export \"memory\") 65536) {}", execute("", ""))),
        TOO_MUCH,
        ""
    )]),
    case!("H07", "has endless tables", [
        fails(
            &execute("(table $t 1 funcref)", "(drop (table.grow $t (ref.null func) (i32.const 1000000000)))"),
            "memory: 64MiB",
            &[Code::MemoryExceeded]
        ),
        refused(op(&execute("(table $t 10000000 funcref)", "")), TOO_MUCH, ""),
    ]),
    case!("H08", "calls itself for ever", [fails(
        &execute("(func $f (call $f) (call $f))", "(call $f)"),
        QUICK,
        &[Code::StackOverflow]
    )]),
    case!("H09", "calls the host from the end of its stack", end_of_stack),
    case!("H10", "logs a line of 100 MiB", [fails(
        &execute(
            LOG,
            "(drop (memory.grow (i32.const 1600)))
             (call $log (i32.const 1) (i32.const 0) (i32.const 104857600) (i32.const 0) (i32.const 0))"
        ),
        "",
        &[Code::HostCallLimit]
    )]),
    case!("H11", "logs ten million empty fields", [fails(
        &execute(
            LOG,
            "(drop (memory.grow (i32.const 3700)))
             (call $log (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 10000000))"
        ),
        "",
        &[Code::HostCallLimit]
    )]),
    case!("H12", "answers with more than anybody asked for", [
        // An error of the op, whose text is 64 MiB of zeros.
        fails(
            "(func $execute (param i32 i32) (result i32)
               (drop (memory.grow (i32.const 1100)))
               (i32.store8 (i32.const 3000) (i32.const 1))
               (i32.store (i32.const 3012) (i32.const 67108864))
               (i32.const 3000))",
            "",
            &[Code::HostCallLimit]
        ),
        // A million ops.
        refused(
            op_that_describes(
                "(drop (memory.grow (i32.const 1600))) (i32.store (i32.const 3004) (i32.const 1000000)) (i32.const 3000)"
            ),
            &[Code::HostCallLimit, Code::MemoryExceeded, Code::FuelExhausted],
            ""
        ),
    ]),
    case!("H13", "does harm while the host hands something over", [
        fails(&realloc("", "unreachable"), QUICK, &[Code::Trapped]),
        fails(&realloc("", "(loop $l (br $l))"), QUICK, &[Code::CpuExceeded]),
        fails(
            &realloc(LOG, "(call $log (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0))"),
            QUICK,
            &[Code::Trapped]
        ),
        // Memory that it does not have.
        fails(
            &execute(
                "(func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (i32.const -16))",
                ""
            ),
            QUICK,
            &[Code::Trapped]
        ),
    ]),
    case!("H14", "calls the host before it begins", [refused(
        op(&format!(
            "{} (func $start (call $log (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0)))
             (start $start)",
            execute(LOG, "")
        )),
        &[Code::ForbiddenImport, Code::Trapped],
        ""
    )]),
    case!("H15", "makes a million resources of its own", [fails(
        &execute(THINGS, &times(1_000_000, "(drop (call $new (i32.const 1)))")),
        "handles: 1000",
        &[Code::HandleLimit]
    )]),
    case!("H16", "opens handles without end", [
        fails(
            &execute(OUTPUT, "(loop $l (call $output (i32.const 1024) (i32.const 3) (i32.const 2048)) (br $l))"),
            "handles: 1000",
            &[Code::HandleLimit]
        ),
        Attack::Elsewhere("host/sandbox/tests/it/resources.rs::a_granted_object_store_is_read_and_written_as_far_as_the_grant_goes"),
    ]),
    case!("H17", "uses handles that it does not have", [
        fails(&execute(OUTPUT, "(call $commit (i32.const 77) (i32.const 2048))"), "", &[Code::HandleLimit]),
        fails(
            &execute(
                OUTPUT,
                "(call $output (i32.const 1024) (i32.const 3) (i32.const 2048))
                 (call $drop (i32.load (i32.const 2052))) (call $drop (i32.load (i32.const 2052)))"
            ),
            "",
            &[Code::HandleLimit]
        ),
        fails(
            &execute(
                &format!("{OUTPUT} (import \"opyard:op/values@0.1.0\" \"[method]reader.size\" (func $size (param i32) (result i64)))"),
                "(call $output (i32.const 1024) (i32.const 3) (i32.const 2048))
                 (drop (call $size (i32.load (i32.const 2052))))"
            ),
            "",
            &[Code::Trapped]
        ),
    ]),
    case!("H18", "logs a million lines", [runs(
        &execute(
            &format!("{LOG} (data (i32.const 1024) \"line\")"),
            &times(1_000_000, "(call $log (i32.const 1) (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0))")
        ),
        "",
        &[],
        |seen| logged(seen).count() == 1_000 && seen.limit("log_lines").is_some_and(|text| text.contains("999000"))
    )]),
    case!("H19", "says a million things", [
        runs(
            &execute(
                METRIC,
                &times(1_000_000, "(call $metric (i32.const 1024) (i32.const 4) (f64.const 1) (i32.const 0) (i64.const 0))")
            ),
            "events: 100",
            &[],
            |seen| {
                let metrics = seen.events.iter().filter(|event| matches!(event, RunEvent::Metric { .. })).count();
                metrics <= 100 && seen.limit("events").is_some()
            }
        ),
        Attack::Elsewhere("host/sandbox/tests/it/ops.rs::metadata_beyond_the_limit_is_not_kept"),
    ]),
    case!("H20", "logs what terminals take for orders", [
        runs(
            &execute(
                &format!("{LOG} (data (i32.const 1024) \"\\1b[31mred\\0d\\0a\\e2\\80\\aeend\\00\")"),
                "(call $log (i32.const 1) (i32.const 1024) (i32.const 17) (i32.const 0) (i32.const 0))"
            ),
            "",
            &[],
            |seen| {
                let lines: Vec<_> = logged(seen).collect();
                let wild = |text: &&str| text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}');
                lines.iter().any(|line| line.contains("red")) && !lines.iter().any(wild)
            }
        ),
        fails(
            &execute(
                &format!("{LOG} (data (i32.const 1024) \"\\ff\\fe\")"),
                "(call $log (i32.const 1) (i32.const 1024) (i32.const 2) (i32.const 0) (i32.const 0))"
            ),
            "",
            &[Code::Trapped]
        ),
        runs(
            &execute(
                LOG,
                "(drop (memory.grow (i32.const 16)))
                 (memory.fill (i32.const 65536) (i32.const 120) (i32.const 1000000))
                 (call $log (i32.const 1) (i32.const 65536) (i32.const 1000000) (i32.const 0) (i32.const 0))"
            ),
            "log_bytes: 64KiB",
            &[],
            |seen| logged(seen).map(str::len).sum::<usize>() <= 64 << 10
        ),
    ]),
    case!("H21", "sleeps for ever", [
        Attack::Runs {
            component: op(&execute(SLEEP, "(call $block (call $after (i64.const -1)))")),
            steps: "s: { op: case.worldly, limits: { wall: 300ms } }".into(),
            ends: Ends::With(&[Code::WallExceeded]),
            check: |_| true,
        },
        // Time that nobody else has passes at once.
        runs(&execute(SLEEP, "(call $block (call $after (i64.const -1)))"), "wall: 300s", &[], |_| true),
    ]),
    case!("H22", "asks a server that gives a byte a second", [
        Attack::Elsewhere("host/resources/src/tests/http.rs::answers_are_bounded_in_time"),
    ]),
    case!("H23", "asks for the time a million times", [runs(
        &execute(NOW, &times(1_000_000, "(drop (call $now))")),
        "",
        &[],
        |_| true
    )]),
    case!("H24", "takes for ever to compile: loops", [
        Attack::Elsewhere("tests/tests/system/compiling.rs::a_component_that_takes_too_long_or_too_much_memory_costs_its_process_alone"),
        Attack::Elsewhere("tests/tests/system/compiling.rs::what_is_too_tangled_is_refused_at_once"),
    ]),
    case!("H25", "takes for ever to compile: branches, and values that live", [
        Attack::Elsewhere("tests/tests/system/compiling.rs::a_component_that_takes_too_long_or_too_much_memory_costs_its_process_alone"),
    ]),
    case!("H26", "is too much: functions, variables, a body", [
        Attack::Elsewhere("tests/tests/system/compiling.rs::what_is_too_tangled_is_refused_at_once"),
    ]),
    case!("H27", "has types that explode", [
        Attack::Elsewhere("tests/tests/system/compiling.rs::types_that_explode_are_refused_soon"),
    ]),
    case!("H28", "is compiled already", [
        Attack::Elsewhere("tests/tests/system/compiling.rs::compiled_code_is_taken_from_nobody_and_never_altered"),
        Attack::Elsewhere("tests/tests/system/compiling.rs::a_run_that_finds_altered_code_has_it_on_record"),
    ]),
    case!("H29", "imports what it may not", [
        refused(around("(import \"acme:door/back@1.0.0\" (instance))"), &[Code::UnknownImport], "acme:door/back@1.0.0"),
        refused(around("(import \"opyard:op/io@9.0.0\" (instance))"), &[Code::ContractVersion], "opyard:op/io@9.0.0"),
        fails(
            &execute(
                "(import \"wasi:sockets/tcp-create-socket@0.2.0\" \"create-tcp-socket\"
                   (func $socket (param i32) (result i32)))",
                "(drop (call $socket (i32.const 0)))"
            ),
            "",
            &[Code::ForbiddenImport]
        ),
    ]),
    case!("H30", "is an Arrow stream that claims to be huge", [
        Attack::Elsewhere("guest-examples/table_types/src/tests/malformed.rs::what_a_stream_claims_takes_no_memory"),
    ]),
    case!("H31", "is an Arrow stream that contradicts itself", [
        Attack::Elsewhere("guest-examples/table_types/src/tests/malformed.rs::mangled_arrow"),
        Attack::Elsewhere("guest-examples/table_types/src/tests/malformed.rs::a_stream_that_is_cut_off_anywhere_is_no_table"),
    ]),
    // The host decodes neither; nor does a component of ours.
    case!("H32", "is a Parquet file that contradicts itself", [
        Attack::Elsewhere("tests/tests/system/layering.rs::crates_import_only_what_their_layer_may"),
    ]),
    case!("H33", "is a bomb of compressed zeros", [
        Attack::Elsewhere("tests/tests/system/layering.rs::crates_import_only_what_their_layer_may"),
    ]),
    case!("H34", "is JSON without end", [
        fails(
            &execute(
                STORE,
                "(drop (memory.grow (i32.const 16)))
                 (memory.fill (i32.const 65536) (i32.const 91) (i32.const 1000000))
                 (call $store (i32.const 1024) (i32.const 3) (i32.const 65536) (i32.const 1000000) (i32.const 2048))"
            ),
            "",
            &[Code::OutputInvalid]
        ),
        Attack::Elsewhere("host/sandbox/src/json_check.rs::depth_is_bounded_without_holding_the_value"),
        Attack::Elsewhere("host/sandbox/src/json_check.rs::agrees_with_a_parser_of_the_whole"),
    ]),
    case!("H35", "is a schema that never ends", [
        Attack::Elsewhere("host/model/src/schema.rs::hostile_schemas_are_refused"),
        Attack::Elsewhere("host/model/src/schema.rs::linear_patterns_are_taken"),
    ]),
    case!("H36", "has names that mean something elsewhere", [
        Attack::Elsewhere("tests/tests/system/input.rs::naughty_strings_in_a_definitions_file_are_names_or_mistakes"),
        Attack::Elsewhere("tests/tests/system/input.rs::naughty_strings_on_the_command_line_are_answered"),
    ]),
    case!("H37", "yields items without end", [runs(
        &execute(
            ITEMS,
            &times(
                100_000,
                "(call $key (local.get $n))
                 (call $item (i32.const 1024) (i32.const 5) (i32.const 1056) (i32.const 8) (i32.const 2048))
                 (if (i32.eqz (i32.load8_u (i32.const 2048))) (then
                   (call $write (i32.load (i32.const 2052)) (i32.const 1040) (i32.const 1) (i32.const 2064))
                   (call $commit (i32.load (i32.const 2052)) (i32.const 2064))))"
            )
        ),
        "items: 500",
        &[],
        |seen| seen.outputs == 500 && seen.limit("items").is_some()
    )]),
    case!("H38", "fans out and in", [Attack::Runs {
        component: op(&execute("", "")),
        steps: "fan: { op: probe.fan, config: { items: 2000 } }
                item: { op: probe.item, inputs: { value: fan } }
                sum: { op: probe.add, inputs: { numbers: { collect: item } } }"
            .into(),
        ends: Ends::Well,
        check: |seen| seen.usages.len() == 2_002,
    }]),
    case!("H39", "fails, and asks to be tried again", [
        Attack::Elsewhere("host/engine/tests/engine/drive.rs::retries_wait_as_the_policy_says"),
    ]),
    case!("H40", "kills the process that it runs in", [Attack::Open("steps in processes of their own")]),
    case!("H41", "asks addresses that are not public", [
        Attack::Elsewhere("host/resources/src/tests/http.rs::hostile_addresses_are_refused"),
        Attack::Elsewhere("host/resources/src/tests/http.rs::no_form_of_an_address_reaches_further"),
    ]),
    case!("H42", "asks for a name that is public once", [
        Attack::Elsewhere("host/resources/src/tests/http.rs::the_address_that_is_checked_is_the_one_that_is_dialled"),
    ]),
    case!("H43", "is led elsewhere", [
        Attack::Elsewhere("host/resources/src/tests/http.rs::redirects_go_where_requests_may_go_and_credentials_stay_at_home"),
        Attack::Elsewhere("host/resources/src/tests/http.rs::redirects_to_what_is_worse_are_refused"),
        Attack::Elsewhere("host/resources/src/tests/http.rs::methods_and_headers_are_held_to_the_rules"),
    ]),
    case!("H44", "tells a secret", [
        Attack::Elsewhere("host/sandbox/src/redact.rs::a_secret_is_found_in_each_of_its_forms"),
        Attack::Elsewhere("tests/tests/system/network.rs::secrets_are_used_and_nowhere_kept"),
    ]),
    case!("H45", "writes for a page that shows it", [Attack::Open("pages")]),
    case!("H46", "yields, and fails", [runs(
        &execute(
            &format!("{STORE} (data (i32.const 1040) \"[1]\")"),
            "(call $store (i32.const 1024) (i32.const 3) (i32.const 1040) (i32.const 3) (i32.const 2048)) unreachable"
        ),
        "",
        &[Code::Trapped],
        |seen| seen.outputs == 0
    )]),
    case!("H47", "yields twice, and what nobody asked for", [
        runs(
            &execute(
                &format!("{STORE} (data (i32.const 1040) \"[1]\")"),
                &format!(
                    "(call $store (i32.const 1024) (i32.const 3) (i32.const 1040) (i32.const 3) (i32.const 2048))
                     (call $store (i32.const 1024) (i32.const 3) (i32.const 1041) (i32.const 1) (i32.const 2048))
                     {MUST_BE_REFUSED}
                     (call $store (i32.const 1030) (i32.const 3) (i32.const 1040) (i32.const 3) (i32.const 2048))
                     {MUST_BE_REFUSED}"
                )
            ),
            "",
            &[],
            |seen| seen.outputs == 1
        ),
        Attack::Elsewhere("host/sandbox/tests/it/hostile.rs::a_required_output_that_is_missing_is_named"),
    ]),
    case!("H48", "gives other results each time, and says that it does not", [Attack::Open("executing again to compare")]),
    case!("H49", "needs what is switched off", [
        feature("(memory 1 2 shared)"),
        feature("(memory i64 1)"),
        feature("(type (struct (field i32))) (func (param (ref null 0)))"),
        feature("(tag (param i32))"),
        refused(
            around(
                "(core module $m (func (export \"f\")) (func (export \"cb\") (param i32 i32 i32) (result i32) (i32.const 0)))
                 (core instance $c (instantiate $m))
                 (func (export \"f\") async (canon lift (core func $c \"f\") async))"
            ),
            INVALID,
            ""
        ),
    ]),
    case!("H50", "spins eight times over", [Attack::Runs {
        component: op(&execute("", "(loop $l (br $l))")),
        steps: (0..8).map(|n| format!("s{n}: {{ op: case.case, limits: {{ {QUICK} }} }}\n")).collect(),
        ends: Ends::With(&[Code::CpuExceeded]),
        check: |seen| seen.usages.len() == 8,
    }]),
];

/// A component whose description is made by this body.
fn op_that_describes(body: &str) -> Vec<u8> {
    opyard_tests::guests::component(&format!("{} (func $describe (result i32) {body})", execute("", "")))
}

/// Somewhere between the first and the last of these the stack ends; each is 3 % deeper than the one before.
fn end_of_stack() -> Vec<Attack> {
    let depths = std::iter::successors(Some(4_000_u32), |depth| Some(depth + depth / 32 + 1));
    let between = depths.take_while(|depth| *depth < 40_000).map(|depth| Attack::Runs {
        component: op(&deep(depth)),
        steps: "s: { op: case.case }".into(),
        ends: Ends::WellOrWith(Code::StackOverflow),
        check: |_| true,
    });
    let first = runs(&deep(2_000), QUICK, &[], |seen| logged(seen).eq(["deep"]));
    [first, fails(&deep(1_000_000), QUICK, &[Code::StackOverflow])].into_iter().chain(between).collect()
}
