//! The keys of one elock cluster in etcd.

/// `N/leader`, `N/begun` and `N/log/<number>`, for a namespace N.
#[derive(Debug, Clone)]
pub(crate) struct Names(String);

impl Names {
    /// The keys below this namespace.
    pub(crate) fn below(namespace: &str) -> Self {
        Self(namespace.trim_end_matches('/').to_owned())
    }

    /// Who leads.
    pub(crate) fn leader(&self) -> Vec<u8> {
        format!("{}/leader", self.0).into()
    }

    /// That there is a log.
    pub(super) fn begun(&self) -> Vec<u8> {
        format!("{}/begun", self.0).into()
    }

    /// An entry of the log. The names are in the order of the numbers.
    pub(super) fn entry(&self, number: u64) -> Vec<u8> {
        format!("{}/log/{number:016x}", self.0).into()
    }

    /// What all entries begin with.
    pub(super) fn log(&self) -> Vec<u8> {
        format!("{}/log/", self.0).into()
    }

    /// The first name behind those of all entries.
    pub(super) fn behind_log(&self) -> Vec<u8> {
        format!("{}/log0", self.0).into()
    }

    /// The number in an entry's name.
    pub(super) fn number_of(&self, key: &[u8]) -> Option<u64> {
        let digits = key.strip_prefix(&self.log()[..])?;
        let digits = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok()
    }
}
