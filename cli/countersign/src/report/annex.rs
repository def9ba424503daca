//! The annex, for whoever checks: step by step, the proof as a picture, heads, certificates,
//! custody, how to verify it again, and what the words mean.

use countersign_core::encoding::b64;
use countersign_core::verify::Verdict;

use super::Subject;
use super::first::told;
use super::gather::Gathered;
use super::page::{Cell, Page, count, grouped, human};
use super::proof;

/// The eleven steps (VER-1 to VER-11) in plain words.
const STEPS: [(u8, &str); 11] = [
    (1, "The file is read strictly: one spelling, limits on every length."),
    (2, "Every field stands in its place, and all fields together give the record's root."),
    (3, "The gate's signature covers that root."),
    (4, "The log's entry commits to that record and that signature."),
    (5, "The entry is in the log: the inclusion proof leads to the head's root."),
    (6, "The head is signed by the log, and by the operator's clock where one is named."),
    (
        7,
        "As many independent witnesses cosigned the head as the trust file asks for, which may be none.",
    ),
    (
        8,
        "The signing key belongs to the gate that the record names, by a certificate of a trusted \
         authority.",
    ),
    (9, "No key that this rests on was revoked before."),
    (10, "The times agree: the gate's, the ledger's and the clock's."),
    (11, "What the record says fits: digests, people's signatures, what it rests on."),
];

/// What the words mean.
const GLOSSARY: [(&str, &str); 14] = [
    ("Approval", "A person's answer to a held action, signed with that person's own key."),
    (
        "Complete pack",
        "One that also proves what is not in it: between two sizes of the log, no \
      record of the gate keys that it names is left out.",
    ),
    ("Entry", "The 66 bytes of the log that stand for a record. They hold hashes, no contents."),
    (
        "Erased",
        "The tenant had the contents destroyed. The entry, its place and what is never \
      withheld stay proven.",
    ),
    ("Evidence file", "One record with everything that proves it."),
    (
        "Gate",
        "The program that decides, by a policy, whether an action may be done, and signs what \
      it decided.",
    ),
    (
        "Head",
        "The log's size and root at a moment, signed by the operator. Whoever kept one can \
      prove every later change to what came before.",
    ),
    ("Held (supervise)", "The gate neither approved nor refused: people are to answer first."),
    ("Index", "A record's place in the log, written #42."),
    ("Policy version", "The rules by which a gate decides, named by a digest of their whole text."),
    ("Root", "One hash that depends on every entry of the log."),
    (
        "Trust file",
        "The keys that the one who verifies believes. They must come from elsewhere \
      than this pack.",
    ),
    ("Withheld", "A field that is not shown in this copy; the proof holds all the same."),
    (
        "Witness",
        "Somebody independent of the operator who signs heads that they saw, and refuses a \
      log that contradicts itself.",
    ),
];

pub(super) fn write(page: &mut Page, subject: &Subject<'_>) {
    page.raw("<h2 id=\"annex\" class=\"page\">Annex for experts</h2>\n");
    found(page, subject);
    steps(page, subject);
    page.heading("<h3>", "The proof of one record, drawn");
    if let Some(sample) = &subject.gathered.sample {
        proof::draw(page, sample);
    } else {
        page.paragraph("There is no record to draw.");
    }
    heads(page, subject);
    claim(page, subject);
    gates(page, subject.gathered);
    certificates(page, subject.gathered);
    people(page, subject.gathered);
    policies(page, subject.gathered);
    reasons(page, subject.gathered);
    custody(page, subject);
    again(page, subject);
    page.heading("<h3>", "What the words mean");
    page.raw("<dl>\n");
    for (word, meaning) in GLOSSARY {
        page.raw("<dt>").raw(word).raw("</dt><dd>").raw(meaning).raw("</dd>\n");
    }
    page.raw("</dl>\n");
}

fn found(page: &mut Page, subject: &Subject<'_>) {
    let findings = &subject.findings;
    if findings.words != findings.brief {
        page.heading("<h3>", "What checking it found, in full").list(&findings.words);
    }
}

fn steps(page: &mut Page, subject: &Subject<'_>) {
    let all = subject.gathered;
    page.heading("<h3>", "What was checked, step by step");
    let row = |(number, what): &(u8, &'static str)| {
        let passed = all.passed.get(number).copied().unwrap_or(0);
        vec![
            Cell::Text(number.to_string()),
            Cell::Text((*what).to_owned()),
            Cell::Text(format!("{} of {}", grouped(passed), grouped(all.records))),
        ]
    };
    let rows: Vec<Vec<Cell>> = STEPS.iter().map(row).collect();
    page.table(&["Step", "What", "Gone through"], &rows);
    let doubts: Vec<String> = all
        .doubts
        .ranked()
        .into_iter()
        .map(|((step, code), n)| {
            format!("step {step}: {code} in {} (countersign explain {code})", records(n))
        })
        .collect();
    if !doubts.is_empty() {
        page.paragraph("Not certain, and why:").list(&doubts);
    }
    let unchecked: Vec<String> = subject
        .findings
        .not_checked
        .iter()
        .map(|(what, n)| format!("{what} ({})", records(*n)))
        .collect();
    if !unchecked.is_empty() {
        let why = if all.reduced > 0 {
            "Not checked, since the record is reduced or the field withheld, or since it lies outside \
             of this pack:"
        } else {
            "Not checked, since it is withheld or lies outside of this pack:"
        };
        page.paragraph(why).list(&unchecked);
    }
    let sure = all.verdicts.of(Verdict::Valid.as_str());
    page.paragraph(&format!("{} came out VALID.", records(sure)));
}

fn records(n: u64) -> String {
    count(n, "record", "records")
}

fn heads(page: &mut Page, subject: &Subject<'_>) {
    page.heading("<h3>", "The log's heads, and how they are joined");
    let row = |head: &super::Head| {
        vec![
            Cell::Text(grouped(head.size)),
            Cell::Text(head.time.map_or_else(|| "not said".to_owned(), human)),
            Cell::Code(b64(&head.root)),
        ]
    };
    let rows: Vec<Vec<Cell>> = subject.heads.iter().map(row).collect();
    page.table(&["Size", "Signed by the clock", "Root (base64)"], &rows);
    let joined: Vec<String> = subject
        .links
        .iter()
        .map(|(old, new)| {
            format!(
                "The log of {} is contained, unchanged and in place, in that of {}: \
                 consistency/{old}-{new}.proof.",
                records(*old),
                records(*new)
            )
        })
        .collect();
    if joined.is_empty() {
        page.paragraph("All records are proven under one head, so that nothing has to be joined.");
    } else {
        page.list(&joined);
    }
}

fn claim(page: &mut Page, subject: &Subject<'_>) {
    page.heading("<h3>", "What the pack claims to be complete for");
    let Some(claim) = &subject.claim else {
        page.paragraph(
            "Nothing. It holds what answered the question; whether the log holds more, only a \
             complete pack shows (countersign pack --complete).",
        );
        return;
    };
    page.paragraph(&format!(
        "Every entry of the log from index {} up to, and without, {} is in entries.bin. Those of the \
         keys below all have their evidence here, in an unbroken sequence.",
        grouped(claim.from),
        grouped(claim.to)
    ));
    let row = |(tenant, gate, key): &(String, String, String)| {
        vec![Cell::Text(tenant.clone()), Cell::Text(gate.clone()), Cell::Code(key.clone())]
    };
    let rows: Vec<Vec<Cell>> = claim.keys.iter().map(row).collect();
    page.table(&["Tenant", "Gate", "Sealing key (hex)"], &rows);
}

/// Who sealed, by name and key.
fn gates(page: &mut Page, all: &Gathered) {
    page.heading("<h3>", "Gates and their keys");
    let row = |((gate, key), n): (&(String, String), u64)| {
        let name = if gate.is_empty() { "the ledger itself".to_owned() } else { gate.clone() };
        vec![Cell::Text(name), Cell::Code(key.clone()), Cell::Text(grouped(n))]
    };
    let rows: Vec<Vec<Cell>> = all.gates.ranked().into_iter().map(row).collect();
    page.table(&["Gate", "Sealing key (hex)", "Records"], &rows);
    beyond(page, all.gates.others);
}

/// Why, by code, with the first sentence that was given for it.
fn reasons(page: &mut Page, all: &Gathered) {
    let ranked = all.codes.ranked();
    if ranked.is_empty() {
        return;
    }
    page.heading("<h3>", "Reasons given");
    let row = |(code, n): (&String, u64)| {
        let text = all.texts.get(code).cloned().unwrap_or_default();
        vec![Cell::Text(code.clone()), Cell::Text(text), Cell::Text(grouped(n))]
    };
    let rows: Vec<Vec<Cell>> = ranked.into_iter().map(row).collect();
    page.table(&["Code", "As first given", "Verdicts"], &rows);
    beyond(page, all.codes.others);
}

/// A list that had to end says so.
fn beyond(page: &mut Page, others: u64) {
    if others > 0 {
        page.paragraph(&format!(
            "Of {} more the values are not listed here: there are too many different ones. Each is in \
             its evidence file.",
            records(others)
        ));
    }
}

fn certificates(page: &mut Page, all: &Gathered) {
    page.heading("<h3>", "Certificates");
    if all.certificates.is_empty() {
        page.paragraph("No record here carries one: they are the ledger's own.");
        return;
    }
    let row = |(digest, holder): (&String, &super::gather::Holder)| {
        vec![
            Cell::Text(holder.subject.clone()),
            Cell::Code(holder.key.clone()),
            Cell::Code(digest.clone()),
            Cell::Text(grouped(holder.records)),
        ]
    };
    let rows: Vec<Vec<Cell>> = all.certificates.iter().map(row).collect();
    page.table(&["Issued to", "Key (hex)", "SHA-256 of the certificate", "Records"], &rows);
}

fn people(page: &mut Page, all: &Gathered) {
    if all.people.is_empty() {
        return;
    }
    page.heading("<h3>", "People who signed");
    page.paragraph(
        "Name and role are those of the certificate, whose authority vouches for them. Further roles \
         are the gate's word, from the directory that it decided by.",
    );
    let lines: Vec<String> = all.people.iter().map(|(name, person)| told(name, person)).collect();
    page.list(&lines);
}

fn policies(page: &mut Page, all: &Gathered) {
    let ranked = all.policies.ranked();
    if ranked.is_empty() {
        return;
    }
    page.heading("<h3>", "Policy versions");
    let row = |(policy, n): &(&super::gather::PolicyName, u64)| {
        vec![
            Cell::Text(policy.id.clone()),
            Cell::Text(policy.version.clone()),
            Cell::Code(policy.digest.clone()),
            Cell::Text(grouped(*n)),
        ]
    };
    let rows: Vec<Vec<Cell>> = ranked.iter().map(row).collect();
    page.table(&["Policy", "Version", "Digest", "Verdicts"], &rows);
    beyond(page, all.policies.others);
    page.paragraph(
        "Where the ledger holds a version's text, it is the file of that name in the folder policies.",
    );
}

fn custody(page: &mut Page, subject: &Subject<'_>) {
    page.heading("<h3>", "Custody");
    let time = subject.head.time.map_or_else(
        || "a time that the head does not say".to_owned(),
        |time| format!("{} ({})", human(time), time.format()),
    );
    page.paragraph(&format!(
        "Made by {} from the log {} at its head of {}, signed at {time}. What checking found, here, \
         rests on the trust file of whoever made it; nothing else in this pack depends on when or by \
         whom it was made: asked again at the same head under the same trust file, the same log gives \
         the same bytes. So the pack is identified by the SHA-256 of its manifest.json, which holds that of \
         every other file. Note it where the pack changes hands:",
        concat!("countersign ", env!("CARGO_PKG_VERSION")),
        subject.origin,
        records(subject.head.size),
    ));
    page.raw("<div class=\"hand\">\n");
    let blank = || vec![Cell::Text(String::new()); 4];
    page.table(
        &["Handed over by", "Received by", "Date and time", "SHA-256 of manifest.json"],
        &[blank(), blank(), blank()],
    );
    page.raw("</div>\n");
}

fn again(page: &mut Page, subject: &Subject<'_>) {
    page.heading("<h3>", "How to verify it again, in three commands");
    page.paragraph(
        "On a machine without any network. The trust file must come to you by another way than this \
         pack: a key found inside the evidence proves nothing.",
    );
    page.raw("<pre>");
    for command in commands(subject) {
        page.text(&command).raw("\n");
    }
    page.raw("</pre>\n");
    page.paragraph(
        "The first gives what identifies the pack; compare it with what you were told. The second \
         checks the whole pack; its last line is RESULT VALID, INVALID or INDETERMINATE. The third \
         checks one record by itself.",
    );
}

/// The three commands, for this page and for README.txt.
pub(crate) fn commands(subject: &Subject<'_>) -> [String; 3] {
    let index = subject.gathered.sample.as_ref().map_or(0, |sample| sample.index);
    [
        "sha256sum manifest.json".to_owned(),
        "countersign-verify pack . --trust ../trust.toml".to_owned(),
        format!("countersign-verify evidence evidence/{index:020}.evidence --trust ../trust.toml"),
    ]
}
