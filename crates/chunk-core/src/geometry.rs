//! Arithmetic between bytes and chunks.

use core::num::NonZeroU64;

use crate::ByteRange;

/// The number of bytes in a chunk: any positive number, 10 MiB unless configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkSize(NonZeroU64);

/// A file's division into chunks of one size; the last chunk may be short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkGeometry {
    chunk_size: ChunkSize,
    total_len: u64,
}

/// Why a chunk or a byte is not part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// A chunk of zero bytes.
    #[error("the chunk size is 0; it must be at least 1 byte")]
    ZeroChunkSize,
    /// The file has no byte at all, hence no chunk.
    #[error("the file is empty and has no chunks")]
    EmptyFile,
    /// The byte lies at or after the file's end.
    #[error("byte {offset} is past the end of a file of {total_len} bytes")]
    PastEnd {
        /// The offset asked for.
        offset: u64,
        /// The file's length in bytes.
        total_len: u64,
    },
    /// The chunk starts at or after the file's end.
    #[error("chunk {index} does not exist; the last one is {last}")]
    NoSuchChunk {
        /// The index asked for.
        index: u64,
        /// The last index there is.
        last: u64,
    },
    /// The chunk would start beyond 2⁶⁴ − 1.
    #[error("chunk {index} starts beyond the largest offset")]
    Overflow {
        /// The index asked for.
        index: u64,
    },
}

impl ChunkSize {
    /// 10 MiB.
    pub const DEFAULT: Self = match NonZeroU64::new(10 * 1024 * 1024) {
        Some(size) => Self(size),
        None => unreachable!(),
    };

    /// A chunk size of `bytes`.
    ///
    /// # Errors
    /// [`GeometryError::ZeroChunkSize`] for 0.
    pub const fn new(bytes: u64) -> Result<Self, GeometryError> {
        match NonZeroU64::new(bytes) {
            Some(size) => Ok(Self(size)),
            None => Err(GeometryError::ZeroChunkSize),
        }
    }

    /// The size in bytes, at least 1.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The index of the chunk that holds `offset`, whatever the file's length.
    #[must_use]
    pub const fn index_of(self, offset: u64) -> u64 {
        offset / self.0.get()
    }

    /// The first byte of chunk `index`, whatever the file's length.
    ///
    /// # Errors
    /// [`GeometryError::Overflow`] where the offset does not fit.
    pub const fn start_of(self, index: u64) -> Result<u64, GeometryError> {
        match index.checked_mul(self.0.get()) {
            Some(start) => Ok(start),
            None => Err(GeometryError::Overflow { index }),
        }
    }
}

impl Default for ChunkSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl ChunkGeometry {
    /// The division of `total_len` bytes into chunks of `chunk_size`.
    ///
    /// # Errors
    /// [`GeometryError::EmptyFile`] where `total_len` is 0.
    pub const fn new(chunk_size: ChunkSize, total_len: u64) -> Result<Self, GeometryError> {
        if total_len == 0 {
            return Err(GeometryError::EmptyFile);
        }
        Ok(Self {
            chunk_size,
            total_len,
        })
    }

    /// The size of every chunk but possibly the last.
    #[must_use]
    pub const fn chunk_size(self) -> ChunkSize {
        self.chunk_size
    }

    /// The file's length in bytes, at least 1.
    #[must_use]
    pub const fn total_len(self) -> u64 {
        self.total_len
    }

    /// The number of chunks, at least 1.
    #[must_use]
    pub const fn chunk_count(self) -> u64 {
        self.last_chunk() + 1
    }

    /// The index of the last chunk.
    #[must_use]
    pub const fn last_chunk(self) -> u64 {
        self.chunk_size.index_of(self.total_len - 1)
    }

    /// The chunk that holds `offset`.
    ///
    /// # Errors
    /// [`GeometryError::PastEnd`] where the file has no such byte.
    pub const fn byte_to_chunk_index(self, offset: u64) -> Result<u64, GeometryError> {
        if offset >= self.total_len {
            return Err(GeometryError::PastEnd {
                offset,
                total_len: self.total_len,
            });
        }
        Ok(self.chunk_size.index_of(offset))
    }

    /// The bytes of chunk `index`, the last chunk clipped to the file's end.
    ///
    /// # Errors
    /// [`GeometryError::Overflow`] or [`GeometryError::NoSuchChunk`].
    pub fn chunk_range(self, index: u64) -> Result<ByteRange, GeometryError> {
        let start = self.chunk_size.start_of(index)?;
        let end = start
            .saturating_add(self.chunk_size.get())
            .min(self.total_len);
        ByteRange::try_new(start, end).ok_or(GeometryError::NoSuchChunk {
            index,
            last: self.last_chunk(),
        })
    }

    /// The whole file as one range.
    #[must_use]
    pub fn whole(self) -> ByteRange {
        ByteRange::try_new(0, self.total_len).unwrap_or_else(|| unreachable!("never empty"))
    }

    /// `range` clipped to the file, `None` where it starts past the end.
    #[must_use]
    pub fn clip(self, range: ByteRange) -> Option<ByteRange> {
        range.before(self.total_len)
    }

    /// The indices of exactly the chunks that overlap `range`, clipped to the file's end.
    pub fn chunks_overlapping(self, range: ByteRange) -> core::ops::Range<u64> {
        match self.clip(range) {
            Some(range) => {
                self.chunk_size.index_of(range.start())..self.chunk_size.index_of(range.last()) + 1
            }
            None => 0..0,
        }
    }

    /// The indices of the chunks that lie wholly inside `range`; a short last chunk counts when the
    /// range reaches the file's end.
    #[must_use]
    pub fn chunks_within(self, range: ByteRange) -> core::ops::Range<u64> {
        let size = self.chunk_size.get();
        let first = range.start().div_ceil(size);
        let end = if range.end() >= self.total_len {
            self.chunk_count()
        } else {
            range.end() / size
        };
        first..end.max(first)
    }
}
