//! The graph of waits as a tree of text.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use elock_client::listing::{HolderEntry, LockEntry};
use unicode_width::UnicodeWidthStr;

use super::failure::Failure;
use super::graph::{Graph, Node};
use super::key;
use super::output::Output;
use super::parties::{holder, session_name};
use super::table::cut;
use super::visible::visible;
use crate::duration;

/// A chain with more levels than that goes on further below, so that lines stay short.
const DEEPEST: usize = 24;
/// On a terminal, so much of a line is left for what stands behind its stem; more for longer names.
const ROOM: RangeInclusive<usize> = 50..=66;
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
        deepest: deepest(graph, output.columns()),
        output,
        is_shown: vec![false; count],
        above: vec![None; count],
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

fn deepest(graph: &Graph, columns: Option<usize>) -> usize {
    let Some(columns) = columns else {
        return DEEPEST;
    };
    let locks = graph.keys.iter().filter_map(Node::lock);
    let holders = locks.flat_map(|lock| &lock.holders);
    let widest = holders.map(|entry| visible(&holder(entry)).width()).max();
    let longest_wait = " waiting 59m 59s for".len();
    let wanted = widest.unwrap_or(0).saturating_add(longest_wait);
    let room = wanted.clamp(*ROOM.start(), *ROOM.end());
    (columns.saturating_sub(room) / LEVEL.len()).clamp(2, DEEPEST)
}

/// How wide a level is.
const LEVEL: &str = "   ";

struct Tree<'a> {
    graph: &'a Graph,
    deepest: usize,
    output: &'a mut Output,
    is_shown: Vec<bool>,
    /// The key above each, also of one that goes on further below: to come to one of them again is a
    /// circle.
    above: Vec<Option<usize>>,
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
        let rest = match waiters.len() {
            1 => format!(" waiting {longest} for"),
            2..=NAMED => format!(" waiting up to {longest} for"),
            count => {
                let more = count.saturating_sub(NAMED);
                format!(" and {more} more waiting up to {longest} for")
            }
        };
        self.line("", &named, &[&rest])?;
        let begin = stem(&[], true);
        self.key(key, &begin, &mut vec![false])
    }

    /// What stands behind a key that is not followed any further when `from` leads to it.
    fn mark(&self, key: usize, from: usize) -> Option<&'static str> {
        if !self.is_shown[key] {
            return None;
        }
        // What is above a key was shown before it, so that this ends.
        let mut way = std::iter::successors(Some(from), |&place| self.above[place]);
        match way.any(|place| place == key) {
            true => Some("   <== A CIRCLE: see above"),
            false => Some("   (see above)"),
        }
    }

    /// A key that is not shown yet, and below it its holders. `indent`: for each level above them,
    /// whether more comes below it.
    fn key(&mut self, key: usize, begin: &str, indent: &mut Vec<bool>) -> Result<(), Failure> {
        let shown = self.shown_key(key);
        if indent.len() > self.deepest {
            self.continued.push_back(key);
            return self.line(begin, &shown, &["   (goes on below)"]);
        }
        self.is_shown[key] = true;
        let graph = self.graph;
        let Some(lock) = graph.keys[key].lock() else {
            return self.line(begin, &shown, &["   (free by now)"]);
        };
        let [long, short] = waiting(lock);
        self.line(begin, &shown, &[&long, &short, ""])?;
        self.holders(key, lock, indent)
    }

    fn holders(
        &mut self,
        held: usize,
        lock: &LockEntry,
        indent: &mut Vec<bool>,
    ) -> Result<(), Failure> {
        let more = lock
            .holders_in_all
            .saturating_sub(lock.holders.len() as u64);
        for (index, entry) in lock.holders.iter().enumerate() {
            let is_last = more == 0 && index + 1 == lock.holders.len();
            let begin = stem(indent, is_last);
            let waits_for = entry
                .session
                .and_then(|session| self.graph.waits_for(session));
            let Some((request, key)) = waits_for else {
                let [long, short] = has_it(entry, "");
                self.line(&begin, &visible(&holder(entry)), &[&long, &short])?;
                continue;
            };
            let waiting = format!(" waiting {} for", duration::show(request.waited_ms));
            indent.push(!is_last);
            self.way_on(held, entry, &begin, &waiting, key, indent)?;
            indent.pop();
        }
        match more {
            0 => Ok(()),
            more => self.line(&stem(indent, true), &format!("and {more} more"), &[""]),
        }
    }

    /// A holder of `held` that waits for another key itself, and that key: in the same line, if it is
    /// not followed and there is room.
    fn way_on(
        &mut self,
        held: usize,
        entry: &HolderEntry,
        begin: &str,
        waiting: &str,
        key: usize,
        indent: &mut Vec<bool>,
    ) -> Result<(), Failure> {
        let name = visible(&holder(entry));
        let [long, short] = has_it(entry, &format!(",{waiting}"));
        let Some(mark) = self.mark(key, held) else {
            self.above[key] = Some(held);
            self.line(begin, &name, &[&long, &short, waiting])?;
            let begin = stem(indent, true);
            indent.push(false);
            self.key(key, &begin, indent)?;
            indent.pop();
            return Ok(());
        };
        let shown = self.shown_key(key);
        let whole = format!("{begin}{name}{long} {shown}{mark}");
        if self.fits(&whole) {
            return self.output.line(&whole);
        }
        self.line(begin, &name, &[&long, &short, waiting])?;
        self.line(&stem(indent, true), &shown, &[mark])
    }

    fn shown_key(&self, key: usize) -> String {
        let text = key::shown(&self.graph.keys[key].key);
        match self.output.columns() {
            Some(_) => cut(&text, LONGEST_KEY),
            None => text,
        }
    }

    fn fits(&self, text: &str) -> bool {
        let columns = self.output.columns();
        columns.is_none_or(|columns| text.width() <= columns)
    }

    /// A name and, behind it, the first of the texts with which it fits; if it does with none, it is
    /// the name that is cut.
    fn line(&mut self, begin: &str, name: &str, behind: &[&str]) -> Result<(), Failure> {
        let whole = |behind: &&str| format!("{begin}{name}{behind}");
        let mut lines = behind.iter().map(whole);
        if let Some(line) = lines.find(|line| self.fits(line)) {
            return self.output.line(&line);
        }
        let shortest = behind.last().copied().unwrap_or("");
        let columns = self.output.columns().unwrap_or(usize::MAX);
        let room = columns.saturating_sub(begin.width() + shortest.width());
        let line = format!("{begin}{}{shortest}", cut(name, room.max(1)));
        self.output.line(&cut(&line, columns))
    }
}

fn stem(indent: &[bool], is_last: bool) -> String {
    let above = indent
        .iter()
        .map(|&goes_on| if goes_on { "│  " } else { LEVEL });
    let above: String = above.collect();
    format!("{above}{}", if is_last { "└─ " } else { "├─ " })
}

/// ` holds it 2m 3s, with 5.0s of its lease left`, and shorter. `waiting`: what stands behind it.
fn has_it(entry: &HolderEntry, waiting: &str) -> [String; 2] {
    let held = entry
        .held_ms
        .map_or_else(String::new, |ms| format!(" {}", duration::show(ms)));
    let (lease, short_lease) = match entry.lease_left_ms.map(duration::show) {
        Some(left) => (
            format!(", with {left} of its lease left"),
            format!(", {left} left"),
        ),
        None => Default::default(),
    };
    [
        format!(" holds it{held}{lease}{waiting}"),
        format!(" holds it{held}{short_lease}{waiting}"),
    ]
}

/// `(shared r, 3 waiting)`, and shorter.
fn waiting(lock: &LockEntry) -> [String; 2] {
    let (mode, waiting) = (super::parties::mode(lock), lock.waiting_in_all);
    let long = visible(&format!("   ({mode}, {waiting} waiting)"));
    [long, format!("   ({waiting} waiting)")]
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

    #[test]
    fn a_narrow_terminal_shows_names_and_marks_whole() {
        let keys: Vec<String> = (0..40)
            .map(|key| format!("account-of-a-customer-{key:04}"))
            .collect();
        let mut waits: Vec<(u64, &str)> =
            (1..40).map(|n| (n as u64, keys[n - 1].as_str())).collect();
        waits.push((0, keys[39].as_str()));
        let holds: Vec<(&str, u64)> = (0..40).map(|n| (keys[n].as_str(), n as u64)).collect();
        let mut graph = drawn(&waits, &holds);
        for node in &mut graph.keys {
            let holders = node
                .lock
                .iter_mut()
                .flat_map(|lock| &mut lock.entry.holders);
            holders
                .for_each(|holder| holder.name = Some("web-7.example.com:billing-worker".into()));
        }
        let mut output = Output::kept_in(80);
        put(&graph, &mut output).expect("a screen without an end");
        let lines = output.lines();
        assert!(lines.iter().all(|line| line.width() <= 80), "{lines:#?}");
        let text = lines.join("\n");
        assert!(!text.contains('…'), "{text}");
        for key in &keys {
            let own = format!("{key}   (exclusive, 0 waiting)");
            assert_eq!(text.matches(&own).count(), 1, "{text}");
        }
        // Also one that begins anew below comes back to what is above.
        assert_eq!(text.matches("<== A CIRCLE: see above").count(), 1, "{text}");
    }
}
