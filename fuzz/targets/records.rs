//! Hostile JSON values and records: never a panic; a record that parses has one root, however it
//! is computed.
#![no_main]

use countersign_core::action::canonical;
use countersign_core::entry::Entry;
use countersign_core::json;
use countersign_core::kinds::Kind;
use countersign_core::record::FullRecord;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entry) = Entry::from_bytes(bytes) {
        assert_eq!(entry.to_bytes().as_slice(), bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(value) = json::parse(text)
        && let Ok(canonical_text) = canonical(&value)
    {
        assert_eq!(json::parse(&canonical_text), Ok(value));
    }
    let mut lines = text.split('\n').map(str::to_owned);
    let kind = lines.next().and_then(|name| Kind::from_type(&name));
    if let Some(kind) = kind
        && let Ok(record) = FullRecord::parse(kind, [7; 32], lines.collect())
    {
        let root = record.root();
        assert_eq!(record.build_root(), Ok(root));
        assert_eq!(record.disclose().root(), Ok(root));
        assert_eq!(record.disclose().view(kind).as_ref(), Ok(record.view()));
    }
});
