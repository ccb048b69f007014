//! Random tables and constraints, against a reference that has the whole table and knows what each sample means.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{CSV, NDJSON, check_with, chunks, number, offending, rules, violations};

/// A value, and what it is of which type.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// As it stands in the table, before quoting.
    raw: &'static str,
    /// As it is shown.
    shown: &'static str,
    utf8: Option<&'static str>,
    int: Option<i64>,
    float: Option<f64>,
    boolean: Option<bool>,
    /// Days, or nanoseconds, since the epoch.
    day: Option<i64>,
    moment: Option<i128>,
}

const NONE: Sample =
    Sample { raw: "", shown: "(null)", utf8: None, int: None, float: None, boolean: None, day: None, moment: None };

/// A field of CSV, which is always text too.
const fn field(raw: &'static str) -> Sample {
    Sample { raw, shown: raw, utf8: Some(raw), ..NONE }
}

const FIELDS: &[Sample] = &[
    NONE,
    NONE,
    field("Adelie"),
    field("Gentoo"),
    field("ABC"),
    field("a,b"),
    field("say \"hi\""),
    field("\"\""),
    field("two\nlines"),
    field("re\r\nturn"),
    field("Zoë 企鹅"),
    field(" "),
    Sample { int: Some(5), float: Some(5.0), ..field("5") },
    Sample { int: Some(5), float: Some(5.0), ..field("+5") },
    Sample { int: Some(-7), float: Some(-7.0), ..field("-7") },
    Sample { int: Some(0), float: Some(0.0), ..field("-0") },
    Sample { int: Some(i64::MAX), float: Some(9.223_372_036_854_776e18), ..field("9223372036854775807") },
    Sample { float: Some(9.223_372_036_854_776e18), ..field("9223372036854775808") },
    Sample { float: Some(2.5), ..field("2.5") },
    Sample { float: Some(2000.0), ..field("2e3") },
    Sample { float: Some(f64::NAN), ..field("NaN") },
    Sample { float: Some(f64::NEG_INFINITY), ..field("-inf") },
    Sample { boolean: Some(true), ..field("true") },
    Sample { boolean: Some(false), ..field("False") },
    field("yes"),
    Sample { day: Some(11_016), ..field("2000-02-29") },
    Sample { day: Some(-1), ..field("1969-12-31") },
    field("2001-02-29"),
    Sample { moment: Some(1_500_000_000), ..field("1970-01-01T00:00:01.5Z") },
    Sample { moment: Some(1_500_000_000), ..field("1970-01-01 02:00:01.500+02:00") },
    field("1970-01-01T00:00Z"),
];

/// A JSON string.
const fn string(raw: &'static str, text: &'static str) -> Sample {
    Sample { raw, shown: text, utf8: Some(text), ..NONE }
}

/// Anything else in JSON.
const fn literal(raw: &'static str) -> Sample {
    Sample { raw, shown: raw, ..NONE }
}

const LITERALS: &[Sample] = &[
    Sample { raw: "null", ..NONE },
    // The key is left out.
    NONE,
    string("\"Adelie\"", "Adelie"),
    string("\"ABC\"", "ABC"),
    string("\"a\\n\\u00eb\"", "a\në"),
    string("\"\"", ""),
    string("\"5\"", "5"),
    Sample { int: Some(5), float: Some(5.0), ..literal("5") },
    Sample { int: Some(-7), float: Some(-7.0), ..literal("-7") },
    Sample { shown: "5", float: Some(5.0), ..literal("5.0") },
    Sample { float: Some(2.5), ..literal("2.5") },
    Sample { shown: "2000", float: Some(2000.0), ..literal("2e3") },
    Sample { float: Some(1.844_674_407_370_955_2e19), ..literal("18446744073709551615") },
    Sample { boolean: Some(true), ..literal("true") },
    Sample { boolean: Some(false), ..literal("false") },
    Sample { shown: "(array or object)", ..literal("[1, {\"a\": \"]\"}]") },
    Sample { shown: "(array or object)", ..literal("{\"a\": {}}") },
    Sample { day: Some(11_016), ..string("\"2000-02-29\"", "2000-02-29") },
    Sample { moment: Some(-1), ..string("\"1969-12-31T23:59:59.999999999Z\"", "1969-12-31T23:59:59.999999999Z") },
];

const KINDS: [&str; 6] = ["utf8", "int64", "float64", "boolean", "date", "timestamp"];
const NAMES: [&str; 5] = ["a", "b b", "c\"c", "d,d", "é"];

impl Sample {
    fn is_null(&self) -> bool {
        self.shown == "(null)"
    }

    /// What the value is to its column: something to compare, and something to tell it apart.
    fn key(&self, kind: &str) -> Option<(f64, String)> {
        // Everything that is compared here is exact in 53 bits, or far from its bound.
        match kind {
            "utf8" => self.utf8.map(|text| (0.0, text.to_owned())),
            "int64" => self.int.map(|value| (value as f64, value.to_string())),
            "float64" => self.float.map(|value| (value, (value + 0.0).to_string())),
            "boolean" => self.boolean.map(|value| (0.0, value.to_string())),
            "date" => self.day.map(|value| (value as f64, value.to_string())),
            _ => self.moment.map(|value| (value as f64, value.to_string())),
        }
    }
}

/// Bounds by type, in order, and what they are to [`Sample::key`].
fn bounds(kind: &str) -> Vec<(Value, f64)> {
    match kind {
        "int64" => vec![(json!(-7), -7.0), (json!(0), 0.0), (json!(5), 5.0), (json!(6), 6.0)],
        "float64" => vec![(json!(-7.5), -7.5), (json!(2.5), 2.5), (json!(5), 5.0), (json!(1e300), 1e300)],
        "date" => vec![(json!("1969-12-31"), -1.0), (json!("1970-01-01"), 0.0), (json!("2000-03-01"), 11_017.0)],
        "timestamp" => vec![(json!("1970-01-01T00:00:00Z"), 0.0), (json!("1970-01-01T00:00:01.5Z"), 1.5e9)],
        _ => Vec::new(),
    }
}

/// Values to allow, by type, and what they are to [`Sample::key`].
fn allowable(kind: &str) -> Vec<(Value, String)> {
    let texts = |values: &[&str]| values.iter().map(|text| (json!(text), (*text).to_owned())).collect();
    match kind {
        "utf8" => texts(&["Adelie", "ABC", "", "a,b", "two\nlines"]),
        "int64" => vec![(json!(5), "5".into()), (json!(-7), "-7".into()), (json!(0), "0".into())],
        "float64" => vec![(json!(2.5), "2.5".into()), (json!(5), "5".into()), (json!(0), "0".into())],
        "boolean" => vec![(json!(true), "true".into()), (json!(false), "false".into())],
        "date" => vec![(json!("2000-02-29"), "11016".into()), (json!("1969-12-31"), "-1".into())],
        _ => vec![(json!("1970-01-01T00:00:01.500Z"), "1500000000".into())],
    }
}

/// A pattern, and the same as code.
type Pattern = (&'static str, fn(&str) -> bool);

const PATTERNS: [Pattern; 3] = [
    ("^[A-Z]", |text| text.starts_with(|c: char| c.is_ascii_uppercase())),
    ("a", |text| text.contains('a')),
    ("^...$", |text| text.chars().count() == 3 && !text.contains('\n')),
];

/// What is demanded of a column.
#[derive(Debug, Clone)]
struct Demand {
    kind: &'static str,
    nullable: bool,
    min: Option<usize>,
    max: Option<usize>,
    allowed: Option<Vec<usize>>,
    pattern: Option<usize>,
    unique: bool,
}

impl Demand {
    fn pick<T: Clone>(all: &[T], index: Option<usize>) -> Option<T> {
        index.and_then(|index| (!all.is_empty()).then(|| all[index % all.len()].clone()))
    }

    fn min(&self) -> Option<(Value, f64)> {
        Self::pick(&bounds(self.kind), self.min)
    }

    fn max(&self) -> Option<(Value, f64)> {
        Self::pick(&bounds(self.kind), self.max)
    }

    fn allowed(&self) -> Option<Vec<(Value, String)>> {
        let all = allowable(self.kind);
        let indices = self.allowed.as_ref().filter(|indices| !indices.is_empty())?;
        indices.iter().map(|&index| Self::pick(&all, Some(index))).collect()
    }

    fn pattern(&self) -> Option<Pattern> {
        self.pattern.filter(|_| self.kind == "utf8").map(|index| PATTERNS[index])
    }

    fn params(&self) -> Value {
        let mut params = json!({ "type": self.kind, "nullable": self.nullable, "unique": self.unique });
        if let Some((min, _)) = self.min() {
            params["min"] = min;
        }
        if let Some((max, _)) = self.max() {
            params["max"] = max;
        }
        if let Some(allowed) = self.allowed() {
            params["in"] = allowed.into_iter().map(|(value, _)| value).collect();
        }
        if let Some((pattern, _)) = self.pattern() {
            params["pattern"] = json!(pattern);
        }
        params
    }

    /// The constraints that a value breaks, in the order in which they are told.
    fn broken_by(&self, sample: &Sample, before: &mut BTreeSet<String>) -> Vec<&'static str> {
        let mut broken = Vec::new();
        if sample.is_null() {
            if !self.nullable {
                broken.push("nullable");
            }
            return broken;
        }
        let Some((value, text)) = sample.key(self.kind) else { return vec!["type"] };
        if self.allowed().is_some_and(|allowed| allowed.iter().all(|(_, it)| *it != text)) {
            broken.push("in");
        }
        if self.min().is_some_and(|(_, min)| value.is_nan() || value < min) {
            broken.push("min");
        }
        if self.max().is_some_and(|(_, max)| value.is_nan() || value > max) {
            broken.push("max");
        }
        if self.pattern().is_some_and(|(_, matches)| !matches(&text)) {
            broken.push("pattern");
        }
        if self.unique && !before.insert(text) {
            broken.push("unique");
        }
        broken
    }
}

/// A table and what is demanded of it.
#[derive(Debug, Clone)]
struct Case {
    names: Vec<&'static str>,
    rows: Vec<Vec<Sample>>,
    demands: BTreeMap<&'static str, Demand>,
    strict: bool,
    ordered: Vec<&'static str>,
    min_rows: Option<usize>,
    max_rows: Option<usize>,
}

impl Case {
    fn params(&self) -> Value {
        let columns: serde_json::Map<_, _> =
            self.demands.iter().map(|(name, demand)| ((*name).to_owned(), demand.params())).collect();
        json!({
            "columns": columns, "strict": self.strict, "ordered": self.ordered,
            "rows": { "min": self.min_rows, "max": self.max_rows },
        })
    }

    /// What the checker should find: violations by name, and the first offending rows.
    fn expected(&self, is_json: bool) -> (BTreeMap<String, i64>, Vec<String>) {
        let mut violations: BTreeMap<String, i64> = BTreeMap::new();
        let mut offending = Vec::new();
        let mut before: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let mut names: Vec<_> = self.names.iter().copied().enumerate().collect();
        if is_json {
            names.sort_by_key(|(_, name)| *name);
        }
        for (number, row) in self.rows.iter().enumerate() {
            // A row without a key has a null there, also where no row has it.
            let absent = self.demands.keys().filter(|name| is_json && !self.names.contains(name));
            let mut cells: Vec<_> = names.iter().map(|&(index, name)| (name, row[index])).collect();
            cells.extend(absent.map(|name| (*name, NONE)));
            if is_json {
                cells.sort_by_key(|(name, _)| *name);
            }
            for (name, sample) in cells {
                let Some(demand) = self.demands.get(name) else { continue };
                for constraint in demand.broken_by(&sample, before.entry(name).or_default()) {
                    *violations.entry(format!("{name} {constraint}")).or_default() += 1;
                    offending.push(format!("{} {name} {} {constraint}", number + 1, sample.shown));
                }
            }
        }
        offending.truncate(20);
        let is_there = |name: &str| {
            let index = self.names.iter().position(|it| *it == name);
            match index {
                Some(index) if is_json => self.rows.iter().any(|row| !row[index].raw.is_empty()),
                found => found.is_some(),
            }
        };
        if !is_json || !self.rows.is_empty() {
            for name in self.demands.keys().filter(|name| !is_there(name)) {
                violations.insert(format!("{name} missing"), 1);
            }
        }
        let others = self.names.iter().enumerate().filter(|(_, name)| !self.demands.contains_key(*name));
        let others: usize = others
            .map(
                |(index, _)| {
                    if is_json { self.rows.iter().filter(|row| !row[index].raw.is_empty()).count() } else { 1 }
                },
            )
            .sum();
        if self.strict && others > 0 {
            violations.insert("strict".to_owned(), others as i64);
        }
        let places: Vec<_> =
            self.ordered.iter().filter_map(|name| self.names.iter().position(|it| it == name)).collect();
        if !is_json && !places.is_sorted() {
            violations.insert("ordered".to_owned(), 1);
        }
        if self.min_rows.is_some_and(|min| self.rows.len() < min) {
            violations.insert("rows min".to_owned(), 1);
        }
        if self.max_rows.is_some_and(|max| self.rows.len() > max) {
            violations.insert("rows max".to_owned(), 1);
        }
        (violations, offending)
    }

    fn csv(&self, crlf: bool, always: bool) -> Vec<u8> {
        let style = if always { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
        let terminator = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let mut writer = csv::WriterBuilder::new().quote_style(style).terminator(terminator).from_writer(Vec::new());
        writer.write_record(&self.names).unwrap();
        for row in &self.rows {
            writer.write_record(row.iter().map(|sample| sample.raw)).unwrap();
        }
        writer.into_inner().unwrap()
    }

    fn json(&self, crlf: bool) -> Vec<u8> {
        let mut text = String::new();
        for row in &self.rows {
            let cells = self.names.iter().zip(row).filter(|(_, sample)| !sample.raw.is_empty());
            let cells: Vec<_> = cells.map(|(name, sample)| format!("{}: {}", json!(name), sample.raw)).collect();
            text += &format!("{{{}}}{}", cells.join(", "), if crlf { "\r\n\n" } else { "\n" });
        }
        text.into_bytes()
    }

    fn holds(&self, is_json: bool, bytes: &[u8], chunk: u32) -> Result<(), TestCaseError> {
        let media_type = if is_json { NDJSON } else { CSV };
        // Contradictions are tested elsewhere.
        prop_assume!(rules(self.params()).is_ok());
        let verdict = check_with(&chunks(chunk), media_type, bytes, self.params());
        let (expected, rows) = self.expected(is_json);
        let found: BTreeMap<_, _> = violations(&verdict).into_iter().collect();
        prop_assert_eq!(&found, &expected, "{:?}", verdict);
        prop_assert_eq!(number(&verdict, "rows"), self.rows.len() as i64);
        prop_assert_eq!(offending(&verdict), rows);
        prop_assert_eq!(verdict.is_pass(), expected.is_empty());
        let start = format!("{} of ", expected.len());
        prop_assert!(verdict.is_pass() || verdict.description().is_some_and(|text| text.starts_with(&start)));
        Ok(())
    }
}

fn demand() -> impl Strategy<Value = Demand> {
    let maybe = |range| prop::option::weighted(0.3, range);
    let allowed = prop::option::weighted(0.2, prop::collection::vec(0..5_usize, 1..4));
    (select(&KINDS[..]), any::<bool>(), maybe(0..5_usize), maybe(0..5_usize), allowed, maybe(0..3_usize), any::<bool>())
        .prop_map(|(kind, nullable, min, max, allowed, pattern, unique)| Demand {
            kind,
            nullable,
            min,
            max,
            allowed,
            pattern,
            unique,
        })
}

fn case(samples: &'static [Sample]) -> impl Strategy<Value = Case> {
    let names = prop::sample::subsequence(NAMES.to_vec(), 1..=NAMES.len()).prop_shuffle();
    let table = names.prop_flat_map(move |names| {
        // Few samples a table, so that columns are often of one type.
        let few = prop::collection::vec(select(samples), 1..6);
        (Just(names), few).prop_flat_map(|(names, few)| {
            let row = prop::collection::vec(select(few), names.len());
            (Just(names), prop::collection::vec(row, 0..12))
        })
    });
    let demands = prop::collection::btree_map(select(&NAMES[..]), demand(), 0..5);
    let rows = (prop::option::of(0..5_usize), prop::option::of(5..12_usize));
    (table, demands, any::<bool>(), any::<u64>(), rows).prop_map(
        |((names, rows), demands, strict, order, (min_rows, max_rows))| {
            let mut ordered: Vec<_> = demands.keys().copied().collect();
            ordered.sort_by_key(|name| order.rotate_left(name.len() as u32 * 7 + u32::from(name.as_bytes()[0])));
            ordered.truncate((order % 4) as usize);
            Case { names, rows, demands, strict, ordered, min_rows, max_rows }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn csv_is_checked_as_the_reference_does(
        case in case(FIELDS), crlf in any::<bool>(), always in any::<bool>(), chunk in 1..50_u32,
    ) {
        case.holds(false, &case.csv(crlf, always), chunk)?;
    }

    #[test]
    fn ndjson_is_checked_as_the_reference_does(case in case(LITERALS), crlf in any::<bool>(), chunk in 1..50_u32) {
        case.holds(true, &case.json(crlf), chunk)?;
    }
}
