//! Standard input, for programs in hosts.

use std::io::Read;

use tokio::sync::mpsc;

use crate::wire::CHUNK_BYTES;

/// Reads standard input in a thread of its own: a read from it cannot be cancelled.
pub(crate) fn standard_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut piece = vec![0u8; CHUNK_BYTES];
        while let Ok(length @ 1..) = std::io::stdin().lock().read(&mut piece) {
            if sender.blocking_send(piece[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}
