//! What the test binaries share: the fake service, a raw client, a failing disk, moto.

// Each test binary uses a part of this.
#![allow(dead_code, unused_imports)]

pub(crate) mod client;
pub(crate) mod failing_disk;
pub(crate) mod fake_cloudwatch;
pub(crate) mod moto;
