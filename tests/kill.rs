//! SIGKILL under load, at random points: every acknowledged receipt verifies against the heads that
//! come later (NOTE-11), and sending again what was not acknowledged makes no duplicate (STR-8,
//! STR-10).
//!
//! 50 rounds; `COUNTERSIGN_SOAK=1` makes it 1,000. The seed is printed, and `COUNTERSIGN_SEED`
//! gives it again: the records and the points of the kills are then the same, as far as the
//! scheduler lets them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it stands"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_core::hash::TreeSize;
use countersign_core::note::SignedCheckpoint;
use countersign_proto::convert::{BatchAnswer, Submission};
use countersign_tests::{Client, Held, Holder, Lane, Random, Server, Stage, gate};
use tokio::sync::mpsc;

const ROUNDS: usize = 50;
const SOAK_ROUNDS: usize = 1_000;
/// Streams that submit at once, of two tenants.
const LANES: usize = 4;
/// Batches of a stream in a round: more in all than a round waits for.
const BATCHES: usize = 24;
/// Acknowledgements that a round waits for, of all streams together, before it kills.
const HEARD_MAX: u64 = 64;

/// A stream, and what it knows of its records.
struct Writer {
    holder: Holder,
    instance: u32,
    lane: Lane,
    random: Random,
    /// Sealed and not acknowledged, oldest first.
    open: Vec<Submission>,
    /// Acknowledged in this round.
    acknowledged: Vec<Held>,
}

impl Writer {
    /// Seals the round's batches.
    fn prepare(&mut self) {
        for _ in 0..BATCHES {
            let count = 1 + usize::try_from(self.random.below(40)).unwrap();
            let batch = self.lane.batch(count, &mut self.random);
            self.open.push(batch);
        }
    }

    /// Sends what is open, and takes the answers until all are there or the connection breaks; says
    /// of each that it came.
    async fn send(&mut self, stage: &Stage, client: &mut Client, mut heard: impl FnMut()) {
        let requests: Vec<_> =
            self.open.iter().map(|batch| gate::request(batch, batch.first_seq)).collect();
        let Ok(call) = client.submit_stream(tokio_stream::iter(requests)).await else { return };
        let mut answers = call.into_inner();
        while let Ok(Some(answer)) = answers.message().await {
            let answer = BatchAnswer::try_from(answer).unwrap();
            let batch = self.open.remove(0);
            assert_eq!(answer.call_id, batch.first_seq, "in order");
            let held = stage.check(&batch, answer).unwrap();
            self.acknowledged.extend(held.into_iter().map(Result::unwrap));
            heard();
        }
    }

    /// Finds where the stream stands, sends again what is open, and gives how much of it was there.
    async fn recover(&mut self, stage: &Stage, client: &mut Client) -> usize {
        let found = Lane::open(client, &self.holder, self.instance).await.unwrap();
        let first_open = self.open.first().map_or(self.lane.next_seq, |batch| batch.first_seq);
        // Nothing acknowledged is gone, and nothing is there that was never sent.
        assert!((first_open..=self.lane.next_seq).contains(&found.next_seq));
        let known = self.acknowledged.len();
        self.send(stage, client, || {}).await;
        assert!(self.open.is_empty(), "all of it is taken now");
        let answered = &self.acknowledged[known..];
        for held in answered {
            assert_eq!(held.repeat, held.entry.seq < found.next_seq);
        }
        let there = answered.iter().filter(|held| held.repeat).count();
        let found = Lane::open(client, &self.holder, self.instance).await.unwrap();
        assert_eq!((found.next_seq, found.prev), (self.lane.next_seq, self.lane.prev));
        there
    }
}

/// Checks what a stream was acknowledged against the newest head, of which `last` is a prefix.
async fn verify(
    stage: &Stage,
    client: &mut Client,
    writer: &mut Writer,
    random: &mut Random,
    last: Option<&SignedCheckpoint>,
) -> SignedCheckpoint {
    let newest = stage.newest(client).await;
    let records = std::mem::take(&mut writer.acknowledged);
    // Later records stand later in the log.
    assert!(records.is_sorted_by(|a, b| {
        a.entry.seq + 1 == b.entry.seq && a.receipt.index < b.receipt.index
    }));
    let mut heads: BTreeMap<TreeSize, &SignedCheckpoint> = BTreeMap::new();
    for record in &records {
        let head = &record.receipt.checkpoint;
        let same = heads.entry(head.size).or_insert(head);
        assert_eq!(same.root, head.root, "two roots of one size");
    }
    // A receipt made anew says the same of some of them.
    for _ in 0..records.len().min(3) {
        let one = &records[usize::try_from(random.below(records.len() as u64)).unwrap()];
        let receipt = stage.receipt(client, &one.entry, newest.size).await.unwrap();
        assert_eq!(receipt.index, one.receipt.index);
    }
    // Heads of earlier rounds are prefixes of `last`, and so of the newest.
    for head in heads.into_values().chain(last) {
        stage.assert_continues(client, head, &newest).await;
    }
    newest
}

#[tokio::test]
async fn soak_kills_lose_nothing_that_was_acknowledged() {
    let soak = std::env::var_os("COUNTERSIGN_SOAK").is_some_and(|value| value == "1");
    let rounds = if soak { SOAK_ROUNDS } else { ROUNDS };
    let mut random = Random::announced("kill");
    let stage = Stage::new();
    let mut writers = Vec::new();
    let mut server = Server::start(&stage).await;
    for place in 0..LANES {
        let tenant = ["acme", "globex"][place % 2];
        let holder = stage.gate(tenant, "prod-1");
        let instance = u32::try_from(place).unwrap();
        let mut client = stage.connect(&server, &holder).await;
        let lane = Lane::open(&mut client, &holder, instance).await.unwrap();
        let random = Random::new(random.number());
        let (open, acknowledged) = (Vec::new(), Vec::new());
        writers.push(Writer { holder, instance, lane, random, open, acknowledged });
    }
    let mut last: Option<SignedCheckpoint> = None;
    let (mut unsure, mut lost_answers) = (0, 0);
    for round in 0..rounds {
        // 1. Load from every stream, until the kill breaks it off.
        writers.iter_mut().for_each(Writer::prepare);
        let (heard, mut ears) = mpsc::unbounded_channel();
        let mut clients = Vec::new();
        for writer in &writers {
            clients.push(stage.connect(&server, &writer.holder).await);
        }
        let acknowledgements = random.below(HEARD_MAX);
        let moment = Duration::from_micros(random.below(4_000));
        let killer = async move {
            for _ in 0..acknowledgements {
                ears.recv().await;
            }
            // An acknowledgement ends a commit; a moment more, and the kill falls anywhere in the
            // next one. Nothing is waited for here.
            tokio::time::sleep(moment).await;
            server.kill();
        };
        let load = async {
            let [one, two, three, four] = &mut writers[..] else { panic!("{LANES} writers") };
            let [first, second, third, fourth] = &mut clients[..] else { panic!("as many") };
            // Fails once the killer has heard enough.
            let heard = || _ = heard.send(());
            tokio::join!(
                one.send(&stage, first, heard),
                two.send(&stage, second, heard),
                three.send(&stage, third, heard),
                four.send(&stage, fourth, heard),
            );
        };
        tokio::join!(killer, load);

        // 2. The same folder, a new process.
        server = Server::start(&stage).await;
        for writer in &mut writers {
            unsure += writer.open.len();
            let mut client = stage.connect(&server, &writer.holder).await;
            lost_answers += writer.recover(&stage, &mut client).await;
        }

        // 3. Everything that was ever acknowledged is there, once.
        let mut client = stage.connect(&server, &writers[0].holder).await;
        let expected: u64 = writers.iter().map(|writer| writer.lane.next_seq).sum();
        let newest = stage.newest(&mut client).await;
        // Genesis, and a record for each stream.
        let own = 1 + LANES as u64;
        assert_eq!(newest.size, TreeSize(own + expected), "round {round}");
        // Each stream's receipts are its tenant's to ask for.
        let before = last.take();
        let mut places = BTreeMap::new();
        for writer in &mut writers {
            let entries = writer.acknowledged.iter().map(|held| (held.receipt.index, held.entry));
            let entries: Vec<_> = entries.collect();
            let mut client = stage.connect(&server, &writer.holder).await;
            let verified = verify(&stage, &mut client, writer, &mut random, before.as_ref());
            last = Some(verified.await);
            for (index, entry) in entries {
                assert_eq!(places.insert(index, entry), None, "two records at {index:?}");
            }
        }
    }
    println!(
        "kill: {rounds} rounds; {} entries; {unsure} batches without an answer, {lost_answers} \
         records of them were in the log",
        last.unwrap().size.0
    );
    server.stop().await;
}
