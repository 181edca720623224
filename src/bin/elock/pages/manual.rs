//! Manual pages, from what `--help` says.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// What `man` shows at the foot of each page.
const SOURCE: &str = concat!("elockd ", env!("CARGO_PKG_VERSION"));

/// A page's file name, and the page.
pub type Page = (String, String);

/// `elock.1`, and a page for each subcommand that is not hidden.
pub fn of_elock(mut elock: Command) -> Vec<Page> {
    elock.build();
    let visible = elock.get_subcommands().filter(|one| !one.is_hide_set());
    let mut pages: Vec<_> = visible
        .map(|one| page(one, "1", &["elock(1)", "elockd(8)"]))
        .collect();
    pages.push(page(&elock, "1", &["elockd(8)"]));
    pages
}

/// `elockd.8`.
pub fn of_elockd(mut elockd: Command) -> Page {
    elockd.build();
    page(&elockd, "8", &["elock(1)"])
}

fn page(command: &Command, section: &str, see_also: &[&str]) -> Page {
    let man = Man::new(with_its_usage(command))
        .section(section)
        // Nothing at all would make the source the date.
        .date("\"\"")
        .source(SOURCE)
        .manual("elockd");
    (man.get_filename(), render(&man, command, see_also))
}

/// In the generator's order, without its section for the version, which stands at the foot.
fn render(man: &Man, command: &Command, see_also: &[&str]) -> String {
    let has_subcommands = command.get_subcommands().any(|one| !one.is_hide_set());
    let after_help = command
        .get_after_long_help()
        .or_else(|| command.get_after_help())
        .map_or_else(String::new, ToString::to_string);
    let mut text = Vec::new();
    let written = man
        .render_title(&mut text)
        .and_then(|()| man.render_name_section(&mut text))
        .and_then(|()| man.render_synopsis_section(&mut text))
        .and_then(|()| man.render_description_section(&mut text))
        .and_then(|()| man.render_options_section(&mut text))
        .and_then(|()| match has_subcommands {
            true => man.render_subcommands_section(&mut text),
            false => Ok(()),
        })
        .and_then(|()| notes(&after_help).to_writer(&mut text))
        .and_then(|()| links(see_also).to_writer(&mut text));
    written.expect("a vector takes all that is written");
    // Not every terminal has the one character.
    String::from_utf8_lossy(&text).replace('…', "...")
}

/// The generator's own synopsis lists each flag, and knows no `--` before a command.
fn with_its_usage(command: &Command) -> Command {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    command.clone().override_usage(usage)
}

/// The text below a help's options. The generator would fill its examples and tables into one
/// paragraph.
fn notes(text: &str) -> Roff {
    let mut roff = Roff::new();
    let mut blocks = blocks(text).into_iter().peekable();
    let mut is_in_notes = false;
    while let Some(block) = blocks.next() {
        let heading = match (block.as_slice(), blocks.peek()) {
            ([line], Some(next)) if !is_indented(line) && is_indented(next[0]) => {
                line.strip_suffix(':')
            }
            _ => None,
        };
        if let Some(heading) = heading {
            roff.control("SH", [heading.to_uppercase().as_str()]);
            is_in_notes = false;
        } else if is_indented(block[0]) {
            write_table(&mut roff, &block);
        } else {
            if !is_in_notes {
                roff.control("SH", ["NOTES"]);
                is_in_notes = true;
            }
            roff.control("PP", []);
            roff.text([roman(block.join(" "))]);
        }
    }
    roff
}

/// Lines that stand together and are all indented, or none of them.
fn blocks(text: &str) -> Vec<Vec<&str>> {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let lines = paragraph.lines().filter(|line| !line.trim().is_empty());
        lines.collect::<Vec<_>>()
    });
    paragraphs.flat_map(split).collect()
}

fn split(lines: Vec<&str>) -> Vec<Vec<&str>> {
    lines
        .chunk_by(|one, next| is_indented(one) == is_indented(next))
        .map(<[_]>::to_vec)
        .collect()
}

fn is_indented(line: &str) -> bool {
    line.starts_with(' ')
}

/// What fits into a terminal of 80 columns beside man's margins.
const WIDTH: usize = 69;

/// Examples and tables stay as they are, unless they are too wide: then what they explain stands
/// above its explanation.
fn write_table(roff: &mut Roff, lines: &[&str]) {
    let is_wide = lines.iter().any(|line| line.chars().count() > WIDTH);
    if !is_wide {
        roff.control("PP", [])
            .control("RS", ["2"])
            .control("nf", []);
        for line in lines {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        roff.control("fi", []).control("RE", []);
        return;
    }
    for line in lines {
        let (what, meaning) = line.trim().split_once("  ").unwrap_or((line.trim(), ""));
        roff.control("TP", []);
        roff.text([bold(what)]);
        if !meaning.is_empty() {
            roff.text([roman(meaning.trim())]);
        }
    }
}

fn links(pages: &[&str]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(pages.join(", "))]);
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_begins_a_section_and_prose_after_its_table_is_notes() {
        let text = "First\nsaid.\n\nExamples:\n  a 'b'  explained\n\nLast.";
        let expected = "\
.SH NOTES\n.PP\nFirst said.\n\
.SH EXAMPLES\n.PP\n.RS 2\n.nf\na 'b'  explained\n.fi\n.RE\n\
.SH NOTES\n.PP\nLast.\n";
        assert_eq!(notes(text).to_roff(), expected);
    }

    #[test]
    fn prose_that_ends_in_a_colon_is_no_heading() {
        let text = "It can be said\nfor example so:\n  a\nand:\nso.";
        let expected = "\
.SH NOTES\n.PP\nIt can be said for example so:\n\
.PP\n.RS 2\n.nf\na\n.fi\n.RE\n\
.PP\nand: so.\n";
        assert_eq!(notes(text).to_roff(), expected);
    }

    #[test]
    fn what_is_too_wide_for_a_terminal_stands_above_its_explanation() {
        let wide = "x".repeat(WIDTH);
        let text = format!("Codes:\n  1  {wide}\n  all others");
        let expected = format!(".SH CODES\n.TP\n\\fB1\\fR\n{wide}\n.TP\n\\fBall others\\fR\n");
        assert_eq!(notes(&text).to_roff(), expected);
    }

    #[test]
    fn lines_that_look_like_requests_to_the_formatter_are_text() {
        let roff = notes("So:\n  .so /etc/passwd\n  'x").to_roff();
        assert!(roff.contains("\n\\&.so /etc/passwd\n\\&'x\n"), "{roff}");
    }

    #[test]
    fn no_help_has_no_section() {
        assert_eq!(notes("").to_roff(), "");
    }
}
