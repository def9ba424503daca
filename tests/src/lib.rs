//! The stage of the whole-system tests: a development PKI in a temporary folder, the real
//! `countersign` binary as a process of its own, and gates that seal and submit over real sockets.
//!
//! Nothing here uses the client library: what the ledger says is checked with `countersign-core`
//! alone, so that a fault of the client can't hide one of the ledger.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    reason = "a test that meets the unexpected should stop where it stands; tests of whole \
              processes ask the machine for the time"
)]

pub mod calls;
pub mod gate;
pub mod http;
pub mod installation;
pub mod pki;
pub mod process;
pub mod random;
pub mod stage;

pub use crate::calls::{Client, Held, refusal, submit};
pub use crate::gate::{Lane, record};
pub use crate::installation::{Installation, Said};
pub use crate::pki::{Authority, Holder};
pub use crate::process::{Server, await_until};
pub use crate::random::Random;
pub use crate::stage::{DOMAIN, ORIGIN, Stage};
