//! Reads ahead of a program that walks through a group.

mod first_pages;
mod plan;
pub(crate) mod prefetch;
mod walkers;
