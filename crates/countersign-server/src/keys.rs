//! The ledger's three private keys, from the files that `[keys]` names.

use std::io;
use std::path::{Path, PathBuf};

use countersign_core::codes::Fault;
use countersign_core::note::{KeyType, VerifierKey};
use countersign_log::api::LogKeys;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;

use crate::config::KeyFiles;
use crate::private_file::{self, PrivateFileError};

/// Bytes that a key file may have; one key in PKCS#8 PEM is under 200.
pub const KEY_FILE_BYTES_MAX: usize = 4 * 1024;

/// Why a key cannot be used. No variant holds anything of a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be opened or read.
    #[error("cannot read the key {path}: {source}; check [keys] and who owns the file")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is a folder, a device, a socket.
    #[error("the key {path} is not a regular file; name one in [keys]")]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Others than its owner may read or write it.
    #[error(
        "the key {path} is open to others than its owner (mode {mode:04o}); run: chmod 600 {path}"
    )]
    Permissive {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Larger than a key can be.
    #[error(
        "{path} is larger than {KEY_FILE_BYTES_MAX} bytes and so not a key; name the right file"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not one Ed25519 key as PKCS#8 in PEM.
    #[error(
        "{path} does not hold an Ed25519 private key as PKCS#8 in PEM; countersign init makes one"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// One key for two purposes: who holds it could then pass one word off as the other.
    #[error("keys.{first} and keys.{second} hold the same key; give each purpose a key of its own")]
    Reused {
        /// One purpose.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
}

/// What others may know of them.
#[derive(Debug, Clone)]
pub(crate) struct PublicKeys {
    /// That of the log, which signs heads.
    pub(crate) log: VerifierKey,
    /// The bytes of all three.
    pub(crate) own: [[u8; 32]; 3],
}

impl PublicKeys {
    /// Of a log whose origin makes a key's name.
    pub(crate) fn of(keys: &LogKeys) -> Result<Self, Fault> {
        let own = [&keys.log, &keys.clock, &keys.ledger].map(|key| key.verifying_key().to_bytes());
        let log = VerifierKey::new(&keys.origin, KeyType::Note, own[0])?;
        Ok(Self { log, own })
    }
}

/// Reads the three keys of the log named `origin`.
pub fn load(origin: &str, files: &KeyFiles) -> Result<LogKeys, KeyError> {
    let keys = LogKeys {
        origin: origin.to_owned(),
        log: load_one(&files.log)?,
        clock: load_one(&files.clock)?,
        ledger: load_one(&files.ledger)?,
    };
    let pairs = [
        ("log", &keys.log, "clock", &keys.clock),
        ("log", &keys.log, "ledger", &keys.ledger),
        ("clock", &keys.clock, "ledger", &keys.ledger),
    ];
    for (first, one, second, other) in pairs {
        if one.verifying_key() == other.verifying_key() {
            return Err(KeyError::Reused { first, second });
        }
    }
    Ok(keys)
}

fn load_one(path: &Path) -> Result<SigningKey, KeyError> {
    let path_buf = path.to_owned();
    let bytes = private_file::read(path, KEY_FILE_BYTES_MAX).map_err(|error| match error {
        PrivateFileError::Unreadable(source) => KeyError::Unreadable { path: path_buf, source },
        PrivateFileError::NotAFile => KeyError::NotAFile { path: path_buf },
        PrivateFileError::Permissive(mode) => KeyError::Permissive { path: path_buf, mode },
        PrivateFileError::TooLarge => KeyError::TooLarge { path: path_buf },
    })?;
    let malformed = || KeyError::Malformed { path: path.to_owned() };
    let text = std::str::from_utf8(&bytes).map_err(|_| malformed())?;
    // What the parser says is left out: it may show parts of what it read.
    SigningKey::from_pkcs8_pem(text).map_err(|_| malformed())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop where it stands")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use ed25519_dalek::pkcs8::EncodePrivateKey as _;
    use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;

    use super::*;

    const ORIGIN: &str = "ledger.acme.example/prod";

    fn write(dir: &Path, name: &str, text: &[u8], mode: u32) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn pem(byte: u8) -> String {
        SigningKey::from_bytes(&[byte; 32]).to_pkcs8_pem(LineEnding::LF).unwrap().to_string()
    }

    fn good(dir: &Path) -> KeyFiles {
        KeyFiles {
            log: write(dir, "log.pem", pem(1).as_bytes(), 0o600),
            clock: write(dir, "clock.pem", pem(2).as_bytes(), 0o400),
            ledger: write(dir, "ledger.pem", pem(3).as_bytes(), 0o600),
        }
    }

    #[test]
    fn three_keys_are_read_each_for_its_purpose() {
        let dir = tempfile::tempdir().unwrap();
        let keys = load(ORIGIN, &good(dir.path())).unwrap();
        assert_eq!(keys.log.to_bytes(), [1; 32]);
        assert_eq!(keys.clock.to_bytes(), [2; 32]);
        assert_eq!(keys.ledger.to_bytes(), [3; 32]);
    }

    #[test]
    fn the_key_that_another_library_made_is_read_too() {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut files = good(dir.path());
        files.log = write(dir.path(), "rcgen.pem", made.serialize_pem().as_bytes(), 0o600);
        let keys = load(ORIGIN, &files).unwrap();
        assert_eq!(keys.log.verifying_key().as_bytes()[..], *made.public_key_raw());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601, 0o610] {
            let mut files = good(dir.path());
            files.clock = write(dir.path(), "open.pem", pem(2).as_bytes(), mode);
            let error = load(ORIGIN, &files).unwrap_err();
            assert!(matches!(error, KeyError::Permissive { mode: m, .. } if m == mode), "{error}");
            assert!(error.to_string().contains("chmod 600 "), "{error}");
            std::fs::remove_file(&files.clock).unwrap();
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let cut = pem(9).replace("PRIVATE KEY", "PUBLIC KEY");
        let large = vec![b'A'; 5_000];
        for bytes in [&b""[..], b"secret", &[0xff; 64], cut.as_bytes(), &large] {
            let mut files = good(dir.path());
            files.ledger = write(dir.path(), "bad.pem", bytes, 0o600);
            let error = load(ORIGIN, &files).unwrap_err();
            let named = matches!(error, KeyError::Malformed { .. })
                || matches!(error, KeyError::TooLarge { .. });
            assert!(named, "{error}");
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
        let mut files = good(dir.path());
        files.log = dir.path().to_owned();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let error = load(ORIGIN, &files).unwrap_err();
        assert!(matches!(error, KeyError::NotAFile { .. }), "{error}");
        files.log = dir.path().join("absent.pem");
        let error = load(ORIGIN, &files).unwrap_err();
        assert!(matches!(error, KeyError::Unreadable { .. }), "{error}");
    }

    #[test]
    fn one_key_for_two_purposes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = good(dir.path());
        files.clock = files.log.clone();
        let error = load(ORIGIN, &files).unwrap_err();
        assert!(matches!(error, KeyError::Reused { first: "log", second: "clock" }), "{error}");
    }
}
