//! Bytes of a file, addressed by their offsets in the file.

/// Some bytes of a file and where they lie in it. Reading what is not there gives `None`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    at: u64,
    bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// Bytes past the file's end are not part of it.
    pub(super) fn new(at: u64, bytes: &'a [u8], total_len: u64) -> Self {
        let room = usize::try_from(total_len.saturating_sub(at)).unwrap_or(usize::MAX);
        Self {
            at,
            bytes: bytes.get(..room).unwrap_or(bytes),
        }
    }

    /// The offset of the first byte.
    pub(super) const fn start(self) -> u64 {
        self.at
    }

    /// The offset after the last byte.
    pub(super) const fn end(self) -> u64 {
        self.at.saturating_add(self.bytes.len() as u64)
    }

    pub(super) fn bytes(self, at: u64, len: usize) -> Option<&'a [u8]> {
        let from = usize::try_from(at.checked_sub(self.at)?).ok()?;
        self.bytes.get(from..from.checked_add(len)?)
    }

    fn array<const N: usize>(self, at: u64) -> Option<[u8; N]> {
        self.bytes(at, N)?.try_into().ok()
    }

    pub(super) fn byte(self, at: u64) -> Option<u8> {
        self.array::<1>(at).map(|[byte]| byte)
    }

    /// A four-character code.
    pub(super) fn code(self, at: u64) -> Option<[u8; 4]> {
        self.array(at)
    }

    pub(super) fn u32_be(self, at: u64) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    pub(super) fn u64_be(self, at: u64) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }

    pub(super) fn u32_le(self, at: u64) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// A big-endian integer of up to eight bytes.
    pub(super) fn uint_be(self, at: u64, len: u64) -> Option<u64> {
        let len = usize::try_from(len).ok().filter(|&len| len <= 8)?;
        let bytes = self.bytes(at, len)?;
        Some(
            bytes
                .iter()
                .fold(0, |value, &byte| (value << 8) | u64::from(byte)),
        )
    }
}
