//! Records: salted fields under one root (spec/record.md).
//!
//! A record travels and is stored as its seed and values ([`FullRecord`]); evidence shows field
//! bytes, or a leaf where a field is withheld ([`DisclosedRecord`]). Both give the same root.
//! `rs_merkle` builds the tree when a record is made ([`FullRecord::build_root`]); every root that is
//! checked is computed by our own code.

use std::sync::Arc;

use serde_json::Value;

use crate::codes::{Code, Fault};
use crate::encoding::{b64u, b64u_salt, from_b64u_array};
use crate::hash::{Context, Hash, RecordRoot};
use crate::json;
use crate::kinds::{self, Kind};
use crate::merkle::{FieldTree, NodeHasher, root_of};

/// Bytes that one field may have, salt and name included (REC-3).
pub const FIELD_BYTES_MAX: usize = 16 * 1024;
/// Bytes that all fields of one record may have together (REC-3).
pub const RECORD_BYTES_MAX: usize = 60 * 1024;
/// Fields that a record may have (REC-3).
pub const FIELDS_MAX: usize = 64;

/// `["<22 characters of salt>","` before the name, `",` and `]` around the value.
const FRAMING_BYTES: usize = 2 + 22 + 3 + 2 + 1;

/// The salt of field `i`: H("salt", seed || u16(i)) cut to 16 bytes (REC-5).
fn salt(seed: &[u8; 32], position: u16) -> [u8; 16] {
    let digest = Context::Salt.hash(&[seed, &position.to_be_bytes()]);
    let mut salt = [0; 16];
    salt.copy_from_slice(digest.first_chunk::<16>().unwrap_or(&[0; 16]));
    salt
}

/// The bytes of one field: `["<salt>","<name>",<value>]` (REC-2).
fn field_bytes(salt: &[u8; 16], name: &str, value: &str) -> String {
    format!("[\"{}\",\"{name}\",{value}]", b64u(salt))
}

/// leaf_i = H("field", field bytes) (REC-6).
fn field_leaf(bytes: &str) -> Hash {
    Context::Field.hash(&[bytes.as_bytes()])
}

/// record_root = H("record", u16(field count) || tree root) (REC-6).
fn root_over(leaves: &[Hash], tree_root: Option<Hash>) -> Result<RecordRoot, Fault> {
    let count = u16::try_from(leaves.len()).map_err(|_| Code::FieldCount)?;
    let tree_root = tree_root.ok_or(Code::FieldCount)?;
    Ok(RecordRoot(Context::Record.hash(&[&count.to_be_bytes(), &tree_root])))
}

/// `rs_merkle`'s view of a tree of ours.
#[derive(Clone)]
pub(crate) struct RsMerkle<H>(std::marker::PhantomData<H>);

impl<H: NodeHasher + Clone> rs_merkle::Hasher for RsMerkle<H> {
    type Hash = Hash;
    /// Never called: leaves arrive hashed.
    fn hash(data: &[u8]) -> Hash {
        Context::Field.hash(&[data])
    }
    fn concat_and_hash(left: &Hash, right: Option<&Hash>) -> Hash {
        match right {
            Some(right) => H::node(left, right),
            None => *left,
        }
    }
}

/// A record as its gate made it: everything that it says, and the seed of its salts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullRecord {
    kind: Kind,
    seed: [u8; 32],
    values: Vec<String>,
    view: Arc<View>,
}

impl FullRecord {
    /// Takes a record from the wire or the store: JSON texts in the order of the kind's names.
    ///
    /// Checks caps (REC-3), the closed list of names by its length (REC-4), strict JSON (CONV-6)
    /// and the shape of every value (KIND). It checks nothing that needs a key or another record.
    pub fn parse(kind: Kind, seed: [u8; 32], values: Vec<String>) -> Result<Self, Fault> {
        let names = kind.fields();
        if values.len() != names.len() {
            return Err(Code::FieldCount.into());
        }
        let mut total = 0;
        let mut shown = Vec::with_capacity(values.len());
        for (value, field) in values.iter().zip(names) {
            let length = FRAMING_BYTES + field.name.len() + value.len();
            if length > FIELD_BYTES_MAX {
                return Err(Code::FieldOversized.at_field(field.name));
            }
            total += length;
            let parsed = json::parse_field_value(value).map_err(|f| f.in_field(field.name))?;
            shown.push(Some(parsed));
        }
        if total > RECORD_BYTES_MAX {
            return Err(Code::RecordOversized.into());
        }
        let view = View { kind, values: shown };
        kinds::check(&view)?;
        Ok(Self { kind, seed, values, view: Arc::new(view) })
    }

    /// The record's kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The seed of its salts. Who has it can confirm guesses at withheld fields.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The JSON texts of its values, in the order of the kind's names.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Its values, parsed.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Its values, parsed, to be kept without a copy.
    pub fn shared_view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// The bytes of every field, in order.
    pub fn fields(&self) -> Vec<String> {
        let rows = self.values.iter().zip(self.kind.fields()).zip(0_u16..);
        rows.map(|((value, field), i)| field_bytes(&salt(&self.seed, i), field.name, value))
            .collect()
    }

    /// leaf_i of every field, hashed part by part: the same bytes as [`FullRecord::fields`].
    fn leaves(&self) -> Vec<Hash> {
        let rows = self.values.iter().zip(self.kind.fields()).zip(0_u16..);
        rows.map(|((value, field), i)| {
            let mut text = [0; 22];
            b64u_salt(&salt(&self.seed, i), &mut text);
            let (name, value) = (field.name.as_bytes(), value.as_bytes());
            Context::Field.hash(&[b"[\"", &text, b"\",\"", name, b"\",", value, b"]"])
        })
        .collect()
    }

    /// The record's root, computed by our own code.
    pub fn root(&self) -> RecordRoot {
        let leaves = self.leaves();
        root_over(&leaves, root_of::<FieldTree>(&leaves))
            .unwrap_or_else(|_| unreachable!("bad math in record: the number of fields is fixed"))
    }

    /// The same root as `rs_merkle` builds it: what a gate seals, so that two programs agree on it
    /// before anything is signed.
    pub fn build_root(&self) -> Result<RecordRoot, Fault> {
        let leaves = self.leaves();
        let tree = rs_merkle::MerkleTree::<RsMerkle<FieldTree>>::from_leaves(&leaves);
        let built = root_over(&leaves, tree.root())?;
        let own = root_over(&leaves, root_of::<FieldTree>(&leaves))?;
        if built == own { Ok(built) } else { Err(Code::RecordRootMismatch.into()) }
    }

    /// The record with every field shown.
    pub fn disclose(&self) -> DisclosedRecord {
        DisclosedRecord { fields: self.fields().into_iter().map(Field::Shown).collect() }
    }
}

/// One field as evidence gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// Its bytes, kept as they are and never serialised again.
    Shown(String),
    /// Its leaf in place of its bytes.
    Withheld(Hash),
}

impl Field {
    /// The field with its leaf in place of its bytes: the record's root stays what it is (REC-6).
    #[must_use]
    pub fn withheld(&self) -> Self {
        match self {
            Self::Shown(bytes) => Self::Withheld(field_leaf(bytes)),
            Self::Withheld(leaf) => Self::Withheld(*leaf),
        }
    }
}

/// A record as evidence gives it: each field shown or withheld.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisclosedRecord {
    /// The fields in the order of their names.
    pub fields: Vec<Field>,
}

impl DisclosedRecord {
    /// The record's root over what is shown and what is withheld (REC-6).
    pub fn root(&self) -> Result<RecordRoot, Fault> {
        let leaves: Vec<Hash> = self
            .fields
            .iter()
            .map(|field| match field {
                Field::Shown(bytes) => field_leaf(bytes),
                Field::Withheld(leaf) => *leaf,
            })
            .collect();
        root_over(&leaves, root_of::<FieldTree>(&leaves))
    }

    /// Caps that can be checked before anything is hashed (REC-3).
    pub fn check_caps(&self) -> Result<(), Fault> {
        if self.fields.is_empty() || self.fields.len() > FIELDS_MAX {
            return Err(Code::FieldCount.into());
        }
        let mut total = 0;
        for field in &self.fields {
            if let Field::Shown(bytes) = field {
                if bytes.len() > FIELD_BYTES_MAX {
                    return Err(Code::FieldOversized.into());
                }
                total += bytes.len();
            }
        }
        if total > RECORD_BYTES_MAX { Err(Code::RecordOversized.into()) } else { Ok(()) }
    }

    /// What the field named `type` says, where it is shown and well formed.
    pub fn type_shown(&self) -> Option<String> {
        self.fields.iter().find_map(|field| match field {
            Field::Shown(bytes) => {
                let value = split_field(bytes, "type").ok()?;
                json::parse_field_value(value).ok()?.as_str().map(str::to_owned)
            }
            Field::Withheld(_) => None,
        })
    }

    /// Reads the record as one of `kind`: every name in its place (REC-4), every value strict JSON.
    pub fn view(&self, kind: Kind) -> Result<View, Fault> {
        let names = kind.fields();
        if self.fields.len() != names.len() {
            return Err(Code::FieldCount.into());
        }
        let read = |(field, spec): (&Field, &kinds::FieldSpec)| match field {
            Field::Withheld(_) => Ok(None),
            Field::Shown(bytes) => {
                let value = split_field(bytes, spec.name)?;
                json::parse_field_value(value).map(Some).map_err(|f| f.in_field(spec.name))
            }
        };
        let values = self.fields.iter().zip(names).map(read).collect::<Result<_, Fault>>()?;
        Ok(View { kind, values })
    }
}

/// The value's text of a field that must carry this name (REC-2): salt canonical, nothing between
/// the parts.
fn split_field<'a>(bytes: &'a str, name: &'static str) -> Result<&'a str, Fault> {
    let malformed = Code::FieldSpelling.at_field(name);
    let rest = bytes.strip_prefix("[\"").ok_or(malformed)?;
    let (salt, rest) = rest.split_at_checked(22).ok_or(malformed)?;
    from_b64u_array::<16>(salt).ok_or(malformed)?;
    let rest = rest.strip_prefix("\",\"").ok_or(malformed)?;
    let rest = rest.strip_prefix(name).ok_or(Code::FieldName.at_field(name))?;
    let rest = rest.strip_prefix("\",").ok_or(Code::FieldName.at_field(name))?;
    rest.strip_suffix(']').ok_or(malformed)
}

/// A record's values by name, where they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    kind: Kind,
    values: Vec<Option<Value>>,
}

impl View {
    /// The kind whose names these values carry.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// A value: `None` where it is withheld, or where the kind has no such name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        // Names are in ascending byte order (REC-4).
        let at = self.kind.fields().binary_search_by_key(&name, |field| field.name).ok()?;
        self.values.get(at)?.as_ref()
    }

    /// A value that is a string.
    pub fn str(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// Whether the kind has this name and its value is withheld.
    pub fn is_withheld(&self, name: &str) -> bool {
        self.withheld().any(|withheld| withheld == name)
    }

    /// The names whose values are withheld, in order.
    pub fn withheld(&self) -> impl Iterator<Item = &'static str> + '_ {
        let rows = self.kind.fields().iter().zip(&self.values);
        rows.filter(|(_, value)| value.is_none()).map(|(field, _)| field.name)
    }

    /// Names and values that are shown, in order.
    pub fn shown(&self) -> impl Iterator<Item = (&'static kinds::FieldSpec, &Value)> + '_ {
        let rows = self.kind.fields().iter().zip(&self.values);
        rows.filter_map(|(field, value)| Some((field, value.as_ref()?)))
    }
}
