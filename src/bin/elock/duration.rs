//! Times with units, as people write them.

use std::time::Duration;

const UNITS: [(&str, f64); 6] = [
    ("ms", 0.001),
    ("us", 0.000_001),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
];

/// A text is no time.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("not a time such as 30s, 500ms, 5m or 1h; a bare number is seconds")]
pub struct NotATime;

/// Reads `30s`, `500ms`, `1.5h`; a bare number is seconds.
pub fn parse(text: &str) -> Result<Duration, NotATime> {
    let unit = |&(unit, seconds): &(&str, f64)| Some((text.strip_suffix(unit)?, seconds));
    let (number, seconds) = UNITS.iter().find_map(unit).unwrap_or((text, 1.0));
    let is_number = number.starts_with(|first: char| first.is_ascii_digit())
        && number
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = number.parse().ok().filter(|_| is_number).ok_or(NotATime)?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| NotATime)
}

/// The two largest units: `2h 5m`, `3.4s`, `12ms`.
pub fn show(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m {}s", ms / 60_000, ms % 60_000 / 1_000),
        3_600_000..86_400_000 => format!("{}h {}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
        _ => format!("{}d {}h", ms / 86_400_000, ms % 86_400_000 / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, ms) in [
            ("30s", 30_000),
            ("500ms", 500),
            ("5", 5_000),
            ("0.25", 250),
            ("1.5h", 5_400_000),
            ("2d", 172_800_000),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "s",
            "-1",
            "1e3",
            "5 s",
            "inf",
            "NaN",
            "1..2",
            ".5x",
            "9999999999999999999d",
        ] {
            assert_eq!(parse(text), Err(NotATime), "{text}");
        }
    }

    #[test]
    fn times_are_shown_by_their_largest_units() {
        let shown = [0, 999, 1_049, 59_999, 61_000, 7_260_000, 90_000_000].map(show);
        assert_eq!(
            shown,
            ["0ms", "999ms", "1.0s", "59.9s", "1m 1s", "2h 1m", "1d 1h"]
        );
    }
}
