//! Packs: whole ones, and what a liar makes of them (spec/pack.md).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests stop where they fail.

mod beginnings;
mod corpus;
mod disclosure;
mod erased;
mod honest;
mod lying;
mod manifest;
mod overlooked;
mod scene;
mod stage;
