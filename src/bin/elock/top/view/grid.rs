//! Cells in columns.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::super::text;

/// A column of a list.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// What stands above it.
    pub title: &'static str,
    /// How wide it is.
    pub width: usize,
    /// Numbers and times are put to the right.
    pub is_right: bool,
}

impl Column {
    /// A column of text.
    pub fn text(title: &'static str, width: usize) -> Self {
        Self {
            title,
            width,
            is_right: false,
        }
    }

    /// A column of numbers.
    pub fn number(title: &'static str, width: usize) -> Self {
        Self {
            title,
            width,
            is_right: true,
        }
    }

    /// The cell in as much as the column is wide.
    fn fit(self, cell: &str) -> String {
        match self.is_right {
            true => text::right(cell, self.width),
            false => text::left(cell, self.width),
        }
    }
}

/// Writes one row of cells into the first line of the area.
pub fn put_row(buffer: &mut Buffer, area: Rect, columns: &[Column], cells: &[(String, Style)]) {
    let mut x = area.x;
    for (column, (cell, style)) in columns.iter().zip(cells) {
        let cell = column.fit(cell);
        let room = usize::from(area.right().saturating_sub(x));
        (x, _) = buffer.set_stringn(x, area.y, cell, room, *style);
        x = x.saturating_add(1);
        if x >= area.right() {
            return;
        }
    }
}

/// One row of cells as text.
pub fn line_of_cells(columns: &[Column], cells: &[String]) -> String {
    let mut line = String::new();
    for (column, cell) in columns.iter().zip(cells) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&column.fit(cell));
    }
    line
}

/// Writes the titles of the columns.
pub fn put_titles(buffer: &mut Buffer, area: Rect, columns: &[Column], style: Style) {
    let cells: Vec<_> = columns
        .iter()
        .map(|column| (column.title.to_owned(), style))
        .collect();
    put_row(buffer, area, columns, &cells);
}

/// The line of the area with that number.
pub fn line_of(area: Rect, line: usize) -> Option<Rect> {
    let line = u16::try_from(line)
        .ok()
        .filter(|&line| line < area.height)?;
    Some(Rect::new(area.x, area.y + line, area.width, 1))
}
