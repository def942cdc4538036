//! Listings of groups and streams, and what names mean.

pub(crate) mod generation;
pub(crate) mod listings;
pub(crate) mod lookup;
pub(crate) mod progress;
pub(crate) mod selection;
pub(crate) mod single_flight;
pub(crate) mod walk;
