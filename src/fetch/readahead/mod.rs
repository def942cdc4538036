//! Reads ahead of a program that walks through a group.

pub(crate) mod first_pages;
pub(crate) mod judge;
pub(crate) mod large;
pub(crate) mod prefetch;
