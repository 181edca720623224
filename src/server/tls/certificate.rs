//! What a certificate says of itself: whose it is, and for how long.

use std::fmt;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// A certificate that ends sooner is spoken of. Whatever renews them by itself has done so long before:
/// Let's Encrypt's clients do it 30 days before the end.
const SOON_DAYS: i64 = 14;

const DAY_S: i64 = 24 * 3600;

/// What people want to know of a certificate.
#[derive(Debug)]
pub(super) struct Certificate {
    name: Option<String>,
    /// In seconds since the beginning of 1970.
    begin: i64,
    end: i64,
}

/// Why it is none.
#[derive(Debug)]
pub(super) struct Malformed(pub(super) String);

impl Certificate {
    pub(super) fn read(der: &CertificateDer<'_>) -> Result<Self, Malformed> {
        let (_, read) =
            X509Certificate::from_der(der).map_err(|error| Malformed(error.to_string()))?;
        let validity = read.validity();
        Ok(Self {
            name: name_in(&read),
            begin: validity.not_before.timestamp(),
            end: validity.not_after.timestamp(),
        })
    }

    /// Its last second, since the beginning of 1970.
    #[cfg(feature = "admin")]
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// What is wrong with its dates now, if anything is.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble_at(ASN1Time::now().timestamp())
    }

    fn trouble_at(&self, now: i64) -> Option<String> {
        let days = (self.end - now) / DAY_S;
        match now {
            _ if now < self.begin => Some("is not valid yet".to_owned()),
            _ if now >= self.end => Some("HAS EXPIRED, and clients refuse it".to_owned()),
            _ if days < SOON_DAYS => Some(format!("expires in {days} days")),
            _ => None,
        }
    }
}

/// `"db1.example" until 2027-01-31`.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name:?}")?,
            None => f.write_str("a certificate without a name")?,
        }
        match ASN1Time::from_timestamp(self.end) {
            Ok(end) => {
                let end = end.to_datetime().date();
                write!(f, " until {end}")
            }
            Err(_) => Ok(()),
        }
    }
}

/// Whose certificate it is: its first DNS name, or else its common name.
pub(super) fn name(der: &CertificateDer<'_>) -> Option<String> {
    let (_, read) = X509Certificate::from_der(der).ok()?;
    name_in(&read)
}

fn name_in(certificate: &X509Certificate<'_>) -> Option<String> {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let dns_name = alternatives.and_then(|names| {
        let mut names = names.value.general_names.iter();
        names.find_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
    });
    let mut common_names = certificate.subject().iter_common_name();
    let name = dns_name.or_else(|| common_names.next()?.as_str().ok())?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_dates(begin_days: i64, end_days: i64) -> Certificate {
        Certificate {
            name: Some("db1".to_owned()),
            begin: begin_days * DAY_S,
            end: end_days * DAY_S,
        }
    }

    #[test]
    fn a_certificate_that_ends_soon_or_is_not_valid_is_spoken_of() {
        for (begin, end, trouble) in [
            (0, 100, None),
            (0, 24, None),
            (0, 23, Some("expires in 13 days")),
            (0, 10, Some("HAS EXPIRED, and clients refuse it")),
            (11, 100, Some("is not valid yet")),
        ] {
            let said = with_dates(begin, end).trouble_at(10 * DAY_S);
            assert_eq!(said.as_deref(), trouble, "{begin} to {end}");
        }
        assert_eq!(with_dates(0, 31).to_string(), "\"db1\" until 1970-02-01");
    }
}
