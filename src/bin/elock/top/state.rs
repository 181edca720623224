//! What is shown: the last reports, and what the person at the keyboard has chosen. Knows neither the
//! terminal nor the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counters::Counters;
use super::intervention::{Intervention, Told, freeing, kicks};
use super::poller::Report;
use super::round::{Interest, Sample};
use super::rows::{Filter, Row, Sort, rows};

/// Everything.
#[derive(Debug)]
pub struct State {
    /// Where the server is looked for.
    pub servers: String,
    /// Whether it is there.
    pub link: Link,
    /// Since when a question is open.
    asked_at: Option<Instant>,
    live: Picture,
    frozen: Option<Picture>,
    /// The rows of the table.
    pub rows: Vec<Row>,
    /// By what they are in order.
    pub sort: Sort,
    /// Which of them are shown.
    pub filter: Filter,
    /// What keys on the keyboard mean.
    pub mode: Mode,
    selected: usize,
    /// The key of the selected row, which moves along with it.
    selected_key: Option<Arc<[u8]>>,
    first_shown: usize,
    shown: usize,
    wishes: u64,
    /// What came of the last intervention, or why there was none.
    pub told: Option<(Told, Instant)>,
}

/// The connection to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Nothing was heard yet.
    Connecting,
    /// It answers, and is asked this often.
    Up(Duration),
    /// There is none.
    Down {
        /// Since when.
        since: Instant,
        /// Why.
        reason: String,
    },
}

/// What the server told, and its past.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// The last round; none before the first.
    pub sample: Option<Arc<Sample>>,
    /// The counters until then.
    pub counters: Counters,
}

/// What keys on the keyboard mean.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mode {
    /// They choose.
    #[default]
    Browse,
    /// They are the filter's text. The filter before that comes back if it is given up.
    Filter(Filter),
    /// They move the list of one key's holders and waiters.
    Details(usize),
    /// Any of them closes the help.
    Help,
    /// One of them says yes.
    Ask(Question),
}

/// What is asked before something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What could be done.
    pub choices: Vec<Intervention>,
    /// Which of them is asked about.
    pub at: usize,
    /// What the keyboard means after it.
    pub back: Box<Mode>,
}

impl Question {
    /// What is asked about.
    pub fn choice(&self) -> Option<&Intervention> {
        self.choices.get(self.at)
    }

    /// Asks about another.
    pub fn turn(&mut self, by: isize) {
        let last = self.choices.len().saturating_sub(1);
        self.at = self.at.saturating_add_signed(by).min(last);
    }
}

impl State {
    /// Before anything is known.
    pub fn new(servers: String) -> Self {
        Self {
            servers,
            link: Link::Connecting,
            asked_at: None,
            live: Picture::default(),
            frozen: None,
            rows: Vec::new(),
            sort: Sort::default(),
            filter: Filter::default(),
            mode: Mode::default(),
            selected: 0,
            selected_key: None,
            first_shown: 0,
            shown: 0,
            wishes: 0,
            told: None,
        }
    }

    /// Takes a report.
    pub fn take(&mut self, report: Report) {
        match report {
            Report::Asking(at) => {
                self.asked_at.get_or_insert(at);
            }
            Report::Unreachable { since, reason } => {
                self.asked_at = None;
                self.link = Link::Down { since, reason };
            }
            Report::Told(sample, interval) => {
                self.asked_at = None;
                self.link = Link::Up(interval);
                let counters = &mut self.live.counters;
                counters.take(sample.at, sample.connection, &sample.info);
                self.live.sample = Some(sample);
                if self.frozen.is_none() {
                    self.make_rows();
                }
            }
        }
    }

    /// For how long the server has owed an answer.
    pub fn unanswered(&self, now: Instant) -> Option<Duration> {
        self.asked_at.map(|at| now.saturating_duration_since(at))
    }

    /// How long ago the server told what is the latest.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let at = self.live.sample.as_ref()?.at;
        Some(now.saturating_duration_since(at))
    }

    /// What is on the screen.
    pub fn picture(&self) -> &Picture {
        self.frozen.as_ref().unwrap_or(&self.live)
    }

    /// Whether the picture stands still.
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Lets the picture stand still, or go on.
    pub fn toggle_frozen(&mut self) {
        self.frozen = match self.frozen {
            Some(_) => None,
            None => Some(self.live.clone()),
        };
        self.make_rows();
    }

    /// In another order.
    pub fn set_sort(&mut self, sort: Sort) {
        self.sort = sort;
        self.make_rows();
        self.select(0);
        self.wishes += 1;
    }

    /// With other rows.
    pub fn set_filter(&mut self, filter: Filter) {
        let is_other_prefix = filter.prefix() != self.filter.prefix();
        if filter != self.filter {
            self.filter = filter;
            self.make_rows();
            self.select(0);
        }
        if is_other_prefix {
            self.wishes += 1;
        }
    }

    /// The server is asked as soon as it may be.
    pub fn wish(&mut self) {
        self.wishes += 1;
    }

    /// Asks whether a session that holds the selected key, or waits for it, is to be ended.
    pub fn ask_to_kick(&mut self) {
        let choices = self.of_selected(kicks).unwrap_or_default();
        self.ask(
            choices,
            "no session is known to hold this key or to wait for it",
        );
    }

    /// Asks whether the lock of the selected key is to be taken from who holds it.
    pub fn ask_to_free(&mut self) {
        let choice = self.of_selected(freeing).flatten();
        self.ask(
            choice.into_iter().collect(),
            "nobody is known to hold this key",
        );
    }

    fn of_selected<T>(&self, find: impl FnOnce(&Row, &Sample) -> T) -> Option<T> {
        let (_, row) = self.selected()?;
        Some(find(row, self.picture().sample.as_ref()?))
    }

    fn ask(&mut self, choices: Vec<Intervention>, otherwise: &str) {
        if choices.is_empty() {
            let (text, is_done) = (otherwise.to_owned(), false);
            return self.hear(Told { text, is_done });
        }
        let back = Box::new(std::mem::take(&mut self.mode));
        let at = 0;
        self.mode = Mode::Ask(Question { choices, at, back });
    }

    /// Takes what came of an intervention. What is shown is looked at again.
    pub fn hear(&mut self, told: Told) {
        self.told = Some((told, Instant::now()));
        self.wish();
    }

    fn make_rows(&mut self) {
        self.rows = match &self.picture().sample {
            Some(sample) => rows(sample, &self.filter, self.sort),
            None => Vec::new(),
        };
        let key = self.selected_key.as_ref();
        let found = key.and_then(|key| self.rows.iter().position(|row| row.key == *key));
        match (found, &self.mode) {
            (Some(index), _) => self.selected = index,
            // Whoever looks at a key goes on looking at it though it is gone.
            (None, Mode::Details(_)) => {}
            (None, _) => self.select(self.selected),
        }
    }

    /// The selected row, and which it is.
    pub fn selected(&self) -> Option<(usize, &Row)> {
        let row = self.rows.get(self.selected)?;
        (self.selected_key.as_ref() == Some(&row.key)).then_some((self.selected, row))
    }

    /// The key that is or was selected.
    pub fn selected_key(&self) -> Option<&[u8]> {
        self.selected_key.as_deref()
    }

    /// Selects the row with that number, or the last.
    pub fn select(&mut self, index: usize) {
        self.selected = index.min(self.rows.len().saturating_sub(1));
        self.selected_key = self.rows.get(self.selected).map(|row| Arc::clone(&row.key));
    }

    /// Selects one so many rows further down, or up.
    pub fn move_by(&mut self, rows: isize) {
        self.select(self.selected.saturating_add_signed(rows));
    }

    /// Selects one a screen further down, or up.
    pub fn move_by_screens(&mut self, screens: isize) {
        let rows = isize::try_from(self.shown.max(1)).unwrap_or(isize::MAX);
        self.move_by(screens.saturating_mul(rows));
    }

    /// There is room for so many rows. The selected one is among them.
    pub fn fit(&mut self, room: usize) {
        self.shown = room;
        let last_first = self.rows.len().saturating_sub(room);
        let lowest = (self.selected + 1).saturating_sub(room);
        self.first_shown = self.first_shown.clamp(lowest, self.selected.max(lowest));
        self.first_shown = self.first_shown.min(last_first);
    }

    /// The number of the first row on the screen.
    pub fn first_shown(&self) -> usize {
        self.first_shown
    }

    fn detailed_key(&self) -> Option<Vec<u8>> {
        match self.mode {
            Mode::Details(_) => self.selected_key().map(<[u8]>::to_vec),
            _ => None,
        }
    }

    /// What the server should be asked for: the selected key first.
    pub fn interest(&self) -> Interest {
        let on_screen = self.rows.iter().skip(self.first_shown).take(self.shown);
        let keys = on_screen.map(|row| row.key.to_vec());
        let selected = self.selected_key.iter().map(|key| key.to_vec());
        Interest {
            prefix: self.filter.prefix().to_vec(),
            keys: selected.chain(keys).collect(),
            detailed: self.detailed_key(),
            wishes: self.wishes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{held, sample, told, waiting};
    use super::*;

    fn state() -> State {
        let mut state = State::new("server".to_owned());
        let locks = ["a", "b", "c", "d"].map(|key| held(key, 1, 10, 0));
        state.take(told(sample(vec![], locks.into())));
        state
    }

    fn selected(state: &State) -> Option<&str> {
        state.selected().map(|(_, row)| &*row.shown)
    }

    #[test]
    fn the_selection_stays_with_its_key() {
        let mut state = state();
        assert_eq!(selected(&state), Some("a"));
        state.move_by(2);
        assert_eq!(selected(&state), Some("c"));
        let locks = vec![held("c", 1, 10, 1), held("x", 1, 10, 0)];
        state.take(told(sample(vec![waiting(9, "c", 1)], locks)));
        assert_eq!(state.selected().map(|(index, _)| index), Some(0));
        assert_eq!(selected(&state), Some("c"));
        state.take(told(sample(vec![], vec![])));
        assert_eq!(selected(&state), None);
        state.move_by(isize::MAX);
        state.move_by(isize::MIN);
    }

    #[test]
    fn details_stay_with_a_key_that_is_gone() {
        let mut state = state();
        state.mode = Mode::Details(0);
        state.take(told(sample(vec![], vec![held("z", 1, 10, 0)])));
        assert_eq!(
            (selected(&state), state.selected_key()),
            (None, Some(&b"a"[..]))
        );
    }

    #[test]
    fn a_frozen_picture_stands_still_and_misses_nothing() {
        let mut state = state();
        state.toggle_frozen();
        state.take(told(sample(vec![], vec![held("new", 1, 10, 0)])));
        assert_eq!(state.rows.len(), 4);
        state.toggle_frozen();
        assert_eq!(state.rows.len(), 1);
    }

    #[test]
    fn the_last_data_stay_when_the_server_goes() {
        let mut state = state();
        let since = Instant::now();
        state.take(Report::Unreachable {
            since,
            reason: "gone".to_owned(),
        });
        assert!(matches!(state.link, Link::Down { .. }));
        assert_eq!(state.rows.len(), 4);
    }

    #[test]
    fn the_selected_row_is_on_the_screen_and_in_the_interest() {
        let mut state = state();
        state.fit(2);
        state.move_by(3);
        state.fit(2);
        assert_eq!(state.first_shown(), 2);
        let keys = state.interest().keys;
        assert_eq!(keys, [b"d", b"c", b"d"].map(|key| key.to_vec()));
        state.move_by(-3);
        state.fit(2);
        assert_eq!(state.first_shown(), 0);
        state.fit(0);
        state.fit(100);
        assert_eq!(state.first_shown(), 0);
    }
}
