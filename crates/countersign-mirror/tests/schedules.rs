//! A log that forks as it likes, clients that lie, a disk that fails and a process that dies, in
//! random schedules that a seed makes again: whatever a witness gave out is one history.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests stop where they fail.

mod support;

use countersign_core::codes::Code;
use countersign_core::hash::{Hash, TreeSize};
use countersign_core::note::SignedCheckpoint;
use countersign_mirror::witness::{Refusal, Witness};
use countersign_testkit::rng::SplitMix64;

use support::{Fate, History, MemoryHeads, NOON, ORIGIN, open, request};

/// Schedules, each of [`STEPS`] steps.
const SCHEDULES: u64 = 1_000;
const STEPS: u64 = 40;

struct Run {
    rng: SplitMix64,
    heads: MemoryHeads,
    witness: Witness<MemoryHeads>,
    branches: Vec<History>,
    /// What was given out last, and a head that may have been stored without being given out.
    given: Vec<Hash>,
    now: u64,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    cosigned: u64,
    /// Heads of another branch than the one cosigned, refused.
    forks_refused: u64,
    unavailable: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let heads = MemoryHeads::default();
        let witness = open(heads.clone()).unwrap();
        let (rng, branches) = (SplitMix64::new(seed), vec![History::default()]);
        let counts = Counts::default();
        Self { rng, heads, witness, branches, given: Vec::new(), now: NOON, counts }
    }

    fn step(&mut self) {
        match self.rng.below(10) {
            0 => self.fork(),
            1 | 2 => {
                let branch = self.pick();
                let (count, flavour) = (1 + self.rng.below(9), self.rng.next_u64());
                self.branches[branch].grow(count, flavour);
            }
            3 => self.restart(),
            _ => self.submit(),
        }
    }

    fn pick(&mut self) -> usize {
        usize::try_from(self.rng.below(self.branches.len() as u64)).unwrap()
    }

    /// A branch that shares a beginning with another, of any length.
    fn fork(&mut self) {
        let branch = self.pick();
        let mut fork = self.branches[branch].clone();
        let keep = self.rng.below(fork.size() + 1);
        fork.0.truncate(usize::try_from(keep).unwrap());
        let (count, flavour) = (self.rng.below(6), self.rng.next_u64());
        fork.grow(count, flavour);
        self.branches.push(fork);
    }

    /// The process dies and begins again on what the disk has.
    fn restart(&mut self) {
        self.witness = open(self.heads.clone()).unwrap();
    }

    /// The log, or somebody with its signed heads, asks for a cosignature.
    fn submit(&mut self) {
        let branch = self.pick();
        let history = self.branches[branch].clone();
        let new = self.rng.below(history.size() + 1);
        let held = self.witness.cosigned(ORIGIN).map_or(0, |held| held.size.0);
        // Mostly the old size that the witness will ask for.
        let old = if self.rng.below(4) == 0 { self.rng.below(new + 2) } else { held };
        let mut proof = history.proof(old, new);
        match self.rng.below(8) {
            0 => proof.push(self.rng.bytes()),
            1 if !proof.is_empty() => proof[0] = self.rng.bytes(),
            // The proof of another branch, whose nodes may be the same.
            2 => {
                let other = self.pick();
                if new <= self.branches[other].size() {
                    proof = self.branches[other].proof(old, new);
                }
            }
            _ => {}
        }
        // The clock goes on, stands, or is set back.
        self.now = (self.now + self.rng.below(3)).saturating_sub(self.rng.below(2));
        let crash = match self.rng.below(12) {
            0 => Some(Fate::Lost),
            1 => Some(Fate::Persisted),
            _ => None,
        };
        if let Some(fate) = crash {
            self.heads.fail(fate);
        }
        let body = request(old, &proof, &history.note(new));
        let answer = self.witness.add_checkpoint(body.as_bytes(), self.now);
        // The reply may be lost as well, when the process dies between disk and socket.
        let lost = self.rng.below(10) == 0;
        match answer {
            Ok(line) => {
                let note = SignedCheckpoint::parse(&history.note(new)).unwrap();
                let note = note.with_line(&line).unwrap();
                let vkey = self.witness.vkey();
                assert!(note.cosigned_at(vkey, Code::WitnessSignature).unwrap().is_some());
                let stored = self.heads.note(ORIGIN).unwrap();
                assert_eq!(stored, note.as_str(), "given out, and not on the disk");
                if lost {
                    self.restart();
                }
                self.given_out(&history, new);
            }
            Err(Refusal::Unavailable) => {
                self.counts.unavailable += 1;
                self.restart();
            }
            Err(_) => {
                let leaves = &history.0[..usize::try_from(new).unwrap()];
                let fork = !leaves.starts_with(&self.given) && !self.given.starts_with(leaves);
                self.counts.forks_refused += u64::from(fork);
            }
        }
    }

    /// The property: each head given out continues the one before, so that no two roots are
    /// cosigned for one size and no size after a larger one.
    fn given_out(&mut self, history: &History, size: u64) {
        let head = &history.0[..usize::try_from(size).unwrap()];
        assert!(head.starts_with(&self.given), "cosigned {size} over {}", self.given.len());
        self.given = head.to_vec();
        self.counts.cosigned += 1;
        assert_eq!(self.witness.cosigned(ORIGIN).unwrap().size, TreeSize(size));
    }
}

/// WITN-4, WITN-5: a thousand schedules, each of its own seed.
#[test]
fn no_schedule_of_a_forking_log_gets_two_histories_cosigned() {
    let mut all = Counts::default();
    for seed in 0..SCHEDULES {
        let mut run = Run::new(seed);
        for _ in 0..STEPS {
            run.step();
        }
        all.cosigned += run.counts.cosigned;
        all.forks_refused += run.counts.forks_refused;
        all.unavailable += run.counts.unavailable;
    }
    println!(
        "{SCHEDULES} schedules: {} cosigned, {} forks refused, {} writes failed",
        all.cosigned, all.forks_refused, all.unavailable
    );
    // The schedules do what they are for.
    assert!(all.cosigned > 2 * SCHEDULES && all.forks_refused > SCHEDULES);
    assert!(all.unavailable > SCHEDULES / 10);
}
