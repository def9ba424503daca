//! What queries ask, and what records answer.

use super::*;
use crate::hash::{LeafIndex, RecordRoot, Sealed};
use crate::json;
use crate::stream::StreamId;

#[test]
fn fields_have_one_spelling_and_one_number() {
    for (field, number) in Field::ALL.into_iter().zip(1_u8..) {
        assert_eq!(field.number(), number);
        assert_eq!(Field::parse(field.as_str()), Some(field));
    }
    assert_eq!(Field::parse("Kind"), None);
    assert_eq!(Field::parse(""), None);
}

/// Whatever a field's values come from is a name of that kind, so none is silently empty.
#[test]
fn sources_are_names_of_their_kinds() {
    for field in Field::ALL {
        let mut somewhere = field == Field::Kind;
        for kind in Kind::ALL {
            if let Some(source) = field.source(kind) {
                somewhere = true;
                let known = kind.fields().iter().any(|spec| spec.name == source);
                assert!(known, "{field} of {kind:?}: {source}");
            }
        }
        assert!(somewhere, "{field}");
    }
    // What an erased verdict can still be asked for.
    let survive: Vec<Field> =
        Field::ALL.into_iter().filter(|f| f.survives_erasure(Kind::Verdict)).collect();
    let kept =
        [Field::Kind, Field::ActionId, Field::Outcome, Field::Gate, Field::Approver, Field::Mode];
    assert_eq!(survive, kept, "a verdict has no approver, before or after");
    assert!(!Field::ActionId.survives_erasure(Kind::Intent));
}

#[test]
fn impossible_filters_are_refused() {
    for (field, value) in [
        (Field::Kind, "verdicts"),
        (Field::Outcome, "allow"),
        (Field::Mode, ""),
        (Field::ActionId, "019AB000-0000-7000-8000-000000000002"),
        (Field::PolicyDigest, "00"),
        (Field::Actor, ""),
        (Field::Actor, &"a".repeat(VALUE_BYTES_MAX + 1)),
    ] {
        let fault = Code::QueryMalformed.at_field(field.as_str());
        assert_eq!(Filter::new(field, value), Err(fault));
    }
    let bob = Filter::new(Field::Actor, "bob").unwrap();
    assert!(Query::new(vec![bob.clone(); FILTERS_MAX + 1], None, None).is_err());
    assert!(Query::new(Vec::new(), Some(Micros(2)), Some(Micros(2))).is_err());
    let query = Query::new(vec![bob.clone(), bob], None, None).unwrap();
    assert_eq!(query.filters().len(), 1);
}

fn grant(terms: &str) -> (Entry, crate::record::FullRecord) {
    let kind = Kind::Grant;
    let values = kind.fields().iter().map(|field| match field.name {
        "terms" => json::quoted(terms),
        "owner" => format!(r#"{{"id":"alice","certificate":"{}"}}"#, "0".repeat(64)),
        "prev" => json::quoted(&"0".repeat(64)),
        "recorded_at" => json::quoted(&Micros(1).format()),
        "seq" => "0".to_owned(),
        "signature" => json::quoted(&crate::encoding::b64(&[0; 64])),
        "stream" => json::quoted(&"0".repeat(32)),
        "type" => json::quoted("grant"),
        name => json::quoted(name),
    });
    let record = crate::record::FullRecord::parse(kind, [7; 32], values.collect()).unwrap();
    let logged_at = Micros(10);
    (Entry { kind, logged_at, stream: StreamId([0; 16]), seq: 0, sealed: Sealed([0; 32]) }, record)
}

#[test]
fn a_query_asks_what_is_shown_and_says_what_is_not() {
    let terms = r#"{"grantee":"x","allowed":null,"forbidden":null,"ticket":"OPS-1","session":"s-1","not_before":null,"expires_at":null,"limits":null}"#;
    let (entry, record) = grant(terms);
    let ask = |filters: &[(Field, &str)], view: &View| {
        let filters =
            filters.iter().map(|(field, value)| Filter::new(*field, value).unwrap()).collect();
        Query::new(filters, Some(Micros(10)), Some(Micros(11))).unwrap().ask(&entry, view)
    };
    let view = record.view();
    assert_eq!(ask(&[], view), Answer::Yes);
    assert_eq!(ask(&[(Field::Ticket, "OPS-1"), (Field::Session, "s-1")], view), Answer::Yes);
    assert_eq!(ask(&[(Field::Ticket, "OPS-1"), (Field::Ticket, "OPS-2")], view), Answer::Yes);
    assert_eq!(ask(&[(Field::Ticket, "OPS-2"), (Field::Session, "s-1")], view), Answer::No);
    assert_eq!(ask(&[(Field::Outcome, "approve")], view), Answer::No);
    let row = Row::of(&entry, LeafIndex(3), RecordRoot([0; 32]), view, false);
    assert_eq!((row.ticket.as_str(), row.grant.as_str()), ("OPS-1", "grant_id"));
    assert_eq!((row.approver.as_str(), row.actor.as_str()), ("alice", "x"));

    let mut disclosed = record.disclose();
    let at = Kind::Grant.fields().iter().position(|spec| spec.name == "terms").unwrap();
    disclosed.fields[at] = crate::record::Field::Withheld([0; 32]);
    let view = disclosed.view(Kind::Grant).unwrap();
    assert_eq!(ask(&[(Field::Ticket, "OPS-1")], &view), Answer::Withheld);
    assert_eq!(ask(&[(Field::Ticket, "OPS-1"), (Field::Kind, "verdict")], &view), Answer::No);
    assert_eq!(ask(&[(Field::Approver, "alice")], &view), Answer::Yes);
    let window = Query::new(Vec::new(), Some(Micros(11)), None).unwrap();
    assert!(!window.matches(&entry, &view));
}
