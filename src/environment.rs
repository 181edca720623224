//! Settings from environment variables: an empty one is not set, and a bad or unknown one is
//! named.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use crate::model::Visible;

/// Parses `args` (the program's name first) and this process's variables by `command`.
///
/// # Errors
///
/// A bad setting, named as it was given: by its flag or by its variable. So are `--help` and
/// `--version`.
pub(crate) fn parse(command: &Command, args: &[OsString]) -> Result<ArgMatches, Error> {
    let is_not_empty = |argument: &Arg| value(argument).is_none_or(|value| !value.is_empty());
    let error = match parse_with(command, args, is_not_empty) {
        Ok(matches) => return Ok(matches),
        Err(error) => error,
    };
    if parse_with(command, args, |_| false).is_err() {
        return Err(error);
    }
    // The flags are good, so a variable is not. The error itself does not always tell which.
    let mut one_by_one = command.get_arguments().filter(|one| is_not_empty(one));
    let culprit = one_by_one.find_map(|one| {
        let alone = parse_with(command, args, |argument| argument.get_id() == one.get_id());
        Some(name_variable(command, one, alone.err()?))
    });
    Err(culprit.unwrap_or(error))
}

/// Parses with the variables of only the arguments for which `is_read` returns true.
fn parse_with(
    command: &Command,
    args: &[OsString],
    is_read: impl Fn(&Arg) -> bool,
) -> Result<ArgMatches, Error> {
    let command = command.clone().mut_args(|argument| {
        if is_read(&argument) {
            argument
        } else {
            argument.env(None::<&str>)
        }
    });
    command.try_get_matches_from(args)
}

/// The beginning of the names of all settings.
const PREFIX: &[u8] = b"ELOCK_";

/// Variables of clients. A client on the server's machine may share its environment.
const OF_CLIENTS: [&str; 9] = [
    "ELOCK_SERVER",
    "ELOCK_USER",
    "ELOCK_PASSWORD",
    "ELOCK_CLIENT_PASSWORD_FILE",
    "ELOCK_CA",
    "ELOCK_CLIENT_CERT",
    "ELOCK_CLIENT_KEY",
    "ELOCK_KEY",
    "ELOCK_TOKEN",
];

/// The names of this process's variables that look like settings and are none, sorted.
pub(crate) fn unknown(command: &Command) -> Vec<String> {
    let is_known = |name: &OsStr| {
        let mut settings = command.get_arguments().filter_map(Arg::get_env);
        settings.any(|setting| setting == name) || OF_CLIENTS.iter().any(|known| *known == name)
    };
    let unknown = env::vars_os().filter(|(name, value)| {
        name.as_bytes().starts_with(PREFIX) && !value.is_empty() && !is_known(name)
    });
    let mut names: Vec<_> = unknown
        .map(|(name, _)| Visible(name.as_bytes()).to_string())
        .collect();
    names.sort_unstable();
    names
}

fn value(argument: &Arg) -> Option<OsString> {
    argument.get_env().and_then(env::var_os)
}

fn name_variable(command: &Command, argument: &Arg, mut error: Error) -> Error {
    let variable = argument.get_env().map(OsStr::to_string_lossy);
    let variable = variable.unwrap_or_default().into_owned();
    if error.get(ContextKind::InvalidArg).is_none() {
        let message = format!("invalid value for '{variable}': it is not UTF-8");
        return command.clone().error(ErrorKind::InvalidUtf8, message);
    }
    error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    error
}

/// A setting as its user wrote it, if it is not its default: a file that shows all settings may give that.
#[cfg(feature = "cluster")]
pub(crate) fn given(command: &Command, matches: &ArgMatches, id: &str) -> Option<String> {
    let raw = matches.try_get_raw(id).ok()??;
    let source = matches.value_source(id);
    let mut arguments = command.get_arguments();
    let argument = arguments.find(|argument| argument.get_id() == id)?;
    let is_off = matches!(matches.try_get_one(id), Ok(Some(false)));
    let defaults = argument.get_default_values().iter();
    if is_off || raw.clone().eq(defaults.map(AsRef::<OsStr>::as_ref)) {
        return None;
    }
    let values: Vec<_> = raw.map(OsStr::to_string_lossy).collect();
    let is_bare = source == Some(ValueSource::CommandLine) && !argument.get_action().takes_values();
    match is_bare {
        true => Some(format!("--{}", argument.get_long().unwrap_or(id))),
        false => Some(as_given(command, matches, id, values.join(","))),
    }
}

/// A setting and its value as its user wrote them: `--flag value` or `VARIABLE=value`.
pub(crate) fn as_given(
    command: &Command,
    matches: &ArgMatches,
    id: &str,
    value: impl std::fmt::Display,
) -> String {
    let is_from_variable = matches.value_source(id) == Some(ValueSource::EnvVariable);
    let argument = command
        .get_arguments()
        .find(|argument| argument.get_id() == id);
    let variable = argument.and_then(Arg::get_env).filter(|_| is_from_variable);
    let flag = argument.and_then(Arg::get_long).unwrap_or(id);
    match variable {
        Some(variable) => format!("{}={value}", variable.to_string_lossy()),
        None => format!("--{flag} {value}"),
    }
}
