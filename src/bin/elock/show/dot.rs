//! The graph of waits for Graphviz.

use std::collections::BTreeMap;

use super::failure::Failure;
use super::graph::Graph;
use super::key;
use super::output::Output;
use super::parties::{holder, mode, session_name};
use super::table::cut;
use super::visible::visible;
use crate::duration;

/// A box is no wider than that.
const LONGEST_LABEL: usize = 100;

/// Writes it. Nodes have names of our own, so that no client's text is more than a label.
pub fn put(graph: &Graph, output: &mut Output) -> Result<(), Failure> {
    output.line("digraph waits {")?;
    output.line("  rankdir=LR;")?;
    output.line("  node [fontname=\"sans-serif\"];")?;
    let mut parties: BTreeMap<String, String> = BTreeMap::new();
    let mut edges = Vec::new();
    for request in &graph.requests {
        let node = format!("s{}", request.session);
        let Some((_, key)) = graph.waits_for(request.session) else {
            continue;
        };
        let waited = duration::show(request.waited_ms);
        edges.push(format!("  {node} -> k{key} [label=\"{waited}\"];"));
        parties.insert(node, session_name(request.session, request.name.as_deref()));
    }
    for (place, node) in graph.keys.iter().enumerate() {
        let key = label(&key::shown(&node.key));
        let Some(lock) = node.lock() else {
            output.line(&format!("  k{place} [shape=box, label=\"{key}\\nfree\"];"))?;
            continue;
        };
        let mode = label(&mode(lock));
        output.line(&format!(
            "  k{place} [shape=box, label=\"{key}\\n{mode}\"];"
        ))?;
        for (index, entry) in lock.holders.iter().enumerate() {
            let node = match entry.session {
                Some(number) => format!("s{number}"),
                None => format!("o{place}_{index}"),
            };
            edges.push(format!("  k{place} -> {node} [style=bold];"));
            parties.insert(node, holder(entry));
        }
        let more = lock
            .holders_in_all
            .saturating_sub(lock.holders.len() as u64);
        if more > 0 {
            edges.push(format!("  k{place} -> m{place} [style=bold];"));
            parties.insert(format!("m{place}"), format!("{more} more"));
        }
    }
    for (node, name) in &parties {
        output.line(&format!("  {node} [label=\"{}\"];", label(name)))?;
    }
    edges.iter().try_for_each(|edge| output.line(edge))?;
    output.line("}")
}

/// What stands between quotes. Graphviz reads `\` and `&` in labels as the beginnings of something.
fn label(text: &str) -> String {
    let text = cut(&visible(text), LONGEST_LABEL);
    let mut label = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => label.push_str("\\\""),
            '\\' => label.push_str("\\\\"),
            '&' => label.push_str("&amp;"),
            other => label.push(other),
        }
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_ends_where_it_ends() {
        assert_eq!(label("a\"];b"), "a\\\"];b");
        assert_eq!(label("\\"), "\\\\");
        assert_eq!(label("&lt;\n"), "&amp;lt;\\\\x0A");
        assert_eq!(
            label(&"\\".repeat(300)).len() % 2,
            1,
            "a mark between pairs"
        );
    }
}
