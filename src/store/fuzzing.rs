//! The store's readers of bytes from disk, for `crate::fuzzing`.

use super::bytes::Take;
use super::catalogue::read_rows;
use super::index::{Identity, decode_blocks, encode_blocks};
use super::live::TailRow;

pub(crate) fn index(bytes: &[u8]) {
    if let Some((identity, len)) = Identity::decode(bytes) {
        assert_eq!(identity.encode().len(), len);
    }
    if let Some(entries) = decode_blocks(bytes) {
        let mut again = Vec::new();
        encode_blocks(&entries, &mut again);
        assert_eq!(decode_blocks(&again), Some(entries));
    }
}

pub(crate) fn catalogue_rows(bytes: &[u8]) {
    read_rows(bytes);
}

pub(crate) fn live_row(bytes: &[u8]) {
    if let Some(row) = TailRow::decode(bytes, 7) {
        assert_eq!(TailRow::encode(&row.entries, &row.text).len(), bytes.len());
    }
}

pub(crate) fn numbers(bytes: &[u8]) {
    let mut take = Take(bytes);
    while !take.0.is_empty() {
        let read = (take.varint().is_some(), take.signed().is_some(), take.option().is_some(), take.text().is_some());
        if read == (false, false, false, false) {
            return;
        }
    }
}
