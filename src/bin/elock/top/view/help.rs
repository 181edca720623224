//! The help.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::Palette;

const TEXT: &str = " q, Esc, Ctrl-C   quit; Esc clears a filter first
 arrows, PgUp/Dn  select a key; g and G: the first and the last
 Enter            show the selected key with its holders and waiters
 s                sort by the next column; or by w waiters, t time
                  held, k key
 /                filter: keys with this text in them; after a ^
                  keys that begin so, which the server is asked for
 c                clear the filter
 space, p         freeze the picture, and let it go on
 r                ask the server now
 K, B             end a session that holds the key or waits for it; take
                  the lock from who holds it: after a question, and only
                  with the right admin

 per second: between the last two looks; grants include hand-overs
 in 5m 3s:   since this program looks, restarts included
 ~           as an earlier look told      +  there may be more
 Sessions are read up to 10,000, keys that nobody waits for up to
 1,000; what a look cannot ask in its time has its turn later.";

/// Draws it in the middle of the area.
pub fn draw(frame: &mut Frame<'_>, area: Rect, palette: Palette) {
    let lines: Vec<Line<'_>> = TEXT.lines().map(Line::raw).collect();
    let width = 70.min(area.width);
    let height = u16::try_from(lines.len() + 2)
        .unwrap_or(u16::MAX)
        .min(area.height);
    let x = area.x + (area.width - width) / 2;
    let y = area.y + (area.height - height) / 2;
    let area = Rect::new(x, y, width, height);
    let block = Block::bordered()
        .title(Span::styled(" HELP ", palette.title()))
        .title_bottom(Span::styled(" any key closes it ", palette.quiet()));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}
