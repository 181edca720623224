//! The parameters of a question: keys are bytes, so they are read as bytes.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::Problem;
use crate::model::{SessionNumber, unescape};

/// How many entries an answer has unless it is asked for fewer or more, and the most.
const USUAL_LIMIT: usize = 100;
const LONGEST: usize = 1000;

/// What stands behind the `?`. Each parameter may come once. `%NN` stands for a byte, as in every address,
/// and in keys and prefixes `\xNN` does, as in the protocol; a `+` is itself, as no key has a space.
pub(super) struct Parameters(Vec<(String, Vec<u8>)>);

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::read(parts.uri.query().unwrap_or_default())
    }
}

impl Parameters {
    fn read(query: &str) -> Result<Self, Problem> {
        let mut parameters = Vec::<(String, Vec<u8>)>::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if parameters.iter().any(|(other, _)| other == name) {
                return Err(Problem::bad(format!("\"{name}\" is given twice")));
            }
            let value = decoded(value).ok_or_else(|| {
                Problem::bad(format!("what is given as \"{name}\" has a bad %NN"))
            })?;
            parameters.push((name.to_owned(), value));
        }
        Ok(Self(parameters))
    }

    /// A key or the beginning of one.
    pub(super) fn word(&mut self, name: &str) -> Option<Vec<u8>> {
        self.take(name).map(|word| unescape(&word))
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let digits = value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(&value).ok().filter(|_| digits);
        let number = number.and_then(|number| number.parse().ok());
        let bad = || Problem::bad(format!("\"{name}\" must be a whole number"));
        number.ok_or_else(bad).map(Some)
    }

    pub(super) fn session(&mut self, name: &str) -> Result<Option<SessionNumber>, Problem> {
        Ok(self.number(name)?.map(SessionNumber))
    }

    /// How many entries are asked for.
    pub(super) fn limit(&mut self) -> Result<usize, Problem> {
        let limit = self.number("limit")?;
        let limit = limit.map_or(USUAL_LIMIT, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        });
        match limit {
            1..=LONGEST => Ok(limit),
            _ => Err(Problem::bad(format!(
                "\"limit\" must be from 1 to {LONGEST}"
            ))),
        }
    }

    /// To be called when all were taken that a question has: a misspelt one must not be taken for none.
    pub(super) fn end(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::bad(format!(
                "there is no parameter \"{name}\" here"
            ))),
        }
    }

    fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        let place = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.swap_remove(place).1)
    }
}

/// `None` if a `%` has no two digits behind it.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let are_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| are_digits)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_bytes() {
        let query = r"a=x%00%ff+\x5cx41&b=%5Cx20&c&d=7";
        let mut read = Parameters::read(query).unwrap_or_else(|_| panic!("good"));
        assert_eq!(read.word("a"), Some(b"x\x00\xff+\\x41".to_vec()));
        assert_eq!(read.word("b"), Some(b" ".to_vec()));
        assert_eq!(read.word("c"), Some(Vec::new()));
        assert_eq!(read.word("e"), None);
        assert!(matches!(read.number("d"), Ok(Some(7))));
        assert!(read.end().is_ok());
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for query in ["a=%", "a=%4", "a=%4g", "a=%+1", "a=%é", "a=1&a=2"] {
            assert!(Parameters::read(query).is_err(), "{query}");
        }
        for number in ["", "-1", "+1", "1.5", "x", "18446744073709551616"] {
            let mut read = Parameters(vec![("n".to_owned(), number.into())]);
            assert!(read.number("n").is_err(), "{number}");
        }
        for limit in ["0", "1001"] {
            let mut read = Parameters(vec![("limit".to_owned(), limit.into())]);
            assert!(read.limit().is_err(), "{limit}");
        }
        let Ok(misspelt) = Parameters::read("prefx=a") else {
            panic!("read")
        };
        assert!(misspelt.end().is_err());
    }
}
