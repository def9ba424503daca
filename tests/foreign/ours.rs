//! A real ledger with entries in it.

use std::path::PathBuf;

use countersign_core::encoding::b64;
use countersign_core::note::SignedCheckpoint;
use countersign_tests::{Installation, Lane, Random, Server, Stage, await_until, submit};

use crate::process::call;

/// Records of one call.
const BATCH: usize = 200;

/// A ledger, and its periodic head over all that it has.
pub(crate) struct Ours {
    pub(crate) stage: Stage,
    pub(crate) server: Server,
    pub(crate) head: SignedCheckpoint,
}

impl Ours {
    /// With so many full batches of records in it, and the entries that a log begins with.
    pub(crate) async fn of(batches: usize) -> Self {
        let stage = Stage::new();
        let server = Server::start(&stage).await;
        let holder = stage.gate("acme", "prod-1");
        let mut client = stage.connect(&server, &holder).await;
        let mut lane = Lane::open(&mut client, &holder, 0).await.unwrap();
        let mut random = Random::new(1);
        for _ in 0..batches {
            let batch = lane.batch(BATCH, &mut random);
            submit(&stage, &mut client, &batch).await.unwrap();
        }
        let newest = stage.newest(&mut client).await;
        let head = await_until("the periodic head", || {
            let head = stage.head(&call(server.http, "GET", "/checkpoint", "").2);
            (head.size >= newest.size).then_some(head)
        })
        .await;
        Self { stage, server, head }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.http)
    }

    /// What a tool prints that read and proved all of it.
    pub(crate) fn proved(&self) -> String {
        let size = self.head.size.0;
        format!("{size} {} {size} {size}\n", b64(&self.head.root.0))
    }

    /// The arguments of a tool that reads the log from there.
    pub(crate) fn read(&self, from: &str) -> [String; 4] {
        let [log, clock] = [&self.stage.log_vkey, &self.stage.clock_vkey].map(ToString::to_string);
        ["read".to_owned(), from.to_owned(), log, clock]
    }

    /// Its static read path as plain files.
    pub(crate) fn export(&self) -> PathBuf {
        let installation = Installation::new();
        let dir = self.stage.dir.path().join("export");
        let trust = self.stage.dir.path().join("export-trust.toml");
        std::fs::write(&trust, format!("[[log]]\nvkey = \"{}\"\n", self.stage.log_vkey)).unwrap();
        let (to, trust, from) = (dir.to_str().unwrap(), trust.to_str().unwrap(), self.url());
        let said = installation.run(&["export-tiles", to, "--from", &from, "--trust", trust]);
        assert!(said.status.success(), "{}", said.stderr);
        dir
    }
}
