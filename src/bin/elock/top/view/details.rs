//! One key with its holders and those who wait for it.

use elock_client::listing::{HolderEntry, LockEntry, WaitingEntry};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear};

use super::super::rows::{Lock, Row};
use super::super::state::{Mode, State};
use super::super::text::{fit, grouped, left, right, wrap};
use super::Palette;
use super::header::millis;
use super::keys::{fit_name, holder_name, holder_number, mode_of};
use crate::duration::show;

/// A key may have four thousand bytes; so many lines of it are shown.
const KEY_LINES: usize = 50;

/// Draws it over the area, if it is open.
pub fn draw(frame: &mut Frame<'_>, area: Rect, state: &mut State, palette: Palette) {
    let Mode::Details(first) = state.mode else {
        return;
    };
    let block = Block::bordered()
        .title(Span::styled(" ONE KEY ", palette.title()))
        .title_bottom(Span::styled(" Esc closes, arrows move ", palette.quiet()));
    let inner = block.inner(area);
    frame.render_widget(Clear, area);
    frame.render_widget(block, area);
    let width = usize::from(inner.width);
    let lines = match state.selected() {
        Some((_, row)) => lines_of(row, width, palette),
        None => gone(state, width),
    };
    let last_first = lines.len().saturating_sub(inner.height.into());
    let first = first.min(last_first);
    state.mode = Mode::Details(first);
    for (line, y) in lines
        .into_iter()
        .skip(first)
        .zip(inner.top()..inner.bottom())
    {
        frame.render_widget(line, Rect::new(inner.x, y, inner.width, 1));
    }
}

fn gone(state: &State, width: usize) -> Vec<Line<'static>> {
    let key = state.selected_key().unwrap_or_default();
    let key = String::from_utf8_lossy(key);
    let mut lines = key_lines(&key, width);
    lines.push(Line::default());
    lines.push(Line::raw("nobody holds or waits for it now"));
    lines
}

fn key_lines(shown: &str, width: usize) -> Vec<Line<'static>> {
    let lines = wrap(shown, width).into_iter().take(KEY_LINES);
    lines.map(Line::raw).collect()
}

fn lines_of(row: &Row, width: usize, palette: Palette) -> Vec<Line<'static>> {
    let mut lines = key_lines(&row.shown, width);
    lines.push(Line::default());
    match &row.lock {
        Lock::Unknown => lines.push(Line::styled("not read yet", palette.quiet())),
        Lock::Free => lines.push(Line::raw("nobody held it when it was asked for")),
        Lock::Glimpsed(holder) => {
            let text = fit(&format!("held by {holder}"), width);
            lines.push(Line::raw(text));
            lines.push(Line::styled("more is not read yet", palette.quiet()));
        }
        Lock::Held(entry, age) => {
            if entry.key_base64.is_some() {
                let text = r"not all of the key is text: \xNN stands for a byte";
                lines.push(Line::styled(text, palette.quiet()));
            }
            if !age.is_zero() {
                let text = format!("as it was {} before the rest", show(millis(*age)));
                lines.push(Line::styled(text, palette.warning()));
            }
            lines.extend(holders(entry, width, palette));
            lines.push(Line::default());
            lines.extend(waiting(entry, width, palette));
        }
    }
    lines
}

/// `HOLDERS 12, the first 10`.
fn heading(name: &str, shown: usize, in_all: u64, behind: &str, palette: Palette) -> Line<'static> {
    let count = match in_all > shown as u64 {
        true => format!(" {}, of which these are the first {shown}", grouped(in_all)),
        false => format!(" {}", grouped(in_all)),
    };
    Line::from(vec![
        Span::styled(name.to_owned(), palette.title()),
        Span::raw(count),
        Span::styled(behind.to_owned(), palette.quiet()),
    ])
}

fn holders(entry: &LockEntry, width: usize, palette: Palette) -> Vec<Line<'static>> {
    let mode = fit(&mode_of(&entry.mode, usize::MAX), width.saturating_sub(40));
    let behind = format!("   {mode}");
    let count = (entry.holders.len(), entry.holders_in_all);
    let mut lines = vec![heading("HOLDERS", count.0, count.1, &behind, palette)];
    lines.extend(entry.holders.iter().map(|one| holder(one, width)));
    lines
}

fn holder(holder: &HolderEntry, width: usize) -> Line<'static> {
    let room = width.saturating_sub(62).clamp(14, 60);
    let who = fit_name(holder_name(holder), &holder_number(holder), room);
    let held = holder.held_ms.map_or_else(|| "?".to_owned(), show);
    let lease = match holder.lease_left_ms {
        Some(ms) => format!("lease left {}", show(ms)),
        None => "no lease".to_owned(),
    };
    let token = holder.token;
    Line::raw(format!(
        "  {}  held {}  {}  token {token}",
        left(&who, room),
        right(&held, 7),
        left(&lease, 18),
    ))
}

fn waiting(entry: &LockEntry, width: usize, palette: Palette) -> Vec<Line<'static>> {
    let count = (entry.waiting.len(), entry.waiting_in_all);
    let mut lines = vec![heading("WAITING", count.0, count.1, "", palette)];
    lines.extend(entry.waiting.iter().map(|one| waiter(one, width)));
    lines
}

fn waiter(waiter: &WaitingEntry, width: usize) -> Line<'static> {
    let room = width.saturating_sub(62).clamp(14, 60);
    let number = format!("#{}", waiter.session);
    let who = fit_name(waiter.name.as_deref(), &number, room);
    let owner = waiter.owner.as_ref();
    let owner = owner.map_or_else(String::new, |owner| format!(" for @{owner}"));
    let wants = format!("{}{owner}", mode_of(&waiter.mode, usize::MAX));
    let text = format!(
        "  {}  waited {}  left {}  wants ",
        left(&who, room),
        right(&show(waiter.waited_ms), 7),
        right(&show(waiter.left_ms), 7),
    );
    let room = width.saturating_sub(text.chars().count());
    Line::raw(text + &fit(&wants, room))
}
