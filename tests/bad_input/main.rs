//! Bad input over real sockets with real certificates: each fault has its own code, loses nothing,
//! and the ledger goes on. One test a family of faults; after each fault the log is as long as
//! before, and after each family a good record is taken.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it stands"
)]

mod callers;
mod records;
mod requests;
mod streams;

use countersign_core::codes::Code;
use countersign_core::hash::TreeSize;
use countersign_core::kinds::Kind;
use countersign_proto::convert::Submission;
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use countersign_tests::{Client, Held, Holder, Lane, Random, Server, Stage, gate, refusal, submit};

/// A ledger with one gate that has an open stream.
struct Scene {
    stage: Stage,
    server: Server,
    gate: Holder,
    client: Client,
    lane: Lane,
    random: Random,
    /// How many entries the log must have.
    size: u64,
}

/// What became of a batch: the code of the first refusal, or the first record.
type Fate = Result<Held, Code>;

impl Scene {
    async fn new() -> Self {
        let stage = Stage::new();
        let server = Server::start(&stage).await;
        let gate = stage.gate("acme", "prod-1");
        let mut client = stage.connect(&server, &gate).await;
        let lane = Lane::open(&mut client, &gate, 0).await.unwrap();
        // The genesis record and that of the stream.
        let scene = Self { stage, server, gate, client, lane, random: Random::new(7), size: 2 };
        scene.has_size().await
    }

    /// Panics unless the newest head is as large as expected.
    async fn has_size(mut self) -> Self {
        self.assert_size("at the start").await;
        self
    }

    async fn assert_size(&mut self, when: &str) {
        let head = self.stage.newest(&mut self.client).await;
        assert_eq!(head.size, TreeSize(self.size), "{when}");
    }

    /// Submits and says what became of it.
    async fn fate(&mut self, submission: &Submission) -> Fate {
        let answers = submit(&self.stage, &mut self.client, submission).await;
        first(answers)
    }

    /// Submits a message that can't be a submission of ours.
    async fn wire_fate(&mut self, batch: v1::Batch) -> Code {
        let request = v1::SubmitRequest { batch: Some(batch), call_id: 1 };
        let status = self.client.submit(request).await.unwrap_err();
        refusal(&status).code
    }

    /// Panics unless a record of the next place with these values is refused with `code`, and
    /// nothing was logged.
    async fn refuses(&mut self, code: Code, change: impl FnOnce(&mut gate::Fields)) {
        let mut fields = self.lane.verdict(&mut self.random);
        change(&mut fields);
        let submission = self.lane.single(Kind::Verdict, &fields, &mut self.random);
        assert_eq!(self.fate(&submission).await, Err(code));
        self.assert_size(code.as_str()).await;
    }

    /// Panics unless the ledger takes a good record and grows by it alone.
    async fn goes_on(&mut self) -> Held {
        let good = self.lane.batch(1, &mut self.random);
        let held = self.fate(&good).await.unwrap();
        assert_eq!(held.receipt.index.0, self.size, "nothing else was logged");
        self.size += 1;
        self.assert_size("after a good record").await;
        held
    }
}

/// The first refusal of an answer, or its first record.
fn first(answers: Result<Vec<Result<Held, Refusal>>, Refusal>) -> Fate {
    let mut held = None;
    for answer in answers.map_err(|refusal| refusal.code)? {
        let record = answer.map_err(|refusal| refusal.code)?;
        held.get_or_insert(record);
    }
    Ok(held.unwrap())
}
