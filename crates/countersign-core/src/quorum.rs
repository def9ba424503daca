//! Witness quorums: C2SP tlog-policy (spec/trust.md).

use std::collections::{BTreeMap, BTreeSet};

use crate::codes::{Code, Fault};
use crate::encoding::from_decimal;
use crate::note::{KeyType, SignedCheckpoint, VerifierKey};

/// Bytes that a policy may have.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;
/// Logs, witnesses and groups that it may name together.
pub const POLICY_LINES_MAX: usize = 1024;

#[derive(Clone, Debug)]
enum Member {
    Witness { vkey: VerifierKey, url: Option<String> },
    Group { threshold: usize, members: Vec<String> },
}

/// A parsed policy: which witnesses' cosignatures make a checkpoint acceptable.
#[derive(Clone, Debug)]
pub struct WitnessPolicy {
    logs: Vec<VerifierKey>,
    // In the order of their lines: a group names only what stands before it.
    members: Vec<(String, Member)>,
    quorum: Option<String>,
}

/// A witness of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyWitness {
    /// Its name in the policy.
    pub name: String,
    /// The key of its cosignatures.
    pub vkey: VerifierKey,
    /// The URL prefix under which it takes `add-checkpoint`; none where it is only verified.
    pub url: Option<String>,
}

/// A quorum that was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumMet {
    /// Names of the witnesses whose cosignatures verified, in the policy's order.
    pub witnesses: Vec<String>,
}

impl WitnessPolicy {
    /// Parses a policy; duplicate names, duplicate keys and anything unknown are refused.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if text.len() > POLICY_BYTES_MAX || text.lines().count() > POLICY_LINES_MAX {
            return Err(Code::PolicyLine.into());
        }
        let mut policy = Self { logs: Vec::new(), members: Vec::new(), quorum: None };
        let mut quorum_seen = false;
        let mut log_keys = BTreeSet::new();
        let mut witness_keys = BTreeSet::new();
        for (number, line) in (1_u64..).zip(text.split('\n')) {
            let malformed = Code::PolicyLine.at_index(number);
            // Space and tab only: a carriage return is part of a word, and then no word is known.
            let words: Vec<&str> =
                line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["log", vkey] | ["log", vkey, _] => {
                    let vkey = VerifierKey::parse(vkey)?;
                    if vkey.key_type != KeyType::Note || !log_keys.insert(vkey.key) {
                        return Err(malformed);
                    }
                    policy.logs.push(vkey);
                }
                ["witness", name, vkey, url @ ..] if url.len() <= 1 => {
                    let vkey = VerifierKey::parse(vkey)?;
                    if vkey.key_type != KeyType::Cosignature || !witness_keys.insert(vkey.key) {
                        return Err(malformed);
                    }
                    let url = url.first().map(|url| (*url).to_owned());
                    policy.define(name, Member::Witness { vkey, url }, malformed)?;
                }
                ["group", name, threshold, members @ ..] if !members.is_empty() => {
                    let group = policy.group(threshold, members).ok_or(malformed)?;
                    policy.define(name, group, malformed)?;
                }
                ["quorum", name] if !quorum_seen => {
                    quorum_seen = true;
                    if *name != "none" {
                        if policy.find(name).is_none() {
                            return Err(malformed);
                        }
                        policy.quorum = Some((*name).to_owned());
                    }
                }
                _ => return Err(malformed),
            }
        }
        if quorum_seen { Ok(policy) } else { Err(Code::PolicyLine.into()) }
    }

    fn find(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|(known, _)| known == name).map(|(_, member)| member)
    }

    fn define(&mut self, name: &str, member: Member, malformed: Fault) -> Result<(), Fault> {
        if name == "none" || self.find(name).is_some() {
            return Err(malformed);
        }
        self.members.push((name.to_owned(), member));
        Ok(())
    }

    fn group(&self, threshold: &str, names: &[&str]) -> Option<Member> {
        let distinct: BTreeSet<&&str> = names.iter().collect();
        if distinct.len() != names.len() || names.iter().any(|name| self.find(name).is_none()) {
            return None;
        }
        // A name is a member of one group at most, so that no witness counts twice (TRUST-4).
        let taken = |name: &&str| {
            self.members.iter().any(|(_, member)| match member {
                Member::Group { members, .. } => members.iter().any(|known| known == name),
                Member::Witness { .. } => false,
            })
        };
        if names.iter().any(taken) {
            return None;
        }
        let threshold = match threshold {
            "any" => 1,
            "all" => names.len(),
            number => usize::try_from(from_decimal(number)?).ok()?,
        };
        if threshold == 0 || threshold > names.len() {
            return None;
        }
        let members = names.iter().map(|name| (*name).to_owned()).collect();
        Some(Member::Group { threshold, members })
    }

    /// Its witnesses, in the order of their lines.
    pub fn witnesses(&self) -> impl Iterator<Item = PolicyWitness> {
        self.members.iter().filter_map(|(name, member)| match member {
            Member::Witness { vkey, url } => {
                Some(PolicyWitness { name: name.clone(), vkey: vkey.clone(), url: url.clone() })
            }
            Member::Group { .. } => None,
        })
    }

    /// Whether no cosignature is required.
    pub fn is_none(&self) -> bool {
        self.quorum.is_none()
    }

    /// Whether the policy accepts this log: one of its `log` lines, or it has none.
    pub fn accepts_log(&self, key: &VerifierKey) -> bool {
        self.logs.is_empty() || self.logs.contains(key)
    }

    /// Evaluates the quorum over a checkpoint's cosignatures. `Ok(None)` says it is short.
    ///
    /// A cosignature of a known witness that fails makes the whole note unacceptable. `not_counted`
    /// are keys of the log itself, which never count as witnesses; `before` is a time in seconds
    /// that a cosignature must precede to count.
    pub fn evaluate(
        &self,
        checkpoint: &SignedCheckpoint,
        not_counted: &[[u8; 32]],
        before: Option<u64>,
    ) -> Result<Option<QuorumMet>, Fault> {
        let mut holds: BTreeMap<&str, bool> = BTreeMap::new();
        let mut witnesses = Vec::new();
        for (name, member) in &self.members {
            let held = match member {
                Member::Witness { vkey, .. } => {
                    let times = checkpoint.cosigned_at(vkey, Code::WitnessSignature)?;
                    let in_time = times.is_some_and(|(first, _)| before.is_none_or(|t| first < t));
                    in_time && !not_counted.contains(&vkey.key)
                }
                Member::Group { threshold, members } => {
                    let count =
                        members.iter().filter(|m| holds.get(m.as_str()) == Some(&true)).count();
                    count >= *threshold
                }
            };
            if held && matches!(member, Member::Witness { .. }) {
                witnesses.push(name.clone());
            }
            holds.insert(name, held);
        }
        let met = match &self.quorum {
            None => before.is_none(),
            Some(name) => holds.get(name.as_str()) == Some(&true),
        };
        Ok(met.then_some(QuorumMet { witnesses }))
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::hash::{RootHash, TreeSize};
    use crate::note::{checkpoint_body, cosign_body, sign_body};

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn vkey(name: &str, key_type: KeyType, seed: u8) -> VerifierKey {
        VerifierKey::new(name, key_type, key(seed).verifying_key().to_bytes()).expect("vkey")
    }

    fn witness(seed: u8) -> VerifierKey {
        vkey(&format!("w{seed}"), KeyType::Cosignature, seed)
    }

    fn lines(tail: &str) -> String {
        let [a, b, c] = [1, 2, 3].map(witness);
        format!("witness W1 {a}\nwitness W2 {b}\nwitness W3 {c}\n{tail}")
    }

    fn cosigned(by: &[(u8, u64)]) -> SignedCheckpoint {
        let log = vkey("log.example", KeyType::Note, 9);
        let body = checkpoint_body("log.example", TreeSize(1), &RootHash([1; 32]));
        let mut text = format!("{body}\n{}", sign_body(&log, &key(9), &body));
        for (seed, time) in by {
            text.push_str(&cosign_body(&witness(*seed), &key(*seed), *time, &body));
        }
        SignedCheckpoint::parse(&text).expect("note")
    }

    #[test]
    fn a_quorum_counts_distinct_witnesses_and_never_the_logs_own_keys() {
        let policy =
            WitnessPolicy::parse(&lines("group G 2 W1 W2 W3\nquorum G\n")).expect("policy");
        let met = |by: &[(u8, u64)], own: &[[u8; 32]], before| {
            policy.evaluate(&cosigned(by), own, before).expect("evaluated").is_some()
        };
        assert!(met(&[(1, 5), (2, 6)], &[], None));
        assert!(!met(&[(1, 5)], &[], None));
        assert!(!met(&[(1, 5), (1, 6)], &[], None), "one witness twice is one witness");
        assert!(!met(&[(1, 5), (2, 6)], &[witness(1).key], None), "the log's own key");
        assert!(met(&[(1, 5), (2, 6)], &[], Some(7)));
        assert!(!met(&[(1, 5), (2, 7)], &[], Some(7)), "not before");
        let mut forged = cosigned(&[(1, 5)]).as_str().to_owned();
        let body = "another\n1\nAQ==\n";
        forged.push_str(&cosign_body(&witness(2), &key(2), 6, body));
        let forged = SignedCheckpoint::parse(&forged).expect("note");
        assert_eq!(policy.evaluate(&forged, &[], None), Err(Code::WitnessSignature.into()));
    }

    #[test]
    fn a_quorum_of_none_asks_for_nothing_and_proves_no_time() {
        let policy = WitnessPolicy::parse("quorum none\n").expect("policy");
        assert!(policy.evaluate(&cosigned(&[]), &[], None).expect("evaluated").is_some());
        assert!(policy.evaluate(&cosigned(&[]), &[], Some(9)).expect("evaluated").is_none());
    }

    #[test]
    fn witnesses_are_told_with_their_urls() {
        let text = lines("").replacen('\n', " https://w1.example/x\n", 1) + "quorum none\n";
        let told: Vec<_> = WitnessPolicy::parse(&text).expect("policy").witnesses().collect();
        let names: Vec<&str> = told.iter().map(|witness| witness.name.as_str()).collect();
        assert_eq!(names, ["W1", "W2", "W3"]);
        assert_eq!(told[0].url.as_deref(), Some("https://w1.example/x"));
        assert_eq!((&told[0].vkey, told[1].url.as_deref()), (&witness(1), None));
        assert!(WitnessPolicy::parse(&text.replacen("/x", "/x more", 1)).is_err(), "a fifth word");
    }

    #[test]
    fn what_tlog_policy_forbids_is_refused() {
        for tail in [
            "",
            "quorum W9\n",
            "quorum W1\nquorum W2\n",
            "group G 0 W1\nquorum G\n",
            "group G 4 W1 W2 W3\nquorum G\n",
            "group G 02 W1 W2 W3\nquorum G\n",
            "group G 2 W1 W1\nquorum G\n",
            "group G any none\nquorum G\n",
            "group G any\nquorum G\n",
            "group G any W1\ngroup H any W1\nquorum H\n",
            "group W1 any W2\nquorum W1\n",
            "group none any W2\nquorum none\n",
            "quorum W1\r\n",
            "something W1\nquorum W1\n",
        ] {
            assert!(WitnessPolicy::parse(&lines(tail)).is_err(), "{tail:?}");
        }
        let twice = format!("witness A {0}\nwitness B {0}\nquorum A\n", witness(1));
        assert!(WitnessPolicy::parse(&twice).is_err(), "one key under two names");
        assert!(WitnessPolicy::parse(&lines("\t # note\n \nquorum \t W1\n")).is_ok());
    }
}
