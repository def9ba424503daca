//! Whole mirrors and alarms: honest logs, damaged copies, and logs that lie with their own signature.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that indexes wrongly fails as it should"
)]

mod alarm_corpus;
mod alarms;
mod corpus;
mod dishonest;
mod honest;
mod resume;
mod stage;
mod vectors;
