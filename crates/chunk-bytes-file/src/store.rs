//! The byte store.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chunk_core::GenerationId;
#[cfg(target_os = "linux")]
use chunk_ports::Window;
use chunk_ports::{ByteStore, ByteStoreError, SegmentKey};
use tokio::sync::Semaphore;

use crate::descriptors::{Descriptors, Room};
use crate::error::{distrusted, failed, failed_flush};
use crate::layout::{Layout, Opened};
use crate::names::DurableFolders;
use crate::segment::{Cached, Segment};
#[cfg(target_os = "linux")]
use crate::window::FileWindow;

/// How often a file is looked up again because something was removed meanwhile.
const LOOK_UPS: usize = 64;

/// A [`ByteStore`] of files below one folder.
///
/// Its methods must be called on a tokio runtime, whose blocking pool makes every system call that may
/// wait. A segment of which a flush has failed is distrusted for as long as the process lives: every later
/// flush of it fails too, and its bytes belong under a new epoch.
///
/// Clones are the same store.
#[derive(Clone)]
pub struct FileByteStore {
    shared: Arc<Shared>,
}

/// How a [`FileByteStore`] is opened.
#[derive(Clone, Debug)]
pub struct FileByteStoreOptions {
    max_open_files: NonZeroUsize,
}

impl FileByteStoreOptions {
    /// As many files stay open unless told otherwise. A quarter of the usual limit of 1,024 a process,
    /// which leaves the rest to connections.
    pub const DEFAULT_OPEN_FILES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_open_files: Self::DEFAULT_OPEN_FILES,
        }
    }

    /// Keeps at most `count` files open, and half as many more while calls are opening them.
    #[must_use]
    pub const fn max_open_files(mut self, count: NonZeroUsize) -> Self {
        self.max_open_files = count;
        self
    }

    /// Opens the store in the folder `root`, which is made (0700) where it is missing.
    ///
    /// # Errors
    /// What the operating system says where `root` cannot be made or opened.
    pub fn open(&self, root: impl AsRef<Path>) -> io::Result<FileByteStore> {
        let root = root.as_ref();
        Ok(FileByteStore {
            shared: Arc::new(Shared {
                root: root.to_owned(),
                layout: Layout::open(root)?,
                descriptors: Descriptors::new(self.max_open_files),
                folders: DurableFolders::default(),
                distrusted: Mutex::default(),
                opening: Arc::new(Semaphore::new(self.max_open_files.get().div_ceil(2))),
            }),
        })
    }
}

impl Default for FileByteStoreOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl FileByteStore {
    /// Opens the store in the folder `root` with the default options.
    ///
    /// # Errors
    /// As [`FileByteStoreOptions::open`].
    pub fn open(root: impl AsRef<Path>) -> io::Result<Self> {
        FileByteStoreOptions::new().open(root)
    }

    /// How many files are open.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.shared.descriptors.len()
    }

    /// Runs `work`, which may open a file, where it may wait for a disk; only so many do at once.
    async fn on_a_file<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, ByteStoreError> + Send + 'static,
    ) -> Result<T, ByteStoreError> {
        let turn = Arc::clone(&self.shared.opening).acquire_owned().await;
        // It goes on where nobody waits any more, and so has its turn until it is over.
        self.blocking(move |shared| {
            let _turn = turn;
            work(shared)
        })
        .await
    }

    /// Runs `work` where it may wait for a disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, ByteStoreError> + Send + 'static,
    ) -> Result<T, ByteStoreError> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || work(&shared))
            .await
            .unwrap_or_else(|ended| Err(ByteStoreError::Unavailable(ended.into())))
    }
}

impl fmt::Debug for FileByteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileByteStore")
            .field("root", &self.shared.root)
            .field("open_files", &self.open_files())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ByteStore for FileByteStore {
    async fn write(
        &self,
        key: SegmentKey,
        offset: u64,
        data: Vec<Bytes>,
    ) -> Result<(), ByteStoreError> {
        if data.iter().all(Bytes::is_empty) {
            return Ok(());
        }
        self.on_a_file(move |shared| {
            let segment = shared.make(key).map_err(failed)?;
            segment.write(offset, &data)
        })
        .await
    }

    async fn read(
        &self,
        key: SegmentKey,
        offset: u64,
        len: usize,
    ) -> Result<Option<Bytes>, ByteStoreError> {
        if len == 0 {
            return Ok(None);
        }
        // A hop to the blocking pool and back costs more than copying a block out of the page cache.
        let mut begun = None;
        if let Some(segment) = self.shared.descriptors.find(key) {
            match segment.read_cached(offset, len) {
                Cached::All(bytes) => return Ok(Some(bytes.into())),
                Cached::PastTheEnd => return Ok(None),
                // Goes on with the same file, which may be removed meanwhile.
                Cached::Beginning(bytes) => begun = Some((segment, bytes)),
            }
        }
        self.on_a_file(move |shared| {
            let (segment, have) = match begun {
                Some(begun) => begun,
                None => match shared.find(key).map_err(failed)? {
                    Some(segment) => (segment, Vec::new()),
                    None => return Ok(None),
                },
            };
            let bytes = segment.read(offset, len, have).map_err(failed)?;
            Ok((!bytes.is_empty()).then(|| bytes.into()))
        })
        .await
    }

    #[cfg(target_os = "linux")]
    fn window(&self, key: SegmentKey, offset: u64, len: usize) -> Option<Box<dyn Window>> {
        let window = FileWindow::new(&self.shared, key, offset, len)?;
        Some(Box::new(window))
    }

    async fn flush(&self, key: SegmentKey) -> Result<(), ByteStoreError> {
        self.on_a_file(move |shared| shared.flush(key)).await
    }

    async fn remove(&self, keys: Vec<SegmentKey>) -> Result<(), ByteStoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        self.blocking(move |shared| shared.remove(&keys).map_err(failed))
            .await
    }

    async fn remove_generation(&self, generation: GenerationId) -> Result<(), ByteStoreError> {
        self.blocking(move |shared| shared.remove_generation(generation).map_err(failed))
            .await
    }

    async fn generations(&self) -> Result<Vec<GenerationId>, ByteStoreError> {
        self.blocking(|shared| shared.layout.generations().map_err(failed))
            .await
    }

    async fn free_space(&self) -> Result<Option<u64>, ByteStoreError> {
        self.blocking(|shared| shared.layout.free_space().map(Some).map_err(failed))
            .await
    }
}

/// What the clones of a store share. Its methods wait for disks.
pub(crate) struct Shared {
    root: PathBuf,
    layout: Layout,
    pub(crate) descriptors: Descriptors,
    folders: DurableFolders,
    /// The segments of which a flush has failed.
    distrusted: Mutex<HashSet<SegmentKey>>,
    /// How many calls may have a file at once that they found closed.
    opening: Arc<Semaphore>,
}

impl Shared {
    /// The segment, if it has a file.
    fn find(&self, key: SegmentKey) -> io::Result<Option<Arc<Segment>>> {
        for _ in 0..LOOK_UPS {
            if let Some(open) = self.descriptors.find(key) {
                return Ok(Some(open));
            }
            let mark = self.descriptors.mark();
            self.make_room();
            let file = match self.layout.open_segment(key)? {
                None => return Ok(None),
                // Not kept, so that writing is tried anew once it may succeed.
                Some(Opened::ReadOnly(file)) => return Ok(Some(Arc::new(Segment::new(key, file)))),
                Some(Opened::Writable(file)) => file,
            };
            if let Some(open) = self.descriptors.insert(Segment::new(key, file), mark) {
                return Ok(Some(open));
            }
        }
        Err(too_many_removals())
    }

    /// The segment, with a file made for it where it has none.
    fn make(&self, key: SegmentKey) -> io::Result<Arc<Segment>> {
        for _ in 0..LOOK_UPS {
            if let Some(open) = self.descriptors.find(key) {
                return Ok(open);
            }
            let mark = self.descriptors.mark();
            self.make_room();
            let segment = Segment::new(key, self.layout.make_segment(key)?);
            if let Some(open) = self.descriptors.insert(segment, mark) {
                return Ok(open);
            }
        }
        Err(too_many_removals())
    }

    /// Closes files until one more may be opened, flushing those that need it.
    fn make_room(&self) {
        while let Room::AfterFlushing(segment) = self.descriptors.make_room() {
            let turn = segment.flush_turn();
            if segment.sync_bytes(&turn).is_err() {
                // Told to whoever flushes it next; opening another segment does not fail for it.
                self.distrust(segment.key);
            }
        }
    }

    fn flush(&self, key: SegmentKey) -> Result<(), ByteStoreError> {
        let outcome = self.try_flush(key);
        if outcome.is_err() {
            self.distrust(key);
        }
        outcome
    }

    fn try_flush(&self, key: SegmentKey) -> Result<(), ByteStoreError> {
        if self.distrusts(key) {
            return Err(distrusted());
        }
        let Some(segment) = self.find(key).map_err(failed_flush)? else {
            // Nothing was written, or it was removed: nothing is left to lose.
            return Ok(());
        };
        let turn = segment.flush_turn();
        // The flush that had the turn before may have failed, and taken the kernel's word of it along.
        if self.distrusts(key) {
            return Err(distrusted());
        }
        let synced = segment.sync_bytes(&turn).and_then(|()| {
            if segment.is_named() {
                return Ok(());
            }
            self.folders.ensure(&self.layout, key.generation)?;
            self.layout.sync_generation_folder(key.generation)?;
            segment.set_named();
            Ok(())
        });
        if synced.is_err() {
            // While the turn is held, so that the next one sees it.
            self.distrust(key);
        }
        synced.map_err(failed_flush)
    }

    fn remove(&self, keys: &[SegmentKey]) -> io::Result<()> {
        let mut outcome = Ok(());
        for key in keys {
            outcome = outcome.and(self.layout.unlink(*key));
        }
        // After the unlinking: a read that begins from here on finds neither a name nor an open file.
        self.descriptors.forget(keys);
        let generations: HashSet<_> = keys.iter().map(|key| key.generation).collect();
        for generation in generations {
            outcome = outcome.and(self.layout.remove_folder_if_empty(generation));
            self.folders.forget(generation);
        }
        outcome
    }

    fn remove_generation(&self, generation: GenerationId) -> io::Result<()> {
        let outcome = self.layout.unlink_all(generation);
        self.descriptors.forget_generation(generation);
        let outcome = outcome.and(self.layout.remove_folder_if_empty(generation));
        self.folders.forget(generation);
        outcome
    }

    fn distrust(&self, key: SegmentKey) {
        self.lock_distrusted().insert(key);
    }

    fn distrusts(&self, key: SegmentKey) -> bool {
        self.lock_distrusted().contains(&key)
    }

    fn lock_distrusted(&self) -> MutexGuard<'_, HashSet<SegmentKey>> {
        self.distrusted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_many_removals() -> io::Error {
    io::Error::other("segments are being removed faster than one can be opened")
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
