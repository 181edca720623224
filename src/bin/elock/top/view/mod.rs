//! The state as a frame. Nothing here asks anybody, or keeps anything but how far lists are moved.

mod details;
mod grid;
mod header;
mod help;
mod keys;
mod palette;
mod question;
mod trouble;
mod waits;

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;

use super::round::Sample;
use super::state::{Mode, State};
use super::text::fit;
use crate::duration::show;
use crate::figures::grouped;
use crate::show::status::alarms;
pub use palette::Palette;

/// The smallest terminal that shows anything of use.
const SMALLEST: (u16, u16) = (60, 15);

/// From this width on the waits stand beside the keys.
const WIDE: u16 = 140;

/// For how long a restart of the server is told, and what came of an intervention.
const NEWS: Duration = Duration::from_secs(120);

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, state: &mut State, palette: Palette, now: Instant) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        return too_small(frame, area);
    }
    let is_in_trouble = trouble::trouble(state, now).is_some();
    let header = header::LINES + u16::from(is_in_trouble);
    let parts = Layout::vertical([
        Constraint::Length(header),
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Length(1),
    ]);
    let [header, body, notes, footer] = parts.areas(area);
    let [keys, waits] = split(body);
    state.fit(keys.height.saturating_sub(keys::TITLE_LINES).into());
    keys::draw(frame, keys, state, palette);
    waits::draw(frame, waits, state, palette);
    details::draw(frame, body, state, palette);
    if is_in_trouble {
        // What is known is old.
        frame.buffer_mut().set_style(body, palette.quiet());
    }
    header::draw(frame, header, state, palette, now);
    draw_notes(frame, notes, state, palette, now);
    let help = fit(keys_help(state), footer.width.into());
    frame.render_widget(Line::styled(help, palette.quiet()), footer);
    match &state.mode {
        Mode::Help => help::draw(frame, area, palette),
        Mode::Ask(asked) => question::draw(frame, area, asked, palette),
        Mode::Browse | Mode::Filter(_) | Mode::Details(_) => {}
    }
}

fn split(body: Rect) -> [Rect; 2] {
    match body.width >= WIDE {
        true => {
            let columns = [Constraint::Fill(5), Constraint::Fill(3)];
            Layout::horizontal(columns).spacing(2).areas(body)
        }
        false => {
            let waits = (body.height / 3).clamp(4, 14);
            Layout::vertical([Constraint::Fill(1), Constraint::Length(waits)]).areas(body)
        }
    }
}

fn too_small(frame: &mut Frame<'_>, area: Rect) {
    let lines = [
        format!("too small: {}x{}", area.width, area.height),
        format!("elock top needs {}x{}", SMALLEST.0, SMALLEST.1),
    ];
    for (line, y) in lines.iter().zip(area.top()..area.bottom()) {
        let line = fit(line, area.width.into());
        frame.render_widget(Line::raw(line), Rect::new(area.x, y, area.width, 1));
    }
}

fn draw_notes(frame: &mut Frame<'_>, area: Rect, state: &State, palette: Palette, now: Instant) {
    let picture = state.picture();
    let restarted = picture.counters.restart_at();
    let ago = restarted.map(|at| now.saturating_duration_since(at));
    let news = ago.filter(|ago| *ago < NEWS).map(|ago| {
        let ago = show(header::millis(ago));
        format!("the server was restarted {ago} ago")
    });
    let info = picture.sample.iter().map(|sample| &sample.info);
    let alarms: Vec<String> = info.flat_map(alarms).collect();
    let told = state.told.as_ref();
    let told = told.filter(|(_, at)| now.saturating_duration_since(*at) < NEWS);
    let told = told.map(|(told, _)| told);
    let is_bad = !alarms.is_empty() || told.is_some_and(|told| !told.is_done);
    let style = match told.is_some() || news.is_some() {
        _ if is_bad => palette.bad(),
        true => palette.warning(),
        false => palette.quiet(),
    };
    let unread = picture.sample.iter().flat_map(|sample| notes(sample));
    let told = told.map(|told| told.text.clone()).into_iter();
    let notes = told.chain(alarms).chain(news).chain(unread);
    let notes: Vec<String> = notes.collect();
    let text = fit(&format!(" {}", notes.join("; ")), area.width.into());
    frame.render_widget(Line::styled(text, style), area);
}

/// What was not read.
fn notes(sample: &Sample) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(read) = sample.sessions_cut {
        let all = grouped(sample.info.number("sessions"));
        notes.push(format!("first {} of {all} sessions", grouped(read as u64)));
    }
    if let Some(read) = sample.page_cut {
        let read = grouped(read as u64);
        notes.push(match sample.prefix.is_empty() {
            true => {
                let all = grouped(sample.info.number("locks"));
                format!("keys without waiters: first {read} of {all}")
            }
            false => format!("keys without waiters: first {read} that begin so"),
        });
    }
    let search = header::millis(sample.search_took);
    if search >= 250 {
        notes.push(format!("a search for keys takes {}", show(search)));
    }
    let took = header::millis(sample.took);
    if took >= 100 {
        notes.push(format!("a look takes {}", show(took)));
    }
    notes
}

fn keys_help(state: &State) -> &'static str {
    match state.mode {
        Mode::Filter(_) => {
            " type a part of the key, or ^ and its beginning   Enter keep   Esc undo"
        }
        Mode::Details(_) => " Esc back   arrows move   K end a session   B free the lock   q quit",
        Mode::Ask(_) => " y do it   any other key: do not",
        _ if !state.filter.0.is_empty() => {
            " q quit   ? help   / filter   c or Esc all keys   s sort   Enter one key"
        }
        _ => " q quit  ? help  / filter  c clear it  s sort  Enter one key  space freeze",
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::style::{Color, Modifier};

    use super::super::poller::Report;
    use super::super::rows::{Filter, Sort};
    use super::super::tests::{held, sample, told, waiting};
    use super::*;

    const HOSTILE: &str = "\u{202e}k\u{1b}[31m\u{7}\u{9b}2J\u{301}";

    fn terminal(width: u16, height: u16) -> Terminal<TestBackend> {
        Terminal::new(TestBackend::new(width, height)).expect("it is in memory")
    }

    fn screen(state: &mut State, width: u16, height: u16) -> Vec<String> {
        let mut terminal = terminal(width, height);
        let frame = |frame: &mut Frame<'_>| draw(frame, state, Palette::new(true), Instant::now());
        terminal.draw(frame).expect("it is in memory");
        let cells = terminal.backend().buffer().content();
        let line = |cells: &[ratatui::buffer::Cell]| {
            cells.iter().map(|cell| cell.symbol()).collect::<String>()
        };
        cells
            .chunks(usize::from(width).max(1))
            .map(|cells| line(cells).trim_end().to_owned())
            .collect()
    }

    fn busy() -> State {
        let mut state = State::new("127.0.0.1:11400".to_owned());
        let waits = vec![
            waiting(24, "report", 61_000),
            waiting(25, "report", 2_000),
            waiting(26, HOSTILE, 500),
        ];
        let locks = vec![
            held("report", 1, 3_725_000, 2),
            held(HOSTILE, 2, 90_000, 1),
            held("quiet", 3, 100, 0),
        ];
        state.take(told(sample(waits, locks)));
        state
    }

    /// What is asked before the busiest key is freed.
    fn asked() -> Mode {
        let mut state = busy();
        state.ask_to_free();
        state.mode
    }

    #[track_caller]
    fn has(screen: &[String], text: &str) {
        let is_there = screen.iter().any(|line| line.contains(text));
        assert!(is_there, "no {text:?} in\n{}", screen.join("\n"));
    }

    #[test]
    fn a_small_screen_has_everything() {
        let screen = screen(&mut busy(), 80, 24);
        for text in [
            "elock top  127.0.0.1:11400  elockd 9.8.7  up 2h 3m  in memory",
            "every 1.0s",
            "now         sessions 12  connected 11  locks 3  waiters 3  watchers 0",
            "per second  grants 0  hand-overs 0",
            "deadlocks 0",
            "5s a column",
            " KEYS by waiters, row 1 of 3",
            " report              #1 web-1         exclusive   1h 2m   1m 0s       2   1m 1s",
            " 1h 2m",
            " 1m 1s",
            " LONGEST WAITS",
            " #24 app-24",
            " q quit ",
        ] {
            has(&screen, text);
        }
    }

    #[test]
    fn a_large_screen_has_the_waits_beside_the_keys() {
        let screen = screen(&mut busy(), 200, 50);
        let line = screen.iter().find(|line| line.contains(" KEYS by waiters"));
        let line = line.expect("a title");
        assert!(line.contains("LONGEST WAITS"), "{line}");
    }

    #[test]
    fn hostile_text_is_shown_by_its_numbers() {
        let looks: [fn(&mut State); 4] = [
            |_| {},
            |state| state.mode = Mode::Details(0),
            State::ask_to_kick,
            State::ask_to_free,
        ];
        for look in looks {
            let mut state = busy();
            state.set_sort(Sort::Waiters);
            state.move_by(1);
            state.filter = Filter(HOSTILE.to_owned());
            look(&mut state);
            state.take(Report::Unreachable {
                since: Instant::now(),
                reason: HOSTILE.to_owned(),
            });
            for (width, height) in [(80, 24), (200, 50), (60, 15)] {
                let screen = screen(&mut state, width, height);
                has(&screen, r"\xE2\x80\xAEk\x");
                let raw = |c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{301}');
                assert!(!screen.iter().any(|line| line.contains(raw)));
            }
        }
    }

    #[test]
    fn a_terminal_that_is_too_small_is_told_so() {
        has(&screen(&mut busy(), 59, 24), "elock top needs 60x15");
        has(&screen(&mut busy(), 80, 14), "too small: 80x14");
        for size in [(1, 1), (0, 0), (3, 100), (100, 2)] {
            screen(&mut busy(), size.0, size.1);
        }
    }

    #[test]
    fn every_size_and_mode_can_be_drawn() {
        for mode in [
            Mode::Browse,
            Mode::Help,
            asked(),
            Mode::Details(1_000),
            Mode::Filter(Filter::default()),
        ] {
            for (width, height) in [
                (60, 15),
                (61, 16),
                (99, 15),
                (139, 40),
                (140, 15),
                (500, 200),
            ] {
                let mut state = busy();
                state.mode = mode.clone();
                screen(&mut state, width, height);
                screen(&mut State::new("s".to_owned()), width, height);
            }
        }
    }

    #[test]
    fn a_lost_server_greys_what_it_told_and_says_why() {
        let mut state = busy();
        state.take(Report::Unreachable {
            since: Instant::now(),
            reason: "Connection refused".to_owned(),
        });
        let lines = screen(&mut state, 80, 24);
        has(&lines, "no connection for 0ms: Connection refused");
        has(&lines, "NO CONNECTION");
        has(&lines, " report ");
        let mut terminal = terminal(80, 24);
        let frame =
            |frame: &mut Frame<'_>| draw(frame, &mut state, Palette::new(true), Instant::now());
        terminal.draw(frame).expect("it is in memory");
        let y = lines.iter().position(|line| line.contains(" report "));
        let y = u16::try_from(y.expect("a row")).expect("small");
        assert!(
            terminal.backend().buffer()[(2, y)]
                .modifier
                .contains(Modifier::DIM)
        );
    }

    #[test]
    fn without_colours_there_are_none() {
        let mut terminal = terminal(80, 24);
        let mut state = busy();
        let frame =
            |frame: &mut Frame<'_>| draw(frame, &mut state, Palette::new(false), Instant::now());
        terminal.draw(frame).expect("it is in memory");
        let cells = terminal.backend().buffer().content();
        let is_plain =
            |cell: &ratatui::buffer::Cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset);
        assert!(cells.iter().all(is_plain));
    }

    #[test]
    fn what_was_not_read_is_said() {
        let mut sample = sample(vec![], vec![]);
        sample.sessions_cut = Some(10_000);
        sample.page_cut = Some(1_000);
        let mut state = State::new("s".to_owned());
        state.take(told(sample));
        let screen = screen(&mut state, 120, 24);
        has(
            &screen,
            "first 10,000 of 12 sessions; keys without waiters: first 1,000 of 3",
        );
    }

    #[test]
    fn a_server_that_drains_or_cannot_store_says_so_before_all_else() {
        let mut sample = sample(vec![], vec![]);
        sample.sessions_cut = Some(10_000);
        let facts = [
            ("storing", HOSTILE),
            ("draining", "58123"),
            ("draining_for_ms", "1900"),
        ];
        let facts = facts.map(|(name, value)| (name.to_owned(), value.to_owned()));
        sample.info.0.extend(facts);
        let mut state = State::new("s".to_owned());
        state.take(told(sample));
        let screen = screen(&mut state, 160, 24);
        has(&screen, r" CANNOT STORE: \xE2\x80\xAEk\x");
        has(
            &screen,
            "; DRAINING for 1.9s: no new locks, and it stops within 58.1s; first ",
        );
    }

    #[test]
    fn details_show_holders_and_those_who_wait() {
        let mut sample = sample(vec![], vec![held("report", 1, 10, 2)]);
        sample.peers.insert(24, "10.0.0.7:5555".into());
        let mut state = State::new("s".to_owned());
        state.take(told(sample));
        state.mode = Mode::Details(0);
        let screen = screen(&mut state, 80, 24);
        for text in [
            "ONE KEY",
            "HOLDERS 1   exclusive",
            "#1 web-1",
            "WAITING 2",
            " PEER ",
            " LEASE ",
            "10.0.0.7:5555",
        ] {
            has(&screen, text);
        }
    }

    #[test]
    fn details_that_are_moved_keep_the_key_and_tell_of_who_is_not_listed() {
        let mut lock = held("report", 1, 10, 10);
        lock.waiting_in_all = 120;
        let mut state = State::new("s".to_owned());
        state.take(told(sample(vec![], vec![lock])));
        state.mode = Mode::Details(usize::MAX / 2);
        let screen = screen(&mut state, 80, 24);
        has(&screen, "ONE KEY  report ");
        has(&screen, "… and 110 more");
    }
}
