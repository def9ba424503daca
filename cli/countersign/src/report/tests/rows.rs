//! The rows of actions: one for each, short, and true to what is hidden.

use super::*;

fn session(index: u64, name: &str, task: &str) -> (Evidence, Report) {
    let actor = format!(
        r#"{{"kind":"agent","id":"bob","class":"c","session":{},"model":null,"on_behalf_of":null}}"#,
        quoted(name)
    );
    let task = task.to_owned();
    record(Kind::Verdict, index, move |field| match field {
        "actor" => Some(actor.clone()),
        "task" => Some(task.clone()),
        _ => None,
    })
}

#[test]
fn an_action_is_a_row_below_its_session() {
    let mut all = Gathered::default();
    for index in 0..30 {
        let task =
            r#"{"ticket":"OPS-1","grant":null,"scope_digest":null,"justification":"tidy up"}"#;
        let (evidence, report) = session(index, ["s-1", "s-2"][(index % 2) as usize], task);
        all.take(&evidence, &report, &[], true);
    }
    let page = html(&subject(&all));
    let (_, rest) = page.split_once("id=\"actions\"").unwrap();
    let (rows, _) = rest.split_once("id=\"annex\"").unwrap();
    assert_eq!(rows.matches("<tr><td").count(), 30);
    assert_eq!(rows.matches("<h3>").count(), 2, "and two headings");
    let rows = words(&format!("<body>{rows}"));
    assert!(
        rows.contains("Session s-1: bob 15 actions, ticket OPS-1, no grant, decided by"),
        "{rows}"
    );
    assert!(rows.contains("\u{201c}tidy up\u{201d}"), "{rows}");
    // What all have in common is said once.
    assert_eq!(rows.matches("OPS-1").count(), 2, "{rows}");
    assert!(!rows.contains("none given"), "{rows}");
}

#[test]
fn what_differs_is_said_in_each_row() {
    let mut all = Gathered::default();
    for (index, ticket, grant) in [(1, r#""OPS-1""#, "null"), (2, "null", r#""g-7""#)] {
        let task = format!(
            r#"{{"ticket":{ticket},"grant":{grant},"scope_digest":null,"justification":null}}"#
        );
        let (evidence, report) = session(index, "s-1", &task);
        all.take(&evidence, &report, &[], true);
    }
    let page = words(&html(&subject(&all)));
    assert!(page.contains("no justification given, ticket OPS-1, no grant"), "{page}");
    assert!(page.contains("no justification given, no ticket, grant g-7"), "{page}");
}

/// An erased record says so once, and that it is erased, wherever it stands.
#[test]
fn the_erased_is_not_told_of_in_pieces() {
    let (evidence, report) = hostile(7, "gone");
    let less = countersign_core::disclose::Selection::Keep(&[]);
    let mut evidence = Evidence { supporting: Vec::new(), ..evidence };
    evidence.record = evidence.withhold(&less).unwrap().record;
    let view = evidence.record.view(Kind::Verdict).unwrap();
    let hidden = Report { facts: Facts { view: Some(view), ..report.facts.clone() }, ..report };
    let mut all = Gathered::default();
    all.take(&evidence, &hidden, &[(7, 7)], true);
    let page = words(&html(&subject(&all)));
    assert!(page.contains("(erased): neither the action nor what it is on is shown"), "{page}");
    assert!(!page.contains("(withheld)") && !page.contains("(erased) on"), "{page}");

    // It is erased as well where a later record rests on it.
    let mut above = hostile(9, "above");
    above.1.supporting = vec![hidden];
    let mut all = Gathered::default();
    all.take(&above.0, &above.1, &[(7, 7)], true);
    let page = words(&html(&subject(&all)));
    assert!(page.contains("(erased)") && !page.contains("(withheld)"), "{page}");
}

#[test]
fn a_halt_is_told_in_words() {
    let detail = serde_json::json!({
        "event": "halt", "what": { "actor": "infra-assistant-7" },
        "by": { "role": "operator", "id": "bob" }, "reason": "it deletes too much",
    });
    let (evidence, report) = record(Kind::Notice, 3, move |name| match name {
        "about" => Some(quoted("mode")),
        "detail" => Some(detail.to_string()),
        _ => None,
    });
    let mut all = Gathered::default();
    all.take(&evidence, &report, &[], true);
    let page = words(&html(&subject(&all)));
    assert!(page.contains("halted actor infra-assistant-7 by bob: it deletes too much"), "{page}");
}
