//! Running the mirror, and looking at what it left.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use countersign_core::encoding::hex;
use countersign_core::hash::sha256;
use countersign_testkit::folder::files_below;
use countersign_testkit::malicious::Ledger;
use countersign_tests::{Installation, ORIGIN};

/// A command that does not outlive the test.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder, a ledger without a database in it, and mirrors of it.
pub(crate) struct Stage {
    pub(crate) installation: Installation,
    pub(crate) ledger: Ledger,
    pub(crate) url: String,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let installation = Installation::new();
        let ledger = Ledger::new(ORIGIN);
        let url = format!("http://{}", ledger.serve().unwrap());
        std::fs::write(installation.beside("trust.toml"), ledger.keys().trust()).unwrap();
        Self { installation, ledger, url }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.installation.beside(name).to_str().unwrap().to_owned()
    }

    /// `mirror` with these arguments, from this ledger.
    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let trust = self.path("trust.toml");
        let mut all = vec!["mirror", "--from", &self.url, "--trust", &trust];
        all.extend(more);
        let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
        self.installation.command(&all)
    }

    /// The same to its end.
    pub(crate) fn once(&self, more: &[&str]) -> Output {
        self.command(more).arg("--once").output().unwrap()
    }

    /// The same in the background.
    pub(crate) fn start(&self, more: &[&str]) -> Killed {
        let path = self.installation.beside("mirror.log");
        let log = File::options().create(true).append(true).open(path).unwrap();
        let mut command = self.command(more);
        Killed(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

pub(crate) fn folder() -> String {
    hex(&sha256(ORIGIN.as_bytes()))
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Every file below a folder that has a name of its own.
pub(crate) fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files_below(dir).unwrap()
}
