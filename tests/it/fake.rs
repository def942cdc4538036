//! The fake service's own tests: a conformance suite that runs on moto too, and a test for each hazard.

#[path = "fake/clock.rs"]
mod clock;
#[path = "fake/conformance.rs"]
mod conformance;
#[path = "fake/hazards.rs"]
mod hazards;
