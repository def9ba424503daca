//! Whatever is asked, a record that it was not asked for says so in its reduced form too.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets the unexpected should stop where it stands"
)]

use std::path::Path;

use countersign_core::encoding::Micros;
use countersign_core::query::{Field as Asked, Filter};
use countersign_core::verify::verify;

use super::*;

/// All records of the vectors.
fn records() -> Vec<Evidence> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors");
    let mut files: Vec<_> = ["", "pack/evidence"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(vectors.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|name| name == "evidence"))
        .collect();
    files.sort();
    let read = |path| Evidence::parse(&std::fs::read(path).unwrap()).ok();
    files.into_iter().filter_map(read).collect()
}

/// A value that no vector has.
fn another(field: Asked) -> Vec<&'static str> {
    match field {
        Asked::Kind => vec!["key"],
        Asked::Outcome => vec!["approve", "refuse", "supervise"],
        Asked::Mode => vec!["shadow"],
        Asked::ActionId => vec!["019ab000-0000-7000-8000-ffffffffffff"],
        Asked::PolicyDigest => {
            vec!["00000000000000000000000000000000000000000000000000000000000000aa"]
        }
        _ => vec!["nobody's"],
    }
}

/// PACK-27. Once each filter over what may be withheld made our own complete pack INDETERMINATE.
#[test]
fn a_record_that_was_not_asked_for_says_so_whatever_is_asked() {
    let records = records();
    assert!(records.len() > 20);
    let (mut told, mut untold) = (0, 0);
    let filters: Vec<Filter> = Asked::ALL
        .into_iter()
        .flat_map(|field| another(field).into_iter().map(move |value| (field, value)))
        .map(|(field, value)| Filter::new(field, value).unwrap())
        .collect();
    let one = filters.iter().map(|filter| vec![filter.clone()]);
    let two = filters.windows(2).map(<[Filter]>::to_vec);
    for filters in one.chain(two) {
        let query = Query::new(filters, None, None).unwrap();
        for evidence in &records {
            let facts = verify(evidence, None).facts;
            let (Some(view), Some(entry)) = (facts.view, facts.entry) else { continue };
            if query.ask(&entry, &view) != Answer::No {
                continue;
            }
            let name = telling(evidence, &query, &entry, &view);
            let ask = |told| {
                let less = reduced(evidence.clone(), told).unwrap();
                query.ask(&entry, &verify(&less, None).facts.view.unwrap())
            };
            assert_eq!(ask(name), Answer::No, "{query:?} of {:?}, {name:?}", view.kind());
            told += u32::from(name.is_some());
            // What is never withheld tells it alone, and no more is shown than that.
            untold += u32::from(name.is_none());
            assert!(name.is_none() || ask(None) == Answer::Withheld, "{query:?} {name:?}");
        }
    }
    assert!(told > 50 && untold > 50, "{told} {untold}");
}

/// Of several fields that would tell, the shortest does; the others stay withheld.
#[test]
fn one_field_is_enough() {
    let filter = |field, value| Filter::new(field, value).unwrap();
    let filters = vec![
        filter(Asked::Session, "nobody's"),
        filter(Asked::Action, "nothing:AtAll"),
        filter(Asked::Resource, "nowhere"),
    ];
    let query = Query::new(filters, None, None).unwrap();
    let is_refusal = |evidence: &&Evidence| {
        let view = verify(evidence, None).facts.view;
        view.is_some_and(|view| view.get("actor").is_some() && view.kind() == Kind::Verdict)
    };
    let records = records();
    let evidence = records.iter().find(is_refusal).unwrap();
    let facts = verify(evidence, None).facts;
    let name = telling(evidence, &query, &facts.entry.unwrap(), facts.view.as_ref().unwrap());
    assert_eq!(name, Some("action"));
    let less = reduced(evidence.clone(), name).unwrap();
    let view = verify(&less, None).facts.view.unwrap();
    assert!(view.get("action").is_some());
    assert!(view.get("actor").is_none() && view.get("resource").is_none());
    // One that was logged outside of what was asked for shows nothing more.
    let query = Query::new(query.filters().to_vec(), Some(Micros(u64::MAX - 1)), None).unwrap();
    let told = telling(evidence, &query, &facts.entry.unwrap(), facts.view.as_ref().unwrap());
    assert_eq!(told, None);
}
