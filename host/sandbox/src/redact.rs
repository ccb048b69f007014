//! What a call says, without the bytes of the secrets that it was shown, or that were used for it.
//!
//! Hostile guests: whoever has seen a secret can say it in ways that nobody recognises. What is found here is what happens by
//! accident, and the first thing that somebody tries: the secret itself, its lines, and its hexadecimal and base64 forms,
//! wherever they stand in a text. A secret that is said in two pieces, or backwards, is not found. Outputs are not looked
//! at: an op that may see a secret may write it.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use opyard_model::error::{Failure, sanitize};
use opyard_model::id::Name;
use opyard_model::step::{Said, Saying, StepResult};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

/// Shortest secret, and shortest line of one, that is looked for: a shorter one stands in many a text by chance.
const SHORTEST: usize = 6;
/// Shortest line of a secret of several lines that is looked for by itself.
const SHORTEST_LINE: usize = 16;
/// Shortest beginning of a form that is looked for where a text was cut.
const SHORTEST_BEGINNING: usize = 6;
/// Most forms that are looked for in what one call says.
const MAX_FORMS: usize = 1_000;
/// What stands at the end of a text that was cut.
const CUT: char = '…';

/// The secrets of one call, in the forms that are looked for.
#[derive(Default)]
pub(crate) struct Redactor(Mutex<Vec<Form>>);

struct Form {
    text: Zeroizing<String>,
    instead: String,
}

impl Redactor {
    fn lock(&self) -> MutexGuard<'_, Vec<Form>> {
        // A form that was not added is not looked for; what is there is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call knows this secret from now on.
    pub(crate) fn learn(&self, name: &Name, bytes: &[u8]) {
        let instead = format!("[redacted:{name}]");
        let mut forms = self.lock();
        if bytes.len() < SHORTEST || forms.iter().any(|form| form.instead == instead && form.text.as_bytes() == bytes) {
            return;
        }
        for text in forms_of(bytes) {
            if text.len() >= SHORTEST && forms.len() < MAX_FORMS {
                forms.push(Form { text: Zeroizing::new(text), instead: instead.clone() });
            }
        }
        // The longest first: what stands inside of another goes with it.
        forms.sort_by_key(|form| std::cmp::Reverse(form.text.len()));
    }

    fn knows_none(&self) -> bool {
        self.lock().is_empty()
    }

    /// The text without secrets. None: it holds none.
    fn text(&self, text: &str) -> Option<String> {
        let mut clean: Option<String> = None;
        for form in self.lock().iter() {
            let now = clean.as_deref().unwrap_or(text);
            if now.contains(form.text.as_str()) {
                clean = Some(now.replace(form.text.as_str(), &form.instead));
            }
            // A text that was cut in the middle of a secret holds its beginning.
            let now = clean.as_deref().unwrap_or(text);
            let beginning =
                now.strip_suffix(CUT).and_then(|kept| Some((kept, ends_with_a_beginning(kept, &form.text)?)));
            if let Some((kept, length)) = beginning {
                clean = Some(format!("{}{}{CUT}", &kept[..kept.len() - length], form.instead));
            }
        }
        clean
    }

    /// What stands for a text that is a secret, and nothing beside it.
    fn whole(&self, text: &str) -> Option<String> {
        self.lock().iter().find(|form| *form.text == text).map(|form| form.instead.clone())
    }

    /// Anything that is written as JSON, without secrets in its texts and keys. None: it cannot be what it is without them.
    pub(crate) fn clean<T: Serialize + DeserializeOwned>(&self, said: T) -> Option<T> {
        if self.knows_none() {
            return Some(said);
        }
        let mut value = serde_json::to_value(&said).ok()?;
        if self.walk(&mut value) { serde_json::from_value(value).ok() } else { Some(said) }
    }

    /// Whether anything was found.
    fn walk(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => match self.text(text) {
                Some(clean) => {
                    *text = clean;
                    true
                }
                None => false,
            },
            Value::Array(items) => items.iter_mut().fold(false, |found, item| self.walk(item) | found),
            Value::Object(fields) => {
                let mut found = fields.iter_mut().fold(false, |found, (_, item)| self.walk(item) | found);
                if fields.keys().any(|key| self.text(key).is_some()) {
                    found = true;
                    let entries = std::mem::take(fields).into_iter();
                    *fields = entries.map(|(key, item)| (self.text(&key).unwrap_or(key), item)).collect();
                }
                found
            }
            // A secret of digits alone that is said as a number.
            Value::Number(number) => match self.whole(&number.to_string()) {
                Some(instead) => {
                    *value = Value::String(instead);
                    true
                }
                None => false,
            },
            Value::Null | Value::Bool(_) => false,
        }
    }

    /// What went wrong, without secrets.
    pub(crate) fn failure(&self, failure: Failure) -> Failure {
        let (code, allow_retries) = (failure.code, failure.allow_retries);
        self.clean(failure).unwrap_or_else(|| Failure {
            allow_retries,
            ..Failure::new(code, "what was said of it held a secret, and is left out")
        })
    }

    /// How a step ended, without secrets in what it says of that.
    pub(crate) fn result(&self, result: StepResult) -> StepResult {
        match result {
            StepResult::Failure(failure) => StepResult::Failure(self.failure(failure)),
            StepResult::Retry { description, delay } => {
                let description = self.text(&description).unwrap_or(description);
                StepResult::Retry { description, delay }
            }
            other => other,
        }
    }
}

/// Hands on what a call says, without secrets.
pub(crate) struct Redacting<'a> {
    pub(crate) said: &'a dyn Said,
    pub(crate) redactor: &'a Redactor,
}

impl Said for Redacting<'_> {
    fn say(&self, saying: Saying) {
        let clean = match saying {
            // These name values, which are outputs; what is attached to those was cleaned when it was.
            Saying::ItemCommitted(_) | Saying::Handled { .. } => Some(saying),
            other => self.redactor.clean(other),
        };
        if let Some(clean) = clean {
            self.said.say(clean);
        }
    }

    fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        self.said.poll_room(context)
    }
}

/// How many bytes at the end of `kept` are a beginning of `form`, if that is enough to tell.
fn ends_with_a_beginning(kept: &str, form: &str) -> Option<usize> {
    let most = form.len().min(kept.len());
    let is_end = |length: &usize| form.is_char_boundary(*length) && kept.ends_with(&form[..*length]);
    (SHORTEST_BEGINNING..=most).rev().find(is_end)
}

/// The texts in which a secret is looked for.
fn forms_of(secret: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    if let Ok(text) = std::str::from_utf8(secret) {
        forms.push(text.to_owned());
        // As texts of guests are recorded, and as they stand inside of JSON.
        forms.push(sanitize(text, usize::MAX));
        let json = Value::String(text.to_owned()).to_string();
        forms.push(json[1..json.len() - 1].to_owned());
        let lines = text.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE);
        forms.extend(lines.map(str::to_owned));
    }
    let mut hex = String::with_capacity(secret.len() * 2);
    for byte in secret {
        let _ = write!(hex, "{byte:02x}");
    }
    forms.push(hex.to_uppercase());
    forms.push(hex);
    for alphabet in ALPHABETS {
        forms.extend((0..3).map(|before| base64_inside(secret, before, alphabet)));
    }
    forms.sort();
    forms.dedup();
    forms
}

const ALPHABETS: [&[u8; 64]; 2] = [
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
];

/// The characters of base64 that depend on nothing but `secret`, when `before` bytes (of each three) stand before it.
fn base64_inside(secret: &[u8], before: usize, alphabet: &[u8; 64]) -> String {
    let bit = |at: usize| secret.get(at / 8).map_or(0, |byte| (byte >> (7 - at % 8)) & 1);
    // The first bit of the secret that begins a character.
    let first = (6 - before * 8 % 6) % 6;
    let characters = (secret.len() * 8).saturating_sub(first) / 6;
    let character = |nth: usize| {
        let index = (0..6).fold(0, |index, at| index << 1 | bit(first + nth * 6 + at));
        char::from(alphabet[usize::from(index)])
    };
    (0..characters).map(character).collect()
}

#[cfg(test)]
mod tests {
    use opyard_model::error::Code;
    use proptest::prelude::*;

    use super::*;

    fn knowing(secrets: &[(&str, &[u8])]) -> Redactor {
        let redactor = Redactor::default();
        for (name, secret) in secrets {
            redactor.learn(&Name::new(name).unwrap(), secret);
        }
        redactor
    }

    fn clean(redactor: &Redactor, text: &str) -> String {
        redactor.text(text).unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn a_secret_is_found_in_each_of_its_forms() {
        let redactor = knowing(&[("token", b"canary-3243f6a8"), ("pin", b"12345"), ("number", b"1234567")]);
        let said = |text: &str| clean(&redactor, text);
        assert_eq!(said("it is canary-3243f6a8!"), "it is [redacted:token]!");
        assert_eq!(said("63616e6172792d3332343366366138"), "[redacted:token]");
        // "me:" before it, and "x" behind.
        assert_eq!(said("Basic bWU6Y2FuYXJ5LTMyNDNmNmE4eA=="), "Basic bWU6[redacted:token]eA==");
        assert_eq!(said("12345 is too short to tell"), "12345 is too short to tell");
        assert_eq!(said("a text that was cut: canary-32…"), "a text that was cut: [redacted:token]…");
        let failure = Failure::new(Code::OpFailed, "no canary-3243f6a8");
        assert_eq!(redactor.failure(failure).description, "no [redacted:token]");
        let mut value = serde_json::json!({ "canary-3243f6a8": [1_234_567, { "a": "canary-3243f6a8" }] });
        assert!(redactor.walk(&mut value));
        assert_eq!(
            value,
            serde_json::json!({ "[redacted:token]": ["[redacted:number]", { "a": "[redacted:token]" }] })
        );
    }

    #[test]
    fn lines_of_a_secret_are_found_one_by_one() {
        let redactor = knowing(&[("key", b"-----BEGIN-----\nMC4CAQAwBQYDK2VwBCIEIA\nshort\n")]);
        assert_eq!(clean(&redactor, "x MC4CAQAwBQYDK2VwBCIEIA y short"), "x [redacted:key] y short");
    }

    proptest! {
        /// Wherever it stands, in whichever form, nothing of a form is left.
        #[test]
        fn nothing_of_a_secret_is_left(
            secret in proptest::collection::vec(any::<u8>(), 8..60),
            before in proptest::collection::vec(any::<u8>(), 0..7),
            after in proptest::collection::vec(any::<u8>(), 0..7),
        ) {
            let redactor = knowing(&[("s", &secret)]);
            let whole: Vec<u8> = before.iter().chain(&secret).chain(&after).copied().collect();
            for (nth, alphabet) in ALPHABETS.iter().enumerate() {
                let encoded = base64_inside(&whole, 0, alphabet);
                let told = clean(&redactor, &encoded);
                prop_assert!(told.contains("[redacted:s]"), "{} {encoded} {told}", nth);
            }
            let hex: String = whole.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert!(clean(&redactor, &hex).contains("[redacted:s]"));
            if let Ok(text) = std::str::from_utf8(&secret) {
                let told = clean(&redactor, &format!("<{text}>"));
                prop_assert!(!told.contains(text));
            }
        }
    }
}
