//! The gate's HTTP sides from outside: AuthZEN for those who ask, the webhook for those who watch.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod authzen;
mod port;
mod receiver;
#[allow(dead_code, unreachable_pub, reason = "each test uses its part of the stage")]
#[path = "../support/mod.rs"]
mod support;
mod webhook;
mod whole;

/// Ends when `holds` does, and panics when it does not within 20 seconds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}
