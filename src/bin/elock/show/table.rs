//! Tables: aligned and cut to its width for a terminal, by tabs otherwise.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::failure::Failure;
use super::output::Output;
use super::visible::visible;

const GAP: &str = "  ";
/// A column is not made narrower than this, or than its heading.
const NARROWEST: usize = 8;

/// Rows under headings, which may come in parts.
pub struct Table {
    headings: &'static [&'static str],
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
    is_begun: bool,
}

impl Table {
    /// A heading that begins with `>` stands above numbers, which are aligned at their ends.
    pub fn new(headings: &'static [&'static str]) -> Self {
        Self {
            headings,
            widths: headings
                .iter()
                .map(|heading| plain(heading).width())
                .collect(),
            rows: Vec::new(),
            is_begun: false,
        }
    }

    /// A row of as many cells as there are headings.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        let cells: Vec<String> = cells.iter().map(|cell| visible(cell)).collect();
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.width());
        }
        self.rows.push(cells);
    }

    /// Whether nothing has come, and a terminal is better told so than shown bare headings.
    pub fn is_empty(&self, output: &Output) -> bool {
        !self.is_begun && self.rows.is_empty() && output.columns().is_some()
    }

    /// Whether nothing in it is cut.
    pub fn fits(&self, output: &Output) -> bool {
        let gaps = GAP.len() * self.widths.len().saturating_sub(1);
        let width = self.widths.iter().sum::<usize>() + gaps;
        output.columns().is_none_or(|columns| width <= columns)
    }

    /// Writes the rows that have come since, below the headings if these are the first.
    pub fn write(&mut self, output: &mut Output) -> Result<(), Failure> {
        if !self.is_begun {
            self.is_begun = true;
            let headings = self
                .headings
                .iter()
                .map(|heading| plain(heading).to_owned());
            let headings: Vec<String> = headings.collect();
            self.write_row(&headings, output)?;
        }
        for row in std::mem::take(&mut self.rows) {
            self.write_row(&row, output)?;
        }
        Ok(())
    }

    fn write_row(&self, cells: &[String], output: &mut Output) -> Result<(), Failure> {
        let Some(columns) = output.columns() else {
            return output.line(&cells.join("\t"));
        };
        let widths = fitted(&self.widths, self.headings, columns);
        let mut line = String::new();
        for ((cell, heading), &width) in cells.iter().zip(self.headings).zip(&widths) {
            let cell = cut(cell, width);
            let space = " ".repeat(width.saturating_sub(cell.width()));
            match heading.starts_with('>') {
                true => line.extend([GAP, &space, &cell]),
                false => line.extend([GAP, &cell, &space]),
            }
        }
        output.line(cut(line[GAP.len()..].trim_end(), columns).trim_end())
    }
}

fn plain(heading: &str) -> &str {
    heading.trim_start_matches('>')
}

/// The widths, of which the largest are made smaller until all fit: to the same one, the largest that
/// does.
fn fitted(widths: &[usize], headings: &[&str], columns: usize) -> Vec<usize> {
    let gaps = GAP.len() * widths.len().saturating_sub(1);
    let cut_to = |most: usize| -> Vec<usize> {
        let columns = widths.iter().zip(headings);
        let least = |heading: &str| NARROWEST.max(plain(heading).width());
        columns
            .map(|(&width, heading)| width.min(most.max(least(heading))))
            .collect()
    };
    let (mut fits, mut is_too_much) = (0, columns + 1);
    while fits + 1 < is_too_much {
        let middle = fits.midpoint(is_too_much);
        match cut_to(middle).iter().sum::<usize>() + gaps <= columns {
            true => fits = middle,
            false => is_too_much = middle,
        }
    }
    cut_to(fits)
}

/// The text in so many columns, with a mark if something is left out. Keys differ at their ends as
/// often as at their beginnings, so the middle is what goes.
pub fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(1);
    let tail_room = room / 3;
    let head = taken(text.chars(), room - tail_room);
    let tail: Vec<char> = taken(text.chars().rev(), tail_room);
    let tail = tail.into_iter().rev();
    head.into_iter().chain(['…']).chain(tail).collect()
}

fn taken(characters: impl Iterator<Item = char>, room: usize) -> Vec<char> {
    let mut used = 0;
    let fits = |character: &char| {
        used += character.width().unwrap_or(0);
        used <= room
    };
    characters.take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_keeps_both_ends() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("account-000000-7", 10), "accoun…0-7");
        assert_eq!(cut("鍵鍵鍵鍵鍵鍵", 7).width(), 7);
        assert_eq!(cut("abc", 1), "…");
        for columns in 1..30 {
            assert!(cut("鍵a鍵bcd鍵鍵e\u{301}fgh鍵鍵鍵鍵", columns).width() <= columns);
        }
    }

    #[test]
    fn the_widest_columns_give_way() {
        let headings = ["KEY", ">N", "WHO"];
        assert_eq!(fitted(&[100, 3, 20], &headings, 80), [53, 3, 20]);
        assert_eq!(fitted(&[100, 3, 100], &headings, 80), [36, 3, 36]);
        assert_eq!(fitted(&[10, 3, 10], &headings, 80), [10, 3, 10]);
        assert_eq!(fitted(&[100, 3, 100], &headings, 10), [8, 3, 8]);
    }
}
