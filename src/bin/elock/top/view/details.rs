//! One key with its holders and those who wait for it.

use elock_client::listing::{HolderEntry, LockEntry, WaitingEntry};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear};

use super::super::peers::Peers;
use super::super::rows::{Lock, Row};
use super::super::state::{Mode, State};
use super::super::text::{fit, fit_ends, width_of, wrap};
use super::Palette;
use super::grid::{Column, line_of_cells};
use super::header::millis;
use crate::duration::show;
use crate::figures::grouped;
use crate::show::{key, parties};

/// A key may have four thousand bytes; so many lines of it are shown.
const KEY_LINES: usize = 50;

/// Tokens begin with the time, in so many digits for a long time to come.
const TOKEN: usize = 16;

/// Draws it over the area, if it is open.
pub fn draw(frame: &mut Frame<'_>, area: Rect, state: &mut State, palette: Palette) {
    let Mode::Details(first) = state.mode else {
        return;
    };
    let inner = Block::bordered().inner(area);
    let lines = lines_of(state, inner.width.into(), palette);
    let room = usize::from(inner.height);
    let first = first.min(lines.len().saturating_sub(room));
    state.mode = Mode::Details(first);
    let block = Block::bordered()
        .title(title(state, inner.width.into(), palette))
        .title_bottom(Span::styled(
            hint(first, room, lines.len()),
            palette.quiet(),
        ));
    frame.render_widget(Clear, area);
    frame.render_widget(block, area);
    for (line, y) in lines
        .into_iter()
        .skip(first)
        .zip(inner.top()..inner.bottom())
    {
        frame.render_widget(line, Rect::new(inner.x, y, inner.width, 1));
    }
}

fn shown_key(state: &State) -> String {
    match state.selected() {
        Some((_, row)) => row.shown.to_string(),
        None => key::shown(state.selected_key().unwrap_or_default()),
    }
}

/// How much of the key the title has room for.
fn title_room(width: usize) -> usize {
    width.saturating_sub(12)
}

/// The key stands here, too, as it must not be moved off the screen.
fn title(state: &State, width: usize, palette: Palette) -> Line<'static> {
    let key = fit_ends(&shown_key(state), title_room(width));
    Line::from(vec![
        Span::styled(" ONE KEY ", palette.title()),
        Span::styled(format!(" {key} "), palette.strong()),
    ])
}

fn hint(first: usize, room: usize, count: usize) -> String {
    let last = count.min(first + room);
    match count > room {
        true => format!(
            " lines {} to {last} of {count}, arrows move, Esc closes ",
            first + 1
        ),
        false => " Esc closes ".to_owned(),
    }
}

fn lines_of(state: &State, width: usize, palette: Palette) -> Vec<Line<'static>> {
    let key = wrap(&shown_key(state), width);
    let is_in_title = key.len() < 2 && width_of(&key.concat()) <= title_room(width);
    let mut lines = Vec::new();
    if !is_in_title {
        lines.extend(key.into_iter().take(KEY_LINES).map(Line::raw));
        lines.push(Line::default());
    }
    match (state.selected(), &state.picture().sample) {
        (Some((_, row)), Some(sample)) => {
            lines.extend(lock_lines(row, &sample.peers, width, palette));
        }
        _ => lines.push(Line::raw("nobody holds or waits for it now")),
    }
    lines
}

fn lock_lines(row: &Row, peers: &Peers, width: usize, palette: Palette) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    match &row.lock {
        Lock::Unknown => lines.push(Line::styled("not read yet", palette.quiet())),
        Lock::Free => lines.push(Line::raw("nobody held it when it was asked for")),
        Lock::Held(entry, age) => {
            if entry.key_base64.is_some() {
                let text = r"not all of the key is text: \xNN stands for a byte";
                lines.push(Line::styled(text, palette.quiet()));
            }
            if !age.is_zero() {
                let text = format!("as it was {} before the rest", show(millis(*age)));
                lines.push(Line::styled(text, palette.warning()));
            }
            lines.extend(holders(entry, peers, width, palette));
            lines.push(Line::default());
            lines.extend(waiting(entry, peers, width, palette));
        }
    }
    lines
}

/// `HOLDERS 12`.
fn heading(name: &str, in_all: u64, behind: &str, palette: Palette) -> Line<'static> {
    Line::from(vec![
        Span::styled(name.to_owned(), palette.title()),
        Span::raw(format!(" {}", grouped(in_all))),
        Span::styled(behind.to_owned(), palette.quiet()),
    ])
}

/// Servers tell of the first ten.
fn rest(shown: usize, in_all: u64, palette: Palette) -> Option<Line<'static>> {
    let more = in_all.saturating_sub(shown as u64);
    let text = format!(
        "  … and {} more, which the server does not list",
        grouped(more)
    );
    (more > 0).then(|| Line::styled(text, palette.warning()))
}

fn peer_of(peers: &Peers, session: Option<u64>) -> String {
    let peer = session.and_then(|number| peers.get(&number));
    peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string())
}

fn holders(entry: &LockEntry, peers: &Peers, width: usize, palette: Palette) -> Vec<Line<'static>> {
    let behind = format!(
        "   {}",
        fit(&parties::mode(entry), width.saturating_sub(20))
    );
    let columns = holder_columns(width);
    let mut lines = vec![heading("HOLDERS", entry.holders_in_all, &behind, palette)];
    lines.push(titles(&columns, palette));
    let cells = |one: &HolderEntry| {
        [
            format!("  {}", parties::holder(one)),
            peer_of(peers, one.session),
            parties::time(one.held_ms),
            parties::time(one.lease_left_ms),
            one.token.to_string(),
        ]
    };
    let shown = entry.holders.iter();
    lines.extend(shown.map(|one| Line::raw(line_of_cells(&columns, &cells(one)))));
    lines.extend(rest(entry.holders.len(), entry.holders_in_all, palette));
    lines
}

fn waiting(entry: &LockEntry, peers: &Peers, width: usize, palette: Palette) -> Vec<Line<'static>> {
    let columns = waiter_columns(width);
    let mut lines = vec![heading("WAITING", entry.waiting_in_all, "", palette)];
    if !entry.waiting.is_empty() {
        lines.push(titles(&columns, palette));
    }
    let cells = |one: &WaitingEntry| {
        [
            format!("  {}", parties::waiter(one)),
            peer_of(peers, Some(one.session)),
            parties::asked_mode(&one.mode),
            show(one.waited_ms),
            show(one.left_ms),
        ]
    };
    let shown = entry.waiting.iter();
    lines.extend(shown.map(|one| Line::raw(line_of_cells(&columns, &cells(one)))));
    lines.extend(rest(entry.waiting.len(), entry.waiting_in_all, palette));
    lines
}

fn titles(columns: &[Column; 5], palette: Palette) -> Line<'static> {
    let titles = columns.map(|column| column.title.to_owned());
    Line::styled(line_of_cells(columns, &titles), palette.quiet())
}

/// The widths of peers, and of those who have them if the other columns take this much.
fn party_widths(width: usize, others: usize) -> (usize, usize) {
    let peer = (width * 2 / 7).clamp(14, 47);
    (peer, width.saturating_sub(peer + others).min(62))
}

fn holder_columns(width: usize) -> [Column; 5] {
    let (peer, party) = party_widths(width, 7 + 7 + TOKEN + 4);
    [
        Column::text("  HOLDER", party),
        Column::text("PEER", peer),
        Column::number("HELD", 7),
        Column::number("LEASE", 7),
        Column::number("TOKEN", TOKEN),
    ]
}

fn waiter_columns(width: usize) -> [Column; 5] {
    let wants = if width >= 100 { 20 } else { 9 };
    let (peer, party) = party_widths(width, wants + 7 + 7 + 4);
    [
        Column::text("  SESSION", party),
        Column::text("PEER", peer),
        Column::text("WANTS", wants),
        Column::number("WAITED", 7),
        Column::number("LEFT", 7),
    ]
}
