//! What the host checks of the bytes that a guest writes: UTF-8, and JSON of a bounded depth, piece by piece, holding
//! nothing of the value.

use opyard_model::json::MAX_DEPTH;
use opyard_model::plan::BaseType;

/// What is wrong with a value, and where it starts to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub(crate) struct Wrong {
    what: &'static str,
    at: u64,
}

/// Checks bytes as they come.
#[derive(Debug)]
pub(crate) enum Check {
    /// Anything is fine.
    Any,
    /// UTF-8.
    Text(Utf8),
    /// UTF-8 and JSON.
    Json(Utf8, Json),
}

impl Check {
    /// What values of `base`, laid out as `media_type`, have to be.
    pub(crate) fn of(base: BaseType, media_type: &str) -> Self {
        match base {
            BaseType::Bytes | BaseType::Table | BaseType::Nothing => Self::Any,
            BaseType::Text => Self::Text(Utf8::default()),
            BaseType::Json if media_type == "application/x-ndjson" => Self::Json(Utf8::default(), Json::lines()),
            BaseType::Json => Self::Json(Utf8::default(), Json::document()),
        }
    }

    /// Looks at the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        match self {
            Self::Any => Ok(()),
            Self::Text(utf8) => utf8.push(bytes),
            Self::Json(utf8, json) => {
                utf8.push(bytes)?;
                json.push(bytes)
            }
        }
    }

    /// There are no more bytes.
    pub(crate) fn finish(&self) -> Result<(), Wrong> {
        match self {
            Self::Any => Ok(()),
            Self::Text(utf8) => utf8.finish(),
            Self::Json(utf8, json) => {
                utf8.finish()?;
                json.finish()
            }
        }
    }
}

/// UTF-8, across pieces.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    at: u64,
    /// The start of a character whose end has not come yet: at most 3 bytes.
    pending: Vec<u8>,
}

impl Utf8 {
    fn push(&mut self, mut bytes: &[u8]) -> Result<(), Wrong> {
        while !self.pending.is_empty() {
            let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
            self.pending.push(*first);
            bytes = rest;
            match std::str::from_utf8(&self.pending) {
                Ok(_) => {
                    self.at += self.pending.len() as u64;
                    self.pending.clear();
                }
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(self.wrong(0)),
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => self.at += bytes.len() as u64,
            Err(error) if error.error_len().is_none() => {
                self.at += error.valid_up_to() as u64;
                self.pending.extend_from_slice(&bytes[error.valid_up_to()..]);
            }
            Err(error) => return Err(self.wrong(error.valid_up_to())),
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), Wrong> {
        if self.pending.is_empty() { Ok(()) } else { Err(self.wrong(0)) }
    }

    fn wrong(&self, offset: usize) -> Wrong {
        Wrong { what: "not UTF-8", at: self.at + offset as u64 }
    }
}

/// A push-down automaton for RFC 8259, with a stack of [`MAX_DEPTH`] bits.
#[derive(Debug)]
pub(crate) struct Json {
    at: u64,
    state: State,
    depth: usize,
    /// One bit per level, the innermost in bit 0: set in an object.
    objects: u64,
    /// Several documents, each on lines of its own.
    many: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A value has to come.
    Value,
    /// A value, or the end of the array that has just begun.
    FirstElement,
    /// A key, or the end of the object that has just begun.
    FirstKey,
    /// A key has to come.
    Key,
    /// A colon has to come.
    Colon,
    /// After a value: a comma, an end, or nothing at the top.
    After,
    /// In a string; `key` when it is one.
    Text { key: bool },
    /// After a backslash.
    Escape { key: bool },
    /// In `\uXXXX`, with so many digits to come.
    Hex { key: bool, left: u8 },
    /// In `true`, `false` or `null`, with the rest to come.
    Literal(&'static [u8]),
    /// In a number.
    Number(Number),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    /// After '-'.
    Minus,
    /// After a leading zero.
    Zero,
    /// In the whole part.
    Whole,
    /// After '.'.
    Point,
    /// In the fraction.
    Fraction,
    /// After 'e'.
    E,
    /// After the sign of the exponent.
    Sign,
    /// In the exponent.
    Exponent,
}

impl Number {
    const fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::Exponent)
    }

    const fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Minus, b'0') => Some(Self::Zero),
            (Self::Minus, b'1'..=b'9') | (Self::Whole, b'0'..=b'9') => Some(Self::Whole),
            (Self::Zero | Self::Whole, b'.') => Some(Self::Point),
            (Self::Point | Self::Fraction, b'0'..=b'9') => Some(Self::Fraction),
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Some(Self::E),
            (Self::E, b'+' | b'-') => Some(Self::Sign),
            (Self::E | Self::Sign | Self::Exponent, b'0'..=b'9') => Some(Self::Exponent),
            _ => None,
        }
    }
}

impl Json {
    fn document() -> Self {
        Self { at: 0, state: State::Value, depth: 0, objects: 0, many: false }
    }

    fn lines() -> Self {
        Self { many: true, ..Self::document() }
    }

    fn wrong(&self, what: &'static str) -> Wrong {
        Wrong { what, at: self.at }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        let mut rest = bytes;
        while let Some(byte) = rest.first() {
            // The inside of strings is most of what there is.
            if let State::Text { .. } = self.state {
                let plain = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len());
                if plain > 0 {
                    self.at += plain as u64;
                    rest = &rest[plain..];
                    continue;
                }
            }
            self.step(*byte)?;
            self.at += 1;
            rest = &rest[1..];
        }
        Ok(())
    }

    fn step(&mut self, byte: u8) -> Result<(), Wrong> {
        self.state = match self.state {
            State::Number(number) => match number.next(byte) {
                Some(next) => State::Number(next),
                None if number.may_end() => {
                    self.state = State::After;
                    return self.step(byte);
                }
                None => return Err(self.wrong("not JSON: a number breaks off")),
            },
            State::Literal([first, rest @ ..]) if *first == byte => {
                if rest.is_empty() {
                    State::After
                } else {
                    State::Literal(rest)
                }
            }
            State::Literal(_) => return Err(self.wrong("not JSON: an unknown word")),
            State::Text { key } => match byte {
                b'"' if key => State::Colon,
                b'"' => State::After,
                b'\\' => State::Escape { key },
                0..=0x1f => return Err(self.wrong("not JSON: a control character in a string")),
                _ => State::Text { key },
            },
            State::Escape { key } => match byte {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => State::Text { key },
                b'u' => State::Hex { key, left: 4 },
                _ => return Err(self.wrong("not JSON: an unknown escape")),
            },
            State::Hex { key, left } => match (byte.is_ascii_hexdigit(), left) {
                (true, 1) => State::Text { key },
                (true, left) => State::Hex { key, left: left - 1 },
                (false, _) => return Err(self.wrong("not JSON: an escape without four digits")),
            },
            state if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') => {
                if byte == b'\n' && self.many && self.depth == 0 && state == State::After {
                    State::Value
                } else {
                    state
                }
            }
            State::Value => self.value(byte)?,
            State::FirstElement if byte == b']' => self.close(false)?,
            State::FirstElement => self.value(byte)?,
            State::FirstKey if byte == b'}' => self.close(true)?,
            State::FirstKey | State::Key if byte == b'"' => State::Text { key: true },
            State::FirstKey | State::Key => return Err(self.wrong("not JSON: a key was expected")),
            State::Colon if byte == b':' => State::Value,
            State::Colon => return Err(self.wrong("not JSON: a colon was expected")),
            State::After => match byte {
                b',' if self.depth > 0 && self.in_object() => State::Key,
                b',' if self.depth > 0 => State::Value,
                b']' => self.close(false)?,
                b'}' => self.close(true)?,
                _ => return Err(self.wrong("not JSON: something after a value")),
            },
        };
        Ok(())
    }

    const fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    fn value(&mut self, byte: u8) -> Result<State, Wrong> {
        Ok(match byte {
            b'"' => State::Text { key: false },
            b'{' => self.open(true)?,
            b'[' => self.open(false)?,
            b't' => State::Literal(b"rue"),
            b'f' => State::Literal(b"alse"),
            b'n' => State::Literal(b"ull"),
            b'-' => State::Number(Number::Minus),
            b'0' => State::Number(Number::Zero),
            b'1'..=b'9' => State::Number(Number::Whole),
            _ => return Err(self.wrong("not JSON: a value was expected")),
        })
    }

    fn open(&mut self, object: bool) -> Result<State, Wrong> {
        if self.depth == MAX_DEPTH {
            return Err(self.wrong("JSON nested more than 64 deep"));
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(object);
        Ok(if object { State::FirstKey } else { State::FirstElement })
    }

    fn close(&mut self, object: bool) -> Result<State, Wrong> {
        if self.depth == 0 || self.in_object() != object {
            return Err(self.wrong("not JSON: a bracket that closes nothing"));
        }
        self.depth -= 1;
        self.objects >>= 1;
        Ok(State::After)
    }

    fn finish(&self) -> Result<(), Wrong> {
        let ended = match self.state {
            State::After => self.depth == 0,
            State::Number(number) => self.depth == 0 && number.may_end(),
            State::Value => self.many && self.depth == 0,
            _ => false,
        };
        if ended { Ok(()) } else { Err(self.wrong("not JSON: it ends too early")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(base: BaseType, media_type: &str, pieces: &[&[u8]]) -> Result<(), Wrong> {
        let mut check = Check::of(base, media_type);
        pieces.iter().try_for_each(|piece| check.push(piece))?;
        check.finish()
    }

    fn json(text: &str) -> Result<(), Wrong> {
        check(BaseType::Json, "application/json", &[text.as_bytes()])
    }

    #[test]
    fn depth_is_bounded_without_holding_the_value() {
        assert_eq!(json(&format!("{}{}", "[".repeat(64), "]".repeat(64))), Ok(()));
        assert_eq!(json(&"[".repeat(1_000_000)), Err(Wrong { what: "JSON nested more than 64 deep", at: 64 }));
        let deep = "{\"a\":".repeat(65);
        assert!(json(&deep).is_err());
    }

    #[test]
    fn lines_of_json_are_documents_each() {
        let lines = |text: &str| check(BaseType::Json, "application/x-ndjson", &[text.as_bytes()]);
        assert_eq!(lines("{\"a\":1}\n[2]\n\n"), Ok(()));
        assert_eq!(lines(""), Ok(()));
        assert!(lines("{} {}").is_err());
        assert!(lines("{\n").is_err());
    }

    proptest! {
        /// What this accepts is what a parser of the whole accepts, however it is cut into pieces. (That parser also
        /// refuses lone surrogates and numbers beyond f64, which are JSON.)
        #[test]
        fn agrees_with_a_parser_of_the_whole(
            text in r#"[\[\]{}:,"ab\\u0019eE+.\- \ntrufalsn\x00é€😀-]{0,24}"#,
            cut in any::<prop::sample::Index>(),
        ) {
            let at = cut.index(text.len() + 1);
            let pieces = [&text.as_bytes()[..at], &text.as_bytes()[at..]];
            let ours = check(BaseType::Json, "application/json", &pieces);
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text);
            if !text.contains("\\u") && !text.contains(['e', 'E']) {
                prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours, theirs);
            }
        }

        /// Every JSON value is accepted, in any pieces.
        #[test]
        fn accepts_json(value in any_json(), cut in any::<prop::sample::Index>()) {
            let text = serde_json::to_string_pretty(&value).unwrap();
            let at = cut.index(text.len() + 1);
            prop_assert_eq!(
                check(BaseType::Json, "application/json", &[&text.as_bytes()[..at], &text.as_bytes()[at..]]),
                Ok(())
            );
        }

        /// As does the check of UTF-8.
        #[test]
        fn utf8_agrees_with_std(bytes in prop::collection::vec(any::<u8>(), 0..12), text in "\\PC{0,6}", cut in any::<prop::sample::Index>()) {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                let at = cut.index(bytes.len() + 1);
                let ours = check(BaseType::Text, "text/plain", &[&bytes[..at], &bytes[at..]]);
                prop_assert_eq!(ours.is_ok(), std::str::from_utf8(bytes).is_ok());
            }
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "\\PC{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(6, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::vec(("\\PC{0,4}", inner), 0..4)
                    .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
            ]
        })
    }
}
