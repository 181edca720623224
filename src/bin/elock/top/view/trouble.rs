//! What is wrong with the connection, and how old therefore is what is shown.

use std::time::{Duration, Instant};

use super::super::state::{Link, State};
use super::header::millis;
use crate::duration::show;

/// Some answers take that long, whatever the interval.
const PATIENCE: Duration = Duration::from_secs(2);

/// No open question is left untold for longer, whatever the interval.
const LONGEST_PATIENCE: Duration = Duration::from_secs(5);

/// In a line; none if all is well.
pub fn trouble(state: &State, now: Instant) -> Option<String> {
    let time = |duration| show(millis(duration));
    let patience = match state.link {
        Link::Up(interval) => interval.saturating_mul(2).max(PATIENCE),
        _ => PATIENCE,
    };
    let late = |open: &Duration| *open >= patience.min(LONGEST_PATIENCE);
    let open = state.unanswered(now).filter(late);
    let age = state.age(now);
    let what = match (open, &state.link) {
        (Some(open), _) => format!("no answer for {}", time(open)),
        (None, Link::Down { since, reason }) => {
            let since = now.saturating_duration_since(*since);
            format!("no connection for {}: {reason}", time(since))
        }
        (None, _) if age.is_some_and(|age| age > patience) => "nothing new".to_owned(),
        (None, _) => return None,
    };
    let shown = match age {
        Some(age) if !state.is_frozen() => format!("; this is {} old", time(age)),
        _ => String::new(),
    };
    Some(what + &shown)
}

#[cfg(test)]
mod tests {
    use super::super::super::poller::Report;
    use super::super::super::tests::{sample, told};
    use super::*;

    #[test]
    fn an_open_question_tells_how_old_the_picture_is() {
        let begin = Instant::now();
        let after = |secs| begin + Duration::from_secs(secs);
        let mut state = State::new("server".to_owned());
        let mut sample = sample(vec![], vec![]);
        sample.at = begin;
        state.take(told(sample));
        assert_eq!(trouble(&state, after(1)), None);
        state.take(Report::Asking(after(1)));
        assert_eq!(trouble(&state, after(2)), None);
        // A second try, as the first was given up, is no answer.
        state.take(Report::Asking(after(21)));
        let text = trouble(&state, after(31));
        assert_eq!(
            text.as_deref(),
            Some("no answer for 30.0s; this is 31.0s old")
        );
        state.take(Report::Unreachable {
            since: after(40),
            reason: "connection refused".to_owned(),
        });
        let text = trouble(&state, after(45));
        let expected = "no connection for 5.0s: connection refused; this is 45.0s old";
        assert_eq!(text.as_deref(), Some(expected));
    }

    #[test]
    fn nothing_new_for_two_intervals_is_told() {
        let mut state = State::new("server".to_owned());
        let sample = sample(vec![], vec![]);
        let at = sample.at;
        state.take(told(sample));
        let text = trouble(&state, at + Duration::from_secs(3));
        assert_eq!(text.as_deref(), Some("nothing new; this is 3.0s old"));
    }
}
