//! Witnesses: the real program, killed without warning, and a real ledger that asks for
//! cosignatures of the honest, the slow, the dead and the lying.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it stands"
)]

mod asked;
mod killed;
mod process;
mod restored;
mod stand_in;
