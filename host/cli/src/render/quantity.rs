//! Times, fuel and sizes, short.

use std::time::Duration;

use opyard_server::model::limits::ByteSize;

/// `449µs`, `12.3ms`, `450ms`, `1.23s`, `2m05s`, `1h02m`; rounded.
pub(crate) fn time(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0 => "0s".to_owned(),
        1..=999 => format!("{micros}µs"),
        1_000..=99_949 => format!("{}.{}ms", (micros + 50) / 1_000, (micros + 50) / 100 % 10),
        99_950..=999_499 => format!("{}ms", (micros + 500) / 1_000),
        999_500..=59_994_999 => format!("{}.{:02}s", (micros + 5_000) / 1_000_000, (micros + 5_000) / 10_000 % 100),
        _ => {
            let seconds = (micros + 500_000) / 1_000_000;
            if seconds < 3_600 {
                format!("{}m{:02}s", seconds / 60, seconds % 60)
            } else {
                format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60)
            }
        }
    }
}

/// A large number: `999`, `12.3k`, `4.5M`, `1.2G`.
pub(crate) fn count(number: u64) -> String {
    let (unit, letter) = match number {
        0..=9_999 => return number.to_string(),
        10_000..=999_949 => (1_000u64, 'k'),
        999_950..=999_949_999 => (1_000_000, 'M'),
        999_950_000..=999_949_999_999 => (1_000_000_000, 'G'),
        _ => (1_000_000_000_000, 'T'),
    };
    let tenths = (u128::from(number) * 10 + u128::from(unit) / 2) / u128::from(unit);
    format!("{}.{}{letter}", tenths / 10, tenths % 10)
}

/// `1.5 KiB`.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_short() {
        let times = [
            0,
            1,
            999,
            1_000,
            99_949,
            99_950,
            999_499,
            999_500,
            1_234_567,
            59_994_999,
            59_995_000,
            125_000_000,
            3_720_000_000,
        ];
        let shown: Vec<_> = times.iter().map(|micros| time(Duration::from_micros(*micros))).collect();
        insta::assert_snapshot!(shown.join(" "));
        let counts = [0, 9_999, 10_000, 12_345, 999_949, 999_950, 1_234_567, 999_949_999, 999_950_000, u64::MAX];
        let shown: Vec<_> = counts.iter().map(|number| count(*number)).collect();
        insta::assert_snapshot!(shown.join(" "));
    }
}
