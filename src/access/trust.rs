//! Addresses whose connections need no password.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

use super::user::User;

/// `NETWORK=USER`: connections from there come in as that user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    pub(super) network: Network,
    pub(super) user: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    Ip(IpNet),
    /// All unix sockets.
    Unix,
}

/// Why a text is no [`Trust`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected NETWORK=USER, such as 10.0.0.0/8=web, 10.0.0.5=web or unix=web")]
pub struct BadTrust;

impl FromStr for Trust {
    type Err = BadTrust;

    fn from_str(text: &str) -> Result<Self, BadTrust> {
        // In a list, spaces may stand beside the commas.
        let (network, user) = text.trim().split_once('=').ok_or(BadTrust)?;
        let network = match network {
            "unix" => Network::Unix,
            network => Network::Ip(
                network
                    .parse()
                    .or_else(|_| network.parse::<IpAddr>().map(IpNet::from))
                    .map_err(|_| BadTrust)?,
            ),
        };
        match user.is_empty() {
            true => Err(BadTrust),
            false => Ok(Self {
                network,
                user: user.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.network {
            Network::Ip(network) => write!(f, "{network}={}", self.user),
            Network::Unix => write!(f, "unix={}", self.user),
        }
    }
}

/// A network with the user that it stands for.
#[derive(Debug, Clone)]
pub(super) struct Trusted {
    pub(super) network: Network,
    pub(super) user: Arc<User>,
}

impl Trusted {
    /// The user of the smallest network that the address is in. Without an address: of the unix
    /// sockets.
    pub(super) fn narrowest(trusted: &[Self], from: Option<IpAddr>) -> Option<Arc<User>> {
        let from = from.map(|address| address.to_canonical());
        let width = |one: &Self| match (one.network, from) {
            (Network::Ip(network), Some(address)) => {
                network.contains(&address).then(|| network.prefix_len())
            }
            (Network::Unix, None) => Some(0),
            _ => None,
        };
        let candidates = trusted.iter().filter_map(|one| Some((width(one)?, one)));
        let (_, narrowest) = candidates.max_by_key(|(width, _)| *width)?;
        Some(Arc::clone(&narrowest.user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_one_or_an_address_or_all_unix_sockets() {
        for (text, shown) in [
            ("10.0.0.0/8=web", "10.0.0.0/8=web"),
            (" 10.0.0.5=web ", "10.0.0.5/32=web"),
            ("fd00::/8=a=b", "fd00::/8=a=b"),
            ("unix=web", "unix=web"),
        ] {
            let trust: Trust = text.parse().expect(text);
            assert_eq!(trust.to_string(), shown);
        }
        for bad in [
            "",
            "web",
            "10.0.0.0/8",
            "10.0.0.0/8=",
            "=web",
            "10.0.0/8=web",
            "10.0.0.0/33=web",
        ] {
            assert_eq!(bad.parse::<Trust>(), Err(BadTrust), "{bad}");
        }
    }

    #[test]
    fn the_narrowest_network_counts_and_a_unix_socket_is_in_none() {
        let all = [
            "0.0.0.0/0=all",
            "10.0.0.0/8=ten",
            "10.1.0.0/16=ten-one",
            "::/0=six",
        ];
        let trusted = all.map(|text| {
            let Trust { network, user } = text.parse().expect(text);
            let (rights, keys) = (super::super::Rights::ALL, super::super::user::Keys::All);
            let user = Arc::new(User::named(&user, rights, keys, None, 1));
            Trusted { network, user }
        });
        let user_at = |from: Option<&str>| {
            let from = from.map(|text| text.parse().expect("an address"));
            let user = Trusted::narrowest(&trusted, from)?;
            Some(String::from_utf8_lossy(user.name()?.as_bytes()).into_owned())
        };
        for (from, user) in [
            ("10.1.2.3", "ten-one"),
            ("10.2.2.3", "ten"),
            ("::ffff:10.2.2.3", "ten"),
            ("11.0.0.1", "all"),
            ("2001:db8::1", "six"),
        ] {
            assert_eq!(user_at(Some(from)).as_deref(), Some(user), "{from}");
        }
        assert_eq!(user_at(None), None);
    }
}
