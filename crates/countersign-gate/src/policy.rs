//! A loaded policy version: parsed, linted, validated, indexed.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use cedar_policy::{PolicyId, PolicySet, ValidationMode, Validator};
use countersign_core::hash::{Context, Hash};

use crate::index::Index;
use crate::lint::{Linted, PolicyFault, PolicyFaults, lint};
use crate::nesting::is_shallow;
use crate::scene::Scenes;
use crate::schema::GateSchema;

/// The engine's name in records (POL-10). A test compares it with what Cedar says of itself.
pub const ENGINE: &str = "cedar-policy/4.14.1";

/// Bytes that both texts may have together (POL-6).
const BYTES_MAX: usize = 1 << 20;
/// Policies that one set may have (POL-6).
const POLICIES_MAX: usize = 4096;
/// Bytes that one policy may have (POL-6).
const POLICY_BYTES_MAX: usize = 16 * 1024;

/// What a policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Gives authority.
    Permit,
    /// Takes it away.
    Forbid,
}

/// What a governed forbid leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleOutcome {
    /// A refusal.
    Refuse,
    /// A supervision.
    Supervise,
}

/// One policy, as its annotations describe it (POL-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its `@id`.
    pub id: String,
    /// What it does.
    pub effect: Effect,
    /// What it leads to, for a forbid.
    pub outcome: Option<RuleOutcome>,
    /// Its `@reason_code`.
    pub code: Option<String>,
    /// Its `@loss_class`.
    pub loss_class: Option<String>,
    /// Its `@text`.
    pub text: Option<String>,
}

/// One version of a tenant's policy.
#[derive(Debug)]
pub struct Policy {
    policies: String,
    declarations: String,
    digest: Hash,
    rules: Vec<Rule>,
    pub(crate) schema: GateSchema,
    pub(crate) index: Index,
    pub(crate) scenes: Scenes,
}

impl Policy {
    /// Loads a version: every fault is told at once (POL-1 to POL-7, POL-12, POL-13).
    pub fn load(policy_text: &str, schema_text: &str) -> Result<Self, PolicyFaults> {
        let fault = |rule, what: String| PolicyFault { rule, policy: None, what };
        if policy_text.len().saturating_add(schema_text.len()) > BYTES_MAX {
            let what = "the texts have more than 1 MiB: split the tenant's gates".to_owned();
            return Err(PolicyFaults(vec![fault("POL-6", what)]));
        }
        if !is_shallow(policy_text, false) || !is_shallow(schema_text, true) {
            let what = "brackets nest more than 32 deep, or one policy has more than 1000 operators: \
                        write it more simply";
            return Err(PolicyFaults(vec![fault("POL-6", what.to_owned())]));
        }
        let mut faults = Vec::new();
        let schema = GateSchema::parse(schema_text).map_err(|found| faults.extend(found)).ok();
        let set = PolicySet::from_str(policy_text)
            .map_err(|error| faults.push(fault("POL-4", format!("the policies: {error}"))))
            .ok();
        let linted = set.as_ref().map(|set| lint_all(set, &mut faults));
        if let (Some(schema), Some(linted)) = (schema, linted)
            && faults.is_empty()
        {
            validate(&schema, &linted, &mut faults);
            if faults.is_empty() {
                let rules = linted.values().map(|(linted, _)| linted.rule.clone()).collect();
                let index = Index::build(&schema, linted.into_values());
                // POL-13.
                let what = "it lets somebody open an emergency alone: write a supervise for \
                            gate:emergency too";
                faults.extend(index.unheld(EMERGENCY).into_iter().map(|id| PolicyFault {
                    rule: "POL-13",
                    policy: Some(id),
                    what: what.to_owned(),
                }));
                if faults.is_empty() {
                    return Ok(Self {
                        policies: policy_text.to_owned(),
                        declarations: schema_text.to_owned(),
                        digest: digest(policy_text, schema_text),
                        rules,
                        schema,
                        index,
                        scenes: Scenes::default(),
                    });
                }
            }
        }
        faults.sort();
        faults.dedup();
        Err(PolicyFaults(faults))
    }

    /// The version's digest (KIND-8).
    pub fn digest(&self) -> Hash {
        self.digest
    }

    /// The policies' text.
    pub fn policy_text(&self) -> &str {
        &self.policies
    }

    /// The schema's text.
    pub fn schema_text(&self) -> &str {
        &self.declarations
    }

    /// Its policies, sorted by id.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// Every policy of the set by its `@id`, renamed to it (POL-1, POL-2, POL-5, POL-6).
fn lint_all(
    set: &PolicySet,
    faults: &mut Vec<PolicyFault>,
) -> BTreeMap<String, (Linted, cedar_policy::Policy)> {
    let mut found = BTreeMap::new();
    let mut say = |rule, policy: Option<String>, what: &str| {
        faults.push(PolicyFault { rule, policy, what: what.to_owned() });
    };
    if set.num_of_policies() > POLICIES_MAX {
        say("POL-6", None, "the set has more than 4096 policies: split the tenant's gates");
        return found;
    }
    for template in set.templates() {
        let name = template.annotation("id").unwrap_or("a template").to_owned();
        say("POL-1", Some(name), "templates are refused: write the policy out");
    }
    let mut all = Vec::new();
    for policy in set.policies() {
        // Cedar numbers policies as they stand in the text: policy0 is the first.
        let place = policy.id().to_string();
        if policy.to_cedar().is_none_or(|text| text.len() > POLICY_BYTES_MAX) {
            say("POL-6", Some(place), "it has more than 16 KiB: split it");
            continue;
        }
        all.push((place, policy));
    }
    for (place, policy) in all {
        match lint(policy, &place) {
            Ok(linted) => {
                let id = linted.rule.id.clone();
                let renamed = policy.new_id(PolicyId::new(&id));
                if found.insert(id.clone(), (linted, renamed)).is_some() {
                    let what = "another policy has this @id: give each its own".to_owned();
                    faults.push(PolicyFault { rule: "POL-1", policy: Some(id), what });
                }
            }
            Err(more) => faults.extend(more),
        }
    }
    found
}

/// The verb that opens an emergency.
const EMERGENCY: &str = "gate:emergency";

/// Policies that are validated together.
const TOGETHER: usize = 64;

/// Faults of one policy that are told.
const TOLD_MAX: usize = 8;

/// POL-4: strict validation without a warning.
fn validate(
    schema: &GateSchema,
    linted: &BTreeMap<String, (Linted, cedar_policy::Policy)>,
    faults: &mut Vec<PolicyFault>,
) {
    let policies: Vec<&cedar_policy::Policy> = linted.values().map(|(_, policy)| policy).collect();
    for some in policies.chunks(TOGETHER) {
        let literals = some.iter().flat_map(|policy| policy.entity_literals());
        let actions = literals.filter(|uid| uid.type_name().basename() == "Action");
        let named: BTreeSet<String> = actions.map(|uid| uid.id().unescaped().to_owned()).collect();
        let schema = schema.reduced(&named).unwrap_or_else(|| schema.schema.clone());
        let mut say = |policy, what: String| {
            faults.push(PolicyFault { rule: "POL-4", policy, what });
        };
        match PolicySet::from_policies(some.iter().copied().cloned()) {
            Ok(set) => {
                let result = Validator::new(schema).validate(&set, ValidationMode::Strict);
                let errors = result.validation_errors().map(|e| (e.policy_id(), e.to_string()));
                let warned = result.validation_warnings().map(|w| (w.policy_id(), w.to_string()));
                let found: BTreeSet<(&PolicyId, String)> = errors.chain(warned).collect();
                let mut told: BTreeMap<&PolicyId, usize> = BTreeMap::new();
                for (id, what) in found {
                    // Cedar says the same again for each action.
                    let count = told.entry(id).or_default();
                    *count += 1;
                    if *count <= TOLD_MAX {
                        say(Some(id.to_string()), what);
                    }
                }
            }
            Err(error) => say(None, error.to_string()),
        }
    }
}

/// KIND-8: H("policy", u32 length || policy text || u32 length || schema text).
fn digest(policy_text: &str, schema_text: &str) -> Hash {
    let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
    Context::Policy.hash(&[
        &length(policy_text),
        policy_text.as_bytes(),
        &length(schema_text),
        schema_text.as_bytes(),
    ])
}

/// The two texts of a folder's files, given as (name, text): all `*.cedar` in the order of their
/// names, joined by a line feed, and the one `*.cedarschema`. Other files are none of ours.
#[allow(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "one spelling, so that every system takes the same files"
)]
pub fn assemble(files: &[(String, String)]) -> Result<(String, String), PolicyFaults> {
    let fault = |what: &str| {
        PolicyFaults(vec![PolicyFault { rule: "POL-6", policy: None, what: what.to_owned() }])
    };
    let mut policies: Vec<&(String, String)> =
        files.iter().filter(|(name, _)| name.ends_with(".cedar")).collect();
    policies.sort();
    let schemas: Vec<&String> = files
        .iter()
        .filter_map(|(name, text)| name.ends_with(".cedarschema").then_some(text))
        .collect();
    if policies.is_empty() {
        return Err(fault("there is no *.cedar file: put the policies into one"));
    }
    let [schema] = schemas.as_slice() else {
        return Err(fault("there is no *.cedarschema file, or more than one: keep exactly one"));
    };
    let texts: Vec<&str> = policies.iter().map(|(_, text)| text.as_str()).collect();
    Ok((texts.join("\n"), (*schema).clone()))
}
