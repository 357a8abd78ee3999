//! System calls that no library offers safely.

use std::io;
use std::os::fd::AsRawFd;

use nix::libc;
use rustix::fd::BorrowedFd;

/// The most ranges of one call: `UIO_MAXIOV` of the kernel.
const MOST_RANGES: usize = 1024;

/// Advises the kernel that pages of another process are cold. It changes no content; a large folio that a range covers in
/// part is split into pages on the way (Linux `mm/madvise.c`, `madvise_cold_or_pageout_pte_range`), unless it is dirty.
/// The ranges are addresses of that process and their lengths, in bytes.
///
/// Errors: those of `process_madvise(2)`; `ENOSYS` before Linux 5.10.
#[expect(unsafe_code, reason = "rustix and nix have no process_madvise")]
pub(super) fn cool(process: BorrowedFd<'_>, ranges: &[(usize, usize)]) -> io::Result<()> {
    for some in ranges.chunks(MOST_RANGES) {
        let vectors: Vec<libc::iovec> = some
            .iter()
            .map(|(address, bytes)| libc::iovec {
                iov_base: std::ptr::without_provenance_mut(*address),
                iov_len: *bytes,
            })
            .collect();
        // SAFETY: the kernel reads `vectors`, which live until it returns; what they point to is memory of the other
        // process, of which this advice changes nothing.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                process.as_raw_fd(),
                vectors.as_ptr(),
                vectors.len(),
                libc::MADV_COLD,
                0,
            )
        };
        if outcome < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Reads the time stamp counter, where the architecture has one.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "no library reads it without more around it")]
pub(super) fn ticks() -> Option<u64> {
    // SAFETY: the instruction reads a register; Linux lets all processes do so unless one asks to be kept from it.
    Some(unsafe { std::arch::x86_64::_rdtsc() })
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn ticks() -> Option<u64> {
    None
}
