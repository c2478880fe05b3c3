//! What a node's maps promise a client of a frontend: who answers and whom he sees, whether always the same, or
//! what becomes of the client while nobody does.
//!
//! Nodes differ: endpoints are local to one of them, or meant for its zone. So each client is judged by what
//! the node says that its packets come to, see `clients`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::traffic::Outcome;

/// What one client may expect of one frontend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Promise {
    /// The names of the endpoints that answer, and the addresses by which each may know the client.
    pub(super) endpoints: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Whether a client comes back to the same one.
    pub(super) sticks: bool,
    /// Whether clients hear nothing, rather than a refusal, while there are no endpoints.
    pub(super) drops: bool,
}

impl Promise {
    /// Whether it allows this outcome of one probe.
    pub(super) fn allows(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Answered(pod) => self.endpoints.contains_key(pod),
            Outcome::Refused(_) => self.endpoints.is_empty() && !self.drops,
            Outcome::Silent(_) => self.endpoints.is_empty() && self.drops,
            Outcome::Wrong(_) => false,
        }
    }

    /// Why an outcome is not right that breaks it, or that another one of the same client makes wrong.
    pub(super) fn complaint(&self, outcome: &Outcome) -> String {
        match outcome {
            Outcome::Answered(pod) if self.allows(outcome) => {
                format!("{pod} answered a client that had been with another endpoint")
            }
            Outcome::Answered(pod) => format!("{pod} answered, which is no endpoint of it"),
            Outcome::Refused(why) | Outcome::Silent(why) | Outcome::Wrong(why) => why.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_40_and_41_a_refusal_is_no_silence() {
        let refused = Outcome::Refused("refused".to_owned());
        let silent = Outcome::Silent("timed out".to_owned());
        let mut promise = Promise::default();
        assert!(promise.allows(&refused) && !promise.allows(&silent));
        promise.drops = true;
        assert!(!promise.allows(&refused) && promise.allows(&silent));
        promise
            .endpoints
            .insert("pod-1".to_owned(), BTreeSet::new());
        assert!(!promise.allows(&refused) && !promise.allows(&silent));
    }
}
