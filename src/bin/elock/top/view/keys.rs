//! The table of keys.

use std::time::Duration;

use elock_client::listing::{HolderEntry, ModeShown};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::super::rows::{Lock, Row};
use super::super::state::{Mode, State};
use super::super::text::{fit, grouped, width_of};
use super::Palette;
use super::grid::{Column, line_of, put_row, put_titles};
use crate::duration::show;

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
        put_row(buffer, line, &columns, &cells(row, &columns, palette));
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
    let mode = if width >= 100 { 12 } else { 6 };
    let rest = width.saturating_sub(FIXED + mode + 1);
    let holder = (rest * 9 / 20).min(48);
    [
        Column::text(" KEY", rest - holder),
        Column::text("HOLDER", holder),
        Column::text("MODE", mode),
        Column::number("HELD", 7),
        Column::number("LEASE", 7),
        Column::number("WAITERS", 7),
        Column::number("LONGEST", 7),
    ]
}

fn cells(row: &Row, columns: &[Column; 7], palette: Palette) -> [(String, Style); 7] {
    let plain = Style::new();
    let time = |ms: Option<u64>| ms.map_or_else(String::new, show);
    let (holder, mode, style, about) = match &row.lock {
        Lock::Unknown => (
            "not read yet".to_owned(),
            String::new(),
            palette.quiet(),
            "",
        ),
        Lock::Free => ("nobody".to_owned(), String::new(), palette.quiet(), ""),
        Lock::Glimpsed(holder) => (holder.to_string(), String::new(), plain, ""),
        Lock::Held(entry, age) => {
            let width = columns[1].width;
            let holder = first_holder(&entry.holders, entry.holders_in_all, width);
            let mode = mode_of(&entry.mode, columns[2].width);
            match *age {
                Duration::ZERO => (holder, mode, plain, ""),
                _ => (holder, mode, palette.quiet(), "~"),
            }
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

/// The first holder, and how many more there are.
fn first_holder(holders: &[HolderEntry], in_all: u64, width: usize) -> String {
    let more = match in_all.saturating_sub(1) {
        0 => String::new(),
        more => format!(" +{}", grouped(more)),
    };
    let room = width.saturating_sub(more.len());
    let Some(holder) = holders.first() else {
        return String::new();
    };
    fit_name(holder_name(holder), &holder_number(holder), room) + &more
}

/// A name and behind it a number, of which the number is not cut.
pub fn fit_name(name: Option<&str>, number: &str, width: usize) -> String {
    match name {
        Some(name) if width > width_of(number) + 2 => {
            let room = width - width_of(number) - 1;
            format!("{} {number}", fit(name, room))
        }
        _ => fit(number, width),
    }
}

/// What the session is called.
pub fn holder_name(holder: &HolderEntry) -> Option<&str> {
    holder.name.as_deref()
}

/// `#24`, or `@job-7` for an owner.
pub fn holder_number(holder: &HolderEntry) -> String {
    match (&holder.owner, holder.session) {
        (Some(owner), _) => format!("@{owner}"),
        (None, Some(session)) => format!("#{session}"),
        (None, None) => "?".to_owned(),
    }
}

/// How a lock is held, with its value or its slots as far as there is room.
pub fn mode_of(mode: &ModeShown, width: usize) -> String {
    let is_narrow = width < 9;
    match (mode.mode.as_str(), mode.slots, &mode.value) {
        ("exclusive", ..) if is_narrow => "excl".to_owned(),
        ("slots", Some(slots), _) if !is_narrow => format!("{slots} slots"),
        ("shared", _, Some(value)) if width > 12 => format!("shared by {value}"),
        (other, ..) => other.to_owned(),
    }
}
