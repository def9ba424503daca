//! Defects of an evidence file: the approve of a supervised action, with what it rests on.

use countersign_core::codes::Code;
use countersign_core::encoding::{b64, from_b64};
use countersign_core::kinds::{Kind, Shape};
use countersign_core::record::Field;
use serde_json::{Value, json};

use super::super::scene::Scene;
use super::{Attack, Expect};

use Code::{
    ApprovalsWithoutParent, Base64, CertChain, CertIssuer, CertPem, CertSignature, CheckpointLines,
    ClockAbsent, ClockSignature, EntryKind, EntryLength, EntrySealed, EntrySeq, EntryStream,
    EntryVersion, EvidenceMalformed, FieldCount, FieldName, FieldSpelling, GenesisPlace,
    InclusionRootMismatch, IndexOutOfRange, JsonMalformed, KindUnknown, LogSignature,
    LogSignatureMissing, MemberMissing, MemberUnknown, NeverWithheld, NoteMalformed, OriginUnknown,
    ParentOutcome, PeopleChains, ProofLength, ReceiptExtra, ReceiptMalformed, RequiresMisplaced,
    SealIndex, SealPath, SealSignature, SealSize, SealerUntrusted, SupportingAbsent,
    SupportingDuplicate, SupportingNested, TypeMismatch, ValueShape, VersionUnknown,
};
use Expect::{Indeterminate, Invalid};

/// Collects attacks: each changes the one good file.
struct Attacks {
    good: Value,
    all: Vec<Attack>,
}

impl Attacks {
    fn add(&mut self, name: impl Into<String>, expect: Expect, change: impl FnOnce(&mut Value)) {
        let mut value = self.good.clone();
        change(&mut value);
        self.all.push((name.into(), value.to_string().into_bytes(), expect));
    }

    fn field(&mut self, name: String, expect: Expect, at: usize, bytes: &str) {
        self.add(name, expect, |value| {
            value["record"]["fields"][at] = json!({ "bytes": bytes });
        });
    }

    fn text(&self, at: usize) -> String {
        self.good["record"]["fields"][at]["bytes"].as_str().unwrap().to_owned()
    }
}

pub(super) fn attacks(scene: &Scene, good: &[u8]) -> Vec<Attack> {
    let good: Value = serde_json::from_slice(good).unwrap();
    let mut attacks = Attacks { good, all: Vec::new() };
    for at in 0..Kind::Verdict.fields().len() {
        of_a_field(&mut attacks, at);
    }
    of_the_record(&mut attacks);
    of_the_seal(&mut attacks, scene);
    of_the_entry(&mut attacks);
    of_the_receipt(&mut attacks);
    of_certificates(&mut attacks, scene);
    of_what_it_rests_on(&mut attacks, scene);
    of_the_file(&mut attacks);
    attacks.all
}

/// Another value of the same shape, and what gives it away where the seal is not the first to.
fn another(name: &str) -> (String, Code) {
    let value = match name {
        "type" => return ("\"intent\"".to_owned(), FieldCount),
        "outcome" => return ("\"supervise\"".to_owned(), ParentOutcome),
        "parent" => return ("null".to_owned(), ApprovalsWithoutParent),
        "requires" => {
            let some = json!({ "approvals": 1, "roles": [], "expires_at": null });
            return (some.to_string(), RequiresMisplaced);
        }
        "action_id" => json!("019ab000-0000-7000-8000-00000000ffff"),
        "action_class" => json!("read"),
        "actor" | "approvals" | "resource" | "policy" | "reasons" => Value::Null,
        "mode" => json!("shadow"),
        "seq" => json!(999),
        "destructive" => json!(true),
        "errors" => json!([]),
        "evaluated_at" | "recorded_at" => json!("2026-11-23T12:00:00.000001Z"),
        "permit" => json!({ "id": "p", "audience": null, "not_after": null }),
        "task" => {
            json!({ "ticket": "T", "grant": null, "scope_digest": null, "justification": null })
        }
        "action_digest" | "prev" => json!("12".repeat(32)),
        "stream" | "nonce" => json!("12".repeat(16)),
        _ => json!("another"),
    };
    (value.to_string(), SealSignature)
}

fn of_a_field(attacks: &mut Attacks, at: usize) {
    let spec = &Kind::Verdict.fields()[at];
    let (name, bytes) = (spec.name, attacks.text(at));
    let rest = &bytes[24..];
    let salted = |rest: &str| format!("{}{rest}", &bytes[..24]);
    // `["<salt>","<name>",<value>]`
    let before_value = 24 + 3 + name.len() + 2;

    let salt = if bytes[2..].starts_with('A') { "B" } else { "A" };
    let other_salt = format!("[\"{salt}{}", &bytes[3..]);
    attacks.field(format!("{name}: another salt"), Invalid(SealSignature), at, &other_salt);
    let (value, code) = another(name);
    let other = format!("{}{value}]", &bytes[..before_value]);
    attacks.field(format!("{name}: another value"), Invalid(code), at, &other);
    let code = match (spec.shape, name) {
        // Where anything may stand the seal gives it away, and an unreadable type is no type.
        (Shape::Any, _) => SealSignature,
        _ => ValueShape,
    };
    let shapeless = format!("{}7.5]", &bytes[..before_value]);
    attacks.field(format!("{name}: a value of no shape"), Invalid(code), at, &shapeless);
    let spaced = format!("{}, {}", &bytes[..before_value - 1], &bytes[before_value..]);
    attacks.field(format!("{name}: a space before its value"), Invalid(FieldSpelling), at, &spaced);
    let spaced = salted(&rest.replacen("\",\"", "\", \"", 1));
    attacks.field(format!("{name}: a space before its name"), Invalid(FieldSpelling), at, &spaced);
    let renamed = salted(&rest.replacen(name, "another", 1));
    attacks.field(format!("{name}: another name"), Invalid(FieldName), at, &renamed);
    attacks.add(format!("{name}: left out"), Invalid(FieldCount), |value| {
        let fields = value["record"]["fields"].as_array_mut().unwrap();
        fields.remove(at);
        value["record"]["field_count"] = json!(32);
    });
    let next = (at + 1) % 33;
    let copy = attacks.text(next);
    attacks.field(format!("{name}: the next one in its place"), Invalid(FieldName), at, &copy);
    attacks.add(format!("{name}: withheld under another leaf"), Invalid(SealSignature), |value| {
        value["record"]["fields"][at] = json!({ "leaf": b64(&[7; 32]) });
    });
    if Kind::Verdict.never_withheld(name) {
        let Field::Withheld(leaf) = Field::Shown(bytes.clone()).withheld() else { return };
        let name = format!("{name}: withheld, which it never is");
        attacks.add(name, Indeterminate(NeverWithheld), |value| {
            value["record"]["fields"][at] = json!({ "leaf": b64(&leaf) });
        });
    }
}

fn of_the_record(attacks: &mut Attacks) {
    attacks.add("field_count too small", Invalid(FieldCount), |value| {
        value["record"]["field_count"] = json!(32);
    });
    attacks.add("no fields", Invalid(FieldCount), |value| {
        value["record"] = json!({ "field_count": 0, "fields": [] });
    });
    attacks.add("a field more", Invalid(FieldCount), |value| {
        let fields = value["record"]["fields"].as_array_mut().unwrap();
        fields.push(json!({ "leaf": b64(&[7; 32]) }));
        value["record"]["field_count"] = json!(34);
    });
    for at in 0..32 {
        attacks.add(format!("fields {at} and {} exchanged", at + 1), Invalid(FieldName), |value| {
            value["record"]["fields"].as_array_mut().unwrap().swap(at, at + 1);
        });
    }
    let at = Kind::Verdict.fields().iter().position(|field| field.name == "type").unwrap();
    let unknown = attacks.text(at).replace("verdict", "oracle");
    let name = "a type that nobody knows".to_owned();
    attacks.field(name, Indeterminate(KindUnknown), at, &unknown);
}

/// A name, the code, and what is done to the file's seal.
type Change = (&'static str, Code, fn(&mut Value));

fn of_the_seal(attacks: &mut Attacks, scene: &Scene) {
    let other = scene.other.holder.public();
    let seals: [Change; 8] = [
        ("size of none", SealSize, |seal| seal["size"] = json!(0)),
        ("size too large", SealSize, |seal| seal["size"] = json!(65_537)),
        ("size of two without a path", SealPath, |seal| seal["size"] = json!(2)),
        ("index out of the batch", SealIndex, |seal| seal["index"] = json!(1)),
        ("a path where none is due", SealPath, |seal| seal["path"] = json!([b64(&[7; 32])])),
        ("a signature of zeros", SealSignature, |seal| seal["signature"] = b64(&[0; 64]).into()),
        ("a signature cut short", Base64, |seal| seal["signature"] = b64(&[0; 63]).into()),
        ("a key cut short", Base64, |seal| seal["key"] = b64(&[0; 31]).into()),
    ];
    for (name, code, change) in seals {
        attacks.add(format!("seal: {name}"), Invalid(code), |value| change(&mut value["seal"]));
    }
    attacks.add("seal: another gate's key", Invalid(SealSignature), |value| {
        value["seal"]["key"] = b64(&other).into();
    });
    attacks.add("seal: a key of small order", Invalid(Code::KeyMalformed), |value| {
        let mut identity = [0; 32];
        identity[0] = 1;
        value["seal"]["key"] = b64(&identity).into();
    });
    let signature = attacks.good["seal"]["signature"].as_str().and_then(from_b64).unwrap();
    for byte in [0, 31, 32, 63] {
        let mut changed = signature.clone();
        changed[byte] ^= 1;
        attacks.add(format!("seal: signature byte {byte}"), Invalid(SealSignature), |value| {
            value["seal"]["signature"] = b64(&changed).into();
        });
    }
}

fn of_the_entry(attacks: &mut Attacks) {
    let entry = attacks.good["entry"].as_str().and_then(from_b64).unwrap();
    for at in 0..entry.len() {
        let expect = match at {
            // A later version may be right in a way that this program doesn't know.
            0 => Indeterminate(EntryVersion),
            1 => Invalid(TypeMismatch),
            2..=9 => Invalid(InclusionRootMismatch),
            10..=25 => Invalid(EntryStream),
            26..=33 => Invalid(EntrySeq),
            _ => Invalid(EntrySealed),
        };
        let mut changed = entry.clone();
        changed[at] ^= if at == 1 { 3 } else { 0x40 };
        attacks.add(format!("entry byte {at}"), expect, |value| {
            value["entry"] = b64(&changed).into();
        });
    }
    let mut unknown = entry.clone();
    unknown[1] = 11;
    attacks.add("entry of a kind that nobody knows", Indeterminate(EntryKind), |value| {
        value["entry"] = b64(&unknown).into();
    });
    for (name, bytes) in [("short", &entry[..65]), ("empty", &entry[..0])] {
        attacks.add(format!("entry {name}"), Invalid(EntryLength), |value| {
            value["entry"] = b64(bytes).into();
        });
    }
}

fn of_the_receipt(attacks: &mut Attacks) {
    let receipt = attacks.good["receipt"].as_str().unwrap().to_owned();
    let lines: Vec<String> = receipt.split('\n').map(str::to_owned).collect();
    let blank = lines.iter().position(String::is_empty).unwrap();
    let mut add = |name: String, expect: Expect, changed: Vec<String>| {
        attacks.add(format!("receipt: {name}"), expect, |value| {
            value["receipt"] = changed.join("\n").into();
        });
    };
    let with = |at: usize, text: &str| {
        let mut changed = lines.clone();
        text.clone_into(&mut changed[at]);
        changed
    };
    let other = b64(&[7; 32]);
    add("another header".into(), Invalid(ReceiptMalformed), with(0, "c2sp.org/proof"));
    add("a later version".into(), Indeterminate(VersionUnknown), with(0, "c2sp.org/tlog-proof@v2"));
    add("index of genesis".into(), Invalid(GenesisPlace), with(1, "index 0"));
    add("index before".into(), Invalid(InclusionRootMismatch), with(1, "index 13"));
    add("index out of the tree".into(), Invalid(IndexOutOfRange), with(1, "index 9999"));
    add("index with a zero before".into(), Invalid(ReceiptMalformed), with(1, "index 014"));
    for at in 2..blank {
        let name = format!("another hash {}", at - 2);
        add(name, Invalid(InclusionRootMismatch), with(at, &other));
        let mut dropped = lines.clone();
        dropped.remove(at);
        add(format!("hash {} left out", at - 2), Invalid(ProofLength), dropped);
    }
    let mut longer = lines.clone();
    longer.insert(blank, other.clone());
    add("a hash more".into(), Invalid(ProofLength), longer);
    let mut extra = lines.clone();
    extra.insert(1, "extra bm90aGluZw==".into());
    add("an extra line".into(), Invalid(ReceiptExtra), extra);
    add("another origin".into(), Invalid(OriginUnknown), with(blank + 1, "ledger.other.example"));
    add("a smaller tree".into(), Invalid(IndexOutOfRange), with(blank + 2, "3"));
    add("another root".into(), Invalid(InclusionRootMismatch), with(blank + 3, &other));
    add("an extension line".into(), Invalid(CheckpointLines), {
        let mut changed = lines.clone();
        changed.insert(blank + 4, "extension".into());
        changed
    });
    let signed = blank + 5;
    for (at, name, altered, removed) in [
        (signed, "the log's", Invalid(LogSignature), Invalid(LogSignatureMissing)),
        (signed + 1, "the clock's", Invalid(ClockSignature), Indeterminate(ClockAbsent)),
    ] {
        let (key, signature) = lines[at].rsplit_once(' ').unwrap();
        let mut bytes = from_b64(signature).unwrap();
        let last = bytes.len() - 1;
        bytes[last - 40] ^= 1;
        let text = format!("{key} {}", b64(&bytes));
        add(format!("{name} signature changed"), altered, with(at, &text));
        let mut dropped = lines.clone();
        dropped.remove(at);
        add(format!("{name} signature left out"), removed, dropped);
    }
    let mut unsigned = lines.clone();
    unsigned.truncate(signed);
    add("no signature at all".into(), Invalid(NoteMalformed), unsigned);
}

fn of_certificates(attacks: &mut Attacks, scene: &Scene) {
    let world = &scene.world;
    let leaf = |path: &str, years| world.gates.issue(path, years).chain;
    let stranger = super::super::stage::Authority::new();
    // All authorities of the stage bear one name, so that only their signatures tell them apart.
    let chains = [
        ("none", Vec::new(), CertChain),
        ("not PEM", vec!["certificate".to_owned()], CertPem),
        (
            "twice",
            [&scene.gate.holder.chain[..], &scene.gate.holder.chain[..]].concat(),
            CertIssuer,
        ),
        ("of another gate", scene.other.holder.chain.clone(), SealerUntrusted),
        ("of another tenant", scene.foreign.holder.chain.clone(), SealerUntrusted),
        ("of a person", scene.alice.chain.clone(), CertSignature),
        ("expired", leaf("acme/gate/prod-1", [2020, 2021]), Code::CertExpired),
        ("not yet valid", leaf("acme/gate/prod-1", [2029, 2030]), Code::CertNotYetValid),
        (
            "of the same name and another key",
            leaf("acme/gate/prod-1", [2026, 2030]),
            SealerUntrusted,
        ),
        ("by a stranger", stranger.issue("acme/gate/prod-1", [2026, 2030]).chain, CertSignature),
    ];
    for (name, chain, code) in chains {
        attacks.add(format!("gate's certificate: {name}"), Invalid(code), |value| {
            value["certificates"]["gate"] = json!(chain);
        });
    }
    let alice = json!([scene.alice.chain]);
    attacks.add("a person's chain where nobody signs", Invalid(PeopleChains), |value| {
        value["certificates"]["people"] = alice;
    });
}

fn of_what_it_rests_on(attacks: &mut Attacks, scene: &Scene) {
    for (at, name) in ["the parent", "the first approval", "the second approval"].iter().enumerate()
    {
        attacks.add(format!("{name} left out"), Indeterminate(SupportingAbsent), |value| {
            value["supporting"].as_array_mut().unwrap().remove(at);
        });
        attacks.add(format!("{name} twice"), Invalid(SupportingDuplicate), |value| {
            let supporting = value["supporting"].as_array_mut().unwrap();
            supporting.push(supporting[at].clone());
        });
        attacks.add(format!("{name} changed"), Invalid(SealSignature), |value| {
            let field = &mut value["supporting"][at]["record"]["fields"][0]["bytes"];
            let text = field.as_str().unwrap().to_owned();
            let salt = if text[2..].starts_with('A') { "B" } else { "A" };
            *field = format!("[\"{salt}{}", &text[3..]).into();
        });
        attacks.add(
            format!("{name} with supporting of its own"),
            Invalid(SupportingNested),
            |value| {
                let inner = value["supporting"][at].clone();
                value["supporting"][at]["supporting"] = json!([inner]);
            },
        );
        attacks.add(format!("{name} under another entry"), Invalid(EntryLength), |value| {
            value["supporting"][at]["entry"] = "".into();
        });
    }
    for at in [1, 2] {
        attacks.add(format!("approval {at} without its person"), Invalid(PeopleChains), |value| {
            value["supporting"][at]["certificates"]["people"] = json!([]);
        });
        let other = if at == 1 { &scene.bob } else { &scene.alice };
        let chain = json!([other.chain]);
        let name = format!("approval {at} under the other person's certificate");
        attacks.add(name, Invalid(Code::PersonCertificate), |value| {
            value["supporting"][at]["certificates"]["people"] = chain;
        });
    }
    for (name, at) in [
        ("another action's verdict", scene.refusal),
        ("another tenant's verdict", scene.refusal + 1),
        ("an outcome", scene.outcome),
        ("the opening of its stream", 1),
        ("a policy", 4),
        ("a notice", scene.heartbeat),
    ] {
        let mut other = scene.log.evidence(&scene.world, at, scene.log.size());
        other.supporting.clear();
        let other: Value = serde_json::from_slice(&other.to_bytes()).unwrap();
        let name = format!("{name} among what it rests on");
        attacks.add(name, Invalid(Code::SupportingUnrelated), |value| {
            value["supporting"].as_array_mut().unwrap().push(other);
        });
    }
    attacks.add("its own file among what it rests on", Invalid(SupportingDuplicate), |value| {
        let mut own = value.clone();
        own["supporting"] = json!([]);
        value["supporting"].as_array_mut().unwrap().push(own);
    });
}

fn of_the_file(attacks: &mut Attacks) {
    for name in ["countersign", "record", "seal", "entry", "receipt", "certificates", "supporting"]
    {
        let code = if name == "countersign" { EvidenceMalformed } else { MemberMissing };
        attacks.add(format!("without {name}"), Invalid(code), |value| {
            value.as_object_mut().unwrap().remove(name);
        });
    }
    attacks.add("a member more", Invalid(MemberUnknown), |value| value["note"] = json!("x"));
    attacks.add("a later version", Indeterminate(VersionUnknown), |value| {
        value["countersign"] = "evidence/v2".into();
    });
    attacks.add("another format", Invalid(EvidenceMalformed), |value| {
        value["countersign"] = "evidence".into();
    });
    let text = attacks.good.to_string();
    let mut raw = |name: &str, text: String, code: Code| {
        attacks.all.push((name.to_owned(), text.into_bytes(), Invalid(code)));
    };
    raw("text behind the file", format!("{text}x"), JsonMalformed);
    raw("the file cut in half", text[..text.len() / 2].to_owned(), JsonMalformed);
    raw("nothing", String::new(), JsonMalformed);
    raw("a key twice", text.replacen('{', "{\"entry\":\"\",", 1), Code::JsonDuplicateKey);
    raw("a byte order mark", format!("\u{feff}{text}"), JsonMalformed);
    raw("too large", format!("{text}{}", " ".repeat(1 << 20)), Code::EvidenceOversized);
}
