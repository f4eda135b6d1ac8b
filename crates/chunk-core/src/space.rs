//! How much room there is: a cap that is held before bytes arrive, not after.

/// The bytes a cache holds and has promised to hold.
///
/// Room is reserved before a fetch begins and turned into use as bytes are written, so that the cap holds at
/// every instant and not only after the next clean-up:
///
/// ```text
/// used + reserved ≤ cap                      unless the cap was lowered below them
/// reserved        ≤ free − floor             free space of the file system as last observed,
///                                            less what was committed and plus what was freed since
/// ```
///
/// The second line uses the space that is *free*, not the size of the disk.
///
/// ```
/// use chunk_core::SpaceLedger;
///
/// let mut ledger = SpaceLedger::new(100);
/// ledger.reserve(80).unwrap();
/// assert_eq!(ledger.reserve(30).unwrap_err().missing, 10);
/// ledger.commit(50);
/// ledger.release(30);
/// assert_eq!((ledger.used(), ledger.reserved(), ledger.room()), (50, 0, 50));
/// ```
#[derive(Clone, Debug)]
pub struct SpaceLedger {
    cap: u64,
    floor: u64,
    used: u64,
    reserved: u64,
    /// Free bytes of the file system, `None` while nobody looked.
    free: Option<u64>,
}

/// There is not enough room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{missing} bytes of room are missing for a reservation of {wanted}")]
#[non_exhaustive]
pub struct Shortfall {
    /// The bytes asked for.
    pub wanted: u64,
    /// How many bytes to free, on disk and in the ledger, before the same request succeeds.
    pub missing: u64,
    /// Whether no eviction helps: it would not fit if nothing were used or reserved.
    pub is_hopeless: bool,
}

impl SpaceLedger {
    /// Nothing used, at most `cap` bytes, no floor of free space.
    #[must_use]
    pub const fn new(cap: u64) -> Self {
        Self {
            cap,
            floor: 0,
            used: 0,
            reserved: 0,
            free: None,
        }
    }

    /// What a start found in use. Adds to what is used already, whether or not that is above the cap.
    pub const fn adopt(&mut self, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
    }

    /// Promises `bytes` of room.
    ///
    /// # Errors
    /// [`Shortfall`] where there is less; nothing is reserved then.
    pub fn reserve(&mut self, bytes: u64) -> Result<(), Shortfall> {
        let missing = self.missing_for(bytes);
        if bytes > 0 && missing > 0 {
            return Err(Shortfall {
                wanted: bytes,
                missing,
                is_hopeless: self.never_fits(bytes),
            });
        }
        self.reserved = self.reserved.saturating_add(bytes);
        Ok(())
    }

    /// Reserved bytes were written. Returns how many were counted: never more than is reserved.
    pub fn commit(&mut self, bytes: u64) -> u64 {
        let bytes = bytes.min(self.reserved);
        self.reserved -= bytes;
        self.used = self.used.saturating_add(bytes);
        self.free = self.free.map(|free| free.saturating_sub(bytes));
        bytes
    }

    /// Reserved bytes will not be written. Returns how many were given back: never more than is reserved.
    pub fn release(&mut self, bytes: u64) -> u64 {
        let bytes = bytes.min(self.reserved);
        self.reserved -= bytes;
        bytes
    }

    /// Used bytes were removed from the disk. Returns how many were counted: never more than are used.
    pub fn freed(&mut self, bytes: u64) -> u64 {
        let bytes = bytes.min(self.used);
        self.used -= bytes;
        self.free = self.free.map(|free| free.saturating_add(bytes));
        bytes
    }

    /// The file system has `free` bytes that an ordinary user may take.
    pub const fn observe_free(&mut self, free: u64) {
        self.free = Some(free);
    }

    /// Changes the cap. What is above a lower one is [`Self::excess`].
    pub const fn set_cap(&mut self, cap: u64) {
        self.cap = cap;
    }

    /// Changes the number of bytes that must stay free on the file system.
    pub const fn set_floor(&mut self, floor: u64) {
        self.floor = floor;
    }

    /// The cap in bytes.
    #[must_use]
    pub const fn cap(&self) -> u64 {
        self.cap
    }

    /// Bytes on disk.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// Bytes promised and not yet written.
    #[must_use]
    pub const fn reserved(&self) -> u64 {
        self.reserved
    }

    /// The largest reservation that would succeed.
    #[must_use]
    pub fn room(&self) -> u64 {
        let under_cap = self
            .cap
            .saturating_sub(self.used)
            .saturating_sub(self.reserved);
        let on_disk = self.free.map_or(u64::MAX, |free| {
            free.saturating_sub(self.floor)
                .saturating_sub(self.reserved)
        });
        under_cap.min(on_disk)
    }

    /// The most bytes that could be on disk at once: the cap, or what floor and other users of the file system
    /// leave.
    #[must_use]
    pub fn most(&self) -> u64 {
        let on_disk = self.free.map_or(u64::MAX, |free| {
            free.saturating_add(self.used).saturating_sub(self.floor)
        });
        self.cap.min(on_disk)
    }

    /// How many bytes to evict so that cap and floor hold again: 0 in the normal run of things.
    #[must_use]
    pub fn excess(&self) -> u64 {
        self.missing_for(0)
    }

    fn never_fits(&self, bytes: u64) -> bool {
        let on_disk = self.free.is_some_and(|free| {
            u128::from(bytes) + u128::from(self.floor) > u128::from(free) + u128::from(self.used)
        });
        bytes > self.cap || on_disk
    }

    /// How many bytes to evict before a reservation of `bytes` succeeds.
    #[must_use]
    pub fn missing_for(&self, bytes: u64) -> u64 {
        // Sums of up to three offsets, hence the wider type.
        let promised = u128::from(self.reserved) + u128::from(bytes);
        let over_cap = (u128::from(self.used) + promised).saturating_sub(self.cap.into());
        let over_floor = self.free.map_or(0, |free| {
            (promised + u128::from(self.floor)).saturating_sub(free.into())
        });
        u64::try_from(over_cap.max(over_floor)).unwrap_or(u64::MAX)
    }
}
