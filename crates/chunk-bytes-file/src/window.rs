//! Bytes of a file on their way to a socket without a copy in between.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Weak};

use chunk_ports::{Put, SegmentKey, Window};

use crate::segment::Segment;
use crate::store::Shared;

/// The most bytes of a window.
const MOST: usize = 2 * 1024 * 1024;

/// A stretch of a segment. It keeps no file open: a client that takes nothing for an hour would hold a descriptor
/// for as long.
pub(crate) struct FileWindow {
    store: Arc<Shared>,
    key: SegmentKey,
    /// The file that was looked at, for as long as others keep it open.
    looked_at: Weak<Segment>,
    offset: u64,
    len: usize,
}

impl FileWindow {
    /// `None` where the bytes are not in the page cache, or their file is not open.
    pub(crate) fn new(
        store: &Arc<Shared>,
        key: SegmentKey,
        offset: u64,
        len: usize,
    ) -> Option<Self> {
        let segment = store.descriptors.find(key)?;
        let len = len.min(MOST);
        let window = Self {
            store: Arc::clone(store),
            key,
            looked_at: Arc::downgrade(&segment),
            offset,
            len,
        };
        window.is_resident(&segment, 0).then_some(window)
    }

    /// Whether the bytes from `from` on can be sent without a disk.
    ///
    /// `sendfile` waits for the disk where a page is missing, and there is no flag against that; so some pages are
    /// looked at before. The kernel brings pages in and takes them away in long stretches, which makes a gap between
    /// two that are there rare; and a gap costs a wait, not a wrong byte.
    fn is_resident(&self, segment: &Segment, from: usize) -> bool {
        let Some(end) = self.offset.checked_add(self.len as u64) else {
            return false;
        };
        let start = self.offset + from as u64;
        start < end && segment.has_cached(start, end)
    }
}

impl Window for FileWindow {
    fn len(&self) -> usize {
        self.len
    }

    /// A file that somebody has cut short gives no bytes, where a mapping of it would end the process.
    fn put(&self, socket: BorrowedFd<'_>, from: usize) -> io::Result<Put> {
        let open = self.looked_at.upgrade();
        let Some(segment) = open.or_else(|| self.store.descriptors.find(self.key)) else {
            return Ok(Put::Absent);
        };
        // The beginning was looked at a moment ago; the rest waited for the socket, perhaps for long.
        if from > 0 && !self.is_resident(&segment, from) {
            return Ok(Put::Absent);
        }
        let left = self.len.saturating_sub(from);
        if left == 0 {
            return Ok(Put::Absent);
        }
        let sent = segment.send(socket, self.offset + from as u64, left)?;
        Ok(if sent == 0 {
            Put::Absent
        } else {
            Put::Some(sent)
        })
    }
}

impl fmt::Debug for FileWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileWindow")
            .field("key", &self.key)
            .field("offset", &self.offset)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
