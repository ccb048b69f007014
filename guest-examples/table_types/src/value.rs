//! Values: as they stand in a table, and as their column's type has them.

use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hasher};

use crate::params::Kind;

const NANOS: i128 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;

/// A value as it stands in a table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cell<'a> {
    /// There is none.
    Null,
    /// A field of CSV, which is not empty.
    Field(&'a str),
    /// A string.
    Text(&'a str),
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Int(i64),
    /// A whole number beyond 63 bits.
    Large(u64),
    /// A number.
    Float(f64),
    /// Days since the Unix epoch.
    Day(i64),
    /// Nanoseconds since the Unix epoch.
    Moment(i128),
    /// An array or object.
    Nested,
}

/// A value of a column's type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scalar<'a> {
    /// Of `utf8`.
    Text(&'a str),
    /// Of `int64`.
    Int(i64),
    /// Of `float64`.
    Float(f64),
    /// Of `boolean`.
    Boolean(bool),
    /// Of `date`: days since the Unix epoch.
    Day(i64),
    /// Of `timestamp`: nanoseconds since the Unix epoch.
    Moment(i128),
}

impl Kind {
    /// The value as this type has it, unless it is none of this type. (Null is of every type, and no value.)
    pub(crate) fn read<'a>(self, cell: Cell<'a>) -> Option<Scalar<'a>> {
        match (self, cell) {
            (Self::Utf8, Cell::Text(text) | Cell::Field(text)) => Some(Scalar::Text(text)),
            (Self::Int64, Cell::Int(value)) => Some(Scalar::Int(value)),
            (Self::Int64, Cell::Field(text)) => text.parse().ok().map(Scalar::Int),
            (Self::Float64, Cell::Float(value)) => Some(Scalar::Float(value)),
            #[expect(clippy::cast_precision_loss, reason = "JSON does not tell them apart")]
            (Self::Float64, Cell::Int(value)) => Some(Scalar::Float(value as f64)),
            #[expect(clippy::cast_precision_loss, reason = "JSON does not tell them apart")]
            (Self::Float64, Cell::Large(value)) => Some(Scalar::Float(value as f64)),
            (Self::Float64, Cell::Field(text)) => text.parse().ok().map(Scalar::Float),
            (Self::Boolean, Cell::Boolean(value)) => Some(Scalar::Boolean(value)),
            (Self::Boolean, Cell::Field("true" | "True" | "TRUE")) => Some(Scalar::Boolean(true)),
            (Self::Boolean, Cell::Field("false" | "False" | "FALSE")) => Some(Scalar::Boolean(false)),
            (Self::Date, Cell::Day(day)) => Some(Scalar::Day(day)),
            (Self::Date, Cell::Text(text) | Cell::Field(text)) => parse_day(text.as_bytes()).map(Scalar::Day),
            (Self::Timestamp, Cell::Moment(moment)) => Some(Scalar::Moment(moment)),
            (Self::Timestamp, Cell::Text(text) | Cell::Field(text)) => {
                parse_moment(text.as_bytes()).map(Scalar::Moment)
            }
            _ => None,
        }
    }
}

impl<'a> Scalar<'a> {
    /// As it is shown.
    pub(crate) fn shown(&self) -> String {
        self.cell().shown()
    }

    fn cell(&self) -> Cell<'a> {
        match *self {
            Self::Text(text) => Cell::Text(text),
            Self::Int(value) => Cell::Int(value),
            Self::Float(value) => Cell::Float(value),
            Self::Boolean(value) => Cell::Boolean(value),
            Self::Day(day) => Cell::Day(day),
            Self::Moment(moment) => Cell::Moment(moment),
        }
    }

    /// The order of two values of one type; none when one is `NaN`.
    pub(crate) fn compare(&self, other: &Scalar<'_>) -> Option<Ordering> {
        match (self, other) {
            (Scalar::Text(a), Scalar::Text(b)) => Some(a.cmp(b)),
            (Scalar::Int(a), Scalar::Int(b)) | (Scalar::Day(a), Scalar::Day(b)) => Some(a.cmp(b)),
            (Scalar::Float(a), Scalar::Float(b)) => a.partial_cmp(b),
            (Scalar::Boolean(a), Scalar::Boolean(b)) => Some(a.cmp(b)),
            (Scalar::Moment(a), Scalar::Moment(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// 128 bits that tell values of one type apart. Two values that share them by accident are not to be met with.
    pub(crate) fn hash(&self) -> u128 {
        let half = |which: u8| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u8(which);
            match self {
                Self::Text(text) => hasher.write(text.as_bytes()),
                Self::Int(value) | Self::Day(value) => hasher.write_i64(*value),
                // The sum makes 0 of -0.
                Self::Float(value) => {
                    hasher.write_u64(if value.is_nan() { f64::NAN } else { value + 0.0 }.to_bits());
                }
                Self::Boolean(value) => hasher.write_u8(u8::from(*value)),
                Self::Moment(value) => hasher.write_i128(*value),
            }
            hasher.finish()
        };
        (u128::from(half(0)) << 64) | u128::from(half(1))
    }
}

impl Cell<'_> {
    /// As it is shown beside a verdict, however long.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Null => "(null)".to_owned(),
            Self::Field(text) | Self::Text(text) => crate::text::cut(text),
            Self::Boolean(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Large(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Day(day) => show_day(*day),
            Self::Moment(moment) => show_moment(*moment),
            Self::Nested => "(array or object)".to_owned(),
        }
    }
}

/// `YYYY-MM-DD` in days since the Unix epoch.
fn parse_day(text: &[u8]) -> Option<i64> {
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = text else { return None };
    let (year, month, day) = (digits(&[y0, y1, y2, y3])?, digits(&[m0, m1])?, digits(&[d0, d1])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    (1..=days_of_month).contains(&day).then(|| day_of(year, month, day))
}

/// The day of a date of the Gregorian calendar, which is taken to have always been. Years begin in March here, so that
/// the day that is sometimes there comes last.
fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, month) = (year.div_euclid(400), (month + 9) % 12);
    let year = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}

/// `YYYY-MM-DD`, `T` or a space, `hh:mm:ss`, decimals, an offset, in nanoseconds since the Unix epoch.
fn parse_moment(text: &[u8]) -> Option<i128> {
    let (day, rest) = text.split_at_checked(10)?;
    let day = parse_day(day)?;
    let (&[b'T' | b't' | b' ', h0, h1, b':', m0, m1, b':', s0, s1], rest) = rest.split_first_chunk::<9>()? else {
        return None;
    };
    let (hour, minute, second) = (digits(&[h0, h1])?, digits(&[m0, m1])?, digits(&[s0, s1])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, rest) = match rest.split_first() {
        Some((b'.', rest)) => {
            let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&length) {
                return None;
            }
            let (decimals, rest) = rest.split_at(length);
            let scale = (length..9).fold(1, |scale, _| scale * 10);
            (digits(decimals)? * scale, rest)
        }
        _ => (0, rest),
    };
    let offset_minutes = match *rest {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hours, minutes) = (digits(&[h0, h1])?, digits(&[m0, m1])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            if sign == b'+' { hours * 60 + minutes } else { -(hours * 60 + minutes) }
        }
        _ => return None,
    };
    let seconds = day * DAY_SECONDS + hour * 3600 + (minute - offset_minutes) * 60 + second;
    Some(i128::from(seconds) * NANOS + i128::from(nanos))
}

/// At most nine digits, and nothing else.
fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn show_day(day: i64) -> String {
    // Years 0000 to 9999, which have a form.
    if !(-719_528..=2_932_896).contains(&day) {
        return format!("day {day}");
    }
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn show_moment(moment: i128) -> String {
    let (seconds, nanos) = (moment.div_euclid(NANOS), moment.rem_euclid(NANOS));
    let Ok(seconds) = i64::try_from(seconds) else { return format!("{moment} ns") };
    let (day, second) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let decimals = if nanos == 0 { String::new() } else { format!(".{nanos:09}").trim_end_matches('0').to_owned() };
    format!("{}T{hour:02}:{minute:02}:{second:02}{decimals}Z", show_day(day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_there_and_back() {
        for (text, day) in
            [("1970-01-01", 0), ("2000-02-29", 11_016), ("0000-01-01", -719_528), ("9999-12-31", 2_932_896)]
        {
            assert_eq!((parse_day(text.as_bytes()), show_day(day)), (Some(day), text.to_owned()));
        }
        for day in (-719_528..=2_932_896).step_by(17) {
            assert_eq!(parse_day(show_day(day).as_bytes()), Some(day));
        }
        for bad in ["1900-02-29", "2023-13-01", "2023-00-01", "2023-04-31", "2023-4-1", "+023-04-01", "2023-04-01 ", ""]
        {
            assert_eq!(parse_day(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(show_day(i64::MIN), format!("day {}", i64::MIN));
    }

    #[test]
    fn moments() {
        let parsed = |text: &str| parse_moment(text.as_bytes());
        assert_eq!(parsed("1970-01-01T00:00:01.5Z"), Some(1_500_000_000));
        assert_eq!(parsed("1970-01-01 02:00:00+02:00"), Some(0));
        assert_eq!(parsed("1969-12-31T23:59:59.999999999"), Some(-1));
        assert_eq!(show_moment(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(show_moment(1_500_000_000), "1970-01-01T00:00:01.5Z");
        assert_eq!(show_moment(i128::MIN), format!("{} ns", i128::MIN));
        let bad = [
            "1970-01-01",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:60Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00Z",
            "1970-01-01T00:00:00.1234567890Z",
            "1970-01-01T00:00:00+2",
            "1970-01-01T00:00:00Zx",
            "1970-01-01x00:00:00",
        ];
        for bad in bad {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn hashes_tell_values_apart_that_differ() {
        assert_eq!(Scalar::Float(0.0).hash(), Scalar::Float(-0.0).hash());
        assert_eq!(Scalar::Float(f64::NAN).hash(), Scalar::Float(-f64::NAN).hash());
        let hashes: std::collections::HashSet<u128> = (0..10_000).map(|value| Scalar::Int(value).hash()).collect();
        assert_eq!(hashes.len(), 10_000);
    }
}
