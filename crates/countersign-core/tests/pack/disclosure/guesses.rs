//! Whoever has a file that withholds a value of few possibilities tries them all: against every hash
//! and every signature that the file shows, knowing all else that the records said (EVID-12, EVID-14).

use std::collections::BTreeSet;
use std::ops::Range;

use countersign_core::action::canonical;
use countersign_core::codes::Code;
use countersign_core::disclose::{DISPLAYED, Selection};
use countersign_core::encoding::{from_b64_array, from_hex_array, hex};
use countersign_core::evidence::Evidence;
use countersign_core::hash::{Context, Hash, sha256};
use countersign_core::json;
use countersign_core::kinds::{Kind, TERMS};
use countersign_core::record::{Field, FullRecord, View};
use countersign_core::seal::verify_signature;
use countersign_core::stream::StreamId;
use countersign_core::verify::person_signed_bytes;
use serde_json::{Map, Value, json};

use super::super::scene::{Scene, intent, outcome, policy};
use super::super::stage::{Holder, ORIGIN, signed};
use super::{evidence, naive, released};

/// What is withheld, in seven digits that stand nowhere else.
const TRUTH: u32 = 777_777;

fn digits(guess: u32) -> String {
    format!("{guess:07}")
}

/// The text that approvers were shown, as far as a guess matters: each field of APR-5.
pub(super) fn displayed(supervise: &View, root: &str) -> String {
    let names = DISPLAYED.into_iter().chain(["action_id", "action_digest"]);
    let lines = names.map(|name| format!("{name}: {}\n", supervise.get(name).unwrap()));
    format!("{}verdict: {root}\n", lines.collect::<String>())
}

pub(super) fn digest_of_displayed(text: &str) -> Hash {
    Context::Displayed.hash(&[text.as_bytes()])
}

/// How a text is hashed.
#[derive(Clone, Copy)]
enum How {
    In(Context),
    Sha256,
    /// It is a gate's name, under this key (STR-1).
    Stream([u8; 32]),
}

/// A text that holds the withheld value, cut where the guess belongs.
struct Guessed {
    label: &'static str,
    how: How,
    parts: Vec<String>,
}

impl Guessed {
    fn new(label: &'static str, how: How, text: &str) -> Option<Self> {
        let parts: Vec<String> = text.split(&digits(TRUTH)).map(str::to_owned).collect();
        (parts.len() > 1).then_some(Self { label, how, parts })
    }

    fn hash(&self, guess: &str) -> Hash {
        match self.how {
            How::Sha256 => sha256(self.parts.join(guess).as_bytes()),
            How::In(context) => {
                let mut pieces = Vec::with_capacity(5);
                for (at, part) in self.parts.iter().enumerate() {
                    if at > 0 {
                        pieces.push(guess.as_bytes());
                    }
                    pieces.push(part.as_bytes());
                }
                context.hash(&pieces)
            }
            How::Stream(key) => {
                let name = self.parts.join(guess);
                let mut out = [0; 32];
                out[..16]
                    .copy_from_slice(&StreamId::derive(ORIGIN, "acme", &name, &key, 0).unwrap().0);
                out
            }
        }
    }
}

/// A record of the file with a signature that it still shows.
struct Signed {
    view: View,
    chain: Holder,
    signature: [u8; 64],
    /// The text that its person was shown.
    shown: Option<String>,
}

impl Signed {
    fn fits(&self, guess: &str) -> bool {
        let kind = self.view.kind();
        let value = |name: &str| {
            let text = self.view.get(name).unwrap().to_string().replace(&digits(TRUTH), guess);
            match (name, &self.shown) {
                ("displayed_digest", Some(shown)) => {
                    let shown = shown.replace(&digits(TRUTH), guess);
                    let digest = digest_of_displayed(&shown);
                    format!("\"{}\"", hex(&digest))
                }
                _ => text,
            }
        };
        let values = kind.fields().iter().map(|field| value(field.name)).collect();
        let record = FullRecord::parse(kind, [0; 32], values).unwrap();
        let bytes = person_signed_bytes(record.view(), ORIGIN, self.chain.digest()).unwrap();
        let key = self.chain.public();
        verify_signature(&key, &bytes, &self.signature, Code::PersonSignature).is_ok()
    }
}

/// Everything that a file gives to somebody who guesses.
struct Attack {
    targets: BTreeSet<Hash>,
    guessed: Vec<Guessed>,
    signed: Vec<Signed>,
}

impl Attack {
    /// On `less`, for what `name` said in `whole`; all else that `whole` said is known.
    fn new(less: &Evidence, whole: &Evidence, name: &str, signers: &[&Holder]) -> Self {
        let mut texts = BTreeSet::new();
        collect(&json::parse(std::str::from_utf8(&less.to_bytes()).unwrap()).unwrap(), &mut texts);
        let wide = texts.iter().filter_map(|text| from_hex_array(text).or(from_b64_array(text)));
        let streams = texts.iter().filter_map(|text| from_hex_array::<16>(text)).map(|short| {
            let mut out = [0; 32];
            out[..16].copy_from_slice(&short);
            out
        });
        let targets = wide.chain(streams).collect();
        let mut nonces: BTreeSet<&str> = texts
            .iter()
            .map(String::as_str)
            .filter(|t| from_hex_array::<16>(t).is_some())
            .collect();
        nonces.insert("00000000000000000000000000000000");
        let salts: Vec<&str> = shown(less).filter_map(|bytes| bytes.get(2..24)).take(2).collect();
        let mut attack = Self { targets, guessed: Vec::new(), signed: Vec::new() };
        let wholes: Vec<(&Evidence, View)> = records(whole).map(|of| (of, view(of))).collect();
        let text = wholes.iter().rev().find(|(_, view)| view.str("outcome") == Some("supervise"));
        let text = text.map(|(of, view)| displayed(view, &of.record.root().unwrap().hex()));
        for ((_, view), less) in wholes.iter().zip(records(less)) {
            attack.record(view, name, (&salts, &nonces));
            attack.signature(view, less, signers, text.as_ref());
        }
        let text = text.iter();
        let text = text.filter_map(|t| Guessed::new("displayed", How::In(Context::Displayed), t));
        attack.guessed.extend(text);
        // A verdict and the one that it answers mostly say the same.
        let mut seen = BTreeSet::new();
        attack.guessed.retain(|guessed| seen.insert(guessed.hash(&digits(TRUTH))));
        attack
    }

    /// The hashes over one record's value.
    fn record(&mut self, view: &View, name: &str, known: (&[&str], &BTreeSet<&str>)) {
        let (salts, nonces) = known;
        let Some(value) = view.get(name) else { return };
        for salt in salts.iter().chain(&["AAAAAAAAAAAAAAAAAAAAAA"]) {
            let bytes = format!("[\"{salt}\",\"{name}\",{value}]");
            self.guessed.extend(Guessed::new("leaf", How::In(Context::Field), &bytes));
        }
        let contexts =
            [Context::Justification, Context::Grant, Context::Displayed, Context::Action];
        let ways = contexts.map(How::In).into_iter().chain([How::Sha256]);
        for way in ways {
            let texts = [Some(value.to_string()), value.as_str().map(str::to_owned)];
            let texts = texts.iter().flatten();
            self.guessed.extend(texts.filter_map(|text| Guessed::new("plain", way, text)));
        }
        if matches!(view.kind(), Kind::Verdict | Kind::Intent) {
            let nonces = nonces.iter().map(|nonce| Value::from(*nonce)).chain([Value::Null]);
            for nonce in nonces {
                let text = action_text(view, &nonce);
                let guessed = Guessed::new("action digest", How::In(Context::Action), &text);
                self.guessed.extend(guessed);
            }
        }
        if view.kind() == Kind::Stream && name == "subject_gate" {
            let key = view.str("gate_key").and_then(from_hex_array).unwrap();
            self.guessed.extend(Guessed::new("stream", How::Stream(key), view.str(name).unwrap()));
        }
    }

    /// The signature over one record, where the file shows it.
    fn signature(
        &mut self,
        whole: &View,
        less: &Evidence,
        signers: &[&Holder],
        shown: Option<&String>,
    ) {
        let part = view(less);
        let signature = part.str("signature").and_then(from_b64_array);
        let by = less.people_chains.first();
        let signer = signers.iter().find(|holder| Some(&holder.chain) == by);
        if let (Some(signature), Some(signer)) = (signature, signer) {
            let approved = whole.kind() == Kind::Approval;
            self.signed.push(Signed {
                view: whole.clone(),
                chain: (*signer).clone(),
                signature,
                shown: shown.filter(|_| approved).cloned(),
            });
        }
    }

    /// Which guesses are confirmed, and by what.
    fn confirmed(&self, guesses: Range<u32>) -> BTreeSet<(u32, &'static str)> {
        let mut found = BTreeSet::new();
        for guess in guesses {
            let text = digits(guess);
            let hits = self.guessed.iter().filter(|g| self.targets.contains(&g.hash(&text)));
            found.extend(hits.map(|hit| (guess, hit.label)));
            if self.signed.iter().any(|signed| signed.fits(&text)) {
                found.insert((guess, "signature"));
            }
        }
        found
    }
}

fn records(evidence: &Evidence) -> impl Iterator<Item = &Evidence> {
    std::iter::once(evidence).chain(&evidence.supporting)
}

fn shown(evidence: &Evidence) -> impl Iterator<Item = &String> {
    records(evidence).flat_map(|of| &of.record.fields).filter_map(|field| match field {
        Field::Shown(bytes) => Some(bytes),
        Field::Withheld(_) => None,
    })
}

fn view(evidence: &Evidence) -> View {
    let kind = Kind::from_type(&evidence.record.type_shown().unwrap()).unwrap();
    evidence.record.view(kind).unwrap()
}

/// Every text of a file, those within its fields' bytes too.
fn collect(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            if text.starts_with("[\"") {
                collect(&json::parse(text).unwrap(), out);
            }
            out.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, out)),
        Value::Object(members) => members.values().for_each(|inner| collect(inner, out)),
        _ => {}
    }
}

/// DIG-3's object in its canonical form, under a nonce.
fn action_text(view: &View, nonce: &Value) -> String {
    let value = |name: &str| view.get(name).cloned().unwrap_or_default();
    let member = |name: &str, of: &str| value(name).get(of).cloned().unwrap_or_default();
    let resource: Map<String, Value> = ["domain", "environment", "id", "type"]
        .into_iter()
        .map(|of| (of.to_owned(), member("resource", of)))
        .collect();
    let object = json!({
        "action": value("action"), "actor": member("actor", "id"), "nonce": nonce,
        "on_behalf_of": member("actor", "on_behalf_of"), "parameters": value("parameters"),
        "resource": resource, "tenant": value("tenant"),
    });
    canonical(&object).unwrap()
}

/// Withholds a name and guesses. Where only that name is withheld these hashes and signatures confirm
/// the one right guess, so that the guessing is known to work; where what goes along is withheld too,
/// none does.
fn guess(whole: &Evidence, name: &str, signers: &[&Holder], by: &[&'static str], all: Range<u32>) {
    let open = naive(whole, name);
    let found = Attack::new(&open, whole, name, signers).confirmed(TRUTH - 8..TRUTH + 8);
    let right: BTreeSet<_> = by.iter().map(|label| (TRUTH, *label)).collect();
    assert_eq!(found, right, "{name}");
    // Everything else that any record of the file shows is asked to be kept.
    let kept: BTreeSet<&str> = records(whole)
        .flat_map(|of| view(of).kind().fields())
        .map(|field| field.name)
        .filter(|other| *other != name)
        .collect();
    let kept: Vec<&str> = kept.into_iter().collect();
    let less = whole.withhold(&Selection::Withhold(&[name])).unwrap();
    assert_eq!(whole.withhold(&Selection::Keep(&kept)).unwrap(), less, "{name}");
    let attack = Attack::new(&less, whole, name, signers);
    let bytes = records(whole).zip(records(&less)).find_map(|(whole, less)| {
        let differs = |(a, b): &(&Field, &Field)| a != b;
        let (field, _) = whole.record.fields.iter().zip(&less.record.fields).find(differs)?;
        if let Field::Shown(bytes) = field { Some(bytes.clone()) } else { None }
    });
    let leaf = Context::Field.hash(&[bytes.unwrap().as_bytes()]);
    assert!(attack.targets.contains(&leaf), "the leaf is among what is tried");
    assert_eq!(attack.confirmed(all), BTreeSet::new(), "{name}");
}

fn near() -> Range<u32> {
    TRUTH - 512..TRUTH + 512
}

const ALL: [&str; 3] = ["action digest", "displayed", "signature"];

/// A sum of money below 2^20, withheld from a release with its approvals: no guess at it is confirmed
/// by the leaf, the action digest, the displayed text or the person's signature (EVID-14).
#[test]
fn none_of_a_million_guesses_is_confirmed_by_any_hash_or_signature() {
    let mut scene = Scene::new();
    let change = json!({ "parameters": { "amount": digits(TRUTH), "currency": "EUR" } });
    let whole = released(&mut scene, &change);
    guess(&whole, "parameters", &[&scene.alice], &ALL, 0..1 << 20);
}

/// The same for every other field of an action that a hash or signature in its file is over.
#[test]
fn nothing_of_an_action_can_be_guessed_from_what_stays() {
    let value = |text: &str| text.replace('#', &digits(TRUTH));
    let changes = [
        ("action", json!(value("pay:#"))),
        ("loss_class", json!(value("money.#"))),
        (
            "policy",
            json!({ "id": "prod", "version": value("#"), "digest": "d".repeat(64), "engine": "e" }),
        ),
        ("reasons", json!([{ "code": "POLICY", "policy": value("p.#"), "text": null }])),
        ("urgency", json!(value("within # s"))),
        (
            "actor",
            json!({ "kind": "human", "id": value("carol#"), "class": null, "session": null,
                    "model": null, "on_behalf_of": null }),
        ),
        (
            "resource",
            json!({ "type": "account", "id": value("#"), "environment": null, "domain": null }),
        ),
        (
            "task",
            json!({ "ticket": value("OPS-#"), "grant": null, "scope_digest": null,
                    "justification": null }),
        ),
        ("requires", json!({ "approvals": 1, "roles": [value("role-#")], "expires_at": null })),
    ];
    for (name, value) in changes {
        let mut scene = Scene::new();
        let whole = released(&mut scene, &json!({ name: value }));
        let digested = ["action", "actor", "resource"].contains(&name);
        guess(&whole, name, &[&scene.alice], if digested { &ALL } else { &ALL[1..] }, near());
    }
    let mut scene = Scene::new();
    let said = json!({ "approval": { "justification": value("case #") } });
    let whole = released(&mut scene, &said);
    guess(&whole, "justification", &[&scene.alice], &["signature"], near());
    // An attempt, before it is judged.
    let mut say = intent(31);
    say["parameters"] = json!({ "amount": digits(TRUTH) });
    let at = scene.log.say(&mut scene.gate, Kind::Intent, &say);
    guess(&evidence(&mut scene, at), "parameters", &[], &["action digest"], near());
    // What became of it, with a digest that its teller made without a nonce.
    let mut say = outcome(&scene.log, 2, scene.approve, "p-2");
    let detail = json!({ "paid": digits(TRUTH) });
    let digest = sha256(detail.to_string().as_bytes());
    say["effect_digest"] = hex(&digest).into();
    say["detail"] = detail;
    let at = scene.log.say(&mut scene.gate, Kind::Outcome, &say);
    guess(&evidence(&mut scene, at), "detail", &[], &["plain"], near());
}

/// The same for what people signed, and for a stream's name.
#[test]
fn nothing_that_a_person_signed_can_be_guessed_from_the_signature() {
    let mut scene = Scene::new();
    let pia = scene.world.person("policy-admin", "pia");
    let carol = scene.world.person("tenant-admin", "carol");
    let mut say = policy(&pia);
    say["version"] = digits(TRUTH).into();
    let at = scene.log.signed(&mut scene.gate, Kind::Policy, say, &pia);
    guess(&evidence(&mut scene, at), "version", &[&pia], &["signature"], near());
    let mut terms: Map<String, Value> =
        TERMS.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    terms.insert("ticket".to_owned(), digits(TRUTH).into());
    let owner = json!({ "id": "pia", "certificate": hex(&pia.digest()) });
    let say =
        json!({ "grant_id": "g-1", "owner": owner, "terms": Value::Object(terms).to_string() });
    let at = scene.log.signed(&mut scene.gate, Kind::Grant, say, &pia);
    guess(&evidence(&mut scene, at), "terms", &[&pia], &["signature"], near());
    let by = json!({ "id": "carol", "certificate": hex(&carol.digest()) });
    let say = json!({ "entries": "7", "reason": digits(TRUTH), "requested_by": by });
    let say = signed(Kind::Erasure, say, &carol);
    let at = scene.log.own(&scene.world, Kind::Erasure, &say, vec![carol.chain.clone()]);
    guess(&evidence(&mut scene, at), "reason", &[&carol], &["signature"], near());
    let gate = scene.world.gate("acme", &format!("gate-{}", digits(TRUTH)));
    let at = scene.log.open(&scene.world, &gate);
    guess(&evidence(&mut scene, at), "subject_gate", &[], &["stream"], near());
}
