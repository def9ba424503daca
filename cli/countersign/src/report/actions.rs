//! Every action with the auditor's four questions, and everything that each session did.

use std::collections::{BTreeMap, BTreeSet};

use countersign_core::encoding::Micros;
use countersign_core::kinds::Kind;
use countersign_core::verify::Verdict;

use super::Subject;
use super::first::rules;
use super::gather::{Gathered, Item, ROWS_MAX};
use super::page::{Cell, Page, count, grouped, outcome_word};

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

pub(super) fn write(page: &mut Page, subject: &Subject<'_>) {
    let all = subject.gathered;
    let actions = actions(all);
    page.raw(
        "<h2 id=\"actions\" class=\"page\">Every action: an auditor\u{2019}s four questions</h2>\n",
    );
    bounds(page, all);
    if actions.is_empty() {
        page.paragraph("None of the records shown is about an action.");
    } else {
        page.paragraph(
            "Each answer ends with the index of the record that gives it. The record is the file \
             evidence/<index with 20 digits>.evidence of this pack, or stands inside the file of a \
             later record that rests on it.",
        );
        let columns = [
            "Action",
            "1. Who authorised it?",
            "2. What did it touch?",
            "3. When?",
            "4. With what justification?",
        ];
        let rows: Vec<Vec<Cell>> = actions.iter().map(questions).collect();
        page.table(&columns, &rows);
    }
    others(page, all);
    sessions(page, &actions);
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

fn questions(action: &Action<'_>) -> Vec<Cell> {
    vec![
        action_cell(action),
        Cell::Lines(who(action)),
        Cell::Lines(touched(action)),
        Cell::Events(when(action)),
        Cell::Lines(why(action)),
    ]
}

fn action_cell(action: &Action<'_>) -> Cell {
    let outcome = action.last_verdict().map_or("", |item| item.row.outcome.as_str());
    let word = if outcome.is_empty() { "no verdict here" } else { outcome };
    let shadow = action.last_verdict().is_some_and(|item| item.row.mode == "shadow");
    let mut lines = vec![action.id.to_owned()];
    if shadow {
        lines.push("shadow mode: it bound nobody".to_owned());
    }
    if action.items.iter().any(|item| item.result != Verdict::Valid) {
        lines.push("not all of its records are certain: see the annex".to_owned());
    }
    Cell::Action(word.to_owned(), lines)
}

fn who(action: &Action<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(last) = action.last_verdict() else {
        return vec!["No verdict of it is shown here.".to_owned()];
    };
    let (index, gate) = (last.row.index.0, &last.row.gate);
    lines.push(match last.row.outcome.as_str() {
        "approve" => format!("Gate {gate}, under {} #{index}", rules(last)),
        "supervise" => format!("Nobody yet: gate {gate} held it, under {} #{index}", rules(last)),
        _ => format!("Nobody: gate {gate} refused it, under {} #{index}", rules(last)),
    });
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
        let actor = told.said("actor", &told.row.actor);
        lines.push(format!("Asked for by {actor}{behalf} #{}", told.row.index.0));
    }
    lines
}

fn touched(action: &Action<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(told) = action.told_by() {
        let row = &told.row;
        let class = if row.action_class.is_empty() {
            String::new()
        } else {
            format!(" ({})", row.action_class)
        };
        lines.push(format!("{}{class}", told.said("action", &row.action)));
        let environment = match row.environment.as_str() {
            "" => String::new(),
            environment => format!(", {environment}"),
        };
        let kind = if row.resource_type.is_empty() { "" } else { " " };
        lines.push(format!(
            "on {}{kind}{}{environment} #{}",
            row.resource_type,
            told.said("resource", &row.resource),
            row.index.0
        ));
    }
    let mut reported = false;
    for outcome in action.of_kind(Kind::Outcome) {
        reported = true;
        lines.push(format!("Reported: {} #{}", outcome.row.result, outcome.row.index.0));
    }
    if !reported {
        let released = action.last_verdict().is_some_and(|item| item.row.outcome == "approve");
        lines.push(if released {
            "No report of what became of it is shown here.".to_owned()
        } else {
            "Nothing was released.".to_owned()
        });
    }
    lines
}

fn when(action: &Action<'_>) -> Vec<(String, Micros, u64)> {
    let line = |item: &&Item| {
        let what = match (item.row.kind, item.row.outcome.as_str()) {
            (Kind::Verdict, outcome) => outcome_word(outcome),
            (Kind::Approval, _) => "answered",
            (Kind::Outcome, _) => "reported",
            _ => "asked",
        };
        (what.to_owned(), item.row.logged_at, item.row.index.0)
    };
    action.items.iter().map(line).collect()
}

fn why(action: &Action<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(told) = action.told_by() {
        let row = &told.row;
        lines.push(format!("Ticket: {}", told.said("task", &row.ticket)));
        if !row.grant.is_empty() {
            lines.push(format!("Grant: {}", row.grant));
        }
        lines.push(format!("{} #{}", told.said("task", &row.justification), row.index.0));
    }
    for answer in action.of_kind(Kind::Approval) {
        let said = answer.said("justification", &answer.row.justification);
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
        let what = match row.kind {
            Kind::Policy => format!("policy {} version {}", row.policy_id, row.policy_version),
            Kind::Grant => format!("grant {}", row.grant),
            Kind::Notice => format!("notice: {}", row.about),
            kind => kind.as_str().to_owned(),
        };
        vec![
            Cell::Index(row.index.0),
            Cell::Time(row.logged_at),
            Cell::Text(if row.gate.is_empty() { "ledger".to_owned() } else { row.gate.clone() }),
            Cell::Text(what),
        ]
    };
    let rows: Vec<Vec<Cell>> = others.iter().map(row).collect();
    page.table(&["Index", "Logged", "By", "What"], &rows);
}

/// Everything that each session did, in order.
fn sessions(page: &mut Page, actions: &[Action<'_>]) {
    page.raw("<h2 id=\"sessions\">Sessions: what each did, in order</h2>\n");
    let mut sessions: BTreeMap<(&str, &str), Vec<&Action<'_>>> = BTreeMap::new();
    for action in actions {
        let told = action.items.iter().find(|item| !item.row.session.is_empty());
        if let Some(told) = told {
            let key = (told.row.session.as_str(), told.row.actor.as_str());
            sessions.entry(key).or_default().push(action);
        }
    }
    if sessions.is_empty() {
        page.paragraph("None of the records shown names a session.");
        return;
    }
    let mut ordered: Vec<_> = sessions.into_iter().collect();
    ordered.sort_by_key(|(_, actions)| {
        actions.first().and_then(|a| a.items.first()).map(|i| i.row.index)
    });
    for ((session, actor), actions) in ordered {
        let tickets: BTreeSet<&str> = actions
            .iter()
            .flat_map(|action| &action.items)
            .map(|item| item.row.ticket.as_str())
            .filter(|ticket| !ticket.is_empty())
            .collect();
        let tickets: Vec<&str> = tickets.into_iter().collect();
        page.raw("<h3>Session ").text(session).raw("</h3>\n");
        page.paragraph(&format!(
            "{} by {}, against {}.",
            count(actions.len() as u64, "action", "actions"),
            if actor.is_empty() { "an actor that is not shown" } else { actor },
            match tickets.as_slice() {
                [] => "no ticket".to_owned(),
                tickets => format!("ticket {}", tickets.join(", ")),
            }
        ));
        let rows: Vec<Vec<Cell>> = actions.iter().flat_map(|action| steps(action)).collect();
        page.table(&["Logged", "Ticket", "What", "Verdict", "Index"], &rows);
    }
}

/// One line for each record of an action.
fn steps(action: &Action<'_>) -> Vec<Vec<Cell>> {
    let told = action.told_by();
    let line = |item: &&Item| {
        let row = &item.row;
        let (what, end) = match row.kind {
            Kind::Verdict => {
                let on = told.map_or_else(String::new, |told| {
                    let action = told.said("action", &told.row.action);
                    format!("{action} on {}", told.said("resource", &told.row.resource))
                });
                (on, Cell::Verdict(row.outcome.clone()))
            }
            Kind::Approval => {
                let who = item.said("approver", &row.approver);
                (format!("answer of {who}"), Cell::Text(row.decision.clone()))
            }
            Kind::Outcome => ("reported".to_owned(), Cell::Text(row.result.clone())),
            kind => (kind.as_str().to_owned(), Cell::Text(String::new())),
        };
        vec![
            Cell::Time(row.logged_at),
            Cell::Text(told.map(|told| told.row.ticket.clone()).unwrap_or_default()),
            Cell::Text(what),
            end,
            Cell::Index(row.index.0),
        ]
    };
    action.items.iter().map(line).collect()
}
