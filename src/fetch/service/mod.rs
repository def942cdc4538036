//! The service as fetch uses it: paced by the quotas, retried, and its errors in a person's words.

pub(crate) mod adaptive_rate;
pub(crate) mod client;
pub(crate) mod fault;
pub(crate) mod priority;
pub(crate) mod refusals;
pub(crate) mod retry_budget;
pub(crate) mod scheduler;
pub(crate) mod token_bucket;
