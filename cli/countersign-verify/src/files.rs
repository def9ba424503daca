//! Reading files, each with a cap.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use countersign_core::codes::{Code, Fault};
use countersign_core::encoding::escaped;
use countersign_core::trust::{TRUST_BYTES_MAX, Trust};

/// Why a file could not be used.
#[derive(Debug)]
pub(crate) enum Problem {
    /// It could not be read.
    Io(String),
    /// It was read, and is not what it should be.
    Fault(Fault),
    /// The trust file, or a root that it names, is not what it should be: which file, where, what.
    Trust(String),
}

impl Problem {
    /// Whether the file could not be read at all.
    pub(crate) fn is_io(&self) -> bool {
        matches!(self, Self::Io(_))
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(text) | Self::Trust(text) => f.write_str(text),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

/// Reads a file of at most `cap` bytes, and one more, so that its parser names what is too large.
pub(crate) fn read_capped(path: &Path, cap: usize) -> Result<Vec<u8>, Problem> {
    let name = escaped(&path.display().to_string());
    let failed = |error: std::io::Error| {
        Problem::Io(format!("{name} can't be read: {error}. Check the path and its permissions."))
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Reads a trust file and the roots it names, relative to itself.
pub(crate) fn read_trust(path: &Path) -> Result<Trust, Problem> {
    let wrong = |path: &Path, what: &dyn std::fmt::Display| {
        Problem::Trust(format!("{}: {what}", escaped(&path.display().to_string())))
    };
    let text = String::from_utf8(read_capped(path, TRUST_BYTES_MAX)?)
        .map_err(|_| wrong(path, &Fault::from(Code::TrustMalformed)))?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let mut unread = None;
    let mut root = None;
    let trust = Trust::parse(&text, |name| {
        let root = root.insert(folder.join(name));
        let bytes = read_capped(root, TRUST_BYTES_MAX).map_err(|problem| {
            unread = Some(problem);
            Fault::from(Code::TrustMalformed)
        })?;
        String::from_utf8(bytes).map_err(|_| Fault::from(Code::CertPem))
    });
    if let Some(problem) = unread {
        return Err(problem);
    }
    trust.map_err(|fault| match root {
        // Certificates stand in the roots' files only, and the last one that was read is at fault.
        Some(root) if fault.code.as_str().starts_with("CERT_") => wrong(&root, &fault),
        _ if fault.code == Code::TrustMalformed => match Trust::shape_fault(&text) {
            Some(place) => wrong(path, &format!("{place}. {fault}")),
            None => wrong(path, &fault),
        },
        _ => wrong(path, &fault),
    })
}
