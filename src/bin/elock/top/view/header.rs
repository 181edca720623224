//! The upper lines: which server, how many of everything, how fast, and what went wrong.

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Sparkline;

use super::super::counters::{COLUMN, Counters};
use super::super::state::{Link, State};
use super::super::text::{fit, rate, width_of};
use super::Palette;
use super::trouble::trouble;
use crate::duration::show;
use crate::figures::grouped;

/// How many lines it has while the server is there.
pub const LINES: u16 = 5;

/// The right side of the first line.
const RIGHT: u16 = 16;

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, palette: Palette, now: Instant) {
    let mut lines = vec![server(state, palette, area.width)];
    let counters = &state.picture().counters;
    lines.push(counts(state, palette, area.width));
    lines.push(rates(counters, palette, area.width));
    lines.push(sums(counters, palette, area.width));
    for (line, y) in lines.into_iter().zip(area.y..) {
        frame.render_widget(line, Rect::new(area.x, y, area.width, 1));
    }
    let first = Rect::new(area.x, area.y, area.width, 1);
    frame.render_widget(mark(state, palette, now), first);
    past(
        frame,
        Rect::new(area.x, area.y + 4, area.width, 1),
        counters,
        palette,
    );
    if let Some(trouble) = trouble(state, now) {
        let text = fit(&format!(" {trouble}"), area.width.into());
        let line = Line::styled(text, palette.bad());
        frame.render_widget(line, Rect::new(area.x, area.y + LINES, area.width, 1));
    }
}

/// A duration as it is shown.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn server(state: &State, palette: Palette, width: u16) -> Line<'static> {
    let what = match (&state.picture().sample, &state.link) {
        (Some(sample), _) => {
            let info = &sample.info;
            let version = info.get("version").unwrap_or("of an unknown version");
            let uptime = show(info.number("uptime_seconds").saturating_mul(1_000));
            let store = match info.get("store") {
                Some("disk") => format!("on disk, {}", bytes(info.number("store_bytes"))),
                Some("etcd") => format!("in etcd, {}", bytes(info.number("store_bytes"))),
                Some("memory") => "in memory".to_owned(),
                _ => String::new(),
            };
            format!("{}  elockd {version}  up {uptime}  {store}", sample.address)
        }
        (None, Link::Connecting) => format!("{}  connecting …", state.servers),
        (None, _) => state.servers.clone(),
    };
    let room = usize::from(width.saturating_sub(RIGHT)).saturating_sub(12);
    Line::from(vec![
        Span::styled(" elock top  ", palette.title()),
        Span::raw(fit(&what, room)),
    ])
}

fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} kB", count / 1_000),
        _ => format!("{} MB", grouped(count / 1_000_000)),
    }
}

fn mark(state: &State, palette: Palette, now: Instant) -> Line<'static> {
    let (text, style) = match &state.link {
        _ if state.is_frozen() => {
            let sample = state.picture().sample.as_ref();
            let age = sample.map(|one| show(millis(now.saturating_duration_since(one.at))));
            let text = format!("FROZEN {} ", age.unwrap_or_default());
            (text, palette.warning())
        }
        Link::Up(_) if trouble(state, now).is_some() => ("NO ANSWER ".to_owned(), palette.bad()),
        Link::Up(interval) => (
            format!("every {} ", show(millis(*interval))),
            palette.quiet(),
        ),
        Link::Down { .. } => ("NO CONNECTION ".to_owned(), palette.bad()),
        Link::Connecting => (String::new(), palette.quiet()),
    };
    Line::styled(text, style).alignment(Alignment::Right)
}

/// `name 1,234` pairs in a line, as many as there is room for.
fn pairs(
    begin: String,
    pairs: impl IntoIterator<Item = (&'static str, String)>,
    palette: Palette,
    width: u16,
) -> Line<'static> {
    let mut room = usize::from(width).saturating_sub(width_of(&begin));
    let mut spans = vec![Span::styled(begin, palette.quiet())];
    for (name, value) in pairs {
        let style = match value.as_str() {
            "0" => palette.quiet(),
            _ => palette.strong(),
        };
        let needed = name.len() + 1 + value.len();
        if needed > room {
            break;
        }
        room = room.saturating_sub(needed + 2);
        spans.push(Span::raw(format!("{name} ")));
        spans.push(Span::styled(format!("{value}  "), style));
    }
    Line::from(spans)
}

fn counts(state: &State, palette: Palette, width: u16) -> Line<'static> {
    let sample = state.picture().sample.as_ref();
    let number = |name| sample.map_or(0, |sample| sample.info.number(name));
    let counts = [
        ("sessions", "sessions"),
        ("connected", "connected_sessions"),
        ("locks", "locks"),
        ("waiters", "waiters"),
        ("watchers", "watchers"),
    ];
    let counts = counts.map(|(shown, name)| (shown, grouped(number(name))));
    pairs(" now         ".to_owned(), counts, palette, width)
}

fn rates(counters: &Counters, palette: Palette, width: u16) -> Line<'static> {
    let rates = [
        ("grants", "grants"),
        ("hand-overs", "hand_overs"),
        ("refusals", "refusals"),
        ("connections", "connections"),
    ];
    let rates = rates.map(|(shown, name)| (shown, rate(counters.rate(name))));
    pairs(" per second  ".to_owned(), rates, palette, width)
}

fn sums(counters: &Counters, palette: Palette, width: u16) -> Line<'static> {
    let sums = [
        ("deadlocks", "deadlocks"),
        ("timeouts", "timeouts"),
        ("lease ends", "lease_ends"),
        ("grace ends", "grace_ends"),
    ];
    let begin = format!(
        " {:<12}",
        format!("in {}", show(millis(counters.watched())))
    );
    let sums = sums.map(|(shown, name)| (shown, grouped(counters.sum(name))));
    pairs(begin, sums, palette, width)
}

fn past(frame: &mut Frame<'_>, area: Rect, counters: &Counters, palette: Palette) {
    let columns = Layout::horizontal([
        Constraint::Length(13),
        Constraint::Fill(1),
        Constraint::Length(32),
    ]);
    let [title, bars, legend] = columns.areas(area);
    frame.render_widget(Span::styled(" grants/s", palette.quiet()), title);
    let past = counters.past(bars.width.into());
    let most = past.iter().copied().max().unwrap_or(0);
    // The latest column stands at the right end.
    let skipped = bars
        .width
        .saturating_sub(past.len().try_into().unwrap_or(u16::MAX));
    let bars = Rect::new(bars.x + skipped, bars.y, bars.width - skipped, 1);
    let line = Sparkline::default()
        .data(&past)
        .max(most.max(1))
        .style(palette.past());
    frame.render_widget(line, bars);
    let text = format!("{}s a column, at most {} ", COLUMN.as_secs(), grouped(most));
    let text = Line::styled(text, palette.quiet()).alignment(Alignment::Right);
    frame.render_widget(text, legend);
}
