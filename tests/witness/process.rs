//! The real `countersign witness`, as a process that can be killed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use countersign_core::note::VerifierKey;
use countersign_tests::{Installation, await_until};
use serde_json::Value;

/// A running witness; it is killed when this is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) addr: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A witness's folder, beside an installation.
pub(crate) struct Folder<'a> {
    installation: &'a Installation,
    name: &'static str,
}

impl<'a> Folder<'a> {
    /// The folder of this name; [`Folder::init`] makes it.
    pub(crate) fn of(installation: &'a Installation, name: &'static str) -> Self {
        Self { installation, name }
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let dir = self.installation.beside(self.name);
        let mut all = vec!["witness".to_owned(), "--dir".to_owned()];
        all.push(dir.to_str().unwrap().to_owned());
        all.extend(more.iter().map(|&one| one.to_owned()));
        all
    }

    /// Makes it for one log, and gives the witness's vkey.
    pub(crate) fn init(&self, name: &str, log: &str) -> VerifierKey {
        let arguments = self.arguments(&["--init", name, "--log", log]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = self.installation.run(&arguments);
        assert!(said.status.success(), "{}", said.stderr);
        VerifierKey::parse(said.stdout.trim_end()).unwrap()
    }

    /// The command that starts it on this port (0 for any), and its ready file.
    pub(crate) fn command(&self, port: u16) -> (Command, PathBuf) {
        let ready = self.installation.beside(&format!("{}.ready", self.name));
        let file = ready.to_str().unwrap().to_owned();
        let http = format!("127.0.0.1:{port}");
        let arguments = self.arguments(&["--http", &http, "--ready-file", &file]);
        (self.installation.command(&arguments), ready)
    }

    /// Starts it and waits until it can be called.
    pub(crate) async fn start(&self, port: u16) -> Process {
        let (mut command, ready) = self.command(port);
        let _ = std::fs::remove_file(&ready);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let said: Value = await_until("the witness", || {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was ready");
            serde_json::from_str(&std::fs::read_to_string(&ready).ok()?).ok()
        })
        .await;
        assert_eq!(said["pid"].as_u64(), Some(u64::from(child.id())));
        let addr = said["http"].as_str().unwrap().parse().unwrap();
        Process { child, addr }
    }
}
