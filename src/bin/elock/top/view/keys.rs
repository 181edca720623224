//! The table of keys.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::super::rows::{Lock, Row};
use super::super::state::{Mode, State};
use super::super::text::{fit, width_of};
use super::Palette;
use super::grid::{Column, line_of, put_row, put_titles};
use crate::duration::show;
use crate::figures::grouped;
use crate::show::parties;

/// The lines above the rows.
pub const TITLE_LINES: u16 = 2;

/// The widths of the columns whose widths do not change, with the spaces between.
const FIXED: usize = 7 + 7 + 7 + 7 + 6;

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, palette: Palette) {
    let Some(title) = line_of(area, 0) else {
        return;
    };
    frame.render_widget(title_of(state, palette, area.width), title);
    let columns = columns(area.width.into());
    let buffer = frame.buffer_mut();
    if let Some(titles) = line_of(area, 1) {
        put_titles(buffer, titles, &columns, palette.quiet());
    }
    let selected = state.selected().map(|(index, _)| index);
    let rows = state.rows.iter().enumerate().skip(state.first_shown());
    for ((index, row), line) in rows.zip(usize::from(TITLE_LINES)..) {
        let Some(line) = line_of(area, line) else {
            break;
        };
        put_row(buffer, line, &columns, &cells(row, palette));
        if selected == Some(index) {
            buffer.set_style(line, palette.selected());
        }
    }
    if let (true, Some(line)) = (state.rows.is_empty(), line_of(area, 2)) {
        let text = empty_text(state);
        buffer.set_stringn(line.x + 1, line.y, text, line.width.into(), palette.quiet());
    }
}

fn empty_text(state: &State) -> &'static str {
    match (&state.picture().sample, state.filter.0.is_empty()) {
        (None, _) => "",
        (Some(_), true) => "nobody holds or waits for anything",
        (Some(_), false) => "no key that was read passes the filter",
    }
}

fn title_of(state: &State, palette: Palette, width: u16) -> Line<'static> {
    let mut text = format!(" by {}", state.sort.name());
    if state.rows.len() > 1 {
        let selected = state.selected().map_or(0, |(index, _)| index + 1);
        let of = grouped(state.rows.len() as u64);
        text = format!("{text}, row {} of {of}", grouped(selected as u64));
    }
    let mut spans = vec![
        Span::styled(" KEYS", palette.title()),
        Span::styled(text.clone(), palette.quiet()),
    ];
    let room = usize::from(width).saturating_sub(5 + width_of(&text) + 12);
    let filter = fit(&state.filter.0, room);
    match state.mode {
        Mode::Filter(_) => {
            spans.push(Span::styled("  filter: ", palette.warning()));
            spans.push(Span::raw(filter));
            spans.push(Span::styled(" ", palette.selected()));
        }
        _ if !state.filter.0.is_empty() => {
            spans.push(Span::styled("  filter: ", palette.warning()));
            spans.push(Span::raw(filter));
        }
        _ => {}
    }
    Line::from(spans)
}

fn columns(width: usize) -> [Column; 7] {
    let mode = if width >= 100 { 14 } else { 9 };
    let rest = width.saturating_sub(FIXED + mode + 1);
    let holder = (rest * 9 / 20).min(48);
    [
        Column::text(" KEY", rest - holder),
        Column::text("HOLDER", holder),
        Column::text("MODE", mode),
        Column::number("HELD", 7),
        Column::number("LEASE", 7),
        Column::number("WAITING", 7),
        Column::number("LONGEST", 7),
    ]
}

fn cells(row: &Row, palette: Palette) -> [(String, Style); 7] {
    let plain = Style::new();
    let time = |ms: Option<u64>| ms.map_or_else(String::new, show);
    let (holder, mode, style, about) = match &row.lock {
        Lock::Unknown => ("not read yet".into(), String::new(), palette.quiet(), ""),
        Lock::Free => ("nobody".into(), String::new(), palette.quiet(), ""),
        Lock::Held(entry, age) => {
            let (style, about) = match *age {
                Duration::ZERO => (plain, ""),
                _ => (palette.quiet(), "~"),
            };
            (parties::holders(entry), parties::mode(entry), style, about)
        }
    };
    let held = row
        .held_ms()
        .map_or_else(String::new, |ms| format!("{about}{}", show(ms)));
    let more = if row.may_have_more_waiters { "+" } else { "" };
    let waiters = match row.waiters {
        0 => (String::new(), plain),
        count => (format!("{}{more}", grouped(count)), palette.warning()),
    };
    [
        (format!(" {}", row.shown), plain),
        (holder, style),
        (mode, style),
        (held, style),
        (time(row.lease_left_ms()), style),
        waiters,
        (time(row.longest_ms), plain),
    ]
}
