//! The commands and their usage, as the server's own `help` has them.

/// The usages, in the order in which `help` shows them.
#[derive(Debug, Default, Clone)]
pub struct Usages(Vec<Usage>);

#[derive(Debug, Clone, PartialEq)]
struct Usage {
    command: String,
    /// `<key>` or `[seconds [owner milliseconds]]`.
    arguments: Vec<String>,
}

impl Usages {
    /// Reads the lines of `help`.
    pub fn read(help: &[String]) -> Self {
        Self(help.iter().filter_map(|line| usage(line)).collect())
    }

    /// The commands that begin so, each once.
    pub fn commands(&self, begin: &str) -> Vec<String> {
        let commands = self.0.iter().map(|usage| usage.command.clone());
        let mut commands: Vec<String> = commands
            .filter(|command| command.starts_with(begin))
            .collect();
        commands.dedup();
        commands
    }

    /// What may still come behind what was typed: of the shortest usage that has room for it.
    pub fn rest(&self, typed: &str) -> Option<String> {
        let words: Vec<&str> = typed.split(' ').filter(|word| !word.is_empty()).collect();
        let (command, given) = words.split_first()?;
        let is_inside_word = !typed.ends_with(' ');
        let mut fitting = self
            .0
            .iter()
            .filter(|usage| usage.command == *command && usage.arguments.len() >= given.len());
        let usage = fitting.next()?;
        let mut rest = usage.arguments[given.len()..].join(" ");
        if let Some(longer) = fitting.next()
            && rest.is_empty()
        {
            rest = longer.arguments[given.len()..].join(" ");
        }
        match rest.is_empty() {
            true => None,
            false if is_inside_word => Some(format!(" {rest}")),
            false => Some(rest),
        }
    }
}

/// Splits off what the line says behind the usage. Arguments stand in brackets, which may hold others.
fn usage(line: &str) -> Option<Usage> {
    let (command, mut rest) = line.split_once(' ').unwrap_or((line, ""));
    if command.is_empty() {
        return None;
    }
    let mut arguments = Vec::new();
    while rest.starts_with(['<', '[']) {
        let mut depth = 0_usize;
        let end = rest.find(|character| {
            match character {
                '<' | '[' => depth += 1,
                '>' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0
        })?;
        let (argument, behind) = rest.split_at(end + 1);
        arguments.push(argument.to_owned());
        rest = behind.strip_prefix(' ').unwrap_or(behind);
    }
    Some(Usage {
        command: command.to_owned(),
        arguments,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usages() -> Usages {
        let help = [
            "lock <key> [seconds]                                  take the lock",
            "lock <key> <seconds> <owner> <milliseconds>           take it for an owner",
            "lock_slot <key> <slots> [seconds [owner milliseconds]] take one of so many slots",
            "unlock_all                                            release all locks",
            "",
            "broken <key",
        ];
        Usages::read(&help.map(str::to_owned))
    }

    #[test]
    fn a_hint_is_what_may_still_come() {
        for (typed, rest) in [
            ("lock", Some(" <key> [seconds]")),
            ("lock ", Some("<key> [seconds]")),
            ("lock k", Some(" [seconds]")),
            ("lock k ", Some("[seconds]")),
            ("lock k 5", Some(" <owner> <milliseconds>")),
            ("lock k 5 job ", Some("<milliseconds>")),
            ("lock k 5 job 0", None),
            ("lock k 5 job 0 more", None),
            (
                "lock_slot k ",
                Some("<slots> [seconds [owner milliseconds]]"),
            ),
            ("unlock_all", None),
            ("nothing", None),
            ("", None),
        ] {
            assert_eq!(usages().rest(typed).as_deref(), rest, "{typed:?}");
        }
    }

    #[test]
    fn commands_are_listed_once() {
        assert_eq!(usages().commands("lo"), ["lock", "lock_slot"]);
        assert_eq!(usages().commands("x"), [""; 0]);
    }
}
