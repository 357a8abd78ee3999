//! Frames of twin-guest's channel, in any pieces. What was read is written as a frame that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twin::wire::{Decoder, Frame, Reply, Request, encode};

/// Frames out of `bytes`, which come in pieces of `size`.
fn read<B: for<'de> serde::Deserialize<'de>>(bytes: &[u8], size: usize) -> Vec<Frame<B>> {
    let mut decoder = Decoder::default();
    let pieces = bytes.chunks(size.max(1));
    pieces.flat_map(|piece| decoder.feed(piece)).collect()
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let replies = read::<Reply>(bytes, usize::from(size));
    assert_eq!(replies, read::<Reply>(bytes, bytes.len()));
    for reply in replies {
        if let Ok(line) = encode(&reply) {
            assert_eq!(read::<Reply>(&line, usize::from(size)), [reply]);
        }
    }
    drop(read::<Request>(bytes, usize::from(size)));
});
