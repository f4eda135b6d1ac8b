//! Stores that fail on purpose.
//!
//! [`FaultyByteStore`] and [`FaultyChunkStore`] wrap a store and fail the calls that their [`Faults`]
//! say; the handle is shared, so that a test switches faults while the store is in use. [`CrashByteStore`]
//! is a byte store that can lose power.
//!
//! ```
//! use bytes::Bytes;
//! use chunk_core::GenerationId;
//! use chunk_ports::{ByteStore, ByteStoreError, SegmentKey};
//! use chunk_testkit::faulty::{ByteStoreMethod, CrashByteStore, Fault, FaultyByteStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), ByteStoreError> {
//! let store = FaultyByteStore::new(CrashByteStore::new());
//! let faults = store.faults();
//! let key = SegmentKey { generation: GenerationId::new(1), segment: 0, epoch: 0 };
//!
//! faults.fail_call(ByteStoreMethod::Write, 2, Fault::Full);
//! store.write(key, 0, vec![Bytes::from_static(b"one")]).await?;
//! let full = store.write(key, 3, vec![Bytes::from_static(b"two")]).await;
//! assert!(matches!(full, Err(ByteStoreError::Full(_))));
//! assert_eq!(faults.calls(ByteStoreMethod::Write), 2);
//!
//! faults.fail_all(true);
//! assert!(store.read(key, 0, 3).await.is_err());
//! # Ok(())
//! # }
//! ```

mod byte_store;
mod chunk_store;
mod crash;
mod faults;
mod rng;

pub use byte_store::{ByteStoreMethod, FaultyByteStore};
pub use chunk_store::{ChunkStoreMethod, FaultyChunkStore};
pub use crash::CrashByteStore;
pub use faults::{Fault, Faults};
