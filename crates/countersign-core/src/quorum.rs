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
    Witness(VerifierKey),
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
                ["witness", name, vkey] | ["witness", name, vkey, _] => {
                    let vkey = VerifierKey::parse(vkey)?;
                    if vkey.key_type != KeyType::Cosignature || !witness_keys.insert(vkey.key) {
                        return Err(malformed);
                    }
                    policy.define(name, Member::Witness(vkey), malformed)?;
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
                Member::Witness(vkey) => {
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
            if held && matches!(member, Member::Witness(_)) {
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
