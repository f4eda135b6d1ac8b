//! The traits of others that a reader has.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use chunk_core::BLOCK_SIZE;
use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};

use super::ChunkReader;
use crate::error::ReadError;

impl AsyncRead for ChunkReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(self.poll_next_bytes(cx, buf.remaining())) {
            Some(Ok(bytes)) => {
                buf.put_slice(&bytes);
                Poll::Ready(Ok(()))
            }
            Some(Err(error)) => Poll::Ready(Err(error.into())),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncSeek for ChunkReader {
    fn start_seek(mut self: Pin<&mut Self>, target: io::SeekFrom) -> io::Result<()> {
        let from = |base: u64, offset: i64| {
            base.checked_add_signed(offset).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a seek to before the first byte or beyond the largest offset",
                )
            })
        };
        let position = match target {
            io::SeekFrom::Start(position) => position,
            io::SeekFrom::Current(offset) => from(self.position, offset)?,
            io::SeekFrom::End(offset) => {
                let total_len = self.live.lock().total_len().ok_or_else(|| {
                    io::Error::new(
                        io::ErrorKind::Unsupported,
                        "the file's length is not known yet",
                    )
                })?;
                from(total_len, offset)?
            }
        };
        self.seek_to = Some(position);
        Ok(())
    }

    fn poll_complete(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        if let Some(position) = self.seek_to.take() {
            self.seek_to(position);
        }
        Poll::Ready(Ok(self.position))
    }
}

/// The bytes of a reader in pieces.
pub(super) struct ByteStream(pub(super) ChunkReader);

impl Stream for ByteStream {
    type Item = Result<Bytes, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        const MAX: usize = 4 * BLOCK_SIZE as usize;
        self.0.poll_next_bytes(cx, MAX)
    }
}
