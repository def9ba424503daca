//! Random schedules of a forking ledger against two mirrors and a witness: no party ever holds two
//! histories, and every fork that two of them saw between them is an alarm that verifies.
//!
//! 400 schedules; `COUNTERSIGN_SOAK=1` makes it 100,000.

use countersign_core::alarm::verify_alarm;
use countersign_core::codes::Code;
use countersign_core::note::KeyType;
use countersign_core::verify::Verdict;
use countersign_mirror::follow::{ALARMS, FollowError, Follower, Head};
use countersign_mirror::witness::config::WitnessedLog;
use countersign_mirror::witness::{Heads, Witness};
use countersign_testkit::malicious::{History, Ledger};
use countersign_testkit::rng::SplitMix64;
use ed25519_dalek::SigningKey;

use crate::stage::{Direct, ORIGIN, followed, memory, trust};

const SCHEDULES: u64 = 400;
const SOAK_SCHEDULES: u64 = 100_000;

/// Heads of a witness that forgets them with its process, of which there is one.
struct Forgetful;

impl Heads for Forgetful {
    fn read(&self, _: &str) -> std::io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn replace(&self, _: &str, _: &str) -> std::io::Result<()> {
        Ok(())
    }
}

/// A mirror, and the histories that it was ever shown and moved along.
struct Party {
    follower: Follower<Direct>,
    stopped: bool,
}

impl Party {
    async fn new(ledger: &Ledger) -> Self {
        let source = Direct(ledger.clone());
        let follower = Follower::open(followed(ledger), source, &memory()).await.unwrap();
        Self { follower, stopped: false }
    }

    /// A round. A finding with a proof must verify; gives whether it was one.
    async fn round(&mut self, ledger: &Ledger) -> Option<Code> {
        let stopped = match self.follower.round().await {
            Ok(_) => return None,
            Err(FollowError::Stopped(stopped)) => stopped,
            Err(error) => panic!("{error}"),
        };
        self.stopped = true;
        let Some(name) = &stopped.alarm else {
            assert_eq!(stopped.code, Code::HeadRollback, "all else is provable here");
            return Some(stopped.code);
        };
        let path = format!("{ALARMS}/{name}");
        let bytes = self.follower.place().read(&path, 1 << 23).await.unwrap().unwrap();
        let report = verify_alarm(&bytes, Some(&trust(ledger)));
        assert_eq!(report.result, Verdict::Valid, "{:?}", report.fault);
        Some(stopped.code)
    }
}

fn witness(ledger: &Ledger) -> Witness<Forgetful> {
    let key = SigningKey::from_bytes(&[3; 32]);
    let log = WitnessedLog { origin: ORIGIN.to_owned(), keys: vec![ledger.keys().vkey()] };
    let witness = Witness::open("witness.example/w1", key, vec![log], Forgetful).unwrap();
    assert_eq!(witness.vkey().key_type, KeyType::Cosignature);
    witness
}

/// An honest request of `add-checkpoint` within one history.
fn request(ledger: &Ledger, history: &History, old: u64, new: u64, second: u64) -> String {
    let proof = history.consistency(old, new);
    let proof = proof
        .iter()
        .fold(String::new(), |lines, hash| lines + &countersign_core::encoding::b64(hash) + "\n");
    let head = ledger.keys().head(history, new, Ledger::second(second));
    format!("old {old}\n{proof}\n{}", head.as_str())
}

async fn schedule(seed: u64) -> (bool, bool) {
    let mut random = SplitMix64::new(seed);
    let ledger = Ledger::new(ORIGIN);
    let mut histories = [History::default(), History::default()];
    histories[0].grow(1 + random.below(40));
    let at = random.below(histories[0].size() + 1);
    histories[1] = histories[0].forked(at, 1);
    let mut mirrors = [Party::new(&ledger).await, Party::new(&ledger).await];
    let witness = witness(&ledger);
    // Which history each party holds, once it holds more than both have.
    for second in 1..=2 + random.below(8) {
        let which = usize::try_from(random.below(2)).unwrap();
        histories[which].grow(1 + random.below(300));
        match random.below(3) {
            2 => {
                let held = witness.cosigned(ORIGIN).map_or(0, |head| head.size.0);
                let history = &histories[which];
                if history.size() >= held {
                    let body = request(&ledger, history, held, history.size(), second);
                    // It says yes or no; both are right, and no is told nowhere.
                    let _ = witness.add_checkpoint(body.as_bytes(), Ledger::second(second));
                }
            }
            party => {
                let party = &mut mirrors[usize::try_from(party).unwrap()];
                if !party.stopped {
                    ledger.show(&histories[which], second);
                    let found = party.round(&ledger).await;
                    let head = party.follower.head().unwrap();
                    let on = |history: &History| {
                        head.size().0 <= history.size()
                            && history.root(head.size().0) == *head.root()
                    };
                    assert!(histories.iter().any(on), "seed {seed}: it holds one of the two");
                    assert!(
                        found.is_none()
                            || !on(&histories[which])
                            || found == Some(Code::HeadRollback)
                    );
                }
            }
        }
    }
    // Everyone tells the mirrors what they hold.
    let cosigned = witness.cosigned(ORIGIN).map(|head| head.note);
    let heads: Vec<String> = mirrors
        .iter()
        .filter_map(|party| party.follower.head())
        .map(|head| head.checkpoint().as_str().to_owned())
        .chain(cosigned)
        .collect();
    let (mut forked, mut caught) = (false, mirrors.iter().any(|party| party.stopped));
    for party in mirrors.iter_mut().filter(|party| !party.stopped) {
        let Some(held) = party.follower.head().cloned() else { continue };
        for note in &heads {
            let log = followed(&ledger);
            // A witness keeps the log's line and not the clock's.
            let told = Head::believe(note, ORIGIN, &no_clock(&log.trust)).unwrap();
            let known = histories.iter().find(|history| {
                history.size() >= held.size().0 && history.root(held.size().0) == *held.root()
            });
            let continued =
                told.size() > held.size() || known.unwrap().root(told.size().0) == *told.root();
            forked |= !continued;
            party.follower.claims.add(told);
        }
        ledger.show_head(held.checkpoint());
        let found = party.round(&ledger).await;
        caught |= found.is_some();
    }
    assert!(!forked || caught, "seed {seed}: two parties saw two histories, and nobody says so");
    (forked, caught)
}

fn no_clock(trust: &countersign_core::trust::Trust) -> countersign_core::trust::Trust {
    let mut trust = trust.clone();
    trust.logs.iter_mut().for_each(|log| log.clocks.clear());
    trust
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_no_fork_that_two_parties_saw_goes_unproved() {
    let soak = std::env::var_os("COUNTERSIGN_SOAK").is_some();
    let count = if soak { SOAK_SCHEDULES } else { SCHEDULES };
    let (mut forked, mut caught) = (0_u64, 0_u64);
    for seed in 0..count {
        let (was_forked, was_caught) = schedule(seed).await;
        forked += u64::from(was_forked);
        caught += u64::from(was_caught);
    }
    println!(
        "{count} schedules: {forked} with forks between parties, {caught} stopped by somebody"
    );
    assert!(forked > count / 20 && caught > count / 3, "{forked} {caught}");
}
