//! The graph of waits as a tree of text.

use std::collections::VecDeque;

use elock_client::listing::{HolderEntry, LockEntry};

use super::failure::Failure;
use super::graph::Graph;
use super::output::Output;
use super::parties::{holder, session_name};
use super::table::cut;
use super::visible::{visible, visible_bytes};
use crate::duration;

/// A chain with more levels than that goes on further below, so that lines stay short.
const DEEPEST: usize = 24;
/// So many of those that wait for one key are named.
const NAMED: usize = 4;
/// Keys are cut to this on a terminal.
const LONGEST_KEY: usize = 60;

/// Writes it.
pub fn put(graph: &Graph, output: &mut Output) -> Result<(), Failure> {
    if graph.requests.is_empty() {
        return output.line("nobody waits for a lock");
    }
    let count = graph.keys.len();
    let mut tree = Tree {
        graph,
        output,
        is_shown: vec![false; count],
        is_above: vec![false; count],
        continued: VecDeque::new(),
    };
    let mut is_first = true;
    let mut ends = graph.ends_first().into_iter();
    // What a deep chain was cut off from comes next to it.
    while let Some(key) = tree.continued.pop_front().or_else(|| ends.next()) {
        if !tree.is_shown[key] {
            if !std::mem::take(&mut is_first) {
                tree.output.line("")?;
            }
            tree.root(key)?;
        }
    }
    Ok(())
}

struct Tree<'a> {
    graph: &'a Graph,
    output: &'a mut Output,
    is_shown: Vec<bool>,
    /// Whether a key is on the way from the root to here: to come to it again is a circle.
    is_above: Vec<bool>,
    continued: VecDeque<usize>,
}

impl Tree<'_> {
    fn root(&mut self, key: usize) -> Result<(), Failure> {
        let waiters = &self.graph.keys[key].waiters;
        let named = waiters.iter().take(NAMED).map(|&place| {
            let request = &self.graph.requests[place];
            session_name(request.session, request.name.as_deref())
        });
        let named = visible(&named.collect::<Vec<_>>().join(", "));
        let longest = waiters
            .first()
            .map_or(0, |&place| self.graph.requests[place].waited_ms);
        let longest = duration::show(longest);
        let line = match waiters.len() {
            1 => format!("{named} waiting {longest} for"),
            2..=NAMED => format!("{named} waiting up to {longest} for"),
            count => {
                let more = count.saturating_sub(NAMED);
                format!("{named} and {more} more waiting up to {longest} for")
            }
        };
        self.line(&line)?;
        let begin = stem(&[], true);
        match self.mark(key) {
            Some(mark) => self.line(&format!("{begin}{}{mark}", self.shown_key(key))),
            None => self.key(key, &begin, &mut vec![false]),
        }
    }

    /// What stands behind a key that is not followed any further.
    fn mark(&self, key: usize) -> Option<&'static str> {
        match (self.is_above[key], self.is_shown[key]) {
            (true, _) => Some("   <== A CIRCLE: see above"),
            (false, true) => Some("   (see above)"),
            (false, false) => None,
        }
    }

    /// A key that is not shown yet, and below it its holders. `indent`: for each level above them,
    /// whether more comes below it.
    fn key(&mut self, key: usize, begin: &str, indent: &mut Vec<bool>) -> Result<(), Failure> {
        let shown = self.shown_key(key);
        if indent.len() > DEEPEST {
            self.continued.push_back(key);
            return self.line(&format!("{begin}{shown}   (goes on below)"));
        }
        self.is_shown[key] = true;
        let graph = self.graph;
        let Some(lock) = graph.keys[key].lock() else {
            return self.line(&format!("{begin}{shown}   (free by now)"));
        };
        self.line(&format!("{begin}{shown}   {}", waiting(lock)))?;
        self.is_above[key] = true;
        self.holders(lock, indent)?;
        self.is_above[key] = false;
        Ok(())
    }

    fn holders(&mut self, lock: &LockEntry, indent: &mut Vec<bool>) -> Result<(), Failure> {
        let more = lock
            .holders_in_all
            .saturating_sub(lock.holders.len() as u64);
        for (index, entry) in lock.holders.iter().enumerate() {
            let is_last = more == 0 && index + 1 == lock.holders.len();
            let begin = format!("{}{}", stem(indent, is_last), has_it(entry));
            let waits_for = entry
                .session
                .and_then(|session| self.graph.waits_for(session));
            let Some((request, key)) = waits_for else {
                self.line(&begin)?;
                continue;
            };
            let begin = format!("{begin}, waiting {} for", duration::show(request.waited_ms));
            if let Some(mark) = self.mark(key) {
                self.line(&format!("{begin} {}{mark}", self.shown_key(key)))?;
                continue;
            }
            self.line(&begin)?;
            indent.push(!is_last);
            let begin = stem(indent, true);
            indent.push(false);
            self.key(key, &begin, indent)?;
            indent.truncate(indent.len().saturating_sub(2));
        }
        match more {
            0 => Ok(()),
            more => self.line(&format!("{}and {more} more", stem(indent, true))),
        }
    }

    fn shown_key(&self, key: usize) -> String {
        let text = visible_bytes(&self.graph.keys[key].key);
        match self.output.columns() {
            Some(_) => cut(&text, LONGEST_KEY),
            None => text,
        }
    }

    fn line(&mut self, text: &str) -> Result<(), Failure> {
        match self.output.columns() {
            Some(columns) => self.output.line(&cut(text, columns)),
            None => self.output.line(text),
        }
    }
}

fn stem(indent: &[bool], is_last: bool) -> String {
    let above = indent
        .iter()
        .map(|&goes_on| if goes_on { "│  " } else { "   " });
    let above: String = above.collect();
    format!("{above}{}", if is_last { "└─ " } else { "├─ " })
}

/// `#3 cron holds it 2m 3s, with 5.0s of its lease left`
fn has_it(entry: &HolderEntry) -> String {
    let held = entry
        .held_ms
        .map_or_else(String::new, |ms| format!(" {}", duration::show(ms)));
    let lease = entry.lease_left_ms.map_or_else(String::new, |ms| {
        format!(", with {} of its lease left", duration::show(ms))
    });
    visible(&format!("{} holds it{held}{lease}", holder(entry)))
}

/// `(shared r, 3 wait)`
fn waiting(lock: &LockEntry) -> String {
    visible(&format!(
        "({}, {} waiting)",
        super::parties::mode(lock),
        lock.waiting_in_all
    ))
}

#[cfg(test)]
mod tests {
    use super::super::graph::drawn;
    use super::*;

    fn lines(waits: &[(u64, &str)], holds: &[(&str, u64)]) -> Vec<String> {
        let mut output = Output::kept();
        put(&drawn(waits, holds), &mut output).expect("a screen without an end");
        output.lines().to_vec()
    }

    #[test]
    fn a_chain_is_followed_to_its_end() {
        let lines = lines(&[(3, "y"), (2, "x")], &[("x", 1), ("y", 2), ("y", 4)]);
        assert_eq!(
            lines,
            [
                "#3 waiting 0ms for",
                "└─ y   (exclusive, 0 waiting)",
                "   ├─ #2 holds it 0ms, waiting 0ms for",
                "   │  └─ x   (exclusive, 0 waiting)",
                "   │     └─ #1 holds it 0ms",
                "   └─ #4 holds it 0ms",
            ]
        );
    }

    #[test]
    fn a_circle_is_marked_and_ends() {
        let lines = lines(&[(1, "y"), (2, "x"), (9, "x")], &[("x", 1), ("y", 2)]);
        let marks = lines.iter().filter(|line| line.contains("A CIRCLE"));
        assert_eq!(marks.count(), 1, "{lines:#?}");
        let own = super::super::graph::drawn(&[(1, "x")], &[("x", 1)]);
        let mut output = Output::kept();
        put(&own, &mut output).expect("a screen without an end");
        assert!(
            output
                .lines()
                .last()
                .is_some_and(|line| line.contains("A CIRCLE"))
        );
    }

    #[test]
    fn a_long_chain_has_short_lines_and_each_key_once() {
        let keys: Vec<String> = (0..1_000).map(|key| format!("k{key}")).collect();
        let waits: Vec<(u64, &str)> = (1..1_000)
            .map(|n| (n as u64, keys[n - 1].as_str()))
            .collect();
        let holds: Vec<(&str, u64)> = (0..999).map(|n| (keys[n].as_str(), n as u64)).collect();
        let lines = lines(&waits, &holds);
        assert!(lines.iter().all(|line| line.chars().count() < 150));
        for key in &keys[..999] {
            let own = format!("─ {key}   (exclusive");
            assert_eq!(
                lines.iter().filter(|line| line.contains(&own)).count(),
                1,
                "{key}"
            );
        }
    }
}
