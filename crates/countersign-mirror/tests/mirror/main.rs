//! A mirror against a ledger that lies in every way it can, over real HTTP, and cut off at every
//! step: it holds one history, and whoever shows another leaves a proof.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it stands"
)]

mod attacks;
mod crashes;
mod honest;
mod schedules;
mod stage;
