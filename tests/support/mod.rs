//! What the test binaries share: the fake service, a raw client, moto.

// Each test binary uses a part of this.
#![allow(dead_code, unused_imports)]

pub(crate) mod client;
pub(crate) mod fake_cloudwatch;
pub(crate) mod moto;
