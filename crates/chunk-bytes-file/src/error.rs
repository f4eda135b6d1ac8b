//! What an operating system's error means to the caller of a byte store.

use std::io;

use chunk_ports::ByteStoreError;
use rustix::io::Errno;

/// An error of anything but a flush.
pub(crate) fn failed(error: io::Error) -> ByteStoreError {
    if is_full(&error) {
        ByteStoreError::Full(error.into())
    } else {
        ByteStoreError::Unavailable(error.into())
    }
}

/// An error of a flush, after which the kernel may have dropped the pages and forgotten that it did.
pub(crate) fn failed_flush(error: io::Error) -> ByteStoreError {
    if error.raw_os_error() == Some(Errno::IO.raw_os_error()) {
        ByteStoreError::Corrupt(error.into())
    } else {
        failed(error)
    }
}

/// A flush of a segment of which an earlier flush has failed.
pub(crate) fn distrusted() -> ByteStoreError {
    ByteStoreError::Corrupt("an earlier flush of this segment has failed".into())
}

/// A write to a file that has become shorter than what was written to it.
pub(crate) fn cut() -> ByteStoreError {
    ByteStoreError::Corrupt("the segment's file was cut by somebody else".into())
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    #[test]
    fn fault15_no_space_and_no_quota_are_full() {
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            assert!(matches!(failed(os(errno)), ByteStoreError::Full(_)));
            assert!(matches!(failed_flush(os(errno)), ByteStoreError::Full(_)));
        }
    }

    #[test]
    fn fault16_an_input_output_error_of_a_flush_is_corrupt() {
        let flush = failed_flush(os(Errno::IO));
        assert!(matches!(flush, ByteStoreError::Corrupt(_)), "{flush:?}");
        assert!(!flush.is_retryable());
        // Of a read or a write it says nothing about other bytes of the file.
        assert!(matches!(
            failed(os(Errno::IO)),
            ByteStoreError::Unavailable(_)
        ));
    }

    #[test]
    fn fault19_read_only_denied_and_out_of_descriptors_are_unavailable() {
        for errno in [Errno::ROFS, Errno::ACCESS, Errno::MFILE, Errno::NFILE] {
            assert!(failed(os(errno)).is_retryable());
            assert!(failed_flush(os(errno)).is_retryable());
        }
    }
}
