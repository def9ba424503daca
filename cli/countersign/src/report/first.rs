//! The first page, for a reader who is no engineer: what was asked, who decided, under which
//! rules, how, when; what checking it found; and what all this does not prove.

use countersign_core::kinds::Kind;
use countersign_core::verify::Verdict;

use super::Subject;
use super::gather::{Gathered, Item, Person};
use super::page::{Cell, Page, count, grouped, human};

/// Decisions on the first page; the others are on those that follow.
const DECISIONS: usize = 5;
/// Values of a list on the first page.
const NAMES: usize = 6;

pub(super) fn write(page: &mut Page, subject: &Subject<'_>) {
    page.heading("<h1>", "Evidence report");
    page.raw("<p class=\"sub\">Tenant ").text(&subject.tenant).raw(" · log ");
    page.text(&subject.origin).raw(" · as the log stood at ");
    page.text(&head_words(subject)).raw("</p>\n");
    page.raw("<nav><a href=\"#actions\">Actions</a><a href=\"#sessions\">Sessions</a>");
    page.raw("<a href=\"#annex\">For experts</a></nav>\n");
    banner(page, subject);
    page.heading("<h2>", "What was asked");
    page.paragraph(&asked(subject));
    page.heading("<h2>", "What was decided");
    page.paragraph(&decided(subject.gathered));
    decisions(page, subject.gathered);
    page.heading("<h2>", "Who decided, and under which rules");
    page.list(&deciders(subject.gathered));
    page.heading("<h2>", "What checking it found");
    page.list(&found(subject));
    page.heading("<h2>", "What this does not prove");
    page.raw("<div class=\"not\">\n").list(&limits(subject)).raw("</div>\n");
}

fn head_words(subject: &Subject<'_>) -> String {
    let size = count(subject.head.size, "record", "records");
    match subject.head.time {
        Some(time) => format!("{size}, {}", human(time)),
        None => size,
    }
}

fn banner(page: &mut Page, subject: &Subject<'_>) {
    let (class, words) = match subject.findings.result {
        Verdict::Valid => (
            "<div class=\"result good\">",
            "Every proof in this pack held, under the trust file of whoever made it. It does not \
             say that the decisions were right.",
        ),
        Verdict::Indeterminate => (
            "<div class=\"result doubt\">",
            "Nothing is proved wrong, but something that certainty needs is missing. It is named \
             under \u{201c}What checking it found\u{201d}.",
        ),
        Verdict::Invalid => (
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

fn decided(all: &Gathered) -> String {
    let verdicts = all.kinds.of("verdict");
    let mut parts = vec![format!(
        "{}: {} approved, {} refused, {} held for people.",
        count(verdicts, "verdict", "verdicts"),
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

fn decisions(page: &mut Page, all: &Gathered) {
    let mut verdicts: Vec<&Item> =
        all.items.iter().filter(|item| item.row.kind == Kind::Verdict).collect();
    // What a policy approved by itself is what one asks about last. The sort is stable.
    let plain = |item: &&Item| item.row.outcome == "approve" && item.row.parent.is_empty();
    verdicts.sort_by_key(plain);
    if verdicts.is_empty() {
        return;
    }
    let rows: Vec<Vec<Cell>> = verdicts.iter().take(DECISIONS).map(|item| decision(item)).collect();
    let columns = ["When", "Asked by", "What and where", "Verdict", "Rules", "Index"];
    page.table(&columns, &rows);
    let shown = rows.len() as u64;
    let verdicts = all.kinds.of("verdict");
    if verdicts > shown {
        page.paragraph(&format!(
            "These are {shown} of {}: first what was refused or went to people, in the order of the \
             log. All follow under \u{201c}Every action\u{201d}.",
            count(verdicts, "verdict", "verdicts")
        ));
    }
}

fn decision(item: &Item) -> Vec<Cell> {
    let row = &item.row;
    let environment = match row.environment.as_str() {
        "" => String::new(),
        environment => format!(" ({environment})"),
    };
    vec![
        Cell::Moment(row.logged_at),
        Cell::Text(item.said("actor", &row.actor)),
        Cell::Text(format!(
            "{} on {}{environment}",
            item.said("action", &row.action),
            item.said("resource", &row.resource)
        )),
        Cell::Verdict(row.outcome.clone()),
        Cell::Text(rules(item)),
        Cell::Index(row.index.0),
    ]
}

/// Under which version it was decided, and by what reason.
pub(super) fn rules(item: &Item) -> String {
    let row = &item.row;
    let version = match (row.policy_id.as_str(), row.policy_version.as_str()) {
        ("", "") if item.withheld.contains(&"policy") => item.said("policy", ""),
        ("", "") => "no policy: the gate itself".to_owned(),
        (id, version) => format!("{id} version {version}"),
    };
    if row.reasons.is_empty() { version } else { format!("{version}; {}", row.reasons.join(", ")) }
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

/// The first few, and that there are more.
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
    lines.extend(subject.findings.words.iter().cloned());
    if all.reduced > 0 {
        lines.push(format!(
            "{} outside the question are there in a reduced form, so that it can be counted that \
             nothing is missing: verdicts with what is never withheld, their approvals, \
             requirements and permits. What people signed (approvals, grants, policies, erasures) \
             is there whole, with the reasons that they gave.",
            count(all.reduced, "record", "records")
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
