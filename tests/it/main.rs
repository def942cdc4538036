//! Tests of the rooms from outside, without a mount.

// clippy.toml allows it in tests, but clippy takes only the functions marked as tests for such, not what they share.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod cli;
mod fake;
mod layers;
