//! `cwlogs-mount`: an account's CloudWatch Logs as a directory.
//!
//! Five rooms in a row. A request walks down them and comes straight back; arrows point down only, and `tests/it/layers.rs`
//! keeps it so.
//!
//! * [`mount`]: the kernel's side, the only room that names fuser. Decodes, asks the tree, answers. No policy.
//! * [`tree`]: names, attributes, handles, and what each program must see of a file whose length isn't known yet.
//! * [`fetch`]: keeps copies current: schedules calls, lists, refreshes, downloads, follows.
//! * [`store`]: the local copy: text and index files a stream, and the catalogue. Knows bytes, not AWS.
//! * [`source`]: where events come from: the trait and its implementations, CloudWatch and the built-in demo.
//!
//! Around them: [`cli`] (what was typed) → [`config`] (what is meant) → [`daemon`] (the life of a mount), [`check`] and
//! [`verify`].
//! Leaves that every room may use: [`model`], [`error`], [`clock`], [`patience`], [`render`], [`report`].

pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod error;
pub mod fetch;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod model;
pub mod mount;
pub mod patience;
pub mod render;
pub mod report;
pub mod source;
pub mod store;
mod sync;
pub mod tree;
pub mod verify;

#[cfg(test)]
#[path = "../tests/model/mod.rs"]
mod model_test;
