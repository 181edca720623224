//! Colours, or none of them.

use ratatui::style::{Color, Modifier, Style};

/// How things look. Without colours (`NO_COLOR`) it is bold, dim and reversed.
#[derive(Debug, Clone, Copy)]
pub struct Palette {
    has_colours: bool,
}

impl Palette {
    /// With colours or without.
    pub fn new(has_colours: bool) -> Self {
        Self { has_colours }
    }

    /// As the user's environment says.
    pub fn of_environment() -> Self {
        Self::new(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    fn coloured(self, colour: Color) -> Style {
        match self.has_colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    /// The name of a part of the screen.
    pub fn title(self) -> Style {
        self.coloured(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// What explains, or is old.
    pub fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// A number that one looks for.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What deserves a second look.
    pub fn warning(self) -> Style {
        self.coloured(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// What is wrong.
    pub fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// The selected row.
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// The past.
    pub fn past(self) -> Style {
        self.coloured(Color::Green)
    }
}
