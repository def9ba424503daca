//! What the first page says is so, whatever the pack holds.

use super::*;

/// A verdict with this outcome.
fn verdict(index: u64, outcome: &str) -> (Evidence, Report) {
    record(Kind::Verdict, index, |name| (name == "outcome").then(|| quoted(outcome)))
}

fn of(records: impl IntoIterator<Item = (Evidence, Report)>) -> Gathered {
    let mut all = Gathered::default();
    for (evidence, report) in records {
        all.take(&evidence, &report, &[], true);
    }
    all
}

fn first_page(subject: &Subject<'_>) -> String {
    let page = words(&html(subject));
    page.split_once("Sessions: what each did").unwrap().0.to_owned()
}

#[test]
fn refusals_come_first_wherever_they_stand_in_the_log() {
    let last = ROWS_MAX as u64 + 200;
    let all = of((0..last)
        .map(|index| verdict(index, "approve"))
        .chain([verdict(last, "supervise"), verdict(last + 1, "refuse")]));
    let page = first_page(&subject(&all));
    let at = |index: u64| page.find(&format!("#{index} ")).expect("shown in the table");
    let table = page.find("What and where").unwrap();
    assert!(table < at(last + 1) && at(last + 1) < at(last), "{page}");
    // They are beyond what is listed, and it is not said that all follow.
    assert!(!page.contains("All of them follow"), "{page}");
    assert!(page.contains("The first 1,000 of them follow"), "{page}");
    assert!(page.contains("the other 202 are counted here"), "{page}");
}

#[test]
fn all_follow_where_all_do() {
    let actor = |index: u64| {
        let actor = format!(
            r#"{{"kind":"agent","id":"agent-{index}","class":null,"session":null,"model":null,"on_behalf_of":null}}"#
        );
        record(Kind::Verdict, index, move |name| (name == "actor").then(|| actor.clone()))
    };
    let page = first_page(&subject(&of((0..9).map(actor))));
    assert!(page.contains("These are 5 of 9 verdicts") && page.contains("All of them follow"));
}

/// Five rows that say the same tell a reader nothing that one doesn't.
#[test]
fn verdicts_that_say_the_same_are_one_row() {
    let all = of((0..7).map(|index| verdict(index, "refuse")).chain([
        verdict(7, "supervise"),
        verdict(8, "approve"),
        verdict(9, "refuse"),
    ]));
    let page = first_page(&subject(&all));
    assert!(page.contains("8 alike, the last at index 9."), "{page}");
    assert_eq!(page.matches(" alike, the last").count(), 1, "{page}");
    assert!(page.contains("These are 10 of 10 verdicts that were asked for"), "{page}");
    assert!(page.contains("#0 ") && page.contains("#7 ") && !page.contains("#1 "), "{page}");
}

/// What is there only to be counted is not counted as if it had been asked for.
#[test]
fn what_was_not_asked_for_is_no_answer() {
    let mut all = of((0..2).map(|index| verdict(index, "refuse")));
    for index in 2..7 {
        let (evidence, report) = verdict(index, "approve");
        all.take(&evidence, &report, &[], false);
    }
    let page = first_page(&subject(&all));
    assert!(page.contains("2 verdicts: 0 approved, 2 refused, 0 held for people."), "{page}");
    assert!(page.contains("5 records outside the question"), "{page}");
    // Nor is it followed to what became of it.
    assert!(!page.contains("this pack holds no report"), "{page}");
    // What they show only to tell so is named.
    assert!(!page.contains("each shows one field"), "{page}");
    all.tell_by(Some("task"));
    all.tell_by(Some("actor"));
    let page = first_page(&subject(&all));
    assert!(page.contains("each shows one field that says so: actor, task."), "{page}");
}

#[test]
fn a_reason_is_given_with_its_sentence() {
    let reasons = |text: &str| {
        let text = format!(r#"[{{"code":{},"policy":null,"text":{}}}]"#, quoted("HALTED"), text);
        record(Kind::Verdict, 1, move |name| (name == "reasons").then(|| text.clone()))
    };
    // The record's own sentence, or else what the gate's code means.
    for (text, said) in
        [(r#""on call said so""#, "on call said so"), ("null", "A kill switch covers")]
    {
        let all = of([reasons(text)]);
        let page = html(&subject(&all));
        let page = words(&page);
        assert_eq!(
            page.matches(&format!("HALTED: {said}")).count(),
            2,
            "first page and row: {page}"
        );
    }
}

/// An approval is followed to its report, or to the refusal that voids it.
#[test]
fn approvals_of_which_nothing_was_reported_are_named() {
    let of_verdict = |name: &'static str, of: u64| {
        move |field: &str| (field == name).then(|| quoted(&root(of).hex()))
    };
    let report = record(Kind::Outcome, 4, of_verdict("verdict", 1));
    let void = record(Kind::Verdict, 5, of_verdict("parent", 2));
    let mut all = of((1..4).map(|index| verdict(index, "approve")));
    let words =
        "Of 3 approvals this pack holds no report of what became of the action: #1, #2, #3.";
    assert!(first_page(&subject(&all)).contains(words));
    for (evidence, report) in [report, void] {
        all.take(&evidence, &report, &[], false);
    }
    let page = first_page(&subject(&all));
    assert!(page.contains("Of 1 approval this pack holds no report"), "{page}");
    assert!(page.contains("of the action: #3."), "{page}");
    // A pack that is not complete need not hold every report.
    let mut subject = subject(&all);
    subject.claim = None;
    assert!(first_page(&subject).contains("#3; there may be one that was not asked for."));
}

#[test]
fn a_warning_is_no_plain_good_news() {
    let all = of([verdict(1, "refuse")]);
    let mut subject = subject(&all);
    assert!(html(&subject).contains("<div class=\"result good\">"));
    subject.findings.warnings = 1;
    let page = html(&subject);
    assert!(page.contains("<div class=\"result doubt\">") && !page.contains("result good\">"));
    assert!(words(&page).contains("VALID Every proof in this pack held"));
    assert!(words(&page).contains("see the warnings"));
}

#[test]
fn it_does_not_prove_that_a_verdict_was_right() {
    let all = of([verdict(1, "refuse")]);
    assert!(first_page(&subject(&all)).contains("That a verdict was right."));
}

/// What the first page leaves to the annex is there.
#[test]
fn the_annex_names_what_the_first_page_does_not() {
    let code = |index: u64| {
        let text = format!(r#"[{{"code":"CODE_{index}","policy":null,"text":"why {index}"}}]"#);
        let policy = format!(
            r#"{{"id":"rules-{index}","version":"1","digest":"{}","engine":"e"}}"#,
            "0".repeat(64)
        );
        let (evidence, mut report) = record(Kind::Verdict, index, move |name| match name {
            "reasons" => Some(text.clone()),
            "policy" => Some(policy.clone()),
            "gate" => Some(quoted(&format!("gate-{index}"))),
            _ => None,
        });
        report.facts.sealed_by = Some([7; 32]);
        (evidence, report)
    };
    let all = of((1..=8).map(code));
    let page = words(&html(&subject(&all)));
    assert!(page.contains("others, named in the annex"), "{page}");
    let annex = page.split_once("Annex for experts").unwrap().1;
    for index in 1..=8 {
        for name in [format!("CODE_{index} why {index}"), format!("gate-{index}")] {
            assert!(annex.contains(&name), "{name}: {annex}");
        }
        assert!(annex.contains(&format!("rules-{index} 1")), "{annex}");
    }
    assert!(annex.contains(&hex(&[7; 32])), "keys are in hex");
}

/// What one file can't answer, and the pack as a whole can, is not said to be unchecked.
#[test]
fn what_was_not_checked_is_what_the_pack_could_not_check() {
    let (evidence, mut report) = verdict(1, "approve");
    report.not_checked = vec!["voided later".to_owned()];
    let all = of([(evidence, report)]);
    let mut subject = subject(&all);
    assert!(!html(&subject).contains("voided later"));
    subject.findings.not_checked = vec![("witnesses".to_owned(), 1)];
    assert!(words(&html(&subject)).contains("witnesses (1 record)"));
}
