//! Erased bytes are in no file of the database any more.

use std::path::Path;
use std::sync::Arc;

use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, lp};
use countersign_core::kinds::Kind;
use countersign_core::query::Field;
use countersign_log::api::ErasureRequest;
use countersign_log::host::Host as _;
use countersign_log::ledger::Ledger;
use countersign_log::store::Store;
use countersign_testkit::rng::SplitMix64;
use ed25519_dalek::Signer as _;
use serde_json::json;
use tempfile::TempDir;

use crate::damaged::{Damage, Damaged};
use crate::support::{ORIGIN, World, verdict};
use crate::{rows, store};

/// An erasure that one of acme's admins signs.
pub(crate) fn request(world: &World, entries: &str) -> ErasureRequest {
    let admin = world.person("tenant-admin", "theo");
    let floor = Micros(world.host.now().0 - 1).format();
    let reason = format!("asked by the person\nretention floor: {floor}");
    let parts = [ORIGIN, entries, &reason].map(|part| lp(part).unwrap()).concat();
    let signed = [b"countersign/v1 erasure\n", parts.as_slice()].concat();
    ErasureRequest {
        tenant: "acme".to_owned(),
        entries: entries.to_owned(),
        reason,
        chain: admin.chain,
        signature: admin.key.sign(&signed).to_bytes(),
        retention_us: 0,
    }
}

/// Text with nothing in it that repeats. It stands as it is in the write-ahead log; tables compress
/// it, and the database's own tests look into those.
fn planted(seed: u64) -> String {
    let mut rng = SplitMix64::new(seed);
    let letter = || {
        char::from(
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
                [usize::from(rng.bytes::<1>()[0] % 64)],
        )
    };
    std::iter::repeat_with(letter).take(600).collect()
}

/// The files that hold one of these texts: any stretch of 12 bytes of it.
fn files_with(dir: &Path, texts: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(dir.join("db")).unwrap().map(Result::unwrap) {
        let Ok(bytes) = std::fs::read(file.path()) else { continue };
        let holds = |text: &String| {
            let needles = text.as_bytes().chunks_exact(12).step_by(5);
            needles.into_iter().any(|needle| bytes.windows(12).any(|window| window == needle))
        };
        if texts.iter().any(holds) {
            found.push(file.file_name().into_string().unwrap());
        }
    }
    found.sort();
    found
}

/// Logs verdicts, of which each carries a text of its own.
async fn fill<S: Store>(world: &World, ledger: &Ledger<S>, numbers: std::ops::Range<u64>) {
    let mut gate = world.gate("acme", &format!("gate-{}", numbers.start));
    gate.open(ledger).await;
    for n in numbers {
        let value = verdict(n, "refuse", &json!({ "context": { "about": planted(n) } }));
        gate.say(ledger, Kind::Verdict, &value, Vec::new()).await.unwrap();
    }
    world.host.advance_us(1_000_000);
}

#[tokio::test]
async fn erased_bytes_are_in_no_file() {
    let (world, dir) = (World::new(), TempDir::new().unwrap());
    let ledger = world.open(&store(dir.path())).await;
    fill(&world, &ledger, 0..30).await;
    // Entries 0 and 1 are the genesis and the stream.
    let texts: Vec<String> = (8..=11).map(planted).collect();
    let found = files_with(dir.path(), &texts);
    assert!(
        found.iter().any(|name| Path::new(name).extension().is_some_and(|kind| kind == "log")),
        "it was there: {found:?}"
    );
    ledger.erase(request(&world, "10-13")).await.unwrap();
    assert_eq!(files_with(dir.path(), &texts), [""; 0]);
    let (found, _) = rows(&ledger, &[(Field::Kind, "verdict")]).await;
    assert_eq!(found.iter().filter(|row| row.erased).count(), 4);
    assert_eq!(found.len(), 30);
    // The log takes more, and erases more, after that.
    fill(&world, &ledger, 30..40).await;
    let texts = [planted(18), planted(36)];
    assert!(!files_with(dir.path(), &texts[1..]).is_empty());
    ledger.erase(request(&world, "20,40")).await.unwrap();
    assert_eq!(files_with(dir.path(), &texts), [""; 0]);
    ledger.stop().await;
}

/// A process that is killed between the commit and the scrub: the next one does it.
#[tokio::test]
async fn a_scrub_that_was_not_done_is_done_at_the_next_start() {
    let (world, dir) = (World::new(), TempDir::new().unwrap());
    let inner = store(dir.path());
    // The one at the start has nothing to do.
    let damage = Damage { scrubs: Some(1), ..Damage::default() };
    let killed = Arc::new(Damaged::new(Arc::clone(&inner), damage));
    let ledger = world.open(&killed).await;
    fill(&world, &ledger, 0..10).await;
    let texts: Vec<String> = (3..=5).map(planted).collect();
    let asked = request(&world, "5-7");
    let unknown = ledger.erase(asked.clone()).await.unwrap_err();
    assert_eq!(unknown.fault.code, Code::EvidenceUnavailable);
    assert!(!files_with(dir.path(), &texts).is_empty(), "the scrub was not done");
    ledger.stop().await;
    drop((ledger, killed));

    let ledger = world.open(&inner).await;
    assert_eq!(files_with(dir.path(), &texts), [""; 0]);
    let (found, _) = rows(&ledger, &[(Field::Kind, "erasure")]).await;
    assert_eq!(found.len(), 1);
    assert_eq!(ledger.erase(asked).await.unwrap().erased, 3, "and it is answered now");
    ledger.stop().await;
}
