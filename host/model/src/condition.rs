//! Conditions on a run: the small expressions of `cancel_run_when`.
//!
//! ```text
//! condition  = and { "or" and }
//! and        = not { "and" not }
//! not        = "not" not | "(" condition ")" | compare
//! compare    = "failed_steps" op number | "failed" "(" text ")" | "tag" "(" text ")" [ ("==" | "!=") text ]
//! op         = "==" | "!=" | "<" | "<=" | ">" | ">="
//! ```
//!
//! What is parsed is of the right kinds: there is no condition that cannot be told to hold or not.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::StepPath;

/// Longest text of a condition, in bytes.
pub const MAX_TEXT: usize = 4 << 10;
/// Deepest nesting of `not` and parentheses.
pub const MAX_DEPTH: usize = 32;

/// How a count is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

impl Comparison {
    const ALL: [(&'static str, Self); 6] = [
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("<", Self::Less),
        (">", Self::More),
    ];

    const fn holds(self, left: u32, right: u32) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::More => left > right,
            Self::AtLeast => left >= right,
        }
    }
}

/// A condition on a run. Plain data, stored with the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// One of them holds.
    Any(Vec<Condition>),
    /// All of them hold.
    All(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// So many steps have failed.
    FailedSteps {
        /// How they are compared.
        is: Comparison,
        /// With this.
        count: u32,
    },
    /// This step, or an item of it, has failed.
    Failed {
        /// The step.
        step: StepPath,
    },
    /// The run has this tag.
    Tag {
        /// Its key.
        key: String,
        /// Its value, if it matters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
}

/// What a condition asks of a run.
pub trait Facts {
    /// How many steps have failed for good.
    fn failed_steps(&self) -> u32;
    /// The step, or an item of it, has failed for good.
    fn has_failed(&self, step: &StepPath) -> bool;
    /// The value of a tag of the run.
    fn tag(&self, key: &str) -> Option<&str>;
}

/// Why a text is no condition, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{problem}")]
pub struct ConditionError {
    /// What is wrong, in a few words.
    pub problem: String,
    /// The bytes of the text where it is.
    pub at: Range<usize>,
}

/// A condition, and the steps that it names with the bytes of the text where it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The condition.
    pub condition: Condition,
    /// The steps that it names.
    pub steps: Vec<(StepPath, Range<usize>)>,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// When it is no condition, is longer than [`MAX_TEXT`] or nested deeper than [`MAX_DEPTH`].
    pub fn parse(text: &str) -> Result<Parsed, ConditionError> {
        if text.len() > MAX_TEXT {
            let problem = format!("a condition has at most {MAX_TEXT} bytes");
            return Err(ConditionError { problem, at: 0..0 });
        }
        let tokens = tokens(text)?;
        let mut parser = Parser { text, tokens, next: 0, depth: 0, steps: Vec::new() };
        let condition = parser.any()?;
        match parser.peek() {
            None => Ok(Parsed { condition, steps: parser.steps }),
            Some(_) => Err(parser.expected("`and`, `or` or the end")),
        }
    }

    /// Whether it holds. Costs what it is long.
    #[must_use]
    pub fn holds(&self, facts: &impl Facts) -> bool {
        match self {
            Self::Any(some) => some.iter().any(|one| one.holds(facts)),
            Self::All(all) => all.iter().all(|one| one.holds(facts)),
            Self::Not(not) => !not.holds(facts),
            Self::FailedSteps { is, count } => is.holds(facts.failed_steps(), *count),
            Self::Failed { step } => facts.has_failed(step),
            Self::Tag { key, value } => {
                facts.tag(key).is_some_and(|found| value.as_deref().is_none_or(|value| value == found))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Number,
    /// Quoted.
    Text,
    Compare(Comparison),
    Open,
    Close,
}

#[derive(Debug, Clone)]
struct Token {
    kind: Kind,
    at: Range<usize>,
}

fn tokens(text: &str) -> Result<Vec<Token>, ConditionError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let run = |of: fn(char) -> bool| rest.find(|c| !of(c)).unwrap_or(rest.len());
        let (kind, length) = match c {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '(' => (Kind::Open, 1),
            ')' => (Kind::Close, 1),
            '\'' | '"' => match rest[1..].find(c) {
                Some(end) => (Kind::Text, end + 2),
                None => return Err(ConditionError { problem: format!("a {c} is missing"), at: at..text.len() }),
            },
            '0'..='9' => (Kind::Number, run(|c| c.is_ascii_alphanumeric() || c == '.')),
            c if c.is_alphabetic() || c == '_' => (Kind::Word, run(|c| c.is_alphanumeric() || c == '_')),
            c => match Comparison::ALL.iter().find(|(sign, _)| rest.starts_with(sign)) {
                Some((sign, comparison)) => (Kind::Compare(*comparison), sign.len()),
                None => {
                    let problem = format!("`{}` means nothing here", c.escape_debug());
                    return Err(ConditionError { problem, at: at..at + c.len_utf8() });
                }
            },
        };
        tokens.push(Token { kind, at: at..at + length });
        at += length;
    }
    Ok(tokens)
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    steps: Vec<(StepPath, Range<usize>)>,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn is_word(&self, word: &str) -> bool {
        self.peek().is_some_and(|token| token.kind == Kind::Word && &self.text[token.at.clone()] == word)
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        self.next += usize::from(is);
        is
    }

    fn expected(&self, what: &str) -> ConditionError {
        let end = self.text.len();
        let at = self.peek().map_or(end.saturating_sub(1)..end, |token| token.at.clone());
        ConditionError { problem: format!("expected {what}"), at }
    }

    fn eat(&mut self, kind: Kind, what: &str) -> Result<Range<usize>, ConditionError> {
        match self.peek() {
            Some(token) if token.kind == kind => {
                let at = token.at.clone();
                self.next += 1;
                Ok(at)
            }
            _ => Err(self.expected(what)),
        }
    }

    fn any(&mut self) -> Result<Condition, ConditionError> {
        let mut some = vec![self.all()?];
        while self.eat_word("or") {
            some.push(self.all()?);
        }
        Ok(if some.len() == 1 { some.remove(0) } else { Condition::Any(some) })
    }

    fn all(&mut self) -> Result<Condition, ConditionError> {
        let mut all = vec![self.not()?];
        while self.eat_word("and") {
            all.push(self.not()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::All(all) })
    }

    fn not(&mut self) -> Result<Condition, ConditionError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let problem = format!("a condition is nested at most {MAX_DEPTH} deep");
            return Err(ConditionError { problem, at: self.expected("").at });
        }
        let condition = if self.eat_word("not") {
            Condition::Not(Box::new(self.not()?))
        } else if self.peek().is_some_and(|token| token.kind == Kind::Open) {
            self.next += 1;
            let inner = self.any()?;
            self.eat(Kind::Close, "`)`")?;
            inner
        } else {
            self.compare()?
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn compare(&mut self) -> Result<Condition, ConditionError> {
        if self.eat_word("failed_steps") {
            let Some(Token { kind: Kind::Compare(is), .. }) = self.peek().cloned() else {
                return Err(self.expected("`>=`, `>`, `==`, `!=`, `<` or `<=`"));
            };
            self.next += 1;
            let at = self.eat(Kind::Number, "a whole number")?;
            let count = self.text[at.clone()].parse();
            let count = count.map_err(|_| ConditionError { problem: "expected a whole number".into(), at })?;
            return Ok(Condition::FailedSteps { is, count });
        }
        if self.eat_word("failed") {
            let (name, at) = self.argument("a step, as in `failed('load')`")?;
            let step = StepPath::new(name);
            let step = step.map_err(|_| ConditionError { problem: "this is no step".into(), at: at.clone() })?;
            self.steps.push((step.clone(), at));
            return Ok(Condition::Failed { step });
        }
        if self.eat_word("tag") {
            let key = self.argument("the key of a tag, as in `tag('team')`")?.0.to_owned();
            let equal = match self.peek().map(|token| token.kind) {
                Some(Kind::Compare(Comparison::Equal)) => true,
                Some(Kind::Compare(Comparison::NotEqual)) => false,
                Some(Kind::Compare(_)) => return Err(self.expected("`==` or `!=`: the value of a tag is text")),
                _ => return Ok(Condition::Tag { key, value: None }),
            };
            self.next += 1;
            let (value, _) = self.quoted("a text, as in `tag('team') == 'ecology'`")?;
            let is = Condition::Tag { key, value: Some(value.to_owned()) };
            return Ok(if equal { is } else { Condition::Not(Box::new(is)) });
        }
        Err(self.expected("`failed_steps`, `failed('step')`, `tag('key')`, `not` or `(`"))
    }

    fn argument(&mut self, what: &str) -> Result<(&'t str, Range<usize>), ConditionError> {
        self.eat(Kind::Open, "`(`")?;
        let text = self.quoted(what)?;
        self.eat(Kind::Close, "`)`")?;
        Ok(text)
    }

    /// What stands between quotes, and where.
    fn quoted(&mut self, what: &str) -> Result<(&'t str, Range<usize>), ConditionError> {
        let at = self.eat(Kind::Text, what)?;
        let inner = at.start + 1..at.end - 1;
        Ok((&self.text[inner.clone()], inner))
    }
}

impl fmt::Display for Condition {
    /// As it could be written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, all: &[Self], word: &str| {
            for (nth, one) in all.iter().enumerate() {
                if nth > 0 {
                    write!(f, " {word} ")?;
                }
                match one {
                    Self::Any(_) | Self::All(_) => write!(f, "({one})")?,
                    _ => write!(f, "{one}")?,
                }
            }
            Ok(())
        };
        let quote = |text: &str| if text.contains('\'') { format!("\"{text}\"") } else { format!("'{text}'") };
        match self {
            Self::Any(some) => list(f, some, "or"),
            Self::All(all) => list(f, all, "and"),
            Self::Not(not) => match &**not {
                Self::Any(_) | Self::All(_) => write!(f, "not ({not})"),
                _ => write!(f, "not {not}"),
            },
            Self::FailedSteps { is, count } => {
                let sign = Comparison::ALL.iter().find(|(_, one)| one == is).map_or("==", |(sign, _)| sign);
                write!(f, "failed_steps {sign} {count}")
            }
            Self::Failed { step } => write!(f, "failed({})", quote(step.as_str())),
            Self::Tag { key, value: None } => write!(f, "tag({})", quote(key)),
            Self::Tag { key, value: Some(value) } => write!(f, "tag({}) == {}", quote(key), quote(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn conditions() -> impl Strategy<Value = Condition> {
        let name = "[a-c]{1,2}(\\.[a-c])?";
        let leaf = prop_oneof![
            (0usize..6, 0u32..5).prop_map(|(is, count)| Condition::FailedSteps { is: Comparison::ALL[is].1, count }),
            name.prop_map(|step| Condition::Failed { step: StepPath::new(&step).expect("a path") }),
            ("[ -&(-~]{0,5}", proptest::option::of("[ -&(-~]{0,5}")).prop_map(|(key, value)| Condition::Tag {
                key: key.replace('"', ""),
                value: value.map(|one| one.replace('"', ""))
            }),
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 2..4).prop_map(Condition::Any),
                proptest::collection::vec(inner.clone(), 2..4).prop_map(Condition::All),
                inner.prop_map(|one| Condition::Not(Box::new(one))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(condition in conditions()) {
            let text = condition.to_string();
            let parsed = Condition::parse(&text);
            prop_assert_eq!(parsed.map(|parsed| parsed.condition), Ok(condition), "{}", text);
        }

        #[test]
        fn any_text_is_read_or_refused_at_a_place(text in "[a-z_'\"() <>=!0-9é]{0,60}|(not |failed\\('a'\\)|and |or |\\(|\\)|failed_steps|>=|1| ){0,40}") {
            if let Err(error) = Condition::parse(&text) {
                prop_assert!(text.get(error.at.clone()).is_some(), "{:?} of {:?}", error, text);
            }
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("{}failed_steps > 1", "not ".repeat(100_000 / 4));
        assert!(Condition::parse(&deep).is_err());
        let deep = format!("{}failed_steps > 1", "not ".repeat(MAX_DEPTH));
        assert_eq!(Condition::parse(&deep).expect_err("too deep").problem, "a condition is nested at most 32 deep");
        let wide = vec!["(failed_steps > 1)"; 150].join(" or ");
        assert!(Condition::parse(&wide).is_ok());
    }
}
