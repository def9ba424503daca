//! The report's structure, its escaping, its bounds, and the proof that it draws.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it stands"
)]

use std::path::{Path, PathBuf};

use countersign_core::encoding::hex;
use countersign_core::entry::Entry;
use countersign_core::evidence::Evidence;
use countersign_core::hash::{Hash, LeafIndex, RecordRoot, TreeSize};
use countersign_core::json::quoted;
use countersign_core::kinds::{Kind, Shape};
use countersign_core::merkle::{LogTree, leaf_hash, root_of};
use countersign_core::record::FullRecord;
use countersign_core::stream::StreamId;
use countersign_core::trust::Trust;
use countersign_core::verify::{Facts, Report, verify};

use super::*;

mod first_page;
mod rows;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors")
}

fn vector(name: &str) -> Evidence {
    Evidence::parse(&std::fs::read(vectors().join(format!("{name}.evidence"))).unwrap()).unwrap()
}

fn trust() -> Trust {
    let read = |name: &str| std::fs::read_to_string(vectors().join(name)).unwrap();
    Trust::parse(&read("trust.toml"), |name| Ok(read(name))).unwrap()
}

/// The vectors' log, taken in as a pack would.
fn gathered() -> Gathered {
    let trust = trust();
    let mut all = Gathered::default();
    for name in ["stream-opened", "refusal", "approval", "human-approval"] {
        let evidence = vector(name);
        all.take(&evidence, &verify(&evidence, Some(&trust)), &[], true);
    }
    for name in ["supervise-three-withheld", "approve-after-supervise"] {
        let evidence = vector(name);
        all.take(&evidence, &verify(&evidence, Some(&trust)), &[], true);
    }
    all
}

fn subject(gathered: &Gathered) -> Subject<'_> {
    let note = vector("refusal").receipt.checkpoint;
    let head =
        Head { size: note.size.0, root: note.root.0, time: Some(Micros(1_795_000_000_000_000)) };
    Subject {
        origin: note.origin,
        tenant: "acme".to_owned(),
        filters: vec![
            ("actor".to_owned(), "infra-assistant-7".to_owned()),
            ("outcome".to_owned(), "approve".to_owned()),
            ("outcome".to_owned(), "refuse".to_owned()),
        ],
        from: Some(Micros(1_794_000_000_000_000)),
        to: None,
        heads: vec![Head { size: 3, root: [1; 32], time: None }, head.clone()],
        head,
        links: vec![(3, 8)],
        claim: Some(Claim {
            keys: vec![("acme".to_owned(), "prod-1".to_owned(), "AAAA".to_owned())],
            from: 0,
            to: 8,
        }),
        findings: Findings {
            result: Verdict::Valid,
            brief: vec!["As logged by head 8.".to_owned()],
            words: vec!["As logged by head 8.".to_owned()],
            limits: vec!["Keys that are not listed.".to_owned()],
            ..Findings::none()
        },
        gathered,
    }
}

/// The words of a page, without its markup and style.
fn words(page: &str) -> String {
    let body = page.split_once("<body>").unwrap().1;
    let mut out = String::new();
    let mut inside = false;
    for c in body.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                out.push(' ');
            }
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Every tag of a page, with its attributes.
fn tags(page: &str) -> Vec<&str> {
    page.split('<').skip(1).map(|part| part.split_once('>').expect("an open tag").0).collect()
}

/// What a page may hold besides text: no script, no link, no frame, no request.
fn is_inert(page: &str) {
    for tag in tags(page) {
        let name = tag.split([' ', '/', '\n']).find(|part| !part.is_empty()).unwrap();
        let known = [
            "!DOCTYPE",
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "main",
            "nav",
            "a",
            "h1",
            "h2",
            "h3",
            "p",
            "strong",
            "span",
            "div",
            "ul",
            "li",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "code",
            "pre",
            "dl",
            "dt",
            "dd",
            "figure",
            "figcaption",
            "svg",
            "line",
            "rect",
            "text",
        ];
        assert!(known.contains(&name), "<{tag}>");
        let handler = |rest: &str| {
            rest.split_once('=').is_some_and(|(name, _)| name.chars().all(char::is_alphabetic))
        };
        assert!(!tag.to_lowercase().split(" on").skip(1).any(handler), "<{tag}>");
        for forbidden in ["src=", "url(", "http:", "https:", "javascript:", "style="] {
            assert!(!tag.to_lowercase().contains(forbidden), "<{tag}>");
        }
        if let Some(target) = tag.split("href=\"").nth(1) {
            assert!(target.starts_with('#'), "<{tag}>");
        }
    }
    let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    for forbidden in ["url(", "@import", "http"] {
        assert!(!style.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn a_counsel_reads_what_was_asked_decided_found_and_not_proven() {
    let all = gathered();
    let page = html(&subject(&all));
    is_inert(&page);
    assert!(page.contains(
        "content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action \
         'none'\""
    ));
    let words = words(&page);
    for needed in [
        "All records of acme whose actor is \u{201c}infra-assistant-7\u{201d}, and whose outcome is \
         \u{201c}approve\u{201d} or \u{201c}refuse\u{201d}, logged from",
        "VALID Every proof in this pack held, under the trust file of whoever made it.",
        "4 verdicts: 2 approved, 1 refused, 1 held for people.",
        "What this does not prove",
        "As logged by head 8.",
        "Keys that are not listed.",
        "Sessions: what each did, in order, and an auditor\u{2019}s four questions",
        "The proof of one record, drawn",
        "What checking found, here, rests on the trust file of whoever made it;",
        "How to verify it again, in three commands",
        "countersign-verify pack . --trust ../trust.toml",
        "What the words mean",
    ] {
        assert!(words.contains(needed), "{needed}\n{words}");
    }
    let order = ["What was asked", "What was decided", "Who decided", "What checking it found"];
    let places: Vec<_> = order.iter().map(|heading| words.find(heading).unwrap()).collect();
    assert!(places.is_sorted());
}

#[test]
fn the_same_records_give_the_same_bytes() {
    assert_eq!(html(&subject(&gathered())), html(&subject(&gathered())));
}

/// A person's name and role are those of the certificate that was verified.
#[test]
fn people_are_named_as_their_certificates_name_them() {
    let all = gathered();
    let page = words(&html(&subject(&all)));
    let person = vector("human-approval").people_chains[0][0].clone();
    let id = countersign_core::cert::Certificate::from_pem(&person).unwrap().identity().unwrap();
    let known = &all.people[id.name()];
    assert_eq!(known.role, id.role().to_string());
    assert!(page.contains(&format!("{} (approver", id.name())), "{page}");
    assert!(page.contains("granted it #"), "{page}");
}

#[test]
fn what_is_withheld_is_said_to_be() {
    let evidence = vector("supervise-three-withheld");
    let mut all = Gathered::default();
    let report = verify(&evidence, Some(&trust()));
    all.take(&evidence, &report, &[], true);
    let page = words(&html(&subject(&all)));
    assert!(page.contains("(withheld)"), "{page}");
    let mut erased = Gathered::default();
    let index = report.facts.index;
    erased.take(&evidence, &report, &[(index, index)], true);
    let page = words(&html(&subject(&erased)));
    assert!(
        page.contains("(erased)") && page.contains("contents of 1 record were erased"),
        "{page}"
    );
}

/// A verdict with these texts, as if it had been verified.
fn hostile(index: u64, text: &str) -> (Evidence, Report) {
    let t = quoted(text);
    let (mut evidence, mut report) = record(Kind::Verdict, index, |name| {
        Some(match name {
            "action" | "software" | "urgency" | "loss_class" => t.clone(),
            "actor" => format!(
                r#"{{"kind":"agent","id":{t},"class":{t},"session":{t},"model":null,"on_behalf_of":{t}}}"#
            ),
            "resource" => format!(r#"{{"type":{t},"id":{t},"environment":{t},"domain":null}}"#),
            "task" => {
                format!(r#"{{"ticket":{t},"grant":{t},"scope_digest":null,"justification":{t}}}"#)
            }
            "policy" => {
                let digest = "0".repeat(64);
                format!(r#"{{"id":{t},"version":{t},"digest":"{digest}","engine":"e"}}"#)
            }
            "reasons" => format!(r#"[{{"code":{t},"policy":null,"text":{t}}}]"#),
            _ => return None,
        })
    });
    report.not_checked = vec![format!("field:{text}")];
    report.facts.witnesses = vec![text.to_owned()];
    evidence.supporting.clear();
    (evidence, report)
}

/// A record of acme's, as if it had been verified: a refusal that binds, of an action of its own,
/// where `given` has no other values.
fn record(kind: Kind, index: u64, given: impl Fn(&str) -> Option<String>) -> (Evidence, Report) {
    let value = |name: &str, shape: &Shape| match (name, shape) {
        ("outcome", _) => quoted("refuse"),
        ("mode", _) => quoted("enforce"),
        ("type", _) => quoted(kind.as_str()),
        ("tenant" | "gate", _) => quoted("acme"),
        ("seq", _) => index.to_string(),
        ("action_id", _) => quoted(&format!("019ab000-0000-7000-8000-{index:012}")),
        (_, Shape::Hex(bytes)) => quoted(&"0".repeat(2 * bytes)),
        (_, Shape::Time) => quoted("2026-11-23T12:00:00.000000Z"),
        (_, Shape::OneOf(words)) => quoted(words[0]),
        (_, Shape::Text) => quoted("x"),
        _ => "null".to_owned(),
    };
    let fields = kind.fields().iter();
    let values = fields.map(|f| given(f.name).unwrap_or_else(|| value(f.name, &f.shape))).collect();
    let record = FullRecord::parse(kind, [9; 32], values).unwrap();
    let mut evidence = vector("refusal");
    evidence.record = record.disclose();
    let entry = Entry {
        kind,
        logged_at: Micros(1_795_000_000_000_000 + index),
        stream: StreamId([1; 16]),
        seq: index,
        sealed: Entry::from_bytes(&evidence.entry).unwrap().sealed,
    };
    let report = Report {
        result: Verdict::Valid,
        fault: None,
        doubts: Vec::new(),
        steps: (1..=11).collect(),
        not_checked: Vec::new(),
        facts: Facts {
            view: Some(record.view().clone()),
            root: Some(root(index)),
            entry: Some(entry),
            index,
            ..Facts::default()
        },
        supporting: Vec::new(),
    };
    (evidence, report)
}

/// What stands for the root of the record at an index.
fn root(index: u64) -> RecordRoot {
    let mut root = [0; 32];
    root[..8].copy_from_slice(&index.to_be_bytes());
    RecordRoot(root)
}

/// Whoever writes an intent writes into this page. Nothing of it may become markup.
#[test]
fn hostile_texts_stay_texts() {
    for text in [
        "</style><script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='x",
        "</title></svg><style>@import url(//evil.example)</style>",
        "&lt;script&gt;",
        "<!--",
        "]]>",
        "a\u{202e}b\u{0}c\u{2028}d",
    ] {
        let mut all = Gathered::default();
        let (evidence, report) = hostile(7, text);
        all.take(&evidence, &report, &[], true);
        let mut subject = subject(&all);
        subject.tenant = text.to_owned();
        subject.origin = text.to_owned();
        subject.filters = vec![(text.to_owned(), text.to_owned())];
        subject.findings.brief = vec![text.to_owned()];
        subject.findings.words = vec![text.to_owned()];
        subject.claim.as_mut().unwrap().keys =
            vec![(text.to_owned(), text.to_owned(), text.to_owned())];
        let page = html(&subject);
        is_inert(&page);
        assert!(!page.contains('\u{202e}') && !page.contains('\u{0}'), "{text:?}");
        assert_eq!(tags(&page).len(), tags(&html(&benign(7))).len(), "{text:?}");
    }
}

/// The same page with harmless texts: hostile ones must not give it other tags.
fn benign(index: u64) -> Subject<'static> {
    let mut all = Gathered::default();
    let (evidence, report) = hostile(index, "harmless");
    all.take(&evidence, &report, &[], true);
    let all: &'static Gathered = Box::leak(Box::new(all));
    let mut subject = subject(all);
    subject.filters.truncate(1);
    subject
}

/// A hundred thousand records are counted, and the first thousand shown; the page says so.
#[test]
fn a_report_is_bounded_and_says_where_the_rest_is() {
    let mut all = Gathered::default();
    let (evidence, mut report) = hostile(0, "stop");
    for index in 0..100_000 {
        report.facts.index = index;
        report.facts.entry.as_mut().unwrap().seq = index;
        all.take(&evidence, &report, &[], true);
    }
    assert_eq!((all.items.len(), all.records), (ROWS_MAX, 100_000));
    let page = html(&subject(&all));
    assert!(page.len() < 4 << 20, "{}", page.len());
    let words = words(&page);
    assert!(words.contains("Only the first 1,000 of 100,000 records are shown one by one."));
    assert!(words.contains("100,000 verdicts: 0 approved, 100,000 refused, 0 held for people."));
}

/// More values than anybody can be made to hold are counted together.
#[test]
fn no_list_of_values_grows_without_bound() {
    let mut all = Gathered::default();
    for index in 0..2_000 {
        let (evidence, report) = hostile(index, &format!("value-{index}"));
        all.take(&evidence, &report, &[], true);
    }
    assert!(all.codes.ranked().len() < 1_000 && all.codes.others > 0);
    assert!(all.policies.ranked().len() < 1_000);
}

/// What is drawn is what RFC 9162 computes, for every leaf of trees of every small size.
#[test]
fn the_drawn_way_ends_at_the_root() {
    for size in 1..=40_u64 {
        let leaves: Vec<Hash> = (0..size).map(|i| leaf_hash(&i.to_be_bytes()).0).collect();
        let root = root_of::<LogTree>(&leaves).unwrap();
        for index in 0..size {
            let path = path(&leaves, usize::try_from(index).unwrap());
            let leaf = leaves[usize::try_from(index).unwrap()];
            let joints = proof::way(LeafIndex(index), TreeSize(size), leaf, &path);
            let top = joints.last().map_or(leaf, |joint| joint.node);
            assert_eq!(hex(&top), hex(&root), "{index} of {size}");
        }
    }
}

/// The inclusion path by its definition (RFC 9162 section 2.1.3.1).
fn path(leaves: &[Hash], index: usize) -> Vec<Hash> {
    let mut below = Vec::new();
    let (mut from, mut to) = (0, leaves.len());
    while to - from > 1 {
        let half = (to - from).next_power_of_two() / 2;
        let middle = from + half;
        if index < middle {
            below.push(root_of::<LogTree>(&leaves[middle..to]).unwrap());
            to = middle;
        } else {
            below.push(root_of::<LogTree>(&leaves[from..middle]).unwrap());
            from = middle;
        }
    }
    below.reverse();
    below
}

#[test]
fn numbers_and_times_are_written_for_people() {
    assert_eq!(page::grouped(0), "0");
    assert_eq!(page::grouped(999), "999");
    assert_eq!(page::grouped(1_000), "1,000");
    assert_eq!(page::grouped(1_234_567), "1,234,567");
    assert_eq!(page::count(1, "record", "records"), "1 record");
    assert_eq!(page::human(Micros(0)), "1 January 1970, 00:00:00 UTC");
}
