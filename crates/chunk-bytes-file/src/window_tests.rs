//! Windows onto real files, into real sockets.

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use bytes::Bytes;
use chunk_core::GenerationId;
use chunk_ports::ByteStore;

use super::*;
use crate::FileByteStore;

const KEY: SegmentKey = SegmentKey {
    generation: GenerationId::new(7),
    segment: 3,
    epoch: 0,
};

/// Longer than one window, and no multiple of a page.
const LENGTH: usize = MOST + 10_007;

fn content() -> Vec<u8> {
    (0..LENGTH).map(|at| (at * 31 / 7) as u8).collect()
}

async fn stored() -> (FileByteStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = FileByteStore::open(folder.path()).unwrap();
    let written = store.write(KEY, 0, vec![content().into()]).await;
    written.unwrap();
    (store, folder)
}

/// A socket that does not block, and its other end.
fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, theirs)
}

/// The only file below a folder.
fn only_file(folder: &std::path::Path) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(folder).unwrap();
    let path = entries.next().unwrap().unwrap().path();
    if path.is_dir() {
        only_file(&path)
    } else {
        path
    }
}

#[tokio::test]
async fn a_window_puts_the_bytes_that_a_read_would_give() {
    let (store, _folder) = stored().await;
    let (ours, theirs) = connected();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        (&theirs).read_to_end(&mut all).unwrap();
        all
    });
    // From an odd place, window by window, however little the socket takes at once.
    let mut at = 1_003;
    while at < LENGTH {
        let window = store.window(KEY, at as u64, LENGTH - at).unwrap();
        let mut from = 0;
        while from < window.len() {
            match window.put(ours.as_fd(), from) {
                Ok(Put::Some(count)) => from += count,
                Ok(Put::Absent) => panic!("absent at {at} + {from}"),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(window.put(ours.as_fd(), from).unwrap(), Put::Absent);
        at += window.len();
    }
    drop(ours);
    assert_eq!(reader.join().unwrap(), content()[1_003..]);
}

#[tokio::test]
async fn fault32_a_removed_segment_is_absent_from_then_on() {
    let (store, _folder) = stored().await;
    let (ours, _theirs) = connected();
    let window = store.window(KEY, 0, 100).unwrap();
    store.remove(vec![KEY]).await.unwrap();
    assert_eq!(window.put(ours.as_fd(), 0).unwrap(), Put::Absent);
    assert!(store.window(KEY, 0, 100).is_none());
}

#[tokio::test]
async fn fault18_a_file_cut_short_by_somebody_else_is_absent_and_ends_nothing() {
    let (store, folder) = stored().await;
    let (ours, _theirs) = connected();
    let window = store.window(KEY, 50_000, 100).unwrap();
    let file = File::options()
        .write(true)
        .open(only_file(folder.path()))
        .unwrap();
    file.set_len(50_000).unwrap();
    assert_eq!(window.put(ours.as_fd(), 0).unwrap(), Put::Absent);
    assert!(store.window(KEY, 50_000, 100).is_none());
    assert!(store.window(KEY, 49_900, 100).is_some());
}

#[tokio::test]
async fn what_is_not_there_has_no_window() {
    let (store, _folder) = stored().await;
    let other = SegmentKey { segment: 4, ..KEY };
    assert!(store.window(other, 0, 1).is_none());
    assert!(store.window(KEY, LENGTH as u64, 1).is_none());
    assert!(store.window(KEY, 0, 0).is_none());
    assert!(store.window(KEY, u64::MAX, 1).is_none());
    assert!(store.window(KEY, u64::MAX - 1, usize::MAX).is_none());
    // Only its beginning is there.
    assert!(store.window(KEY, LENGTH as u64 - 10, 11).is_none());
    let sparse = SegmentKey { segment: 5, ..KEY };
    store
        .write(sparse, 1 << 30, vec![Bytes::from_static(b"end")])
        .await
        .unwrap();
    assert!(store.window(sparse, 1 << 30, 3).is_some());
}
