//! The question before something is done.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::super::state::Question;
use super::super::text::{fit, fit_ends, width_of, wrap};
use super::Palette;

/// A key may have four thousand bytes; so many lines of what is said of it are shown.
const LINES: usize = 6;

/// Draws it in the middle of the area.
pub fn draw(frame: &mut Frame<'_>, area: Rect, question: &Question, palette: Palette) {
    let Some(choice) = question.choice() else {
        return;
    };
    let width = 70.min(area.width);
    let room = usize::from(width.saturating_sub(4));
    let said = wrap_words(&choice.explanation, room);
    let mut lines = vec![Line::styled(
        format!(" {}", fit_ends(&choice.question, room)),
        palette.bad(),
    )];
    lines.push(Line::default());
    let said = said.into_iter().take(LINES);
    lines.extend(said.map(|line| Line::raw(format!(" {line}"))));
    lines.push(Line::default());
    let keys = match question.choices.len() {
        1 => " y do it   any other key: do not".to_owned(),
        all => format!(
            " y do it   arrows: another ({} of {all})   any other key: do not",
            question.at + 1
        ),
    };
    lines.push(Line::styled(fit(&keys, room + 1), palette.strong()));
    let height = u16::try_from(lines.len() + 2)
        .unwrap_or(u16::MAX)
        .min(area.height);
    let area = Rect::new(
        area.x + (area.width - width) / 2,
        area.y + (area.height - height) / 2,
        width,
        height,
    );
    let block = Block::bordered().title(Span::styled(" ARE YOU SURE? ", palette.title()));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// In lines that end between words, but for words that are longer than a line.
fn wrap_words(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').flat_map(|word| wrap(word, width)) {
        match lines.last_mut() {
            Some(line) if width_of(&format!("{line} {word}")) <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}
