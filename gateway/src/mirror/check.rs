//! What a set of rules must be, and what becomes of each rule before anything is copied for it. Everything in it is a session's word.
//! Before: [`crate::control`]; after: [`super::rules`].

use std::collections::{BTreeMap, HashSet};

use link::rules::{MAX_RULES, Rule, RuleSet, RuleState};

use super::nearest::nearest;
use crate::{cluster::Replicas, config::Target};

/// Rules of one set for which near names are looked for; it costs the gateway's time, and nobody mistypes more.
const MOST_NEAREST: usize = 16;

/// Why a set breaks the protocol, if it does: sessions check this themselves.
pub(crate) fn broken(set: &RuleSet) -> Option<&'static str> {
    if set.rules.len() > MAX_RULES {
        return Some("a set of rules has more than 1024 rules");
    }
    let mut ids = HashSet::new();
    let mut ports = HashSet::new();
    let is_new = |rule: &Rule| ids.insert(rule.id) && ports.insert((rule.target.clone(), rule.port, rule.protocol));
    (!set.rules.iter().all(is_new)).then_some("a set of rules has the same rule twice")
}

/// Who may do what, as far as mirroring goes.
pub(super) trait Permission {
    /// Whether a rule may be on; else what is missing, for a person.
    fn may_mirror(&self, rule: &Rule) -> Result<(), String>;
    /// Whether the identity may be told of a target.
    fn may_name(&self, target: &str) -> bool;
}

/// Of each rule by its number: `Ok` if it is to be on, else what became of it. `found` are the targets that exist.
pub(super) fn judge(
    set: &RuleSet,
    permission: &impl Permission,
    targets: &[Target],
    found: &BTreeMap<String, Replicas>,
) -> BTreeMap<u32, Result<(), RuleState>> {
    let mut searches = 0;
    let judged = set.rules.iter().map(|rule| {
        // First: whoever may not mirror a target is not told whether it exists.
        let state = if let Err(reason) = permission.may_mirror(rule) {
            Err(RuleState::Refused { reason })
        } else if !found.contains_key(&rule.target) {
            searches += 1;
            let names = targets.iter().map(|target| target.name.as_str()).filter(|name| permission.may_name(name));
            let nearest = if searches <= MOST_NEAREST { nearest(&rule.target, names) } else { Vec::new() };
            Err(RuleState::UnknownTarget { nearest })
        } else if rule.port == 0 {
            Err(RuleState::Failed { reason: "0 is no port: use 1 to 65535".to_owned() })
        } else {
            Ok(())
        };
        (rule.id, state)
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use link::rules::{RuleProtocol, Sample};

    use super::*;

    fn rule(id: u32, target: &str, port: u16) -> Rule {
        let (protocol, sample) = (RuleProtocol::Tcp, Sample::ALL);
        Rule {
            id,
            target: target.to_owned(),
            port,
            protocol,
            replica: None,
            sample,
            max_rate: None,
            skip_existing: false,
        }
    }

    struct Shop;

    impl Permission for Shop {
        fn may_mirror(&self, rule: &Rule) -> Result<(), String> {
            if self.may_name(&rule.target) { Ok(()) } else { Err("no".to_owned()) }
        }

        fn may_name(&self, target: &str) -> bool {
            target.starts_with("shop/")
        }
    }

    #[test]
    fn a_set_with_too_much_or_twice_the_same_breaks_the_protocol() {
        let set = |rules| RuleSet { generation: 1, rules };
        assert_eq!(broken(&set(vec![rule(1, "a", 80), rule(2, "a", 81), rule(3, "b", 80)])), None);
        for twice in [vec![rule(1, "a", 80), rule(1, "b", 80)], vec![rule(1, "a", 80), rule(2, "a", 80)]] {
            assert_eq!(broken(&set(twice)), Some("a set of rules has the same rule twice"));
        }
        let many: Vec<Rule> = (0..=1_024).map(|id| rule(id, &id.to_string(), 80)).collect();
        assert!(broken(&set(many)).is_some());
    }

    #[test]
    fn a_forbidden_target_looks_the_same_whether_it_exists_or_not() {
        let target = |name: &str| Target { name: name.to_owned(), places: Vec::new() };
        let targets = [target("shop/deploy/web"), target("bank/deploy/ledger")];
        let found = targets.iter().map(|target| (target.name.clone(), Replicas::default())).collect();
        let names =
            ["shop/deploy/web", "shop/deploy/wbe", "bank/deploy/ledger", "bank/deploy/none", "shop/deploy/ledger"];
        let rules = names.iter().zip(0..).map(|(name, id)| rule(id, name, 80)).collect();
        let judged = judge(&RuleSet { generation: 1, rules }, &Shop, &targets, &found);
        let refused = Err(RuleState::Refused { reason: "no".to_owned() });
        assert_eq!(judged[&0], Ok(()));
        assert_eq!(judged[&1], Err(RuleState::UnknownTarget { nearest: vec!["shop/deploy/web".to_owned()] }));
        assert_eq!((&judged[&2], &judged[&3]), (&refused, &refused));
        let Err(RuleState::UnknownTarget { nearest }) = &judged[&4] else { panic!("{judged:?}") };
        assert!(!nearest.contains(&"bank/deploy/ledger".to_owned()));
    }
}
