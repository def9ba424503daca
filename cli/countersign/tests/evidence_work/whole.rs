//! Complete packs of whatever is asked are VALID, and so are those of a range that something was erased
//! behind.

use super::*;

/// PACK-27. Once a pack was INDETERMINATE for most filters: the records that were not asked for
/// withheld what would have told that they were not.
#[test]
fn a_complete_pack_is_valid_whatever_is_asked() {
    let house = House::new();
    let rows = house.query(&["--kind", "verdict"]);
    let row = rows.iter().find(|row| row["ticket"] != "" && row["outcome"] == "refuse").unwrap();
    let value = |name: &str| row[name].as_str().unwrap().to_owned();
    let fields = [
        ("kind", "verdict".to_owned()),
        ("action-id", value("action_id")),
        ("action", value("action")),
        ("actor", value("actor")),
        ("session", value("session")),
        ("ticket", value("ticket")),
        ("grant", "grant-that-nobody-has".to_owned()),
        ("resource", value("resource")),
        ("environment", value("environment")),
        ("outcome", "refuse".to_owned()),
        ("reason", row["reasons"][0].as_str().unwrap().to_owned()),
        ("policy", "3".to_owned()),
        ("policy-digest", DIGEST.to_owned()),
        ("gate", "prod-1".to_owned()),
        ("approver", "nobody".to_owned()),
        ("mode", "shadow".to_owned()),
    ];
    assert_eq!(fields.len(), countersign_core::query::Field::ALL.len());
    let one = fields.iter().map(|(field, value)| vec![(*field, value.as_str())]);
    let session = value("session");
    let both = vec![("outcome", "refuse"), ("session", session.as_str())];
    for (at, asked) in one.chain([both]).enumerate() {
        let options: Vec<String> = asked
            .iter()
            .flat_map(|(field, value)| [format!("--{field}"), (*value).to_owned()])
            .collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let name = format!("pack-{at}");
        let pack = house.pack(&name, &[&["--complete"], options.as_slice()].concat());
        let report = house.check(&pack);
        assert_eq!(report.result, Verdict::Valid, "{asked:?}: {:?}", report.findings);
        assert_eq!(report.counts, [0, 0, 0], "{asked:?}: {:?}", report.findings);
        let matching = report.complete.unwrap().matching.unwrap();
        let listed =
            house.call(&[&["query", "--output", "jsonl"], options.as_slice()].concat(), "auditor");
        let keys = house.query(&["--kind", "verdict"]);
        let is_gates = |row: &&Value| keys.iter().any(|verdict| verdict["stream"] == row["stream"]);
        let listed: Vec<u64> = lines(&listed).iter().filter(is_gates).map(index).collect();
        assert_eq!(matching, listed, "{asked:?}");
    }
}

/// What is erased behind the range's end shows as erased: everything is then proven under a later
/// head, the one of the erasure, whatever came after that.
#[test]
fn what_was_erased_behind_the_range_shows_as_erased() {
    let house = House::new();
    let row = house.query(&["--outcome", "refuse"]).remove(0);
    let to = house.check(&house.pack("before", &["--complete"])).head.0;
    let soon = wait_for("a time after the record", || {
        let logged = row["logged_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let now = jiff::Timestamp::now();
        (now.as_second() > logged.as_second() + 1).then(|| now.to_string())
    });
    let at = row["index"].to_string();
    let what = ["erase", "--entries", &at, "--reason", "asked for", "--floor", &soon, "--yes"];
    let out = house.beside("erasure");
    let erased = [&what[..], &["--out", out.to_str().unwrap()]].concat();
    let erased = house.call(&erased, "tenant-admin");
    assert!(erased.status.success(), "{}", said(&erased));

    let size = to.to_string();
    let asked = ["--complete", "--to-head", size.as_str()];
    let pack = house.pack("after", &asked);
    let report = house.check(&pack);
    assert_eq!(report.result, Verdict::Valid, "{:?}", report.findings);
    let complete = report.complete.as_ref().unwrap();
    assert_eq!((complete.claims.to.0, &complete.erased), (to, &vec![index(&row)]));
    assert!(report.head.0 > to);
    // The log goes on, and the same question still has the same answer.
    house.submit("second", VERDICTS, 5);
    let again = house.pack("again", &asked);
    assert!(files(&again) == files(&pack), "another pack came of the same question");
    let whole = house.pack("rest", &["--complete", "--from-head", &size]);
    let report = house.check(&whole);
    assert_eq!(report.result, Verdict::Valid, "{:?}", report.findings);
    let span = &report.complete.unwrap().spans[0];
    let before = &house.check(&pack).complete.unwrap().spans[0];
    assert_eq!((span.prev, span.first_seq), (before.last_root, before.last_seq + 1));
    // Where what it goes on from is taken away, nothing shows that none was left out.
    let mut manifest = Manifest::parse(&fs::read(whole.join("manifest.json")).unwrap()).unwrap();
    let last = PackFile::Evidence(before.last);
    assert!(manifest.files.remove(&last).is_some());
    fs::remove_file(whole.join(last.to_string())).unwrap();
    fs::write(whole.join("manifest.json"), manifest.to_bytes()).unwrap();
    let report = house.check(&whole);
    assert_eq!(report.result, Verdict::Indeterminate);
    assert_eq!(codes(&report), [Code::PackBeginningUnshown]);
}
