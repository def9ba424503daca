//! What a pack keeps of the records of each action, for those that come later (LIFE-1 to LIFE-13):
//! the values that the lifecycle asks for and no others, one behind the other as bytes. A pack may have
//! a million records, and a [`Fact`] with its texts takes several times as much.

use std::collections::HashMap;

use serde_json::Value;

use crate::encoding::{Micros, from_hex_array, hex};
use crate::hash::RecordRoot;
use crate::kinds::Kind;
use crate::lifecycle::Fact;
use crate::record::{DisclosedRecord, Field, View};
use crate::verify::Facts;

/// Where there is no record before.
const NONE: u64 = u64::MAX;
/// A salt, since a field has one; nothing is hashed over it.
const SALT: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// How a value stands on the shelf.
const WITHHELD: u8 = 0;
/// The hex of 32 bytes, as these.
const DIGEST: u8 = 1;
/// JSON of so many bytes, which one byte counts.
const SHORT: u8 = 2;
/// JSON of so many bytes, which four bytes count.
const LONG: u8 = 3;
/// From this one on: the text of this number among those that many records share.
const SHARED: u8 = 4;
/// Bytes of the longest text that is shared: outcomes, modes, names of gates, and no identifiers.
const SHARED_BYTES_MAX: usize = 32;
/// Bytes that are made room for at once. What is there is never moved.
const BOARD_BYTES: usize = 256 * 1024;

/// What is known of a record on the shelf.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Standing {
    /// It was seen in what supports another record.
    Seen = 0,
    /// It was judged by its own file.
    Judged = 1,
    /// It does not count any more.
    Gone = 2,
}

/// The values of a kind that [`Fact::of`] reads; a test holds the two together.
fn asked(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Verdict => &[
            "action_digest",
            "approvals",
            "gate",
            "mode",
            "outcome",
            "parent",
            "permit",
            "requires",
        ],
        Kind::Approval => {
            &["action_digest", "approver", "decision", "gate", "not_after", "verdict"]
        }
        Kind::Outcome => &["action_digest", "gate", "permit", "supersedes", "verdict"],
        _ => &["action_digest", "gate"],
    }
}

/// A record as the lifecycle looks at it.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    index: u64,
    pub(super) root: RecordRoot,
    logged_at: Micros,
    /// The key of whoever signed it.
    person: Option<[u8; 32]>,
    view: &'a View,
}

impl<'a> Subject<'a> {
    /// `None` where the record was not read to its end.
    pub(super) fn of(facts: &'a Facts) -> Option<Self> {
        Some(Self {
            index: facts.index,
            root: facts.root?,
            logged_at: facts.entry?.logged_at,
            person: facts.person.as_ref().map(|(_, key)| *key),
            view: facts.view.as_ref()?,
        })
    }

    pub(super) fn fact(&self) -> Fact {
        Fact::of(self.root, self.logged_at, self.view, self.person)
    }
}

/// One action.
#[derive(Clone, Copy)]
struct Action {
    /// Where its newest record on the shelf begins.
    newest: u64,
    /// Records that were counted, those among them that the shelf has no need of.
    records: u32,
}

/// Where a record begins: a board in the upper half, a byte of it in the lower.
fn place(board: usize, byte: usize) -> u64 {
    (board as u64) << 32 | byte as u64
}

/// The records of all actions.
#[derive(Default)]
pub(super) struct Shelf {
    boards: Vec<Vec<u8>>,
    actions: HashMap<[u8; 16], Action>,
    /// Texts that many records share, and their numbers.
    texts: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u8>,
}

/// A record on the shelf.
struct Kept<'s> {
    /// Where it begins.
    at: u64,
    standing: u8,
    index: u64,
    root: RecordRoot,
    /// What follows.
    rest: Reader<'s>,
}

impl Shelf {
    /// Counts a record of an action; gives how many were counted before.
    pub(super) fn count(&mut self, action: &[u8; 16]) -> usize {
        let action = self.action(action);
        let before = action.records;
        action.records = before.saturating_add(1);
        usize::try_from(before).unwrap_or(usize::MAX)
    }

    fn action(&mut self, action: &[u8; 16]) -> &mut Action {
        self.actions.entry(*action).or_insert(Action { newest: NONE, records: 0 })
    }

    /// Puts a record of an action behind the others.
    pub(super) fn put(&mut self, action: &[u8; 16], standing: Standing, record: &Subject<'_>) {
        let before = self.actions.get(action).map_or(NONE, |action| action.newest);
        let mut bytes = vec![standing as u8];
        bytes.extend(before.to_be_bytes());
        bytes.extend(record.index.to_be_bytes());
        bytes.extend(record.root.0);
        bytes.extend(record.logged_at.0.to_be_bytes());
        bytes.push(record.view.kind().number());
        bytes.push(u8::from(record.person.is_some()));
        bytes.extend(record.person.iter().flatten());
        for name in asked(record.view.kind()) {
            self.write(record.view.get(name), &mut bytes);
        }
        let room =
            self.boards.last().is_some_and(|last| last.capacity() - last.len() >= bytes.len());
        if !room {
            self.boards.push(Vec::with_capacity(BOARD_BYTES.max(bytes.len())));
        }
        let board = self.boards.len().saturating_sub(1);
        if let Some(last) = self.boards.last_mut() {
            let newest = place(board, last.len());
            last.append(&mut bytes);
            self.action(action).newest = newest;
        }
    }

    /// Writes a value, or that it is withheld.
    fn write(&mut self, value: Option<&Value>, bytes: &mut Vec<u8>) {
        let Some(value) = value else { return bytes.push(WITHHELD) };
        if let Some(digest) = value.as_str().and_then(from_hex_array::<32>) {
            bytes.push(DIGEST);
            bytes.extend(digest);
            return;
        }
        let text = value.to_string();
        if let Some(number) = self.number(&text) {
            bytes.push(number);
            return;
        }
        if let Ok(length) = u8::try_from(text.len()) {
            bytes.extend([SHORT, length]);
        } else {
            bytes.push(LONG);
            bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
        bytes.extend(text.as_bytes());
    }

    /// The number of a text that is shared. The first that come are, as long as there are numbers.
    fn number(&mut self, text: &str) -> Option<u8> {
        if text.len() > SHARED_BYTES_MAX {
            return None;
        }
        if let Some(number) = self.numbers.get(text) {
            return Some(*number);
        }
        let number = u8::try_from(self.texts.len()).ok()?.checked_add(SHARED)?;
        self.texts.push(text.into());
        self.numbers.insert(text.into(), number);
        Some(number)
    }

    /// The records of an action, the newest on the shelf first.
    fn kept(&self, action: &[u8; 16]) -> impl Iterator<Item = Kept<'_>> {
        let mut next = self.actions.get(action).map_or(NONE, |action| action.newest);
        std::iter::from_fn(move || {
            let at = next;
            let mut rest = Reader { bytes: self.at(at)?, texts: &self.texts };
            let standing = rest.byte();
            next = rest.number();
            let (index, root) = (rest.number(), RecordRoot(rest.array()));
            Some(Kept { at, standing, index, root, rest })
        })
        .filter(|kept| kept.standing != Standing::Gone as u8)
    }

    /// The bytes from a place on; `None` where there is no such place.
    fn at(&self, place: u64) -> Option<&[u8]> {
        let (board, byte) = (usize::try_from(place >> 32), usize::try_from(place & 0xffff_ffff));
        self.boards.get(board.ok()?)?.get(byte.ok()?..)
    }

    /// Whether the action has this record.
    pub(super) fn has(&self, action: &[u8; 16], root: RecordRoot) -> bool {
        self.kept(action).any(|kept| kept.root == root)
    }

    /// Whether the action has this record by its own file.
    pub(super) fn has_judged(&self, action: &[u8; 16], root: RecordRoot) -> bool {
        self.kept(action).any(|kept| kept.root == root && kept.standing == Standing::Judged as u8)
    }

    /// Takes this record of the action away.
    pub(super) fn forget(&mut self, action: &[u8; 16], root: RecordRoot) {
        let kept = self.kept(action).filter(|kept| kept.root == root);
        for at in kept.map(|kept| kept.at).collect::<Vec<_>>() {
            let (board, byte) = (usize::try_from(at >> 32), usize::try_from(at & 0xffff_ffff));
            let board = board.ok().and_then(|board| self.boards.get_mut(board));
            if let (Some(board), Ok(byte)) = (board, byte)
                && let Some(standing) = board.get_mut(byte)
            {
                *standing = Standing::Gone as u8;
            }
        }
    }

    /// The records of an action that stand in the log before this index, in the order in which they
    /// were put here.
    pub(super) fn before(&self, action: &[u8; 16], index: u64) -> Vec<Fact> {
        let kept = self.kept(action).filter(|kept| kept.index < index);
        let mut facts: Vec<Fact> = kept.map(|mut kept| kept.rest.fact(kept.root)).collect();
        facts.reverse();
        facts
    }
}

/// Reads what [`Shelf::put`] wrote.
struct Reader<'s> {
    bytes: &'s [u8],
    texts: &'s [Box<str>],
}

impl<'s> Reader<'s> {
    fn take(&mut self, count: usize) -> &'s [u8] {
        let parts = self.bytes.split_at_checked(count);
        let (taken, rest) = parts.unwrap_or_else(|| unreachable!("bad math in shelf: it is short"));
        self.bytes = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N));
        array
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    fn number(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    /// The fact behind a record's root.
    fn fact(&mut self, root: RecordRoot) -> Fact {
        let logged_at = Micros(self.number());
        let kind = Kind::from_number(self.byte());
        let kind = kind.unwrap_or_else(|| unreachable!("bad math in shelf: no kind"));
        let person = (self.byte() == 1).then(|| self.array());
        let names = asked(kind);
        // The names are in the order of the fields, so that each value is the next one.
        let mut field = |name: &'static str| {
            let value = if names.contains(&name) { self.value() } else { None };
            value.map_or(Field::Withheld([0; 32]), |value| {
                Field::Shown(format!("[\"{SALT}\",\"{name}\",{value}]"))
            })
        };
        let fields = kind.fields().iter().map(|spec| field(spec.name)).collect();
        let view = DisclosedRecord { fields }.view(kind);
        let view = view.unwrap_or_else(|_| unreachable!("bad math in shelf: no view"));
        Fact::of(root, logged_at, &view, person)
    }

    /// The JSON of a value; `None` where it is withheld.
    fn value(&mut self) -> Option<String> {
        let length = match self.byte() {
            WITHHELD => return None,
            DIGEST => return Some(format!("\"{}\"", hex(&self.array::<32>()))),
            SHORT => usize::from(self.byte()),
            LONG => usize::try_from(u32::from_be_bytes(self.array())).unwrap_or(usize::MAX),
            shared => {
                let text = self.texts.get(usize::from(shared - SHARED));
                let text = text.unwrap_or_else(|| unreachable!("bad math in shelf: no such text"));
                return Some(text.to_string());
            }
        };
        let text = std::str::from_utf8(self.take(length));
        Some(text.unwrap_or_else(|_| unreachable!("bad math in shelf: no text")).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::evidence::Evidence;
    use crate::lifecycle::action_of;
    use crate::verify::verify;

    /// What was verified of every record of the example pack, which holds each kind in full and
    /// withheld, and of what they rest on.
    fn example() -> Vec<Facts> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/pack/evidence");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let reports = files
            .map(|file| verify(&Evidence::parse(&std::fs::read(file).unwrap()).unwrap(), None));
        let all = reports.flat_map(|report| {
            std::iter::once(report.facts)
                .chain(report.supporting.into_iter().map(|report| report.facts))
        });
        all.filter(|facts| facts.view.as_ref().is_some_and(|v| action_of(v).is_some())).collect()
    }

    /// What comes off the shelf is to the last value what was put there: else a rule of the
    /// lifecycle that asks for a value more would find it withheld in every pack.
    #[test]
    fn a_record_comes_off_the_shelf_as_the_lifecycle_sees_it() {
        let example = example();
        let mut kinds: Vec<u8> = Vec::new();
        for facts in &example {
            for person in [None, Some(("alice".to_owned(), [7; 32]))] {
                let facts = Facts { person, ..facts.clone() };
                let record = Subject::of(&facts).unwrap();
                let mut shelf = Shelf::default();
                shelf.put(&[1; 16], Standing::Judged, &record);
                kinds.push(record.view.kind().number());
                let kept = shelf.before(&[1; 16], u64::MAX);
                assert_eq!(format!("{kept:?}"), format!("[{:?}]", record.fact()));
                assert!(shelf.before(&[1; 16], record.index).is_empty(), "it is not before itself");
            }
        }
        for kind in [Kind::Verdict, Kind::Approval, Kind::Outcome] {
            assert!(kinds.contains(&kind.number()), "{kind:?} is in the example");
        }
    }

    #[test]
    fn records_of_an_action_stand_in_the_order_in_which_they_came() {
        let example = example();
        let records: Vec<Subject<'_>> = example.iter().filter_map(Subject::of).collect();
        let (one, two, mut shelf) = ([1; 16], [2; 16], Shelf::default());
        for (n, record) in (0_u64..).zip(&records) {
            let record = Subject { index: n, ..*record };
            shelf.put(if n % 3 == 0 { &two } else { &one }, Standing::Seen, &record);
        }
        let roots = |action, index| -> Vec<RecordRoot> {
            shelf.before(action, index).iter().map(Fact::root).collect()
        };
        let expected = |other: bool, end: usize| -> Vec<RecordRoot> {
            let of = (0..end).filter(|n| (n % 3 == 0) == other);
            of.map(|n| records[n].root).collect()
        };
        assert!(records.len() > 6);
        assert_eq!(roots(&one, 5), expected(false, 5));
        assert_eq!(roots(&two, u64::MAX), expected(true, records.len()));
        assert!(roots(&[3; 16], u64::MAX).is_empty());
    }

    #[test]
    fn what_is_forgotten_is_gone_and_what_was_judged_is_known() {
        let example = example();
        let (record, other) =
            (Subject::of(&example[0]).unwrap(), Subject::of(&example[1]).unwrap());
        let (action, mut shelf) = ([1; 16], Shelf::default());
        assert_eq!([shelf.count(&action), shelf.count(&action)], [0, 1]);
        shelf.put(&action, Standing::Seen, &record);
        shelf.put(&action, Standing::Judged, &other);
        assert!(shelf.has(&action, record.root) && !shelf.has_judged(&action, record.root));
        assert!(shelf.has_judged(&action, other.root) && !shelf.has(&[2; 16], other.root));
        shelf.forget(&action, record.root);
        assert!(!shelf.has(&action, record.root));
        assert_eq!(shelf.before(&action, u64::MAX).len(), 1);
        shelf.put(&action, Standing::Judged, &record);
        assert!(shelf.has_judged(&action, record.root));
    }

    /// Packs of 100,000 records are verified in little memory: this is most of what a record takes,
    /// once others like it were there.
    #[test]
    fn a_record_takes_few_bytes() {
        for facts in example() {
            let (record, mut shelf) = (Subject::of(&facts).unwrap(), Shelf::default());
            let taken = |shelf: &Shelf| shelf.boards.iter().map(Vec::len).sum::<usize>();
            shelf.put(&[1; 16], Standing::Judged, &record);
            let first = taken(&shelf);
            shelf.put(&[2; 16], Standing::Judged, &record);
            let second = taken(&shelf) - first;
            assert!(second <= 288, "{:?}: {second}", record.view);
        }
    }

    /// Texts beyond those that have a number, and records beyond what one board has room for.
    #[test]
    fn what_is_not_shared_stands_by_itself() {
        let example = example();
        let verdict = example.iter().find(|facts| {
            facts.view.as_ref().is_some_and(|view| view.str("outcome") == Some("supervise"))
        });
        let (record, mut shelf) = (Subject::of(verdict.unwrap()).unwrap(), Shelf::default());
        for n in 0..300 {
            assert_eq!(shelf.number(&format!("\"gate-{n}\"")).is_some(), n < 252, "{n}");
        }
        for n in 0..3_000_u64 {
            let record = Subject { index: n, ..record };
            shelf.put(&[u8::try_from(n % 7).unwrap(); 16], Standing::Judged, &record);
        }
        assert!(shelf.boards.len() > 1);
        assert!(shelf.boards.iter().all(|board| board.capacity() == BOARD_BYTES));
        let kept = shelf.before(&[3; 16], 1_500);
        assert_eq!(kept.len(), (0..1_500).filter(|n| n % 7 == 3).count());
        assert!(kept.iter().all(|f| format!("{f:?}") == format!("{:?}", record.fact())));
    }
}
