//! Numbers as people type and read them.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// Reads a count with an optional suffix: `512`, `3M`, `0.2G`, `1_000_000`. Suffixes are powers of 1000, in any case.
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "expected a count like 3M, 0.2G, 500k or 120000";
    let text = text.trim();
    let (digits, scale) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'm' | 'M')) => (&text[..at], 1e6),
        Some((at, 'g' | 'G')) => (&text[..at], 1e9),
        Some((at, 't' | 'T')) => (&text[..at], 1e12),
        _ => (text, 1.0),
    };
    let plain = digits.trim_end().replace('_', "");
    if !plain.starts_with(|c: char| c.is_ascii_digit()) || plain.contains(['e', 'E']) {
        return Err(EXPECTED.to_owned());
    }
    let count = plain.parse::<f64>().map_err(|_| EXPECTED.to_owned())? * scale;
    // 2^53: up to here every count has its own f64.
    if count > 9_007_199_254_740_992.0 {
        return Err(format!("{text} is too large; {EXPECTED}"));
    }
    Ok(count.round() as u64)
}

/// Reads an accuracy in percent, with or without the sign, as a fraction: `97.5` and `97.5%` are 0.975.
///
/// A number up to 1 without the sign is more likely a fraction by mistake than one percent, and is refused.
pub(crate) fn parse_percent(text: &str) -> Result<f64, String> {
    let (digits, signed) = match text.trim().strip_suffix('%') {
        Some(digits) => (digits.trim_end(), true),
        None => (text.trim(), false),
    };
    let percent: f64 = digits
        .parse()
        .map_err(|_| "expected percent, for instance 97.5".to_owned())?;
    if !(0.0..=100.0).contains(&percent) {
        return Err("expected percent from 0 to 100, for instance 97.5".to_owned());
    }
    if !signed && percent > 0.0 && percent <= 1.0 {
        let meant = (1e8 * percent).round() / 1e6;
        return Err(format!(
            "accuracies are in percent: write {meant} for the fraction {digits}, or {digits}%"
        ));
    }
    // Read, not divided: 97.9 / 100 is a little more than 0.979, and would leave out a model of just that accuracy.
    format!("{digits}e-2")
        .parse()
        .map_err(|_| "expected percent without an exponent".to_owned())
}

/// A share of `whole` in percent, without decimals: `71 %`. A dash where there is no whole.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        "-".to_owned()
    } else {
        format!("{:.0} %", 100.0 * part as f64 / whole as f64)
    }
}

/// A number of things: `1 job`, `2 jobs`. Only for words that take an s.
pub(crate) fn plural(count: impl TryInto<u64>, thing: &str) -> String {
    // Nothing that is counted here is negative or larger than u64.
    let count = count.try_into().unwrap_or(u64::MAX);
    if count == 1 {
        format!("1 {thing}")
    } else {
        format!("{count} {thing}s")
    }
}

/// A place in line: `1st`, `2nd`, `11th`.
pub(crate) fn ordinal(number: u32) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// A span below a second: `2.50 ms`.
pub(crate) fn milliseconds(span: f64) -> String {
    format!("{span:.2} ms")
}

/// Bytes for people, in powers of 1024: `18.1 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(f64, &str); 3] = [(1073741824.0, "GiB"), (1048576.0, "MiB"), (1024.0, "KiB")];
    let unit = UNITS.into_iter().find(|(size, _)| count as f64 >= *size);
    unit.map_or_else(
        || format!("{count} B"),
        |(size, name)| format!("{:.1} {name}", count as f64 / size),
    )
}

/// A span of time for people, to the second: `1h 2m 3s`; tenths below ten seconds.
pub(crate) fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    // Bounded well below what Duration can hold: a century is as good as for ever.
    humantime::format_duration(Duration::from_secs(seconds.round().min(3.2e9) as u64)).to_string()
}

/// A moment given in milliseconds since 1970; `None` for 0, which stands for "not yet".
pub(crate) fn moment(ms: u64) -> Option<DateTime<Utc>> {
    i64::try_from(ms)
        .ok()
        .filter(|&ms| ms > 0)
        .and_then(DateTime::from_timestamp_millis)
}

/// A moment for people, UTC: `2026-11-23 06:14:42Z`; a dash for none.
pub(crate) fn show_moment(moment: Option<DateTime<Utc>>) -> String {
    moment.map_or_else(
        || "-".to_owned(),
        |moment| moment.format("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_take_suffixes() {
        let read = [
            ("3M", 3_000_000),
            ("0.2G", 200_000_000),
            ("500k", 500_000),
            ("1_000", 1000),
            ("7", 7),
            ("2 t", 2_000_000_000_000),
        ];
        for (text, count) in read {
            assert_eq!(parse_count(text), Ok(count), "{text}");
        }
        for text in ["", "M", "-1", "3MM", "1e9", "x", "inf", "nan", "99999999T", "é"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn accuracies_are_percent() {
        assert_eq!(parse_percent("97.5"), Ok(0.975));
        assert_eq!(parse_percent("97.5 %"), Ok(0.975));
        assert_eq!(parse_percent("0.5%"), Ok(0.005));
        assert_eq!(parse_percent("97.9"), Ok(979.0 / 1000.0));
        assert!(parse_percent("1e1").is_err());
        assert!(parse_percent("0.975").is_err_and(|said| said.contains("97.5")));
        assert!(parse_percent("101").is_err());
        assert!(parse_percent("NaN").is_err());
    }

    #[test]
    fn quantities_read_well() {
        assert_eq!(
            [plural(1_u32, "job"), plural(0_usize, "job")],
            ["1 job", "0 jobs"]
        );
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 13, 22, 101, 111].map(ordinal),
            [
                "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "22nd", "101st", "111th"
            ]
        );
        assert_eq!(share(71, 100), "71 %");
        assert_eq!(share(1, 0), "-");
        assert_eq!(
            [bytes(12), bytes(2048), bytes(18_800_000)],
            ["12 B", "2.0 KiB", "17.9 MiB"]
        );
        assert_eq!(
            [seconds(3.21), seconds(9.96), seconds(3723.4)],
            ["3.2s", "10s", "1h 2m 3s"]
        );
        assert_eq!(seconds(f64::NAN), "-");
        assert_eq!(show_moment(moment(1_000)), "1970-01-01 00:00:01Z");
        assert_eq!(show_moment(moment(0)), "-");
    }
}
