//! Reads users from files, and says what is wrong in them without showing a secret.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::password::{BadPassword, Secret};
use super::trust::{Trust, Trusted};
use super::user::{Keys, Rights, User};
use super::users::{ADMIN, DEFAULT, Users};
use crate::model::{Quota, Visible};
use crate::secret_file;

/// The longest name of a user, in bytes.
const LONGEST_NAME: usize = 64;

/// Where the users stand, and which addresses are trusted.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Users with hashes, prefixes and rights, in TOML.
    pub users: Option<PathBuf>,
    /// One password, for the user `default`, who may do everything.
    pub password: Option<PathBuf>,
    /// Who comes in without a password.
    pub trust: Vec<Trust>,
    /// One password, for the user `admin` of the admin listener, who may do everything there.
    pub admin: Option<PathBuf>,
}

/// Why the files are no good. Shows no password, and no hash of one.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Something in the file is wrong.
    #[error("{}, line {line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// The file of one password has none.
    #[error("{}: {why}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// Why.
        why: BadPassword,
    },
    /// The two files describe the same user.
    #[error("{} has a user `{DEFAULT}`, and so has {}", users.display(), password.display())]
    TwoDefaults {
        /// The file of users.
        users: PathBuf,
        /// The file with one password.
        password: PathBuf,
    },
    /// A user is called as the one of the admin listener's own password.
    #[error(
        "{} has a user `{ADMIN}`, which is whom the password in {} is for", users.display(), password.display()
    )]
    TwoAdmins {
        /// The file of users.
        users: PathBuf,
        /// The file with the admin listener's password.
        password: PathBuf,
    },
    /// There is nobody who could come in.
    #[error("{} has no users", path.display())]
    Nobody {
        /// The file of users.
        path: PathBuf,
    },
    /// An address is trusted to be a user who does not exist.
    #[error("--trust {trust}: there is no user of this name")]
    NoSuchUser {
        /// The setting.
        trust: Trust,
    },
}

/// A place in a file, and what is wrong there.
type Wrong = (Range<usize>, String);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersFile {
    #[serde(default)]
    users: BTreeMap<Spanned<String>, UserEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a table with `rights` and `prefixes`"
)]
struct UserEntry {
    /// Any value, as an error about its type would show it.
    password: Option<Spanned<toml::Value>>,
    rights: Spanned<Vec<Spanned<String>>>,
    prefixes: Spanned<Vec<Spanned<String>>>,
    max_connections: Option<NonZeroU32>,
    max_grace_sessions: Option<u32>,
    max_locks: Option<u32>,
    max_waiters: Option<u32>,
    max_commands: Option<NonZeroU32>,
}

impl Files {
    /// Whether anybody is asked who it is.
    pub fn are_given(&self) -> bool {
        self.users.is_some() || self.password.is_some()
    }

    /// Reads them, as the revision after that of the users before. Those who were there go on with
    /// their accounts, whose bounds stay as they are until [`Users::set_quotas`]. Without files, anybody
    /// is let in. Blocks.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn read(&self, before: &Users) -> Result<Users, FileError> {
        if !self.are_given() {
            return Ok(Users::anybody());
        }
        let mut named = match &self.users {
            Some(path) => read_users(path, before)?,
            None => HashMap::new(),
        };
        if let Some(path) = &self.password {
            let user = read_password(path, DEFAULT, before)?;
            if named.insert(DEFAULT.into(), Arc::new(user)).is_some() {
                return Err(FileError::TwoDefaults {
                    users: self.users.clone().unwrap_or_default(),
                    password: path.clone(),
                });
            }
        }
        let trusted = self.trust.iter().map(|trust| {
            let user = named.get(trust.user.as_str());
            let user = user.ok_or_else(|| FileError::NoSuchUser {
                trust: trust.clone(),
            })?;
            Ok(Trusted {
                network: trust.network,
                user: Arc::clone(user),
            })
        });
        let trusted = trusted.collect::<Result<_, FileError>>()?;
        Ok(Users::named(named, trusted, before.revision() + 1))
    }

    /// Who comes in at the admin listener: `users`, and the one who is there alone. Blocks.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn read_for_admin(
        &self,
        users: &Arc<Users>,
        before: &Users,
    ) -> Result<Arc<Users>, FileError> {
        let Some(password) = &self.admin else {
            return Ok(Arc::clone(users));
        };
        let admin = read_password(password, ADMIN, before)?;
        let both = users.and(ADMIN, admin).ok_or_else(|| FileError::TwoAdmins {
            users: self.users.clone().unwrap_or_default(),
            password: password.clone(),
        });
        both.map(Arc::new)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    secret_file::read(path).map_err(|error| FileError::Unreadable {
        path: path.to_owned(),
        error,
    })
}

fn read_password(path: &Path, name: &str, before: &Users) -> Result<User, FileError> {
    let bytes = read(path)?;
    let secret = match secret_file::only_line(&bytes) {
        None => Err(BadPassword::SeveralLines),
        Some(password) => Secret::from_password(password),
    };
    let secret = secret.map_err(|why| FileError::Password {
        path: path.to_owned(),
        why,
    })?;
    let secret = Some(secret);
    let may = (Rights::ALL, Keys::All);
    Ok(User::named(name, may, secret, Quota::default(), before))
}

fn read_users(path: &Path, before: &Users) -> Result<HashMap<Box<str>, Arc<User>>, FileError> {
    let bytes = read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let users = parse(&text, before).map_err(|(place, what)| FileError::Line {
        path: path.to_owned(),
        line: line_of(&text, place.start),
        what,
    })?;
    match users.is_empty() {
        true => Err(FileError::Nobody {
            path: path.to_owned(),
        }),
        false => Ok(users),
    }
}

fn line_of(text: &str, place: usize) -> usize {
    let before = text.as_bytes().get(..place).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

fn parse(text: &str, before: &Users) -> Result<HashMap<Box<str>, Arc<User>>, Wrong> {
    let file: UsersFile = toml::from_str(text).map_err(|error| {
        let place = error.span().unwrap_or_default();
        // A member's name may have any character, and the log has a line for each message.
        let what = without_values(error.message())
            .replace(
                "a nonzero u32",
                &format!("a whole number from 1 to {}", u32::MAX),
            )
            .replace("u32", &format!("a whole number from 0 to {}", u32::MAX));
        let what = Visible(what.as_bytes()).to_string();
        (place, what)
    })?;
    let users = file.users.into_iter().map(|(name, entry)| {
        let user = entry.into_user(&name, before)?;
        Ok((name.into_inner().into(), Arc::new(user)))
    });
    users.collect()
}

/// The library's message about a value of the wrong type, without the value: it may be a password in
/// the wrong place, with whatever words in it.
fn without_values(message: &str) -> &str {
    match message.rsplit_once(", expected ") {
        Some((before, _)) if before.starts_with("invalid ") => {
            message.get(before.len() + 2..).unwrap_or_default()
        }
        _ => message,
    }
}

impl UserEntry {
    fn into_user(self, name: &Spanned<String>, before: &Users) -> Result<User, Wrong> {
        let is_of_a_name = |character: char| !character.is_control() && character != ' ';
        let text = name.get_ref();
        if text.is_empty() || text.len() > LONGEST_NAME || !text.chars().all(is_of_a_name) {
            let what = format!(
                "the name of a user is a word of 1 to {LONGEST_NAME} bytes, without spaces and \
                 control characters"
            );
            return Err((name.span(), what));
        }
        let (rights, keys) = (rights_of(&self.rights)?, keys_of(&self.prefixes)?);
        let secret = self.password.as_ref().map(secret_of).transpose()?;
        let quota = Quota {
            connections: self.max_connections.map(u32::from),
            grace_sessions: self.max_grace_sessions,
            locks: self.max_locks,
            waiters: self.max_waiters,
            commands: self.max_commands.map(u32::from),
        };
        Ok(User::named(text, (rights, keys), secret, quota, before))
    }
}

fn secret_of(password: &Spanned<toml::Value>) -> Result<Secret, Wrong> {
    let hash = password.get_ref().as_str().unwrap_or_default();
    Secret::from_hash(hash).map_err(|why| (password.span(), why.to_string()))
}

fn rights_of(words: &Spanned<Vec<Spanned<String>>>) -> Result<Rights, Wrong> {
    let mut rights = Rights::default();
    for word in words.get_ref() {
        match word.get_ref().as_str() {
            "lock" => rights.lock = true,
            "read" => rights.read = true,
            "admin" => rights.admin = true,
            _ => {
                return Err((
                    word.span(),
                    "a right is `lock`, `read` or `admin`".to_owned(),
                ));
            }
        }
    }
    match rights == Rights::default() {
        true => Err((
            words.span(),
            "a user without `rights` can do nothing".to_owned(),
        )),
        false => Ok(rights),
    }
}

fn keys_of(prefixes: &Spanned<Vec<Spanned<String>>>) -> Result<Keys, Wrong> {
    let mut some = Vec::new();
    for prefix in prefixes.get_ref() {
        match prefix.get_ref().as_str() {
            "*" => return Ok(Keys::All),
            "" => {
                let what = "an empty prefix: all keys are `*`".to_owned();
                return Err((prefix.span(), what));
            }
            text => some.push(text.as_bytes().into()),
        }
    }
    match some.is_empty() {
        true => {
            let what = "a user without `prefixes` can name no key: all keys are `*`".to_owned();
            Err((prefixes.span(), what))
        }
        false => Ok(Keys::BeginWith(some)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$rVmMUJFui94UNNetaKx0UQ$yniuWciH8xYCIiVPi/yBHqwlnypdzHZTlVHHy3fJAkk";

    #[test]
    fn what_is_wrong_is_told_in_one_line() {
        let (line, what) = wrong("[\"a\\n2026-11-26 INFO well\"]");
        assert_eq!(line, 1);
        assert!(what.contains("`a\\x0A2026-11-26 INFO well`"), "{what}");
    }

    /// The line and what is wrong there.
    fn wrong(text: &str) -> (usize, String) {
        let (place, what) = parse(text, &Users::anybody())
            .map(drop)
            .expect_err("it is wrong");
        (line_of(text, place.start), what)
    }

    fn user(members: &str) -> String {
        format!("# A user\n[users.web]\n{members}")
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let right = "rights = ['lock']\n";
        let prefixes = "prefixes = ['*']\n";
        for (text, line, what) in [
            (user(right), 2, "missing field `prefixes`"),
            (user(prefixes), 2, "missing field `rights`"),
            (user("rights = []\nprefixes = ['*']"), 3, "can do nothing"),
            (
                user("prefixes = []\nrights = ['lock']"),
                3,
                "can name no key",
            ),
            (
                user("rights = ['lock',\n'reed']\nprefixes = ['*']"),
                4,
                "a right is",
            ),
            (
                user("rights = ['lock']\nprefixes = ['a', '']"),
                4,
                "all keys are `*`",
            ),
            (user("rights = 'lock'"), 3, "expected a sequence"),
            (
                user(&format!("{right}{prefixes}pasword = 'x'")),
                5,
                "unknown field `pasword`",
            ),
            (
                user(&format!("{right}{prefixes}password = 'x'")),
                5,
                "elockd hash-password",
            ),
            (
                user(&format!("{right}{prefixes}password = 7")),
                5,
                "elockd hash-password",
            ),
            (
                "[users.'a b']\nrights=['lock']\nprefixes=['*']".to_owned(),
                1,
                "a word",
            ),
            (
                "[users.\"a\\n\"]\nrights=['lock']\nprefixes=['*']".to_owned(),
                1,
                "a word",
            ),
            ("[user.web]".to_owned(), 1, "unknown field `user`"),
            ("[users.web]\n[users.web]".to_owned(), 2, "duplicate"),
            ("[users.web]\nrights".to_owned(), 2, ""),
        ] {
            let (found, told) = wrong(&text);
            assert_eq!(found, line, "{text}: {told}");
            assert!(told.contains(what), "{text}: {told}");
        }
    }

    #[test]
    fn no_value_is_told_as_it_may_be_a_password_in_the_wrong_place() {
        for text in [
            "users = 'a-secret'",
            "[users]\nweb = 'a-secret'",
            "[users.web]\nrights = 'a-secret'",
            "[users.web]\nrights = ['a-secret']\nprefixes = ['*']",
            "[users.web]\npassword = 'a-secret'\nrights = ['lock']\nprefixes = ['*']",
            "[users.web]\nmax_locks = 'with, expected a-secret'",
        ] {
            let (_, told) = wrong(text);
            assert!(!told.contains("secret") && !told.is_empty(), "{told}");
        }
    }

    #[test]
    fn a_number_that_is_none_is_told_with_its_range() {
        for (bound, least) in [("max_locks", 0), ("max_commands", 1)] {
            for bad in ["-1", "4294967296", "1.5", "'a'"] {
                let (_, told) = wrong(&format!("[users.web]\n{bound} = {bad}"));
                let range = format!("a whole number from {least} to 4294967295");
                assert!(told.contains(&range), "{bound} = {bad}: {told}");
            }
        }
    }

    #[test]
    fn users_are_as_they_are_described() {
        let text = format!("[users.web]\npassword='{HASH}'\nrights=['read']\nprefixes=['a','b:']");
        let users = parse(&text, &Users::anybody()).expect("good");
        let web = &users["web"];
        assert_eq!(
            (web.may_lock(), web.may_read(), web.may_admin()),
            (false, true, false)
        );
        assert_eq!([b"b:", b"b!"].map(|key| web.allows(key)), [true, false]);
        assert!(web.allows(b"a") && !web.allows(b""));
        assert_eq!(web.revision(), 1);
        assert!(web.has_password(b"web-secret") && !web.has_password(b"web-secre"));
        let text = "[users.web]\nrights=['lock']\nprefixes=['*']";
        let without = parse(text, &Users::anybody()).expect("good");
        assert!(!without["web"].has_password(b""));
    }

    #[test]
    fn a_hash_that_costs_too_much_is_refused() {
        for costs in ["m=262145,t=1,p=1", "m=8,t=17,p=1", "m=512,t=1,p=17"] {
            let text = user(&format!(
                "password = '{}'\nrights = ['lock']\nprefixes = ['*']",
                HASH.replace("m=8,t=1,p=1", costs)
            ));
            assert!(wrong(&text).1.contains("cost too much"), "{costs}");
        }
    }

    #[test]
    fn a_password_is_the_line_without_its_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("password");
        for (bytes, password) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("\u{e9}\n", "\u{e9}"),
        ] {
            std::fs::write(&path, bytes).expect("it can be written");
            let user = read_password(&path, DEFAULT, &Users::anybody()).expect("a password");
            assert!(user.has_password(password.as_bytes()), "{bytes:?}");
        }
        for bad in ["", "\n", "a\nb\n", "a b", "a\n\n"] {
            std::fs::write(&path, bad).expect("it can be written");
            let user = read_password(&path, DEFAULT, &Users::anybody());
            assert!(user.is_err(), "{bad:?}");
        }
    }
}
