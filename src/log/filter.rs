//! Which events are logged.

use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// A filter of the form `LEVEL` or `MODULE=LEVEL`, several of them separated by commas. Errors pass
/// every filter: a server that is in trouble must not be silent by a setting. The audit, which is a
/// line for each lock, passes only one that names it.
#[derive(Debug, Clone)]
pub struct LogFilter {
    targets: Targets,
    unknown: Vec<String>,
}

/// Why a text is no [`LogFilter`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFilter {
    /// The text in a level's place.
    #[error("{0:?} is no level: expected off, error, warn, info, debug or trace, or MODULE=LEVEL")]
    NoLevel(String),
    /// A level for a module without a name, which would be a level for none.
    #[error("{0:?} names no module: expected LEVEL, or MODULE=LEVEL")]
    NoModule(String),
}

/// The target of the audit's events.
const AUDIT: &str = "audit";

/// The libraries by which etcd is asked, a line for each frame. They are silent unless they are named.
const LIBRARIES: [&str; 4] = ["h2", "hyper_util", "tonic", "tower"];

/// The modules of the library that log anything.
const MODULES: [&str; 8] = [
    "admin",
    "cluster",
    "log",
    "secret_file",
    "server",
    "signals",
    "store",
    "systemd",
];

impl LogFilter {
    /// The filter as the log library takes it.
    pub(super) fn targets(&self) -> &Targets {
        &self.targets
    }

    /// The modules that it names and that there are not: typing errors, most likely, by which something is
    /// not logged.
    pub fn unknown_modules(&self) -> &[String] {
        &self.unknown
    }
}

/// Whether a line of the log can come from there.
fn is_known(module: &str) -> bool {
    let mut parts = module.split("::");
    match (parts.next(), parts.next()) {
        (Some("elock"), Some(part)) => MODULES.contains(&part),
        // A library has its own, and tells little of them.
        (Some(AUDIT | "elock" | "elockd" | "hyper" | "tokio"), _) => true,
        (Some(library), _) => LIBRARIES.contains(&library),
        _ => false,
    }
}

impl FromStr for LogFilter {
    type Err = BadFilter;

    fn from_str(text: &str) -> Result<Self, BadFilter> {
        let mut targets = Targets::new()
            .with_default(LevelFilter::ERROR)
            .with_target(AUDIT, LevelFilter::ERROR)
            .with_targets(LIBRARIES.map(|library| (library, LevelFilter::ERROR)));
        let mut unknown = Vec::new();
        for directive in text.split(',').map(str::trim) {
            targets = match directive.split_once('=') {
                Some((module, _)) if module.trim().is_empty() => {
                    return Err(BadFilter::NoModule(directive.to_owned()));
                }
                Some((module, name)) => {
                    let module = module.trim();
                    if !is_known(module) {
                        unknown.push(module.to_owned());
                    }
                    targets.with_target(module, level(name.trim())?)
                }
                None => targets.with_default(level(directive)?),
            };
        }
        Ok(Self { targets, unknown })
    }
}

/// The level of this name, or `ERROR` for a level that would hide errors.
fn level(name: &str) -> Result<LevelFilter, BadFilter> {
    // The library takes an empty text for a level.
    match name.parse::<LevelFilter>() {
        Ok(level) if !name.is_empty() => Ok(level.max(LevelFilter::ERROR)),
        _ => Err(BadFilter::NoLevel(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    fn lets_through(filter: &str, module: &str, level: Level) -> bool {
        let filter: LogFilter = filter.parse().expect("a filter");
        filter.targets().would_enable(module, &level)
    }

    #[test]
    fn a_level_is_for_all_modules_that_are_not_named() {
        assert!(lets_through("info", "elock::store", Level::INFO));
        assert!(!lets_through("info", "elock::store", Level::DEBUG));
        let filter = "elock::store=DEBUG, warn";
        assert!(lets_through(filter, "elock::store::queue", Level::DEBUG));
        assert!(!lets_through(filter, "elock::server", Level::INFO));
        assert!(lets_through(filter, "elock::server", Level::WARN));
        assert!(!lets_through("trace", "h2::codec", Level::DEBUG));
        assert!(lets_through("h2=debug", "h2::codec", Level::DEBUG));
    }

    #[test]
    fn the_audit_passes_a_filter_that_names_it_and_no_other() {
        for filter in [
            "info",
            "trace",
            "elock=trace",
            "audit=off,trace",
            "info,audit=warn",
        ] {
            assert!(!lets_through(filter, AUDIT, Level::INFO), "{filter}");
        }
        for filter in ["audit=info", "info,audit=info", "audit=trace,off"] {
            assert!(lets_through(filter, AUDIT, Level::INFO), "{filter}");
        }
    }

    /// `--log info,adit=info` would be a server without an audit.
    #[test]
    fn a_module_that_is_not_there_is_told() {
        let filter =
            "info,adit=info,elock::stroe=debug,audit=info,elock::store::disk=trace,elock=off";
        let filter: LogFilter = filter.parse().expect("levels");
        assert_eq!(filter.unknown_modules(), ["adit", "elock::stroe"]);
    }

    #[test]
    fn each_module_that_logs_is_known() {
        fn logs(path: &std::path::Path) -> bool {
            match path.is_dir() {
                true => entries(path).iter().any(|path| logs(path)),
                false => {
                    std::fs::read_to_string(path).is_ok_and(|text| text.contains("use tracing::"))
                }
            }
        }
        fn entries(path: &std::path::Path) -> Vec<std::path::PathBuf> {
            let entries = std::fs::read_dir(path).expect("a directory");
            entries
                .map(|entry| entry.expect("an entry").path())
                .collect()
        }
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let logging = entries(&source).into_iter().filter(|path| logs(path));
        let names = logging.map(|path| {
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        });
        let names: Vec<_> = names.filter(|name| name != "bin").collect();
        assert!(names.len() > 5, "{names:?}");
        for name in names {
            assert!(is_known(&format!("elock::{name}")), "{name}");
        }
    }

    #[test]
    fn errors_pass_every_filter() {
        for filter in ["off", "0", "elock=off", "elock=off,off", "other=trace"] {
            assert!(lets_through(filter, "elock", Level::ERROR), "{filter}");
            assert!(!lets_through(filter, "elock", Level::WARN), "{filter}");
        }
    }

    #[test]
    fn a_filter_with_a_typing_error_is_refused() {
        for filter in [
            "inf0",
            "warning",
            "elock",
            "",
            " ",
            "info,",
            "elock=loudly",
            "elock=",
            "elock=debug,inf0",
            "=debug",
            "info, =debug",
            "6",
        ] {
            assert!(filter.parse::<LogFilter>().is_err(), "{filter:?}");
        }
    }
}
