//! The rows that the log keeps in its store, which are opaque to the store: a record's payload, a
//! sealed batch, a stream's state. Each begins with a version byte, and reading one is as strict as
//! reading what came over the wire: disk bytes are input.

use countersign_core::cert::{Certificate, MAX_CHAIN};
use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::Micros;
use countersign_core::hash::{Context, Hash, LeafIndex, RecordRoot};
use countersign_core::kinds::{self, Kind};
use countersign_core::record::{DisclosedRecord, Field, FullRecord, View};
use countersign_core::seal::{BATCH_MAX, SealedBatch};

const VERSION: u8 = 1;
/// The version of a payload that was erased.
const VERSION_ERASED: u8 = 2;

/// What evidence of a record is made of, besides its entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    /// The index under which the record's sealed batch is stored.
    pub(crate) batch: LeafIndex,
    /// The record's place in that batch.
    pub(crate) position: u32,
    /// The record.
    pub(crate) record: Record,
    /// The chain of the person who signed it.
    pub(crate) people: Vec<Certificate>,
}

/// A record as a payload holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Whole.
    Full(FullRecord),
    /// What an erasure left: the fields that are never withheld, and the leaf of every other.
    Erased(DisclosedRecord, View),
}

impl Record {
    /// Its values, where they are not erased.
    pub(crate) fn view(&self) -> &View {
        match self {
            Self::Full(record) => record.view(),
            Self::Erased(_, view) => view,
        }
    }

    /// The whole record, unless it was erased.
    pub(crate) fn full(&self) -> Result<&FullRecord, Fault> {
        match self {
            Self::Full(record) => Ok(record),
            Self::Erased(..) => Err(Code::Erased.into()),
        }
    }

    pub(crate) fn is_erased(&self) -> bool {
        matches!(self, Self::Erased(..))
    }

    pub(crate) fn root(&self) -> Result<RecordRoot, Fault> {
        match self {
            Self::Full(record) => Ok(record.root()),
            Self::Erased(record, _) => record.root(),
        }
    }

    /// The record as evidence shows it.
    pub(crate) fn disclose(&self) -> DisclosedRecord {
        match self {
            Self::Full(record) => record.disclose(),
            Self::Erased(record, _) => record.clone(),
        }
    }
}

/// Seal, roots and the digest of the chain that the seal key had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchRow {
    pub(crate) sealed: SealedBatch,
    /// Digest under which the chain is kept as a blob; zeros for the ledger's own records.
    pub(crate) chain: Hash,
}

/// Where a stream stands, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamRow {
    pub(crate) tenant: String,
    pub(crate) gate: String,
    pub(crate) seal_key: [u8; 32],
    /// When the seal key's certificate ends.
    pub(crate) not_after: Micros,
    /// Digest under which its chain is kept as a blob.
    pub(crate) chain: Hash,
    pub(crate) next_seq: u64,
    /// Root of the record before `next_seq`; zeros at 0.
    pub(crate) prev: RecordRoot,
}

/// The record that a payload of a store holds: for those who read a whole log again. `None` where
/// the bytes are no payload of this kind, or one that was erased.
pub fn read_payload(kind: Kind, payload: &[u8]) -> Option<FullRecord> {
    match Payload::decode(kind, payload)?.record {
        Record::Full(record) => Some(record),
        Record::Erased(..) => None,
    }
}

/// Writes a length in 7-bit groups, low ones first.
fn put_length(out: &mut Vec<u8>, length: usize) {
    let [low, ..] = length.to_le_bytes();
    if length < 0x80 {
        out.push(low);
    } else {
        out.push(low | 0x80);
        put_length(out, length >> 7);
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Takes parts off the front of a row; `None` where the row is too short.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn length(&mut self) -> Option<usize> {
        let mut length = 0_usize;
        for shift in [0, 7, 14, 21] {
            let [byte] = self.array::<1>()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(length);
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn text(&mut self) -> Option<String> {
        self.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::to_owned)
    }

    fn version(&mut self) -> Option<()> {
        (self.array()? == [VERSION]).then_some(())
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

impl Payload {
    /// The row of a record that is being logged.
    pub(crate) fn encode(
        batch: LeafIndex,
        position: u32,
        record: &FullRecord,
        people: &[Certificate],
    ) -> Vec<u8> {
        let text: usize = record.values().iter().map(|value| value.len() + 2).sum();
        let mut out = Vec::with_capacity(64 + text);
        out.push(VERSION);
        out.extend_from_slice(&batch.0.to_be_bytes());
        out.extend_from_slice(&position.to_be_bytes());
        out.extend_from_slice(record.seed());
        put_length(&mut out, people.len());
        for certificate in people {
            put_bytes(&mut out, certificate.der());
        }
        for value in record.values() {
            put_bytes(&mut out, value.as_bytes());
        }
        out
    }

    /// Reads a row; `kind` is the entry's.
    pub(crate) fn decode(kind: Kind, row: &[u8]) -> Option<Self> {
        let mut reader = Reader(row);
        let [version] = reader.array()?;
        let batch = LeafIndex(reader.u64()?);
        let position = reader.u32()?;
        let seed = if version == VERSION { Some(reader.array()?) } else { None };
        let count = reader.length().filter(|count| *count <= MAX_CHAIN)?;
        let people = (0..count)
            .map(|_| Certificate::from_der(reader.bytes()?).ok())
            .collect::<Option<Vec<_>>>()?;
        let record = match seed {
            Some(seed) => {
                let values = kind.fields().iter().map(|_| reader.text());
                let values = values.collect::<Option<Vec<String>>>()?;
                Record::Full(FullRecord::parse(kind, seed, values).ok()?)
            }
            None if version == VERSION_ERASED => erased_record(kind, &mut reader)?,
            None => return None,
        };
        reader.end()?;
        Some(Self { batch, position, record, people })
    }

    /// The row that takes this one's place when the record is erased: without the seed, and without
    /// the bytes of every field that may be withheld. The chain of the person who signed stays
    /// (EVID-5).
    ///
    /// # Errors
    ///
    /// `ERASED` where it was erased already.
    pub(crate) fn encode_erased(&self) -> Result<Vec<u8>, Fault> {
        let record = self.record.full()?;
        let mut out = vec![VERSION_ERASED];
        out.extend_from_slice(&self.batch.0.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
        put_length(&mut out, self.people.len());
        for certificate in &self.people {
            put_bytes(&mut out, certificate.der());
        }
        for (bytes, field) in record.fields().iter().zip(record.kind().fields()) {
            if record.kind().never_withheld(field.name) {
                put_bytes(&mut out, bytes.as_bytes());
            } else {
                // No field is empty, so that no length stands for a leaf.
                put_length(&mut out, 0);
                out.extend_from_slice(&Context::Field.hash(&[bytes.as_bytes()]));
            }
        }
        Ok(out)
    }
}

/// Reads what an erasure left of a record: exactly what it leaves, no field more or less.
fn erased_record(kind: Kind, reader: &mut Reader<'_>) -> Option<Record> {
    let mut fields = Vec::with_capacity(kind.fields().len());
    for field in kind.fields() {
        let bytes = reader.text()?;
        let kept = !bytes.is_empty();
        if kept != kind.never_withheld(field.name) {
            return None;
        }
        fields.push(if kept { Field::Shown(bytes) } else { Field::Withheld(reader.array()?) });
    }
    let record = DisclosedRecord { fields };
    record.check_caps().ok()?;
    let view = record.view(kind).ok()?;
    kinds::check(&view).ok()?;
    Some(Record::Erased(record, view))
}

impl BatchRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.sealed.key);
        out.extend_from_slice(&self.sealed.signature);
        out.extend_from_slice(&self.chain);
        for root in &self.sealed.roots {
            out.extend_from_slice(&root.0);
        }
        out
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut reader = Reader(row);
        reader.version()?;
        let key = reader.array()?;
        let signature = reader.array()?;
        let chain = reader.array()?;
        let (roots, rest) = reader.0.as_chunks::<32>();
        if roots.is_empty() || roots.len() > BATCH_MAX as usize || !rest.is_empty() {
            return None;
        }
        let roots = roots.iter().map(|root| RecordRoot(*root)).collect();
        Some(Self { sealed: SealedBatch { key, signature, roots }, chain })
    }
}

impl StreamRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_bytes(&mut out, self.tenant.as_bytes());
        put_bytes(&mut out, self.gate.as_bytes());
        out.extend_from_slice(&self.seal_key);
        out.extend_from_slice(&self.not_after.0.to_be_bytes());
        out.extend_from_slice(&self.chain);
        out.extend_from_slice(&self.next_seq.to_be_bytes());
        out.extend_from_slice(&self.prev.0);
        out
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut reader = Reader(row);
        reader.version()?;
        let state = Self {
            tenant: reader.text()?,
            gate: reader.text()?,
            seal_key: reader.array()?,
            not_after: Micros(reader.u64()?),
            chain: reader.array()?,
            next_seq: reader.u64()?,
            prev: RecordRoot(reader.array()?),
        };
        reader.end()?;
        Some(state)
    }
}

/// A chain as it is kept as a blob: certificates with their lengths, leaf first.
pub(crate) fn encode_chain(chain: &[Certificate]) -> Vec<u8> {
    let mut out = vec![VERSION];
    for certificate in chain {
        put_bytes(&mut out, certificate.der());
    }
    out
}

/// Reads a chain's blob.
pub(crate) fn decode_chain(row: &[u8]) -> Option<Vec<Certificate>> {
    let mut reader = Reader(row);
    reader.version()?;
    let mut chain = Vec::new();
    while !reader.0.is_empty() {
        if chain.len() == MAX_CHAIN {
            return None;
        }
        chain.push(Certificate::from_der(reader.bytes()?).ok()?);
    }
    Some(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_come_back() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 65_536, (1 << 28) - 1] {
            let mut out = Vec::new();
            put_length(&mut out, length);
            let mut reader = Reader(&out);
            assert_eq!(reader.length(), Some(length));
            assert_eq!(reader.end(), Some(()));
        }
        assert_eq!(Reader(&[0x80, 0x80, 0x80, 0x80, 0x01]).length(), None);
    }

    #[test]
    fn stream_rows_come_back_and_cut_ones_do_not() {
        let row = StreamRow {
            tenant: "acme".into(),
            gate: "prod-1".into(),
            seal_key: [1; 32],
            not_after: Micros(7),
            chain: [2; 32],
            next_seq: 3,
            prev: RecordRoot([4; 32]),
        };
        let bytes = row.encode();
        assert_eq!(StreamRow::decode(&bytes), Some(row));
        for end in 0..bytes.len() {
            assert_eq!(StreamRow::decode(&bytes[..end]), None);
        }
        assert_eq!(StreamRow::decode(&[bytes.as_slice(), &[0]].concat()), None);
    }

    #[test]
    fn batch_rows_come_back_and_cut_ones_do_not() {
        let roots = vec![RecordRoot([5; 32]), RecordRoot([6; 32])];
        let sealed = SealedBatch { key: [1; 32], signature: [2; 64], roots };
        let row = BatchRow { sealed, chain: [3; 32] };
        let bytes = row.encode();
        assert_eq!(BatchRow::decode(&bytes), Some(row));
        assert_eq!(BatchRow::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(BatchRow::decode(&bytes[..129]), None);
    }
}
