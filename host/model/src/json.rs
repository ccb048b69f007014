//! JSON as guests and files may write it: bounded, and in one canonical form.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use thiserror::Error;

/// Deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 64;
/// Largest magnitude of an integer: what every guest language can hold, 2^53.
pub const MAX_INTEGER: u64 = 1 << 53;

/// A JSON text or value is outside of what is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JsonError {
    /// Not JSON at all (RFC 8259).
    #[error("not JSON: {0}")]
    Syntax(String),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// An integer that JavaScript could not hold.
    #[error("the integer {0} is beyond 2^53")]
    IntegerTooLarge(String),
}

/// A JSON text in the canonical form of RFC 8785: sorted keys (by UTF-16 code units), no white space, shortest numbers.
///
/// Two values that are equal have the same text, so the text can be hashed, and it is the very text that a guest is given.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CanonicalJson(Arc<str>);

impl CanonicalJson {
    /// Writes `value` in canonical form.
    ///
    /// # Errors
    /// When `value` is nested too deep or holds an integer beyond 2^53.
    pub fn new(value: &Value) -> Result<Self, JsonError> {
        let mut out = String::new();
        write_canonical(value, 0, &mut out)?;
        Ok(Self(out.into()))
    }

    /// Parses any JSON text and brings it into canonical form.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when `text` is not JSON.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        Self::new(&parse(text)?)
    }

    /// The empty object, `{}`.
    #[must_use]
    pub fn empty_object() -> Self {
        Self("{}".into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value.
    #[must_use]
    pub fn to_value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or(Value::Null)
    }
}

impl fmt::Display for CanonicalJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CanonicalJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for CanonicalJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CanonicalJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Parses a JSON text, checking the depth before anything is built.
///
/// # Errors
/// When `text` is not JSON or nested deeper than [`MAX_DEPTH`].
pub fn parse(text: &str) -> Result<Value, JsonError> {
    check_depth(text)?;
    serde_json::from_str(text).map_err(|error| JsonError::Syntax(error.to_string()))
}

/// Refuses a text that nests deeper than [`MAX_DEPTH`]. Guest-controlled: one pass, no recursion, nothing allocated.
fn check_depth(text: &str) -> Result<(), JsonError> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(JsonError::TooDeep);
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

fn write_canonical(value: &Value, depth: usize, out: &mut String) -> Result<(), JsonError> {
    if depth > MAX_DEPTH {
        return Err(JsonError::TooDeep);
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(number, out)?,
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, depth + 1, out)?;
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_canonical(item, depth + 1, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn write_string(text: &str, out: &mut String) {
    use fmt::Write as _;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{9}' => out.push_str("\\t"),
            '\u{a}' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\u{d}' => out.push_str("\\r"),
            '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Writes a number as ECMAScript's `Number::toString` does, which is what RFC 8785 asks for.
fn write_number(number: &serde_json::Number, out: &mut String) -> Result<(), JsonError> {
    use fmt::Write as _;
    if number.as_i64().is_some_and(|n| n.unsigned_abs() > MAX_INTEGER)
        || number.as_u64().is_some_and(|n| n > MAX_INTEGER)
    {
        return Err(JsonError::IntegerTooLarge(number.to_string()));
    }
    if number.is_i64() || number.is_u64() {
        let _ = write!(out, "{number}");
        return Ok(());
    }
    let value = number.as_f64().unwrap_or(0.0);
    if value == 0.0 {
        out.push('0');
        return Ok(());
    }
    // Rust's `{:e}` gives the shortest digits that read back the same, as ECMAScript does; only the layout differs.
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let point = exponent + 1;
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    let split = |n: i32| digits.split_at(usize::try_from(n).unwrap_or(0));
    out.push_str(sign);
    if count <= point && point <= 21 {
        out.push_str(&digits);
        out.push_str(&zeros(point - count));
    } else if 0 < point && point <= 21 {
        let (whole, fraction) = split(point);
        let _ = write!(out, "{whole}.{fraction}");
    } else if -6 < point && point <= 0 {
        let _ = write!(out, "0.{}{digits}", zeros(-point));
    } else {
        let (first, rest) = split(1);
        let dot = if rest.is_empty() { "" } else { "." };
        let _ = write!(out, "{first}{dot}{rest}e{}{}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The number samples of RFC 8785, appendix B, and its example of section 3.2.4.
    #[test]
    fn canonical_form_follows_rfc_8785() {
        for (value, text) in [
            (json!(0.0), "0"),
            (json!(-0.0), "0"),
            (json!(5e-324), "5e-324"),
            (json!(1.797_693_134_862_315_7e308), "1.7976931348623157e+308"),
            (json!(333_333_333.333_333_3), "333333333.3333333"),
            (json!(1e30), "1e+30"),
            (json!(4.50), "4.5"),
            (json!(2e-3), "0.002"),
            (json!(1e-27), "1e-27"),
            (json!(1e21), "1e+21"),
            (json!(1e20), "100000000000000000000"),
            (json!(0.000_001), "0.000001"),
            (json!(1e-7), "1e-7"),
        ] {
            assert_eq!(CanonicalJson::new(&value).unwrap().as_str(), text);
        }
        let sorted =
            CanonicalJson::parse(r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#)
                .unwrap();
        assert_eq!(
            sorted.as_str(),
            "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}"
        );
    }

    #[test]
    fn hostile_texts_are_refused() {
        assert_eq!(parse(&"[".repeat(1_000_000)), Err(JsonError::TooDeep));
        assert!(parse(&format!("{}{}", "[".repeat(64), "]".repeat(64))).is_ok());
        assert!(parse(r#""[[[[ \" {{{ ""#).is_ok());
        assert!(matches!(CanonicalJson::parse("9007199254740993"), Err(JsonError::IntegerTooLarge(_))));
        assert!(matches!(CanonicalJson::parse("-9007199254740993"), Err(JsonError::IntegerTooLarge(_))));
        assert!(matches!(parse("{"), Err(JsonError::Syntax(_))));
    }
}
