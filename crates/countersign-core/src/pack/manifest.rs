//! `manifest.json`: what was asked, what is claimed, and every file with its digest (PACK-3 to
//! PACK-7).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};

use super::{Listing, PackFile};
use crate::codes::{Code, Fault};
use crate::encoding::{Micros, from_hex_array, hex, is_name, is_origin};
use crate::hash::{Hash, TreeSize};
use crate::query::{Field, Filter, Query};

/// Files that a pack may have: each is opened, and a folder of more is slow in every program.
pub const PACK_FILES_MAX: usize = 1_000_000;
/// Bytes that a manifest may have: a line of the longest kind has 145, so that so many files fit.
pub const MANIFEST_BYTES_MAX: usize = 160 * 1024 * 1024;
/// Keys that a pack may claim.
pub const KEYS_MAX: usize = 1_024;

const VERSION: &str = "pack/v1";
/// Every JSON implementation reads whole numbers below this alike.
const INTEGER_END: u64 = 1 << 53;

/// What was asked of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whose records.
    pub tenant: String,
    /// Which of them.
    pub query: Query,
}

/// A gate's key, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GateKey {
    /// The tenant.
    pub tenant: String,
    /// The gate.
    pub gate: String,
    /// The key of its seals.
    pub key: [u8; 32],
}

/// "Exactly the records of these keys between these heads."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The keys, ascending.
    pub keys: Vec<GateKey>,
    /// The size of the head that the range begins at.
    pub from: TreeSize,
    /// The size of the head that it ends at.
    pub to: TreeSize,
}

/// What a pack says of itself. It is worth what verification makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The log's identity.
    pub origin: String,
    /// What was asked.
    pub asked: Asked,
    /// The size of the newest head, to which all others are joined.
    pub head: TreeSize,
    /// What a complete pack claims.
    pub claims: Option<Claims>,
    /// Every file but the manifest itself, with the SHA-256 of its bytes.
    pub files: Listing,
}

/// The same with its files in a map, for whoever puts a small one together or changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The log's identity.
    pub origin: String,
    /// What was asked.
    pub asked: Asked,
    /// The size of the newest head, to which all others are joined.
    pub head: TreeSize,
    /// What a complete pack claims.
    pub claims: Option<Claims>,
    /// Every file but the manifest itself, with the SHA-256 of its bytes.
    pub files: BTreeMap<PackFile, Hash>,
}

impl Manifest {
    /// Parses a manifest as [`Contents::parse`] does.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let Contents { origin, asked, head, claims, files } = Contents::parse(bytes)?;
        let files = files.iter().map(|(file, digest)| (file, *digest)).collect();
        Ok(Self { origin, asked, head, claims, files })
    }

    /// The manifest's one spelling (PACK-3).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // Writing to memory can't fail.
        let _ = Contents::from(self.clone()).write(&mut out);
        out
    }
}

impl From<Manifest> for Contents {
    fn from(manifest: Manifest) -> Self {
        let Manifest { origin, asked, head, claims, files } = manifest;
        Self { origin, asked, head, claims, files: files.into_iter().collect() }
    }
}

/// Which version a manifest is of, before anything else is asked of it.
#[derive(Deserialize)]
struct Version<'a> {
    countersign: &'a str,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    countersign: String,
    origin: String,
    asked: RawAsked,
    head: u64,
    claims: Option<RawClaims>,
    files: Files<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAsked {
    tenant: String,
    filters: Vec<RawFilter>,
    from: Option<String>,
    to: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFilter {
    field: String,
    value: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClaims {
    keys: Vec<RawKey>,
    from: u64,
    to: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    tenant: String,
    gate: String,
    key: String,
}

/// The files, read one by one: a list of a million never stands in memory as text.
struct Files<'a>(Cow<'a, Listing>);

impl Serialize for Files<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (file, digest) in self.0.iter() {
            map.serialize_entry(&file.to_string(), &hex(digest))?;
        }
        map.end()
    }
}

const PATH: &str = "countersign: path";
const MANY: &str = "countersign: too many";
const ORDER: &str = "countersign: a file twice, or out of order";

impl<'de> Deserialize<'de> for Files<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Listing;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("files and digests")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut files = Listing::default();
                let mut last = None;
                while let Some((path, digest)) = map.next_entry::<&str, &str>()? {
                    if files.len() == PACK_FILES_MAX {
                        return Err(A::Error::custom(MANY));
                    }
                    let file = PackFile::parse(path).ok_or_else(|| A::Error::custom(PATH))?;
                    let digest =
                        from_hex_array(digest).ok_or_else(|| A::Error::custom("digest"))?;
                    // The one spelling has every file once, in order.
                    if last.replace(file).is_some_and(|last| last >= file) {
                        return Err(A::Error::custom(ORDER));
                    }
                    files.insert(file, digest);
                }
                Ok(files)
            }
        }
        deserializer.deserialize_map(Reader).map(|files| Self(Cow::Owned(files)))
    }
}

impl Contents {
    /// Parses a manifest. It has one spelling: what is read, written again, is what was read.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(Code::PackOversized.into());
        }
        // Which version it is, is read before any other member is judged (CONV-17).
        if let Ok(Version { countersign }) = serde_json::from_slice(bytes)
            && countersign != VERSION
        {
            return Err(crate::receipt::unknown_version(countersign, "pack/v", Code::PackManifest));
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| {
            let said = error.to_string();
            if said.starts_with(PATH) {
                Code::PackPath
            } else if said.starts_with(MANY) {
                Code::PackOversized
            } else {
                Code::PackManifest
            }
        })?;
        let contents = Self::from_raw(raw)?;
        contents.check()?;
        let mut same = Same { rest: bytes };
        let written = contents.write(&mut same);
        if written.is_ok() && same.rest.is_empty() {
            Ok(contents)
        } else {
            Err(Code::PackManifest.into())
        }
    }

    fn from_raw(raw: Raw<'_>) -> Result<Self, Fault> {
        let wrong = |name| Code::PackManifest.at_field(name);
        let time = |text: Option<String>, name| {
            text.map(|text| Micros::parse(&text).ok_or(wrong(name))).transpose()
        };
        let (from, to) = (time(raw.asked.from, "from")?, time(raw.asked.to, "to")?);
        let filter = |filter: RawFilter| {
            let field = Field::parse(&filter.field).ok_or(wrong("filters"))?;
            Filter::new(field, &filter.value)
        };
        let filters = raw.asked.filters.into_iter().map(filter).collect::<Result<Vec<_>, _>>();
        let query = filters.and_then(|filters| Query::new(filters, from, to));
        let key = |key: RawKey| {
            let bytes = from_hex_array(&key.key).ok_or(wrong("key"))?;
            Ok::<_, Fault>(GateKey { tenant: key.tenant, gate: key.gate, key: bytes })
        };
        let claims = raw.claims.map(|claims| {
            Ok::<_, Fault>(Claims {
                keys: claims.keys.into_iter().map(key).collect::<Result<_, _>>()?,
                from: TreeSize(claims.from),
                to: TreeSize(claims.to),
            })
        });
        Ok(Self {
            origin: raw.origin,
            asked: Asked { tenant: raw.asked.tenant, query: query.map_err(|_| wrong("asked"))? },
            head: TreeSize(raw.head),
            claims: claims.transpose()?,
            files: raw.files.0.into_owned(),
        })
    }

    /// What the members must be to each other (PACK-4 to PACK-7).
    fn check(&self) -> Result<(), Fault> {
        let wrong = |name| Err(Code::PackManifest.at_field(name));
        if !is_origin(&self.origin) {
            return wrong("origin");
        }
        if !is_name(&self.asked.tenant) {
            return wrong("tenant");
        }
        if self.head.0 == 0 || self.head.0 >= INTEGER_END {
            return wrong("head");
        }
        if self.files.len() > PACK_FILES_MAX {
            return Err(Code::PackOversized.into());
        }
        let has = |file| self.files.contains(&file);
        if !has(PackFile::Readme) {
            return wrong("README.txt");
        }
        if !has(PackFile::Head(self.head.0)) {
            return Err(Code::PackHeadMissing.at_index(self.head.0));
        }
        let Some(claims) = &self.claims else {
            let none = !has(PackFile::Entries) && !has(PackFile::Peaks);
            return if none { Ok(()) } else { Err(Code::PackClaims.into()) };
        };
        if claims.from >= claims.to || claims.to > self.head {
            return wrong("claims");
        }
        let sorted = claims.keys.is_sorted_by(|a, b| a < b);
        let named = |key: &GateKey| key.tenant == self.asked.tenant && is_name(&key.gate);
        if !sorted || claims.keys.is_empty() || claims.keys.len() > KEYS_MAX {
            return wrong("keys");
        }
        if !claims.keys.iter().all(named) {
            return wrong("keys");
        }
        for size in [claims.from.0, claims.to.0] {
            // The empty tree has no head to be signed.
            if size > 0 && !has(PackFile::Head(size)) {
                return Err(Code::PackHeadMissing.at_index(size));
            }
        }
        if has(PackFile::Entries) && has(PackFile::Peaks) {
            Ok(())
        } else {
            Err(Code::PackClaims.into())
        }
    }

    /// Writes the manifest's one spelling: JSON, members in the order of PACK-3, files by the bytes
    /// of their paths, indented by one space, with a final newline. Fails as `out` fails.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        let asked = &self.asked;
        let filter = |filter: &Filter| RawFilter {
            field: filter.field().as_str().to_owned(),
            value: filter.value().to_owned(),
        };
        let raw = Raw {
            countersign: VERSION.to_owned(),
            origin: self.origin.clone(),
            asked: RawAsked {
                tenant: asked.tenant.clone(),
                filters: asked.query.filters().iter().map(filter).collect(),
                from: asked.query.from().map(Micros::format),
                to: asked.query.to().map(Micros::format),
            },
            head: self.head.0,
            claims: self.claims.as_ref().map(|claims| RawClaims {
                keys: claims.keys.iter().map(RawKey::of).collect(),
                from: claims.from.0,
                to: claims.to.0,
            }),
            files: Files(Cow::Borrowed(&self.files)),
        };
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
        raw.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))?;
        out.write_all(b"\n")
    }

    /// Whether a path within the pack is that of a file that the manifest lists.
    pub fn lists(&self, path: &str) -> bool {
        PackFile::parse(path).is_some_and(|file| self.files.contains(&file))
    }
}

/// Compares what is written with what was read, and holds neither twice.
struct Same<'a> {
    rest: &'a [u8],
}

impl Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest = self.rest.strip_prefix(bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl RawKey {
    fn of(key: &GateKey) -> Self {
        Self { tenant: key.tenant.clone(), gate: key.gate.clone(), key: hex(&key.key) }
    }
}
