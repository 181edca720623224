//! The list of the longest waits.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;

use super::super::state::State;
use super::Palette;
use super::grid::{Column, line_of, put_row, put_titles};
use crate::duration::show;
use crate::show::parties::session_name;

/// A wait that ends within this time is marked.
const SOON_MS: u64 = 5_000;

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, palette: Palette) {
    let Some(title) = line_of(area, 0) else {
        return;
    };
    frame.render_widget(Span::styled(" LONGEST WAITS", palette.title()), title);
    let columns = columns(area.width.into());
    let buffer = frame.buffer_mut();
    if let Some(titles) = line_of(area, 1) {
        put_titles(buffer, titles, &columns, palette.quiet());
    }
    let Some(sample) = &state.picture().sample else {
        return;
    };
    let passing = sample
        .waits
        .iter()
        .filter(|wait| state.filter.passes(&wait.shown));
    let mut is_empty = true;
    for (wait, line) in passing.zip(2..) {
        let Some(line) = line_of(area, line) else {
            break;
        };
        is_empty = false;
        let session = session_name(wait.session, wait.name.as_deref());
        let left = match wait.left_ms {
            0..SOON_MS => palette.warning(),
            _ => Style::new(),
        };
        let cells = [
            (format!(" {session}"), Style::new()),
            (wait.shown.to_string(), Style::new()),
            (show(wait.waited_ms), palette.strong()),
            (show(wait.left_ms), left),
        ];
        put_row(buffer, line, &columns, &cells);
    }
    if let (true, Some(line)) = (is_empty, line_of(area, 2)) {
        let text = match state.filter.0.is_empty() {
            true => " nobody waits",
            false => " nobody waits for a key that passes the filter",
        };
        buffer.set_stringn(line.x, line.y, text, line.width.into(), palette.quiet());
    }
}

fn columns(width: usize) -> [Column; 4] {
    let rest = width.saturating_sub(8 + 8 + 3);
    let session = (rest * 2 / 5).min(32);
    [
        Column::text(" SESSION", session),
        Column::text("KEY", rest - session),
        Column::number("WAITED", 8),
        Column::number("LEFT", 8),
    ]
}
