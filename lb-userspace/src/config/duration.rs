//! Durations as Go writes them: `1h2m3s`, `250ms`, `0`.
//!
//! kube-proxy's flags and configuration file speak Go (`time.ParseDuration`), which is neither ISO 8601 nor
//! what Rust's libraries read: units must be given, may be fractional and may be negative, and months and
//! days do not exist. Used by the flags (`cli::arguments`) and the file (`config::kube_proxy`) alike.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Units and what they are in nanoseconds; longer names first where one begins with another.
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A Go duration: nanoseconds, possibly negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(i64);

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration such as 30s or 1h15m")]
pub struct NotADuration(String);

impl GoDuration {
    /// So many seconds.
    pub const fn from_secs(seconds: u32) -> Self {
        Self(seconds as i64 * 1_000_000_000)
    }

    /// As a span of time; `None` if it is negative.
    pub fn get(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }

    /// Whether it is nothing, which in kube-proxy's configuration means "not set".
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl FromStr for GoDuration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        parse(text)
            .map(Self)
            .ok_or_else(|| NotADuration(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    // The only number without a unit.
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum: i64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(scaled(number, *scale)?)?;
        rest = after;
    }
    Some(sign * sum)
}

/// `number`, a decimal, times `scale`, without going through a float.
fn scaled(number: &str, scale: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut sum = whole.checked_mul(scale)?;
    let mut place = scale;
    for digit in fraction.bytes() {
        place /= 10;
        sum = sum.checked_add(i64::from(digit - b'0') * place)?;
    }
    Some(sum)
}

/// As Go's `Duration.String` writes it.
impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let decimal = |f: &mut fmt::Formatter<'_>, value: u64, unit: u64, name| {
            let (whole, rest) = (value / unit, value % unit);
            let width = unit.ilog10() as usize;
            let digits = format!("{rest:0width$}");
            match digits.trim_end_matches('0') {
                "" => write!(f, "{whole}{name}"),
                digits => write!(f, "{whole}.{digits}{name}"),
            }
        };
        match total {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{total}ns"),
            1_000..1_000_000 => decimal(f, total, 1_000, "µs"),
            1_000_000..1_000_000_000 => decimal(f, total, 1_000_000, "ms"),
            _ => {
                let minutes = total / 60_000_000_000;
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                decimal(f, total % 60_000_000_000, 1_000_000_000, "s")
            }
        }
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, nanoseconds, written) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("+5s", 5_000_000_000, "5s"),
            ("-1.5s", -1_500_000_000, "-1.5s"),
            ("1h2m3s", 3_723_000_000_000, "1h2m3s"),
            ("24h0m0s", 86_400_000_000_000, "24h0m0s"),
            ("15m", 900_000_000_000, "15m0s"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            (".5m", 30_000_000_000, "30s"),
            ("250ms", 250_000_000, "250ms"),
            ("1.25ms", 1_250_000, "1.25ms"),
            ("10us", 10_000, "10µs"),
            ("10µs", 10_000, "10µs"),
            ("7ns", 7, "7ns"),
            ("2s100ms", 2_100_000_000, "2.1s"),
        ] {
            let duration: GoDuration = text.parse().unwrap();
            assert_eq!(duration, GoDuration(nanoseconds), "{text}");
            assert_eq!(duration.to_string(), written, "{text}");
            assert_eq!(written.parse(), Ok(duration), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused_and_named() {
        for text in [
            "",
            "-",
            "1",
            "s",
            "1.2.3s",
            ".s",
            "1d",
            "1 s",
            "s1",
            "1h2",
            "99999999h",
        ] {
            let error = text.parse::<GoDuration>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn a_negative_duration_is_no_span_of_time() {
        assert_eq!("-1s".parse::<GoDuration>().unwrap().get(), None);
        assert_eq!(GoDuration::from_secs(2).get(), Some(Duration::from_secs(2)));
    }
}
