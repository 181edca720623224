//! What each key on the keyboard does.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::intervention::Intervention;
use super::rows::{Filter, Sort};
use super::state::{Mode, State};

/// The longest filter that can be typed.
const LONGEST_FILTER: usize = 200;

/// What a key asks of more than the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    None,
    /// The end of the program.
    Quit,
    /// A stop, as by Ctrl-Z in a shell.
    Suspend,
    /// This, to which the answer was yes.
    Intervene(Intervention),
}

/// Takes a key.
pub fn press(state: &mut State, key: KeyEvent) -> Wish {
    if key.kind == KeyEventKind::Release {
        return Wish::None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Wish::Quit,
            KeyCode::Char('z') => Wish::Suspend,
            _ => Wish::None,
        };
    }
    match state.mode {
        Mode::Browse => return browse(state, key.code),
        Mode::Filter(_) => type_filter(state, key.code),
        Mode::Details(first) => return details(state, key.code, first),
        Mode::Ask(_) => return answer(state, key.code),
        Mode::Help => match key.code {
            KeyCode::Char('q') => return Wish::Quit,
            _ => state.mode = Mode::Browse,
        },
    }
    Wish::None
}

fn browse(state: &mut State, code: KeyCode) -> Wish {
    match code {
        KeyCode::Char('q') => return Wish::Quit,
        KeyCode::Esc if state.filter == Filter::default() => return Wish::Quit,
        KeyCode::Esc => state.set_filter(Filter::default()),
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => state.mode = Mode::Help,
        KeyCode::Char('/') => state.mode = Mode::Filter(state.filter.clone()),
        KeyCode::Char('c') => state.set_filter(Filter::default()),
        KeyCode::Char('s') => state.set_sort(state.sort.next()),
        KeyCode::Char('w') => state.set_sort(Sort::Waiters),
        KeyCode::Char('t') => state.set_sort(Sort::Held),
        KeyCode::Char('k') => state.set_sort(Sort::Key),
        KeyCode::Char(' ' | 'p') => state.toggle_frozen(),
        KeyCode::Char('r') => state.wish(),
        KeyCode::Char('K') => state.ask_to_kick(),
        KeyCode::Char('B') => state.ask_to_free(),
        KeyCode::Enter if state.selected().is_some() => {
            state.mode = Mode::Details(0);
            state.wish();
        }
        KeyCode::Up => state.move_by(-1),
        KeyCode::Down => state.move_by(1),
        KeyCode::PageUp => state.move_by_screens(-1),
        KeyCode::PageDown => state.move_by_screens(1),
        KeyCode::Home | KeyCode::Char('g') => state.select(0),
        KeyCode::End | KeyCode::Char('G') => state.select(usize::MAX),
        _ => {}
    }
    Wish::None
}

fn type_filter(state: &mut State, code: KeyCode) {
    let mut text = state.filter.0.clone();
    match code {
        KeyCode::Enter => {
            state.mode = Mode::Browse;
            return;
        }
        KeyCode::Esc => {
            if let Mode::Filter(before) = std::mem::take(&mut state.mode) {
                state.set_filter(before);
            }
            return;
        }
        KeyCode::Backspace => {
            text.pop();
        }
        KeyCode::Char(character) if text.chars().count() < LONGEST_FILTER => text.push(character),
        _ => return,
    }
    state.set_filter(Filter(text));
}

fn details(state: &mut State, code: KeyCode, first: usize) -> Wish {
    let first = match code {
        KeyCode::Char('q') => return Wish::Quit,
        KeyCode::Esc | KeyCode::Enter => {
            state.mode = Mode::Browse;
            return Wish::None;
        }
        KeyCode::Char('K') => {
            state.ask_to_kick();
            return Wish::None;
        }
        KeyCode::Char('B') => {
            state.ask_to_free();
            return Wish::None;
        }
        KeyCode::Char(' ' | 'p') => {
            state.toggle_frozen();
            first
        }
        KeyCode::Up => first.saturating_sub(1),
        KeyCode::Down => first.saturating_add(1),
        KeyCode::PageUp => first.saturating_sub(10),
        KeyCode::PageDown => first.saturating_add(10),
        KeyCode::Home => 0,
        _ => first,
    };
    state.mode = Mode::Details(first);
    Wish::None
}

/// Whatever is neither yes nor another choice is no.
fn answer(state: &mut State, code: KeyCode) -> Wish {
    let Mode::Ask(mut question) = std::mem::take(&mut state.mode) else {
        return Wish::None;
    };
    let by = match code {
        KeyCode::Up | KeyCode::Left => -1,
        KeyCode::Down | KeyCode::Right => 1,
        _ => {
            state.mode = *question.back;
            let choice =
                (code == KeyCode::Char('y')).then(|| question.choices.swap_remove(question.at));
            return choice.map_or(Wish::None, Wish::Intervene);
        }
    };
    question.turn(by);
    state.mode = Mode::Ask(question);
    Wish::None
}

#[cfg(test)]
mod tests {
    use super::super::tests::{held, sample, told};
    use super::*;

    fn state() -> State {
        let mut state = State::new("server".to_owned());
        let locks = ["alpha", "beta", "gamma"].map(|key| held(key, 1, 10, 0));
        state.take(told(sample(vec![], locks.into())));
        state
    }

    fn presses(state: &mut State, codes: impl IntoIterator<Item = KeyCode>) -> Wish {
        let mut wish = Wish::None;
        for code in codes {
            wish = press(state, code.into());
        }
        wish
    }

    fn types(state: &mut State, text: &str) -> Wish {
        presses(state, text.chars().map(KeyCode::Char))
    }

    #[test]
    fn three_keys_quit() {
        for key in [
            KeyEvent::from(KeyCode::Char('q')),
            KeyCode::Esc.into(),
            KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL),
        ] {
            assert_eq!(press(&mut state(), key), Wish::Quit, "{key:?}");
        }
        let stop = KeyEvent::new(KeyCode::Char('z'), KeyModifiers::CONTROL);
        assert_eq!(press(&mut state(), stop), Wish::Suspend);
    }

    #[test]
    fn a_filter_is_typed_and_may_contain_what_quits() {
        let mut state = state();
        assert_eq!(types(&mut state, "/q"), Wish::None);
        assert!(state.rows.is_empty());
        presses(&mut state, [KeyCode::Backspace]);
        types(&mut state, "^b");
        assert_eq!(state.rows.len(), 1);
        assert_eq!(state.interest().prefix, b"b");
        presses(&mut state, [KeyCode::Enter]);
        assert_eq!(
            (&state.mode, state.filter.0.as_str()),
            (&Mode::Browse, "^b")
        );
        types(&mut state, "/eta");
        presses(&mut state, [KeyCode::Esc]);
        assert_eq!(
            (&state.mode, state.filter.0.as_str()),
            (&Mode::Browse, "^b")
        );
        types(&mut state, "c");
        assert_eq!(state.rows.len(), 3);
        types(&mut state, "/");
        types(&mut state, &"x".repeat(1_000));
        assert_eq!(state.filter.0.len(), LONGEST_FILTER);
    }

    #[test]
    fn escape_clears_a_filter_before_it_quits() {
        let mut state = state();
        types(&mut state, "/eta");
        presses(&mut state, [KeyCode::Enter]);
        assert_eq!(presses(&mut state, [KeyCode::Esc]), Wish::None);
        assert_eq!((state.filter.0.as_str(), state.rows.len()), ("", 3));
        assert_eq!(presses(&mut state, [KeyCode::Esc]), Wish::Quit);
    }

    #[test]
    fn other_rows_and_another_order_begin_at_the_first() {
        let first = |state: &State| state.selected().map(|(index, _)| index);
        let mut state = state();
        state.move_by(2);
        types(&mut state, "k");
        assert_eq!(first(&state), Some(0));
        state.move_by(2);
        types(&mut state, "/a");
        assert_eq!((first(&state), state.rows.len()), (Some(0), 3));
        state.move_by(2);
        presses(&mut state, [KeyCode::Enter]);
        assert_eq!(first(&state), Some(2), "nothing is other");
    }

    #[test]
    fn details_open_at_the_selected_row_and_close() {
        let mut state = state();
        presses(&mut state, [KeyCode::Down, KeyCode::Enter]);
        assert_eq!(state.mode, Mode::Details(0));
        assert_eq!(state.selected_key(), Some(&b"beta"[..]));
        presses(&mut state, [KeyCode::Down, KeyCode::Down, KeyCode::Up]);
        assert_eq!(state.mode, Mode::Details(1));
        assert_eq!(presses(&mut state, [KeyCode::Esc]), Wish::None);
        assert_eq!(state.mode, Mode::Browse);
    }

    /// Each key but one is no, and what is asked about stays what it was when others come.
    #[test]
    fn only_a_yes_to_the_question_does_anything() {
        let asked = |state: &State| match &state.mode {
            Mode::Ask(question) => question.choice().map(|one| one.question.clone()),
            _ => None,
        };
        let mut state = state();
        for (key, question) in [("K", "End session #1 web-1?"), ("B", "Take away alpha?")] {
            for no in ["n", "q", "\u{1b}", "Y", "K", " "] {
                types(&mut state, key);
                assert_eq!(asked(&state).as_deref(), Some(question));
                let wish = match no {
                    "\u{1b}" => presses(&mut state, [KeyCode::Esc]),
                    no => types(&mut state, no),
                };
                assert_eq!((wish, &state.mode), (Wish::None, &Mode::Browse), "{no:?}");
            }
            presses(&mut state, [KeyCode::Enter]);
            types(&mut state, key);
            state.take(told(sample(vec![], vec![held("alpha", 9, 10, 0)])));
            let Wish::Intervene(done) = types(&mut state, "y") else {
                panic!("{key} and y do nothing");
            };
            assert_eq!(done.question, question);
            assert!(matches!(state.mode, Mode::Details(_)), "{key}");
            presses(&mut state, [KeyCode::Esc]);
            let locks = ["alpha", "beta", "gamma"].map(|key| held(key, 1, 10, 0));
            state.take(told(sample(vec![], locks.into())));
        }
    }

    #[test]
    fn arrows_choose_among_the_sessions_of_a_key() {
        let mut state = State::new("server".to_owned());
        state.take(told(sample(vec![], vec![held("k", 1, 10, 2)])));
        types(&mut state, "K");
        presses(
            &mut state,
            [KeyCode::Down, KeyCode::Right, KeyCode::Right, KeyCode::Left],
        );
        let Wish::Intervene(done) = types(&mut state, "y") else {
            panic!("it was answered");
        };
        assert_eq!(done.question, "End session #24?");
    }

    #[test]
    fn where_there_is_nobody_nothing_is_asked() {
        let mut state = State::new("server".to_owned());
        for key in ["K", "B"] {
            assert_eq!(types(&mut state, key), Wish::None);
            assert_eq!(state.mode, Mode::Browse);
            assert!(state.told.take().is_some_and(|(told, _)| !told.is_done));
        }
    }

    #[test]
    fn sorting_goes_round() {
        let mut state = state();
        types(&mut state, "s");
        assert_eq!(state.sort, Sort::Held);
        types(&mut state, "ss");
        assert_eq!(state.sort, Sort::Waiters);
        types(&mut state, "k");
        assert_eq!(state.sort, Sort::Key);
    }

    #[test]
    fn nothing_panics_without_rows() {
        let mut empty = State::new("server".to_owned());
        let codes = [
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::PageUp,
            KeyCode::PageDown,
            KeyCode::Home,
            KeyCode::End,
            KeyCode::Enter,
        ];
        presses(&mut empty, codes);
        types(&mut empty, "stkw  r?x/a");
        assert_eq!(empty.mode, Mode::Filter(Filter::default()));
    }
}
