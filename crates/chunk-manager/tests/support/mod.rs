//! A manager over memory adapters and a scripted origin, in virtual time.
#![expect(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod impatient;

use std::sync::Arc;
use std::time::Duration;

use chunk_core::{CacheKey, ChunkSize};
use chunk_events::BroadcastEvents;
use chunk_manager::{Builder, ChunkManager, ChunkReader, First, Limits, Opened};
use chunk_ports::{ByteStore, ChunkStore, Resource};
use chunk_store_memory::{MemoryByteStore, MemoryChunkStore};
use chunk_testkit::fetcher::ScriptedFetcher;
use chunk_testkit::origin::{Link, OriginObject, OriginWorld, verify_content};
use impatient::ImpatientClock;

pub const MIB: u64 = 1024 * 1024;
pub const FILM: &str = "film.mkv";

/// Everything a test may want to look into.
pub struct Rig {
    pub manager: ChunkManager,
    pub world: OriginWorld,
    pub store: Arc<dyn ChunkStore>,
    pub bytes: Arc<dyn ByteStore>,
    pub events: Arc<BroadcastEvents>,
}

pub struct Setup {
    pub world: OriginWorld,
    pub link: Link,
    pub chunk_size: u64,
    pub limits: Limits,
    pub fill: bool,
    pub scrub: bool,
    pub store: Arc<dyn ChunkStore>,
    pub bytes: Arc<dyn ByteStore>,
}

/// 50 ms away, 100 Mbit/s in all.
pub fn link() -> Link {
    Link::new()
        .delay(Duration::from_millis(50))
        .total_rate(12_500_000)
}

pub fn setup(len: u64) -> Setup {
    let world = OriginWorld::new();
    world.put(OriginObject::new(FILM, len));
    Setup {
        world,
        link: link(),
        chunk_size: MIB,
        limits: Limits::default(),
        fill: false,
        scrub: false,
        store: Arc::new(MemoryChunkStore::new()),
        bytes: Arc::new(MemoryByteStore::new()),
    }
}

impl Setup {
    pub async fn start(&self) -> Rig {
        self.start_with(|builder| builder).await
    }

    /// A manager that is built in one more way.
    pub async fn start_with(&self, build: impl FnOnce(Builder) -> Builder) -> Rig {
        let events = Arc::new(BroadcastEvents::new(
            std::num::NonZeroUsize::new(1024).unwrap(),
        ));
        let fetcher = ScriptedFetcher::new(self.world.clone(), self.link.clone());
        let builder = ChunkManager::builder(
            Arc::clone(&self.store),
            Arc::clone(&self.bytes),
            Arc::new(fetcher),
        );
        let manager = build(builder)
            .events(Arc::clone(&events) as _)
            .chunk_size(ChunkSize::new(self.chunk_size).unwrap())
            .limits(self.limits.clone())
            .clock(Arc::new(ImpatientClock::default()))
            .fill(self.fill)
            .scrub(self.scrub)
            .start()
            .await
            .unwrap();
        Rig {
            manager,
            world: self.world.clone(),
            store: Arc::clone(&self.store),
            bytes: Arc::clone(&self.bytes),
            events,
        }
    }
}

/// What answers that were cut before their end may have cost: of each, the piece that was on its way, of a block at
/// most. It comes twice, or is the part of a block that is not recorded. Where nothing is cut, nothing.
pub fn cost_of_cuts(world: &OriginWorld) -> u64 {
    const PIECE: u64 = 64 * 1024;
    let records = world.journal().records();
    let cuts = records.iter().filter(|record| record.ended_by_peer);
    cuts.count() as u64 * PIECE
}

pub fn key(name: &str) -> Arc<CacheKey> {
    Arc::new(CacheKey::new("", &format!("/{name}"), &[""; 0]).unwrap())
}

pub fn resource(name: &str) -> Resource {
    Resource::from_key(key(name))
}

impl Rig {
    pub async fn open(&self, start: u64, end: Option<u64>) -> Opened {
        self.manager
            .open(resource(FILM), First::Span { start, end })
            .await
            .unwrap()
    }
}

/// Reads `len` bytes, checks every one of them, and returns how many pieces they came in.
pub async fn read_exact(reader: &mut ChunkReader, version: u64, len: u64) -> usize {
    let mut left = len;
    let mut pieces = 0;
    while left > 0 {
        let at = reader.position();
        let bytes = reader
            .next(usize::try_from(left).unwrap())
            .await
            .unwrap()
            .unwrap_or_else(|| panic!("ended at {at}, {left} bytes early"));
        verify_content(FILM, version, at, &bytes).unwrap();
        left -= bytes.len() as u64;
        pieces += 1;
    }
    pieces
}

/// Reads to the end, checks every byte, and returns how many there were.
pub async fn read_to_end(reader: &mut ChunkReader, version: u64) -> u64 {
    let mut read = 0;
    loop {
        let at = reader.position();
        let Some(bytes) = reader.next(1 << 20).await.unwrap() else {
            return read;
        };
        verify_content(FILM, version, at, &bytes).unwrap();
        read += bytes.len() as u64;
    }
}
