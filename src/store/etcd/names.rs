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

    /// A name behind those of all entries: no log will ever have 2^60, so that all begin with a zero, and what is
    /// behind that is not of this log, as a cluster whose namespace is below this one.
    pub(super) fn behind_log(&self) -> Vec<u8> {
        format!("{}/log/1", self.0).into()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_below_another_one_is_not_in_its_log() {
        let (outer, inner) = (Names::below("/elock"), Names::below("/elock/log"));
        assert!(outer.log() < outer.entry(0));
        assert!(outer.entry((1 << 60) - 1) < outer.behind_log());
        for of_inner in [inner.leader(), inner.begun(), inner.entry(0)] {
            assert!(outer.behind_log() < of_inner);
        }
    }
}
