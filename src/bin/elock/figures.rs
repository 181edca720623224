//! Numbers for people.

/// With a comma behind each three digits: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// How many of what, which has one word for one and one for more: `1 lock`, `2,000 locks`.
pub fn counted(number: u64, one: &str, more: &str) -> String {
    let what = if number == 1 { one } else { more };
    format!("{} {what}", grouped(number))
}

/// Microseconds as milliseconds, with so many digits that small ones say something.
pub fn milliseconds(us: f64) -> String {
    match us / 1000.0 {
        ms if ms < 100.0 => format!("{ms:.3}"),
        ms => format!("{ms:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        let shown = [0, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!(
            [41.2, 1_500.0, 2_000_000.0].map(milliseconds),
            ["0.041", "1.500", "2000.0"]
        );
    }
}
