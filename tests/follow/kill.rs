//! SIGKILL at random points of the catch-up: the mirror that was killed ends with the same bytes as
//! one that never was (FOL-4).
//!
//! 10,300 entries and 3 kills; `COUNTERSIGN_SOAK=1` makes it 1,000,000 and 20. The seed is printed,
//! and `COUNTERSIGN_SEED` gives it again.

use countersign_testkit::malicious::History;
use countersign_tests::{Random, await_until};

use crate::process::{Stage, files, folder, text};

/// Heads that are shown one after the other, and kills on the way to each.
const HEADS: [(u64, u32); 3] = [(3_000, 1), (7_001, 1), (10_300, 1)];
const SOAK_HEADS: [(u64, u32); 4] = [(200_000, 5), (450_001, 5), (700_000, 5), (1_000_000, 5)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_a_killed_mirror_ends_like_one_that_never_was() {
    let soak = std::env::var_os("COUNTERSIGN_SOAK").is_some();
    let heads = if soak { &SOAK_HEADS[..] } else { &HEADS[..] };
    let mut random = Random::announced("a_killed_mirror");
    let stage = Stage::new();
    let (whole, killed) = (stage.path("whole"), stage.path("killed"));
    let mut history = History::default();
    for (second, (size, kills)) in (0..).zip(heads) {
        let new = size - history.size();
        history.grow(new);
        let head = stage.ledger.show(&history, second);
        let said = stage.once(&["--dir", &whole]);
        assert!(said.status.success(), "{}", text(&said.stderr));
        for _ in 0..*kills {
            // A tile and a bundle for each 256 entries.
            let after = stage.ledger.requests() + 1 + random.below(new / 128);
            let mut mirror = stage.start(&["--dir", &killed, "--interval-s", "1"]);
            let path = format!("{killed}/{}/checkpoint", folder());
            await_until("some requests", || {
                let holds = std::fs::read(&path).is_ok_and(|note| note == head.as_str().as_bytes());
                (stage.ledger.requests() >= after || holds).then_some(())
            })
            .await;
            mirror.0.kill().unwrap();
            mirror.0.wait().unwrap();
        }
        let said = stage.once(&["--dir", &killed]);
        assert!(said.status.success(), "{}", text(&said.stderr));
        let (whole, killed) = (files(whole.as_ref()), files(killed.as_ref()));
        let names = |files: &std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>| {
            files.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(names(&killed), names(&whole));
        assert!(killed == whole, "some bytes differ");
    }
}
