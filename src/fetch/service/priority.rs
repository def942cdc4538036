//! Who a call is for.

/// Who a call is for. Each has its share of the quota; unused shares are lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Priority {
    /// A program waits: open, lookup, read (60 %).
    Waiting,
    /// A program waits that can be shown a cached copy (the same 60 %).
    Refreshing,
    /// Following (30 %).
    Following,
    /// Read-ahead and re-reads (10 %).
    Background,
}
