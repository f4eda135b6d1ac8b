//! Whatever is asked for, in whatever order: right bytes, no leak, and books that match the disk.

#[path = "support/disk.rs"]
mod disk;
mod support;

use std::sync::Arc;
use std::time::Duration;

use chunk_core::ChunkSize;
use chunk_manager::{ChunkManager, First, Limits, ManagerError, OpenError, Priority, ReadError};
use chunk_ports::{ByteStore, ChunkStore};
use chunk_store_memory::MemoryChunkStore;
use chunk_testkit::faulty::{
    ByteStoreMethod, ChunkStoreMethod, Fault, Faults, FaultyByteStore, FaultyChunkStore,
};
use chunk_testkit::fetcher::ScriptedFetcher;
use chunk_testkit::origin::{Link, OriginObject, OriginWorld, verify_content};
use disk::Disk;
use proptest::prelude::*;
use support::impatient::ImpatientClock;
use support::{MIB, key, link, resource};

const NAMES: [&str; 3] = ["a.mkv", "b.mkv", "c.mkv"];
const LEN: u64 = 5 * MIB + 77_777;

#[derive(Clone, Debug)]
enum Op {
    Read {
        film: usize,
        at: u64,
        len: u64,
    },
    Request {
        film: usize,
        chunk: u64,
        priority: usize,
    },
    Cancel {
        film: usize,
        chunk: u64,
    },
    Prefetch {
        film: usize,
    },
    Evict {
        film: usize,
    },
    EvictAll,
    Pin {
        film: usize,
        pinned: bool,
    },
    Cap {
        mebibytes: u64,
    },
    Verify,
    FailFlush,
    FailWrite,
    FailCommit,
    NewVersion {
        film: usize,
    },
    Pause {
        millis: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let film = 0..NAMES.len();
    prop_oneof![
        6 => (film.clone(), 0..LEN, 1..2 * MIB).prop_map(|(film, at, len)| Op::Read { film, at, len }),
        4 => (film.clone(), 0..6_u64, 0..4_usize)
            .prop_map(|(film, chunk, priority)| Op::Request { film, chunk, priority }),
        1 => (film.clone(), 0..6_u64).prop_map(|(film, chunk)| Op::Cancel { film, chunk }),
        1 => film.clone().prop_map(|film| Op::Prefetch { film }),
        2 => film.clone().prop_map(|film| Op::Evict { film }),
        1 => Just(Op::EvictAll),
        1 => (film.clone(), any::<bool>()).prop_map(|(film, pinned)| Op::Pin { film, pinned }),
        1 => (2..12_u64).prop_map(|mebibytes| Op::Cap { mebibytes }),
        1 => Just(Op::Verify),
        1 => Just(Op::FailFlush),
        1 => Just(Op::FailWrite),
        1 => Just(Op::FailCommit),
        1 => film.prop_map(|film| Op::NewVersion { film }),
        4 => prop_oneof![1..300_u64, Just(1_000), Just(70_000)].prop_map(|millis| Op::Pause { millis }),
    ]
}

struct World {
    manager: ChunkManager,
    origin: OriginWorld,
    limits: Limits,
    flushes: Faults<ByteStoreMethod>,
    commits: Faults<ChunkStoreMethod>,
}

impl World {
    async fn carry_out(&self, op: Op) {
        match op {
            Op::Read { film, at, len } => self.read(NAMES[film], at, len).await,
            Op::Request {
                film,
                chunk,
                priority,
            } => {
                let priority = [
                    Priority::Critical,
                    Priority::High,
                    Priority::Medium,
                    Priority::Low,
                ][priority];
                if let Some(entry) = self.entry(NAMES[film]).await {
                    drop(self.manager.request_chunk(entry, chunk, priority).await);
                }
            }
            Op::Cancel { film, chunk } => {
                if let Some(entry) = self.entry(NAMES[film]).await {
                    drop(self.manager.cancel_requests(entry, &[chunk]).await);
                }
            }
            Op::Prefetch { film } => {
                drop(
                    self.manager
                        .prefetch(resource(NAMES[film]), Priority::Low)
                        .await,
                );
            }
            Op::Evict { film } => match self.manager.evict(&key(NAMES[film])).await {
                Ok(_)
                | Err(ManagerError::NoSuchEntry | ManagerError::InUse | ManagerError::Index(_)) => {
                }
                Err(error) => panic!("{error}"),
            },
            Op::EvictAll => drop(self.manager.evict_all().await),
            Op::Pin { film, pinned } => drop(self.manager.pin(&key(NAMES[film]), pinned).await),
            Op::Cap { mebibytes } => self
                .manager
                .set_limits(self.limits.clone().with_max_size(Some(mebibytes * MIB))),
            Op::Verify => {
                let report = self.manager.verify(true).await.unwrap();
                assert!(report.bad.is_empty(), "{report:?}");
            }
            Op::FailFlush => self
                .flushes
                .fail_next(ByteStoreMethod::Flush, Fault::Corrupt),
            Op::FailWrite => self.flushes.fail_next(ByteStoreMethod::Write, Fault::Full),
            Op::FailCommit => self
                .commits
                .fail_next(ChunkStoreMethod::Commit, Fault::AppliedButUnavailable),
            Op::NewVersion { film } => {
                let version = self.origin.journal().requests() as u64 + 2;
                self.origin.set_version(NAMES[film], version);
            }
            Op::Pause { millis } => tokio::time::sleep(Duration::from_millis(millis)).await, // why: virtual time between orders
        }
    }

    async fn entry(&self, name: &str) -> Option<chunk_core::EntryId> {
        let status = self.manager.entry_status(&key(name)).await.unwrap();
        status.map(|status| status.id)
    }

    /// Every byte is of one version, and of the place it is said to be at.
    async fn read(&self, name: &str, at: u64, len: u64) {
        let first = First::Span {
            start: at,
            end: Some((at + len).min(LEN)),
        };
        let mut opened = match self.manager.open(resource(name), first).await {
            Ok(opened) => opened,
            Err(OpenError::Manager(ManagerError::Closed)) => return,
            Err(error) => panic!("{error}"),
        };
        let tag = opened.entry.etag();
        loop {
            let from = opened.reader.position();
            match opened.reader.next(300_000).await {
                Ok(Some(bytes)) => verify_content(name, version_of(&tag), from, &bytes).unwrap(),
                Ok(None) | Err(ReadError::Changed | ReadError::Closed) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Nothing is left once everything is told to go.
    async fn evict_everything(&self, disk: &Disk, store: &dyn ChunkStore) {
        for entry in self.manager.status().await.unwrap() {
            self.manager.evict(&entry.key).await.unwrap();
        }
        assert_eq!(store.entries().await.unwrap(), []);
        assert_eq!(store.jobs().await.unwrap(), []);
        assert_eq!(store.retired_generations().await.unwrap(), []);
        assert_eq!(disk.generations().await.unwrap(), []);
        assert_eq!(disk.segments(), []);
        assert_eq!(
            (disk.used(), self.manager.statistics().stored_bytes),
            (0, 0)
        );
    }
}

/// The tag tells the version, as it would tell a player.
fn version_of(tag: &str) -> u64 {
    let (version, _) = tag.trim_start_matches("\"v").split_once('-').unwrap();
    version.parse().unwrap()
}

type Bytes = Arc<FaultyByteStore<Disk>>;
type Index = Arc<FaultyChunkStore<MemoryChunkStore>>;

async fn world(link: Link) -> (Arc<World>, Bytes, Index) {
    let origin = OriginWorld::new();
    for name in NAMES {
        origin.put(OriginObject::new(name, LEN));
    }
    let bytes = Arc::new(FaultyByteStore::new(Disk::default()));
    let index = Arc::new(FaultyChunkStore::new(MemoryChunkStore::new()));
    let limits = Limits::default().with_initial_buffer(MIB);
    let manager = ChunkManager::builder(
        Arc::clone(&index) as _,
        Arc::clone(&bytes) as _,
        Arc::new(ScriptedFetcher::new(origin.clone(), link)),
    )
    .chunk_size(ChunkSize::new(MIB).unwrap())
    .limits(limits.clone())
    // Without it, work that goes round in circles would keep the test from ever failing.
    .clock(Arc::new(ImpatientClock::default()))
    .start()
    .await
    .unwrap();
    let world = World {
        manager,
        origin,
        limits,
        flushes: bytes.faults(),
        commits: index.faults(),
    };
    (Arc::new(world), bytes, index)
}

/// Carries out `ops` all at once but for its pauses, and looks at what is left.
fn play(ops: Vec<Op>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(async {
            let (world, bytes, index) = world(link()).await;
            let disk = bytes.inner();
            let mut tasks = tokio::task::JoinSet::new();
            for op in ops {
                if matches!(op, Op::Pause { .. }) {
                    world.carry_out(op).await;
                } else {
                    let world = Arc::clone(&world);
                    tasks.spawn(async move { world.carry_out(op).await });
                    tokio::task::yield_now().await;
                }
            }
            let all = async {
                while let Some(done) = tasks.join_next().await {
                    done.unwrap();
                }
            };
            tokio::time::timeout(Duration::from_secs(3_600), all)
                .await
                .expect("something waits for ever");
            world.flushes.clear();
            world.commits.clear();
            // Durable work, a minute for idle entries, and whatever was put off.
            tokio::time::sleep(Duration::from_secs(300)).await; // why: virtual time, until all is quiet
            assert_eq!(world.origin.journal().in_flight(), 0);
            let stored = world.manager.statistics().stored_bytes;
            assert_eq!(disk.used(), stored, "of {} at most", disk.most());
            let report = world.manager.verify(false).await.unwrap();
            let status = world.manager.status().await;
            assert!(report.bad.is_empty(), "{report:?} of {status:?}");
            for name in NAMES {
                world.read(name, 0, LEN).await;
            }
            tokio::time::sleep(Duration::from_secs(5)).await; // why: virtual time, the last commit
            world.evict_everything(disk, index.inner()).await;
        });
}

#[test]
fn an_order_that_is_cut_short_of_room_leaves_no_connection() {
    play(vec![
        Op::Read {
            film: 0,
            at: 0,
            len: 1,
        },
        Op::Prefetch { film: 0 },
        Op::Pause { millis: 51 },
        Op::Cap { mebibytes: 2 },
    ]);
}

#[test]
fn evicting_all_while_a_commit_is_unsure_and_others_read_leaves_nothing() {
    let read = |film, at, len| Op::Read { film, at, len };
    play(vec![
        read(2, 0, LEN),
        read(1, 0, LEN),
        Op::FailCommit,
        Op::Pause { millis: 60 },
        read(0, 0, LEN),
        Op::EvictAll,
        Op::Evict { film: 1 },
        read(1, 0, LEN),
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_orders_at_once_leave_right_bytes_and_right_books(ops in prop::collection::vec(op(), 1..40)) {
        play(ops);
    }
}
