//! Text of others in cells of a terminal: what it may contain, and how wide it is.

use ratatui::buffer::CellWidth;

use crate::figures::grouped;
use crate::show::table::cut;
use crate::show::visible::{put_escaped, visible};

/// At most `width` cells of the text; an ellipsis ends what is longer. A character that has no width of
/// its own, such as one that turns the direction of writing, is shown by its bytes: so no text can look
/// like another or leave its cells.
pub fn fit(text: &str, width: usize) -> String {
    let mut fitted = String::new();
    let (mut used, mut kept, mut kept_bytes) = (0, 0, 0);
    for character in text.chars() {
        let piece = piece_of(character);
        let cells = width_of(&piece);
        if used + cells > width {
            fitted.truncate(kept_bytes);
            fitted.extend(std::iter::repeat_n(' ', width.saturating_sub(kept + 1)));
            if width > 0 {
                fitted.insert(kept_bytes, '…');
            }
            return fitted.trim_end().to_owned();
        }
        fitted.push_str(&piece);
        used += cells;
        if used < width {
            (kept, kept_bytes) = (used, fitted.len());
        }
    }
    fitted
}

/// At most `width` cells of the text, of which the middle goes: keys differ at their ends as often as at
/// their beginnings.
pub fn fit_ends(text: &str, width: usize) -> String {
    let shown: String = text.chars().map(piece_of).collect();
    match width {
        0 => String::new(),
        _ => cut(&shown, width),
    }
}

/// The whole text in lines of at most `width` cells.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut used) = (vec![String::new()], 0);
    for character in text.chars() {
        let piece = piece_of(character);
        let cells = width_of(&piece);
        if used + cells > width && used > 0 {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(&piece);
        }
        used += cells;
    }
    lines
}

fn piece_of(character: char) -> String {
    let mut bytes = [0; 4];
    let text = &*character.encode_utf8(&mut bytes);
    if character.is_control() || text.cell_width() > 0 {
        return visible(text);
    }
    let mut shown = String::new();
    put_escaped(&mut shown, text.as_bytes());
    shown
}

/// How many cells a text takes that has been fitted or is this program's own.
pub fn width_of(text: &str) -> usize {
    match text.is_ascii() {
        true => text.len(),
        false => usize::from(text.cell_width()),
    }
}

/// Fitted with both ends, and filled with spaces behind.
pub fn left(text: &str, width: usize) -> String {
    let text = fit_ends(text, width);
    let space = width.saturating_sub(width_of(&text));
    text + &" ".repeat(space)
}

/// Fitted, and filled with spaces before.
pub fn right(text: &str, width: usize) -> String {
    let text = fit(text, width);
    " ".repeat(width.saturating_sub(width_of(&text))) + &text
}

/// So many a second; small ones with a decimal.
pub fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate <= 0.0 => "0".to_owned(),
        rate if rate < 0.1 => "<0.1".to_owned(),
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate => grouped(rate.round() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_its_width() {
        assert_eq!(fit("report", 6), "report");
        assert_eq!(fit("reports", 6), "repor…");
        assert_eq!(fit("x", 0), "");
        assert_eq!(fit("xy", 1), "…");
        assert_eq!(fit("日本語", 6), "日本語");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(left("日本語", 4), "日… ");
        assert_eq!(right("ab", 4), "  ab");
    }

    #[test]
    fn nothing_without_a_width_of_its_own_is_shown_raw() {
        let hostile = "a\x1b[2J\u{202e}b\u{301}\u{200d}\u{9b}";
        let shown = r"a\x1B[2J\xE2\x80\xAEb\xCC\x81\xE2\x80\x8D\xC2\x9B";
        assert_eq!(
            (fit(hostile, 80), fit_ends(hostile, 80)),
            (shown.into(), shown.into())
        );
        assert_eq!(wrap(hostile, 7)[0], r"a\x1B[2");
        let zalgo: String = std::iter::repeat_n('\u{301}', 10_000).collect();
        assert!(fit(&zalgo, 20).len() < 30);
    }

    /// Unicode's line and paragraph separators, and all of its format characters.
    #[test]
    fn no_separator_or_format_character_is_shown_raw() {
        let ranges = [
            (0x85, 0x85),
            (0xad, 0xad),
            (0x600, 0x605),
            (0x61c, 0x61c),
            (0x6dd, 0x6dd),
            (0x70f, 0x70f),
            (0x890, 0x891),
            (0x8e2, 0x8e2),
            (0x180e, 0x180e),
            (0x200b, 0x200f),
            (0x2028, 0x202e),
            (0x2060, 0x206f),
            (0xfeff, 0xfeff),
            (0xfff9, 0xfffb),
            (0x110bd, 0x110bd),
            (0x110cd, 0x110cd),
            (0x13430, 0x1343f),
            (0x1bca0, 0x1bca3),
            (0x1d173, 0x1d17a),
            (0xe0001, 0xe007f),
        ];
        let all = ranges.into_iter().flat_map(|(first, last)| first..=last);
        let raw: Vec<String> = all
            .filter_map(char::from_u32)
            .filter(|&one| piece_of(one) == one.to_string())
            .map(|one| format!("{:x}", u32::from(one)))
            .collect();
        assert_eq!(raw, [""; 0]);
    }

    #[test]
    fn keys_that_differ_at_their_ends_stay_different() {
        let sum = |last: char| format!("{}{last}", "a94a8fe5ccb19ba61c4c0873d391e987982fbbd");
        for width in [8, 20, 30] {
            assert_ne!(left(&sum('3'), width), left(&sum('4'), width));
        }
        for width in 0..40 {
            let shown = left(
                "\u{1f468}\u{200d}\u{1f469}鍵a\u{301}\u{2028}bcdefgh鍵鍵鍵",
                width,
            );
            assert_eq!(width_of(&shown), width, "{shown}");
        }
    }

    #[test]
    fn wrapped_text_is_whole() {
        assert_eq!(wrap("abcdef", 4), ["abcd", "ef"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("日本", 1), ["日", "本"]);
    }

    #[test]
    fn numbers_are_grouped() {
        let shown = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
        let shown = [0.0, 0.01, 0.25, 9.96, 1_234.5].map(rate);
        assert_eq!(shown, ["0", "<0.1", "0.2", "10", "1,235"]);
    }
}
