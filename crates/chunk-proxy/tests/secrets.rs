//! What is logged while requests with secrets are served, refused and cut.
//!
//! The only test of its process: which events are listened to is decided once per process, and another
//! thread that meets an event first would decide that nobody listens.

use std::fmt::Write as _;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chunk_manager::ChunkManager;
use chunk_proxy::{Mount, PartitionKey, Proxy, ProxyConfig};
use chunk_store_memory::{MemoryByteStore, MemoryChunkStore};
use chunk_testkit::fetcher::ScriptedFetcher;
use chunk_testkit::origin::{Cut, Fault, Link, OriginObject, OriginWorld, When};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tracing::field::{Field, Visit};
use tracing::span;

/// Everything that this project's crates log, as text.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<String>>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0.lock().unwrap(), "{field}={value:?} ");
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("chunk")
    }
    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        span.record(&mut self.clone());
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Sends a request line with secrets in every place that can hold one, and gives the whole answer.
async fn ask(proxy: &Proxy, request_line: &str, host: &str) -> String {
    let (mut ours, theirs) = duplex(64 * 1024);
    let proxy = proxy.clone();
    tokio::spawn(async move { proxy.serve_connection(theirs, None, pending()).await });
    let request = format!(
        "{request_line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Bearer s3cret\r\n\
         Cookie: id=s3cret\r\nReferer: http://localhost/?token=s3cret\r\n\r\n"
    );
    ours.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn fault48_secrets_are_neither_logged_nor_answered() {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let answers = runtime.block_on(async {
        let world = OriginWorld::new();
        for name in ["film.mkv", "cut.mkv", "busy.mkv"] {
            world.put(OriginObject::new(name, 300_000));
        }
        let bytes = 100_000;
        let how = Cut::Reset;
        world.fault("cut.mkv", When::Next, Fault::CutAfter { bytes, how });
        world.fault("cut.mkv", When::From(2), Fault::NewVersion(2));
        world.fault("busy.mkv", When::Always, Fault::NoAnswer);
        let link = Link::new().delay(Duration::from_millis(50));
        let fetcher = Arc::new(ScriptedFetcher::new(world, link));
        let (store, bytes) = (MemoryChunkStore::new(), MemoryByteStore::new());
        let manager = ChunkManager::builder(Arc::new(store), Arc::new(bytes), fetcher)
            .start()
            .await
            .unwrap();
        let mount = Mount::unnamed().forwarding_authorization(PartitionKey::new([3; 32]));
        let proxy = Proxy::new(manager, ProxyConfig::new(vec![mount])).unwrap();
        let mut answers = String::new();
        for (method, name, host) in [
            ("GET", "film.mkv", "localhost"),
            ("HEAD", "film.mkv", "localhost"),
            ("GET", "cut.mkv", "localhost"),
            ("GET", "busy.mkv", "localhost"),
            ("GET", "none.mkv", "localhost"),
            ("POST", "film.mkv", "localhost"),
            ("GET", "film.mkv", "s3cret.example"),
            ("GET", "film.mkv#s3cret", "localhost"),
        ] {
            let line = format!("{method} /{name}?token=s3cret&unlisted=s3cret");
            answers.push_str(&ask(&proxy, &line, host).await);
        }
        answers
    });
    let text = log.0.lock().unwrap().clone();
    for expected in [
        "film.mkv",
        "status=404",
        "status=405",
        "status=421",
        "cut short",
    ] {
        assert!(
            text.contains(expected),
            "{expected} should be logged: {text}"
        );
    }
    assert!(!text.contains("s3cret"), "{text}");
    assert!(!answers.contains("s3cret"));
}
