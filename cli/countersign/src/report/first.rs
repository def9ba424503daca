//! The first page, for a reader who is no engineer: what was asked, who decided, under which
//! rules, how, when; what checking it found; and what all this does not prove.

use countersign_core::kinds::Kind;
use countersign_core::verify::Verdict;

use super::Subject;
use super::gather::{Gathered, Item, Person};
use super::page::{Cell, Page, count, grouped, human};

/// Values of a list on the first page.
const NAMES: usize = 3;
/// Characters of a reason's sentence on the first page.
const SENTENCE: usize = 110;
/// Indexes that a sentence of the first page names.
const INDEXES: usize = 5;

pub(super) fn write(page: &mut Page, subject: &Subject<'_>) {
    page.heading("<h1>", "Evidence report");
    page.raw("<p class=\"sub\">Tenant ").text(&subject.tenant).raw(" · log ");
    page.text(&subject.origin).raw(" · as the log stood at ");
    page.text(&head_words(subject)).raw("</p>\n");
    page.raw("<nav><a href=\"#actions\">Sessions and actions</a>");
    page.raw("<a href=\"#annex\">For experts</a></nav>\n<div class=\"brief\">\n");
    banner(page, subject);
    page.heading("<h2>", "What was asked");
    page.paragraph(&asked(subject));
    page.heading("<h2>", "What was decided");
    page.paragraph(&decided(subject));
    decisions(page, subject.gathered);
    page.heading("<h2>", "Who decided, and under which rules");
    page.list(&deciders(subject.gathered));
    page.heading("<h2>", "What checking it found");
    page.list(&found(subject));
    page.heading("<h2>", "What this does not prove");
    page.raw("<div class=\"not\">\n").list(&limits(subject)).raw("</div>\n</div>\n");
}

fn head_words(subject: &Subject<'_>) -> String {
    let size = count(subject.head.size, "record", "records");
    match subject.head.time {
        Some(time) => format!("{size}, {}", human(time)),
        None => size,
    }
}

fn banner(page: &mut Page, subject: &Subject<'_>) {
    let (class, words) = match (subject.findings.result, subject.findings.warnings) {
        (Verdict::Valid, 0) => (
            "<div class=\"result good\">",
            "Every proof in this pack held, under the trust file of whoever made it. It does not \
             say that the decisions were right.",
        ),
        (Verdict::Valid, _) => (
            "<div class=\"result doubt\">",
            "Every proof in this pack held, under the trust file of whoever made it, and yet there \
             is something to look at: see the warnings under \u{201c}What checking it found\u{201d}.",
        ),
        (Verdict::Indeterminate, _) => (
            "<div class=\"result doubt\">",
            "Nothing is proved wrong, but something that certainty needs is missing. It is named \
             under \u{201c}What checking it found\u{201d}.",
        ),
        (Verdict::Invalid, _) => (
            "<div class=\"result bad\">",
            "Something in this pack is proved wrong. Do not rely on it before you know why.",
        ),
    };
    page.raw(class).raw("<p><strong>").text(subject.findings.result.as_str()).raw("</strong> ");
    page.text(words).raw("</p>\n<p>");
    page.text(
        "This is what checking found when the pack was made. Who receives it checks it again, \
         with three commands and without any network: see the annex.",
    );
    page.raw("</p></div>\n");
}

/// The query as a sentence.
pub(crate) fn asked(subject: &Subject<'_>) -> String {
    let mut fields: Vec<(&str, Vec<&str>)> = Vec::new();
    for (field, value) in &subject.filters {
        match fields.iter_mut().find(|(known, _)| known == field) {
            Some((_, values)) => values.push(value),
            None => fields.push((field, vec![value])),
        }
    }
    let clause = |(field, values): &(&str, Vec<&str>)| {
        let quoted: Vec<String> = values.iter().map(|v| format!("\u{201c}{v}\u{201d}")).collect();
        format!("{} is {}", field.replace('_', " "), quoted.join(" or "))
    };
    let clauses: Vec<String> = fields.iter().map(clause).collect();
    let whose = match clauses.as_slice() {
        [] => String::new(),
        clauses => format!(" whose {}", clauses.join(", and whose ")),
    };
    let when = match (subject.from, subject.to) {
        (None, None) => "whenever they were logged".to_owned(),
        (Some(from), None) => format!("logged from {} on", human(from)),
        (None, Some(to)) => format!("logged before {}", human(to)),
        (Some(from), Some(to)) => {
            format!("logged from {} until before {}", human(from), human(to))
        }
    };
    let claim = subject.claim.as_ref().map_or_else(String::new, |claim| {
        format!(
            " The pack claims to be complete: between the log's sizes {} and {}, nothing of the \
             gate keys that it names is left out.",
            grouped(claim.from),
            grouped(claim.to)
        )
    });
    format!("All records of {}{whose}, {when}.{claim}", subject.tenant)
}

fn decided(subject: &Subject<'_>) -> String {
    let all = subject.gathered;
    let mut parts = vec![format!(
        "{}: {} approved, {} refused, {} held for people.",
        count(all.kinds.of("verdict") - all.shadow, "verdict", "verdicts"),
        grouped(all.outcomes.of("approve")),
        grouped(all.outcomes.of("refuse")),
        grouped(all.outcomes.of("supervise")),
    )];
    if all.shadow > 0 {
        parts.push(format!(
            "{} more only recorded what would have been decided (shadow mode) and bound nobody.",
            grouped(all.shadow)
        ));
    }
    let unreported = all.unreported();
    if !unreported.is_empty() {
        let named: Vec<String> =
            unreported.iter().take(INDEXES).map(|index| format!("#{index}")).collect();
        let more = if unreported.len() > INDEXES { " and others" } else { "" };
        // Only a complete pack was asked to hold every report.
        let known = match subject.claim {
            Some(_) => "",
            None => "; there may be one that was not asked for",
        };
        parts.push(format!(
            "Of {} this pack holds no report of what became of the action: {}{more}{known}.",
            count(unreported.len() as u64, "approval", "approvals"),
            named.join(", ")
        ));
    }
    let others = [
        ("approval", "answer of a person", "answers of people"),
        ("outcome", "report of what became of an action", "reports of what became of actions"),
        ("policy", "activation of a policy version", "activations of policy versions"),
        ("grant", "grant of authority", "grants of authority"),
        ("erasure", "erasure", "erasures"),
    ];
    let named: Vec<String> = others
        .into_iter()
        .filter(|(kind, ..)| all.kinds.of(kind) > 0)
        .map(|(kind, one, many)| count(all.kinds.of(kind), one, many))
        .collect();
    if !named.is_empty() {
        parts.push(format!("Besides: {}.", named.join(", ")));
    }
    if all.erased > 0 {
        parts.push(format!(
            "The contents of {} were erased by the tenant; that they existed, when, and with what \
             outcome stays proven.",
            count(all.erased, "record", "records")
        ));
    }
    if let Some((first, last)) = all.span {
        parts.push(format!("Logged between {} and {}.", human(first), human(last)));
    }
    parts.join(" ")
}

/// The verdicts that one asks about first, and where the others are.
fn decisions(page: &mut Page, all: &Gathered) {
    if all.foremost.is_empty() {
        return;
    }
    let rows: Vec<Vec<Cell>> = all.foremost.iter().map(decision).collect();
    let columns = ["When", "Asked by", "What and where", "Verdict, and why", "Index"];
    page.brief(&columns, &rows);
    let shown: u64 = all.foremost.iter().map(|item| item.alike).sum();
    let verdicts = all.kinds.of("verdict");
    if verdicts <= rows.len() as u64 {
        return;
    }
    let listed = all.items.iter().filter(|item| item.row.kind == Kind::Verdict).count() as u64;
    let rest = if listed == verdicts {
        "All of them follow, session by session.".to_owned()
    } else {
        format!(
            "The first {} of them follow, session by session; the other {} are counted here, and \
             each is in the folder evidence.",
            grouped(listed),
            grouped(verdicts - listed)
        )
    };
    page.paragraph(&format!(
        "These are {} of {} that were asked for, those that say the same in one row; refusals first, \
         then what was held for people, then what people released. {rest}",
        grouped(shown),
        count(verdicts, "verdict", "verdicts")
    ));
}

fn decision(item: &Item) -> Vec<Cell> {
    let row = &item.row;
    let first = item.reasons.first().map(|(code, text)| told_why(code, &cut(text)));
    let more = match item.reasons.len() {
        0 | 1 => String::new(),
        reasons => format!(" (and {} more)", reasons - 1),
    };
    let hidden = || item.hidden("reasons").map(|why| format!("reasons {why}"));
    let why = first.map(|first| first + &more).or_else(hidden);
    let why = why.map_or_else(String::new, |why| format!(" {why}"));
    let alike = match item.alike {
        1 => String::new(),
        alike => {
            format!(" {} alike, the last at index {}.", grouped(alike), item.last_alike)
        }
    };
    vec![
        Cell::Time(row.logged_at),
        Cell::Text(item.said("actor", &row.actor)),
        Cell::Text(item.deed()),
        Cell::Told(row.outcome.clone(), format!("by {}.{why}{alike}", policy(item))),
        Cell::Index(row.index.0),
    ]
}

/// A reason's code with its sentence.
pub(super) fn told_why(code: &str, text: &str) -> String {
    if text.is_empty() { code.to_owned() } else { format!("{code}: {text}") }
}

/// A sentence short enough for the first page.
fn cut(text: &str) -> String {
    match text.char_indices().nth(SENTENCE) {
        Some((at, _)) => format!("{}\u{2026}", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The version of the rules that decided.
pub(super) fn policy(item: &Item) -> String {
    match (item.row.policy_id.as_str(), item.row.policy_version.as_str()) {
        ("", "") => item
            .hidden("policy")
            .map_or_else(|| "no policy, on its own".to_owned(), |why| format!("policy {why}")),
        (id, version) => format!("{id} version {version}"),
    }
}

fn deciders(all: &Gathered) -> Vec<String> {
    let mut lines = Vec::new();
    let gates: Vec<String> = first(all.gates.ranked().into_iter().map(|((gate, key), n)| {
        let records = count(n, "record", "records");
        let name = if gate.is_empty() { "the ledger itself" } else { gate };
        format!("{name} (key {}\u{2026}, {records})", key.get(..16).unwrap_or(key))
    }));
    lines.push(format!("Sealed by {}.", or_nobody(&gates.join("; "))));
    let people: Vec<String> = first(all.people.iter().map(|(name, person)| told(name, person)));
    lines.push(if people.is_empty() {
        "No person signed anything here: what was decided, a gate decided by its policy.".to_owned()
    } else {
        format!("People, as their certificates name them: {}.", people.join("; "))
    });
    let policies: Vec<String> = first(all.policies.ranked().into_iter().map(|(policy, n)| {
        let verdicts = count(n, "verdict", "verdicts");
        let digest = policy.digest.get(..16).unwrap_or(&policy.digest);
        format!("{} version {} (digest {digest}\u{2026}, {verdicts})", policy.id, policy.version)
    }));
    lines.push(format!("Rules in force: {}.", or_nobody(&policies.join("; "))));
    let codes: Vec<String> =
        first(all.codes.ranked().into_iter().map(|(code, n)| format!("{code} ({})", grouped(n))));
    if !codes.is_empty() {
        lines.push(format!("Reasons given, the most frequent first: {}.", codes.join(", ")));
    }
    lines
}

/// The first few, and that there are more, which the annex names under the same headings.
fn first(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut values: Vec<String> = values.take(NAMES + 1).collect();
    if values.len() > NAMES {
        values.truncate(NAMES);
        values.push("others, named in the annex".to_owned());
    }
    values
}

fn or_nobody(text: &str) -> &str {
    if text.is_empty() { "none is shown" } else { text }
}

/// A person with what they are and what they signed.
pub(super) fn told(name: &str, person: &Person) -> String {
    let roles = match person.roles.as_slice() {
        [] => String::new(),
        roles => format!(", {} by the gate's word", roles.join(" and ")),
    };
    let signed: Vec<String> =
        person.signed.iter().map(|(what, n)| format!("{what} {}", grouped(*n))).collect();
    format!("{name} ({}{roles}; {})", person.role, signed.join(", "))
}

/// What records show only to tell that they were not asked for, as a sentence behind another.
pub(crate) fn telling(all: &Gathered) -> String {
    let names: Vec<&str> = all.telling.iter().copied().collect();
    if names.is_empty() {
        return String::new();
    }
    format!(
        " So that it can be told that they were not asked for, each shows one field that says so: \
         {}. Withhold the pack from whoever must not see that.",
        names.join(", ")
    )
}

fn found(subject: &Subject<'_>) -> Vec<String> {
    let all = subject.gathered;
    let mut lines = vec![format!(
        "{} checked: {} valid, {} not certain, {} invalid.",
        count(all.records, "record was", "records were"),
        grouped(all.verdicts.of(Verdict::Valid.as_str())),
        grouped(all.verdicts.of(Verdict::Indeterminate.as_str())),
        grouped(all.verdicts.of(Verdict::Invalid.as_str())),
    )];
    // What was not proved is not said.
    if subject.findings.result == Verdict::Valid && all.records > 0 {
        lines.push(
            "Each record is the one that was signed for it, unchanged to the last letter, and \
             stands in the log that the operator signed."
                .to_owned(),
        );
    }
    lines.extend(subject.findings.brief.iter().cloned());
    if all.reduced > 0 {
        lines.push(format!(
            "{} outside the question are there in a reduced form, so that it can be counted that \
             nothing is missing, and are listed nowhere else in this report. What people signed is \
             there whole, with the reasons that they gave.{}",
            count(all.reduced, "record", "records"),
            telling(all)
        ));
    }
    if all.late > 0 {
        lines.push(format!(
            "{} logged more than the allowed time after the gate recorded it, which is no fault.",
            count(all.late, "record was", "records were")
        ));
    }
    lines
}

/// What no check can show. The words are fixed, so that nobody has to find them anew.
fn limits(subject: &Subject<'_>) -> Vec<String> {
    let mut lines = vec![
        "That a verdict was right. It proves what was decided, by whom and by which rules; not that \
         the rules were good, nor that what the gate was told was true."
            .to_owned(),
        "That a refused action did not happen. A refusal proves that the gate released nothing; an \
         action that goes around the gate leaves no verdict."
            .to_owned(),
        "That somebody understood what they approved. Their signature proves what text was made \
         for them to see, and that their key signed it."
            .to_owned(),
    ];
    lines.extend(subject.findings.limits.iter().cloned());
    if subject.gathered.witnesses.ranked().is_empty() {
        lines.push(
            "The time by anybody's word but the operator's: no independent witness cosigned these \
             heads."
                .to_owned(),
        );
    }
    lines
}
