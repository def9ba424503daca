//! Everything that each session did, in order, with the auditor's four questions for each action.

use std::collections::BTreeMap;

use countersign_core::encoding::Micros;
use countersign_core::kinds::Kind;
use countersign_core::verify::Verdict;

use super::Subject;
use super::first::{policy, told_why};
use super::gather::{Gathered, Item, ROWS_MAX};
use super::page::{Cell, Page, count, grouped, outcome_word};
use crate::query::words::says;

/// An action a row; the first names it, and the others answer a question each.
const COLUMNS: [&str; 5] = [
    "Action",
    "1. Who authorised it?",
    "2. What did it touch?",
    "3. When?",
    "4. With what justification?",
];

/// What is known of one action: its records in the order of the log.
struct Action<'g> {
    id: &'g str,
    items: Vec<&'g Item>,
}

impl<'g> Action<'g> {
    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &'g Item> + '_ {
        self.items.iter().copied().filter(move |item| item.row.kind == kind)
    }

    /// The newest verdict, which decides, and a record that tells what was asked for.
    fn last_verdict(&self) -> Option<&'g Item> {
        self.of_kind(Kind::Verdict).last()
    }

    fn told_by(&self) -> Option<&'g Item> {
        let told = self.items.iter().copied().find(|item| !item.row.action.is_empty());
        told.or_else(|| self.items.first().copied())
    }

    /// The session and who acted in it, as far as a record shows them.
    fn session(&self) -> (&'g str, &'g str) {
        let told = self.items.iter().copied().find(|item| !item.row.session.is_empty());
        told.map_or(("", ""), |told| (told.row.session.as_str(), told.row.actor.as_str()))
    }

    fn ticket(&self) -> Option<String> {
        self.task("ticket", |item| &item.row.ticket)
    }

    fn grant(&self) -> Option<String> {
        self.task("grant", |item| &item.row.grant)
    }

    /// A part of the task that the action was for; `None` where it is not shown.
    fn task(&self, name: &str, value: fn(&Item) -> &String) -> Option<String> {
        let told = self.told_by().filter(|told| told.hidden("task").is_none())?;
        Some(match value(told).as_str() {
            "" => format!("no {name}"),
            value => format!("{name} {value}"),
        })
    }

    /// Who decided, and by which rules.
    fn decider(&self) -> Option<String> {
        let last = self.last_verdict()?;
        Some(format!("gate {} by {}", last.row.gate, policy(last)))
    }
}

/// What all actions under one heading have in common: their rows need not say it.
#[derive(Default)]
struct Common {
    decider: Option<String>,
    ticket: Option<String>,
    grant: Option<String>,
}

impl Common {
    fn of(actions: &[&Action<'_>]) -> Self {
        Self {
            decider: same(actions, Action::decider),
            ticket: same(actions, Action::ticket),
            grant: same(actions, Action::grant),
        }
    }
}

/// A part that all actions have and share.
fn same<'g>(actions: &[&Action<'g>], part: fn(&Action<'g>) -> Option<String>) -> Option<String> {
    let mut parts = actions.iter().map(|action| part(action));
    let first = parts.next()??;
    parts.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

/// The records shown, joined by action, the actions in the order of their first record.
fn actions(all: &Gathered) -> Vec<Action<'_>> {
    let mut by_id: BTreeMap<&str, BTreeMap<u64, &Item>> = BTreeMap::new();
    for item in all.items.iter().chain(all.supporting.values()) {
        if !item.row.action_id.is_empty() {
            by_id.entry(&item.row.action_id).or_default().insert(item.row.index.0, item);
        }
    }
    let mut actions: Vec<Action<'_>> = by_id
        .into_iter()
        .map(|(id, items)| Action { id, items: items.into_values().collect() })
        .collect();
    actions.sort_by_key(|action| action.items.first().map(|item| item.row.index));
    actions
}

/// The actions of each session, in the order of the sessions' first records; those of none last.
fn sessions<'a, 'g>(actions: &'a [Action<'g>]) -> Vec<((&'g str, &'g str), Vec<&'a Action<'g>>)> {
    let mut sessions: BTreeMap<(&str, &str), Vec<&Action<'_>>> = BTreeMap::new();
    for action in actions {
        sessions.entry(action.session()).or_default().push(action);
    }
    let mut ordered: Vec<_> = sessions.into_iter().collect();
    ordered.sort_by_key(|((session, _), actions)| {
        let first = actions.first().and_then(|action| action.items.first());
        (session.is_empty(), first.map(|item| item.row.index))
    });
    ordered
}

pub(super) fn write(page: &mut Page, subject: &Subject<'_>) {
    let all = subject.gathered;
    let actions = actions(all);
    page.raw(
        "<h2 id=\"actions\" class=\"page\">Sessions: what each did, in order, and an auditor\u{2019}s \
         four questions</h2>\n",
    );
    bounds(page, all);
    if actions.is_empty() {
        page.paragraph("None of the records shown is about an action.");
    } else {
        page.paragraph(
            "Each row is one action. #42 is the record at index 42 of the log: the file \
             evidence/<index with 20 digits>.evidence of this pack, or a part of a later record's \
             file that rests on it. What stands without an index is said by the first record named \
             in the row. Nothing was released of what was refused or is held for people; of what was \
             approved this pack holds no report, unless the row has one.",
        );
    }
    for ((session, actor), actions) in sessions(&actions) {
        let common = Common::of(&actions);
        heading(page, session, actor, (&common, actions.len() as u64));
        let rows: Vec<Vec<Cell>> =
            actions.iter().map(|action| questions(action, &common)).collect();
        page.dense(&COLUMNS, &rows);
    }
    others(page, all);
}

fn bounds(page: &mut Page, all: &Gathered) {
    let asked = all.records - all.reduced;
    if asked > ROWS_MAX as u64 {
        page.raw("<div class=\"not\"><p>").text(&format!(
            "Only the first {} of {} are shown one by one. All of them are counted on the first \
             page, and each is in the folder evidence, in the order of the log.",
            grouped(ROWS_MAX as u64),
            count(asked, "record", "records")
        ));
        page.raw("</p></div>\n");
    }
}

fn heading(page: &mut Page, session: &str, actor: &str, (common, actions): (&Common, u64)) {
    page.raw("<h3>");
    if session.is_empty() {
        page.raw("No session is shown");
    } else {
        let actor = if actor.is_empty() { "an actor that is not shown" } else { actor };
        page.raw("Session ").text(session).raw(": ").text(actor);
    }
    page.raw("</h3>\n");
    let said = [&common.ticket, &common.grant].into_iter().flatten().cloned();
    let mut parts: Vec<String> =
        std::iter::once(count(actions, "action", "actions")).chain(said).collect();
    parts.extend(common.decider.as_ref().map(|decider| format!("decided by {decider}")));
    page.paragraph(&format!("{}.", parts.join(", ")));
}

fn questions(action: &Action<'_>, common: &Common) -> Vec<Cell> {
    vec![
        action_cell(action),
        Cell::Lines(who(action, common)),
        Cell::Lines(touched(action)),
        Cell::Events(when(action), action.id.to_owned()),
        Cell::Lines(why(action, common)),
    ]
}

fn action_cell(action: &Action<'_>) -> Cell {
    let outcome = action.last_verdict().map_or("", |item| item.row.outcome.as_str());
    let word = if outcome.is_empty() { "no verdict here" } else { outcome };
    let verdicts = action.of_kind(Kind::Verdict).chain(action.of_kind(Kind::Intent));
    let first = verdicts.chain(action.items.iter().copied()).next();
    let at = first.map(|item| format!("#{}", item.row.index.0)).unwrap_or_default();
    let mut lines = vec![at];
    if action.last_verdict().is_some_and(|item| item.row.mode == "shadow") {
        lines.push("shadow mode: it bound nobody".to_owned());
    }
    if action.items.iter().any(|item| item.result != Verdict::Valid) {
        lines.push("not all of its records are certain: see the annex".to_owned());
    }
    Cell::Action(word.to_owned(), lines)
}

fn who(action: &Action<'_>, common: &Common) -> Vec<String> {
    let Some(last) = action.last_verdict() else {
        return vec!["No verdict of it is shown here.".to_owned()];
    };
    let decider = match (&common.decider, action.decider()) {
        (None, Some(decider)) => decider,
        _ => "the gate".to_owned(),
    };
    let word = match last.row.outcome.as_str() {
        "approve" => decider,
        "supervise" => format!("nobody yet, {decider} holds it"),
        _ => format!("nobody, {decider} refused it"),
    };
    let why: Vec<String> = match last.hidden("reasons") {
        Some(hidden) => vec![format!("reasons {hidden}")],
        None => last.reasons.iter().map(|(code, text)| told_why(code, text)).collect(),
    };
    let mut lines = vec![format!("{}{}. {}", capital(&word), later(action, last), why.join(" "))];
    for answer in action.of_kind(Kind::Approval) {
        let roles = match answer.roles.as_slice() {
            [] => String::new(),
            roles => format!(" ({})", roles.join(", ")),
        };
        let verb = if answer.row.decision == "deny" { "denied" } else { "granted" };
        let who = answer.said("approver", &answer.row.approver);
        lines.push(format!("{who}{roles} {verb} it #{}", answer.row.index.0));
    }
    if let Some(told) = action.told_by() {
        let behalf = match told.row.on_behalf_of.as_str() {
            "" => String::new(),
            other => format!(" on behalf of {other}"),
        };
        // A session's heading names who acts in it.
        if told.row.session.is_empty() || !behalf.is_empty() {
            lines.push(format!("Asked for by {}{behalf}", told.said("actor", &told.row.actor)));
        }
    }
    lines
}

/// A sentence's beginning.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The index of a record that is not the one that the row begins with.
fn later(action: &Action<'_>, item: &Item) -> String {
    let first = action.of_kind(Kind::Verdict).next();
    if first.is_some_and(|first| first.row.index == item.row.index) {
        String::new()
    } else {
        format!(" #{}", item.row.index.0)
    }
}

fn touched(action: &Action<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(told) = action.told_by() {
        let row = &told.row;
        if let (Some(_), Some(_)) = (told.hidden("action"), told.hidden("resource")) {
            lines.push(told.deed());
        } else {
            let class = match row.action_class.as_str() {
                "" => String::new(),
                class => format!(" ({class})"),
            };
            let kind = match row.resource_type.as_str() {
                "" => String::new(),
                kind => format!("{kind} "),
            };
            let action = told.said("action", &row.action);
            lines.push(format!("{action}{class} on {kind}{}", told.target()));
        }
    }
    let reports = action.of_kind(Kind::Outcome);
    lines.extend(
        reports.map(|report| format!("Reported: {} #{}", report.row.result, report.row.index.0)),
    );
    lines
}

fn when(action: &Action<'_>) -> Vec<(String, Micros)> {
    let line = |item: &&Item| {
        let what = match (item.row.kind, item.row.outcome.as_str()) {
            (Kind::Verdict, outcome) => outcome_word(outcome),
            (Kind::Approval, _) => "answered",
            (Kind::Outcome, _) => "reported",
            _ => "asked",
        };
        // A single event is the one that the row's first cell names.
        let what = if action.items.len() == 1 { "" } else { what };
        (what.to_owned(), item.row.logged_at)
    };
    action.items.iter().map(line).collect()
}

fn why(action: &Action<'_>, common: &Common) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(told) = action.told_by() {
        if let Some(hidden) = told.hidden("task") {
            lines.push(format!("{hidden}: ticket, grant and justification are not shown"));
        } else {
            let own = |common: &Option<String>, own| if common.is_none() { own } else { None };
            let said = match told.row.justification.as_str() {
                "" => "no justification given".to_owned(),
                text => format!("\u{201c}{text}\u{201d}"),
            };
            let ticket = own(&common.ticket, action.ticket());
            let grant = own(&common.grant, action.grant());
            let parts: Vec<String> = [Some(said), ticket, grant].into_iter().flatten().collect();
            lines.push(parts.join(", "));
        }
    }
    for answer in action.of_kind(Kind::Approval) {
        let said = match answer.row.justification.as_str() {
            "" => answer.hidden("justification").unwrap_or("no justification given").to_owned(),
            text => format!("\u{201c}{text}\u{201d}"),
        };
        let who = answer.said("approver", &answer.row.approver);
        lines.push(format!("{who}: {said} #{}", answer.row.index.0));
    }
    lines
}

/// Records that are about no action: policies, grants, notices, streams.
fn others(page: &mut Page, all: &Gathered) {
    let others: Vec<&Item> = all.items.iter().filter(|i| i.row.action_id.is_empty()).collect();
    if others.is_empty() {
        return;
    }
    page.heading("<h3>", "Records that are about no single action");
    let row = |item: &&Item| {
        let row = &item.row;
        let signed = match row.approver.as_str() {
            "" => String::new(),
            person => format!(", signed by {person}"),
        };
        vec![
            Cell::Index(row.index.0),
            Cell::Time(row.logged_at),
            Cell::Text(if row.gate.is_empty() { "ledger".to_owned() } else { row.gate.clone() }),
            Cell::Text(item.words.clone().unwrap_or_else(|| format!("{}{signed}", says(row)))),
        ]
    };
    let rows: Vec<Vec<Cell>> = others.iter().map(row).collect();
    page.table(&["Index", "Logged", "By", "What"], &rows);
}
