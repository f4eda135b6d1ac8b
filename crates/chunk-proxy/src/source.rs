//! What the proxy needs of a manager, and the manager giving it.
//!
//! The seam keeps protocol and cache apart: everything on the protocol's side is tested against a source
//! whose every byte and every failure is scripted.

use std::fmt::Debug;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use chunk_core::{ByteRange, CacheKey, ETag};
use chunk_manager::{
    ChunkManager, ChunkReader, Entry, First, Glance, Hints, ManagerError, OpenError, Opened, Piece,
    ReadError,
};
use chunk_ports::Resource;

use crate::preconditions::Validators;
use crate::respond::EntryFacts;

/// Opens resources.
#[async_trait]
pub(crate) trait Source: Send + Sync + Debug + 'static {
    async fn open(
        &self,
        resource: Resource,
        first: First,
        hints: Hints,
    ) -> Result<Box<dyn Open>, OpenError>;

    /// The same for bytes from `start` to `end`, where nothing has to be waited for. `None` says nothing of why not.
    fn open_now(
        &self,
        _resource: &Resource,
        _start: u64,
        _end: Option<u64>,
        _hints: Hints,
    ) -> Option<Box<dyn Open>> {
        None
    }

    /// Makes the next opening start over from the origin's answer.
    async fn invalidate(&self, key: &CacheKey) -> Result<(), ManagerError>;
}

/// One generation of an entry, opened.
pub(crate) trait Open: Send {
    fn facts(&self) -> EntryFacts;

    /// What has to be compared to know that they are still those of before; `None` where nothing tells.
    fn glance(&self) -> Option<Glance> {
        None
    }

    /// The bytes from `start` to `end` (exclusive; `None` for wherever the file ends). Ends the opening,
    /// so that whoever was to be read first is read or let go.
    fn read(self: Box<Self>, start: u64, end: Option<u64>) -> Box<dyn Pieces>;

    /// Bytes of several ranges, each asked for only when its turn comes.
    fn read_parts(self: Box<Self>) -> Box<dyn Parts>;
}

/// Opens one range after the other.
pub(crate) trait Parts: Send {
    fn part(&mut self, range: ByteRange) -> Box<dyn Pieces>;
}

/// Bytes as they come. Dropping it takes back what it still wants.
pub(crate) trait Pieces: Send {
    /// At most `max` bytes and at least one; `None` at the end.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Option<Result<Bytes, ReadError>>>;

    /// The same for a socket, which need not see the bytes in memory.
    fn poll_for_socket(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Option<Result<Piece, ReadError>>> {
        self.poll_piece(cx, max)
            .map(|piece| piece.map(|outcome| outcome.map(Piece::Bytes)))
    }

    /// The last `count` bytes of the last window could not be put into the socket.
    fn unread(&mut self, _count: usize) {}
}

#[async_trait]
impl Source for ChunkManager {
    async fn open(
        &self,
        resource: Resource,
        first: First,
        hints: Hints,
    ) -> Result<Box<dyn Open>, OpenError> {
        let opened = self.open_as(resource, first, hints).await?;
        Ok(Box::new(Managed { opened, first }))
    }

    fn open_now(
        &self,
        resource: &Resource,
        start: u64,
        end: Option<u64>,
        hints: Hints,
    ) -> Option<Box<dyn Open>> {
        let opened = Self::open_now(self, resource, start, end, hints)?;
        let first = First::Span { start, end };
        Some(Box::new(Managed { opened, first }))
    }

    async fn invalidate(&self, key: &CacheKey) -> Result<(), ManagerError> {
        Self::invalidate(self, key).await
    }
}

struct Managed {
    opened: Opened,
    first: First,
}

impl Open for Managed {
    fn facts(&self) -> EntryFacts {
        let entry = &self.opened.entry;
        let representation = entry.representation();
        let total_len = entry.total_len();
        let all = total_len.and_then(|total_len| ByteRange::try_new(0, total_len));
        EntryFacts {
            total_len,
            ranges: entry.accepts_ranges() || all.is_some_and(|all| entry.has_byte_range(all)),
            validators: Validators {
                served: ETag::parse(&entry.etag()),
                origin: representation.etag.clone(),
                last_modified: entry.last_modified(),
            },
            content_type: representation.content_type.as_deref().map(str::to_owned),
            age: entry.age(),
            fresh_for: entry.fresh_for(),
            storable: entry.storable(),
        }
    }

    fn glance(&self) -> Option<Glance> {
        self.opened.entry.glance()
    }

    fn read(self: Box<Self>, start: u64, end: Option<u64>) -> Box<dyn Pieces> {
        let Opened { entry, mut reader } = self.opened;
        let covers = match self.first {
            First::Nothing => false,
            // A suffix ends where the file ends.
            First::Suffix { .. } | First::Span { end: None, .. } => true,
            First::Span {
                end: Some(first_end),
                ..
            } => end.is_some_and(|end| end <= first_end),
        };
        if covers && reader.position() == start {
            if let Some(end) = end {
                reader.set_end(end);
            }
            return Box::new(reader);
        }
        // The new reader exists before the old one goes, so that what both want is never given up.
        Box::new(entry.reader_as(start, end, reader.hints()))
    }

    fn read_parts(self: Box<Self>) -> Box<dyn Parts> {
        let Opened { entry, reader } = self.opened;
        Box::new(ManagedParts {
            entry,
            hints: reader.hints(),
            first: Some(reader),
        })
    }
}

struct ManagedParts {
    entry: Entry,
    hints: Hints,
    /// The reader the entry was opened with; it holds its first bytes until the first part is asked for.
    first: Option<ChunkReader>,
}

impl Parts for ManagedParts {
    fn part(&mut self, range: ByteRange) -> Box<dyn Pieces> {
        let (start, end) = (range.start(), Some(range.end()));
        let reader = self.entry.reader_as(start, end, self.hints);
        self.first = None;
        Box::new(reader)
    }
}

impl Pieces for ChunkReader {
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Option<Result<Bytes, ReadError>>> {
        self.poll_next_bytes(cx, max)
    }

    fn poll_for_socket(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Option<Result<Piece, ReadError>>> {
        self.poll_next_piece(cx, max)
    }

    fn unread(&mut self, count: usize) {
        Self::unread(self, count);
    }
}
