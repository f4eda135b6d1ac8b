//! The real program on a disk that fails, fills up or changes behind its back.
//!
//! System calls fail by `strace`; where it may not trace, those tests say so and pass, and the edits of
//! files between two runs remain.

mod crash_support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crash_support::index::recorded;
use crash_support::strace::{Injection, Tracing, say_skipped};
use crash_support::{Cache, Server, World};

const FILM: &str = "film.mkv";
const LEN: u64 = 2_300_001;
const SEGMENT: u64 = 1 << 20;
const BLOCK: u64 = 65_536;

fn world() -> World {
    World::new(&[(FILM, LEN), ("other", 100_000)])
}

/// A cache that holds the film, in three segments.
fn whole_cache(world: &World) -> Cache {
    let cache = Cache::new();
    let url = world.origin.url();
    let fetched = cache.json(&[
        "fetch",
        "--origin",
        &url,
        "--chunk-size",
        "1MiB",
        "--json",
        "/film.mkv",
    ]);
    assert_eq!(fetched["event"], "done", "{fetched}");
    cache
}

/// A server whose calls on segment files fail like this, with the cache's log of what was injected.
fn failing(
    world: &World,
    cache: &Cache,
    calls: &'static str,
    error: &'static str,
    when: &'static str,
) -> (Server, Tracing) {
    let injection = Injection::Fail { calls, error, when };
    let tracing = Tracing::new(injection, Tracing::segments_of(&cache.folder()));
    let url = world.origin.url();
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--chunk-size",
        "1MiB",
        "--origin",
        &url,
    ];
    let server = cache.try_serve_traced(&tracing, &arguments);
    (server.unwrap(), tracing)
}

fn recorded_len(world: &World, cache: &Cache) -> u64 {
    let recorded = world.runtime.block_on(recorded(&cache.folder()));
    recorded.of(FILM).len()
}

/// What the index says is there is there, without the origin; and the rest comes from it.
fn a_new_process_is_right(world: &mut World, cache: &Cache) {
    let left = world.runtime.block_on(recorded(&cache.folder()));
    let verified = cache.json(&["verify", "--json"]);
    assert_eq!(verified["bad"].as_array().unwrap().len(), 0, "{verified}");
    world.runtime.block_on(world.origin.close());
    let server = cache.serve(&world.origin.url());
    for range in left.of(FILM).iter() {
        server.range(FILM, range.start(), range.end());
    }
    server.stop();
    world.runtime.block_on(world.origin.reopen()).unwrap();
    let server = cache.serve(&world.origin.url());
    server.whole(FILM, LEN);
    server.stop();
}

#[test]
fn fault16_what_could_not_be_flushed_is_never_called_recorded() {
    if !Tracing::is_possible() {
        return;
    }
    let mut world = world();
    let cache = Cache::new();
    let (server, tracing) = failing(&world, &cache, "fdatasync", "EIO", "1+");
    server.whole(FILM, LEN);
    server.stop();
    assert!(tracing.injected() > 0, "no flush was tried");
    assert_eq!(recorded_len(&world, &cache), 0, "nothing was flushed");
    a_new_process_is_right(&mut world, &cache);
}

#[test]
fn fault16_a_file_whose_flush_failed_is_not_flushed_again() {
    if !Tracing::is_possible() {
        return;
    }
    let mut world = world();
    let cache = Cache::new();
    let (server, tracing) = failing(&world, &cache, "fdatasync", "EIO", "1");
    server.whole(FILM, LEN);
    server.whole(FILM, LEN);
    server.stop();
    let failed = tracing.failed_on();
    assert!(!failed.is_empty(), "no flush failed");
    for file in failed {
        let flushes = tracing.calls_on("fdatasync", &file);
        assert_eq!(flushes, 1, "{}: a second flush would lie", file.display());
    }
    a_new_process_is_right(&mut world, &cache);
}

#[test]
fn fault15_a_full_disk_is_passed_through_and_caching_resumes() {
    if !Tracing::is_possible() {
        return;
    }
    let mut world = world();
    let cache = Cache::new();
    let (mut server, tracing) = failing(&world, &cache, "pwritev,pwrite64", "ENOSPC", "2..5");
    server.whole(FILM, LEN);
    server.whole("other", 100_000);
    assert!(tracing.injected() > 0, "the disk was never full");
    // The disk has room again: the same process stores what it was refused, without being asked for it.
    cache.entry_until("/film.mkv", |entry| entry["recorded_bytes"] == LEN);
    assert!(server.is_running());
    server.stop();
    a_new_process_is_right(&mut world, &cache);
}

#[test]
fn fault17_a_block_that_cannot_be_read_is_fetched_again() {
    if !Tracing::is_possible() {
        return;
    }
    let mut world = world();
    let cache = whole_cache(&world);
    let before = world.sent(FILM);
    let (server, tracing) = failing(&world, &cache, "pread64,preadv2", "EIO", "2");
    server.whole(FILM, LEN);
    server.stop();
    assert!(tracing.injected() > 0, "nothing was read");
    let again = world.sent(FILM) - before;
    // At most what one read asks for, for each thread that met one.
    assert!(again <= 8 * 4 * BLOCK, "{again}");
    a_new_process_is_right(&mut world, &cache);
}

#[test]
fn fault19_without_descriptors_or_rights_for_files_players_are_served_all_the_same() {
    if !Tracing::is_possible() {
        return;
    }
    for error in ["EMFILE", "EACCES", "EROFS"] {
        let mut world = world();
        let cache = Cache::new();
        let (server, tracing) = failing(&world, &cache, "openat", error, "1+");
        server.whole(FILM, LEN);
        server.whole("other", 100_000);
        let ended = server.stop();
        assert!(tracing.injected() > 0, "{error}: no file was opened");
        assert!(
            ended.stderr.contains("WARN"),
            "{error}: it kept silent: {ended:?}"
        );
        a_new_process_is_right(&mut world, &cache);
    }
}

/// The files of the film's segments, in order.
fn segments(cache: &Cache) -> Vec<PathBuf> {
    let files = cache.segment_files();
    assert_eq!(files.len(), 3, "{files:?}");
    files
}

/// After `edit`, the bytes are right and the origin sends at most `blocks` blocks again.
fn after_edit(edit: impl Fn(&[PathBuf]), blocks: u64) {
    let mut world = world();
    let cache = whole_cache(&world);
    edit(&segments(&cache));
    let before = world.sent(FILM);
    let server = cache.serve(&world.origin.url());
    server.whole(FILM, LEN);
    server.stop();
    let again = world.sent(FILM) - before;
    assert!(again > 0, "the damage was not met");
    assert!(
        again <= blocks * BLOCK,
        "{again} bytes again for {blocks} blocks"
    );
    a_new_process_is_right(&mut world, &cache);
}

#[test]
fn fault18_a_flipped_bit_costs_its_block() {
    for at in [0, 70_000, SEGMENT - 1] {
        after_edit(
            |files| {
                let file = fs::File::options()
                    .read(true)
                    .write(true)
                    .open(&files[1])
                    .unwrap();
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                byte[0] ^= 0x10;
                file.write_all_at(&byte, at).unwrap();
            },
            1,
        );
    }
}

#[test]
fn fault18_a_truncated_file_costs_what_it_lost() {
    after_edit(
        |files| {
            let file = fs::File::options().write(true).open(&files[0]).unwrap();
            file.set_len(SEGMENT / 2 + 1).unwrap();
        },
        8,
    );
}

#[test]
fn fault18_a_deleted_file_costs_its_segment() {
    after_edit(|files| fs::remove_file(&files[1]).unwrap(), 16);
}

#[test]
fn fault18_swapped_files_are_not_taken_for_each_other() {
    after_edit(
        |files| {
            let beside = files[0].with_extension("swap");
            fs::rename(&files[0], &beside).unwrap();
            fs::rename(&files[1], &files[0]).unwrap();
            fs::rename(&beside, &files[1]).unwrap();
        },
        32,
    );
}

#[test]
fn fault18_a_hole_costs_its_blocks() {
    after_edit(
        |files| {
            let file = fs::File::options().write(true).open(&files[2]).unwrap();
            file.write_all_at(&[0; 2 * 65_536], BLOCK).unwrap();
        },
        2,
    );
}

#[test]
fn fault18_verify_tells_damage_and_repairs_it() {
    let mut world = world();
    let cache = whole_cache(&world);
    let file = fs::File::options()
        .write(true)
        .open(&segments(&cache)[1])
        .unwrap();
    file.write_all_at(b"damage", 3 * BLOCK).unwrap();
    let found = cache.run(&["verify", "--json"]);
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    assert!(
        found
            .stdout
            .contains(&format!("\"start_byte\":{}", SEGMENT + 3 * BLOCK)),
        "{found:?}"
    );
    assert!(cache.run(&["verify", "--repair"]).status.success());
    assert_eq!(recorded_len(&world, &cache), LEN - BLOCK);
    a_new_process_is_right(&mut world, &cache);
}

#[test]
fn fault21_a_damaged_index_is_set_aside_and_the_next_start_is_as_good_as_new() {
    let mut world = world();
    for damage in [
        vec![b'x'; 8192],
        b"SQLite format 3\0 and then nothing".repeat(500),
    ] {
        let cache = whole_cache(&world);
        fs::write(cache.folder().join("index.db"), damage).unwrap();
        let server = cache.serve(&world.origin.url());
        server.whole(FILM, LEN);
        let ended = server.stop();
        assert!(ended.stderr.contains("the index was damaged"), "{ended:?}");
        assert!(cache.folder().join("index.db.damaged-1").exists());
        let status = cache.run(&["status", "--json"]);
        assert!(
            !status.stderr.contains("damaged"),
            "it is damaged again: {status:?}"
        );
        a_new_process_is_right(&mut world, &cache);
    }
}

/// Runs the program with its cache on a file system of this size, if this process may mount one.
fn serve_on_small_disk(world: &World, cache: &Cache, more: &[&str]) -> Option<Server> {
    let may = Command::new("unshare")
        .args(["-m", "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs"])
        .arg(cache.home())
        .output();
    if !may.is_ok_and(|ended| ended.status.success()) {
        say_skipped("this process may not mount a small file system");
        return None;
    }
    let script = "mount -t tmpfs -o size=8m tmpfs \"$HOME\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_chunkd")]);
    let url = world.origin.url();
    let mut arguments = vec![
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--chunk-size",
        "1MiB",
        "--origin",
        &url,
    ];
    arguments.extend(more);
    Some(Server::of(cache.prepared(command, &arguments)))
}

#[test]
fn fault15_a_film_larger_than_the_disk_plays_through() {
    const LARGE: u64 = 40 * 1024 * 1024;
    for limits in [&["--max-size", "4MiB"][..], &[]] {
        let world = World::new(&[("large", LARGE), ("other", 100_000)]);
        let cache = Cache::new();
        let Some(mut server) = serve_on_small_disk(&world, &cache, limits) else {
            return;
        };
        server.whole("large", LARGE);
        // Not once exactly: the origin also counts what was under way when a transfer was given up.
        let sent = world.sent("large");
        assert!(sent < 2 * LARGE, "{limits:?}: {sent} bytes were fetched");
        server.range("large", 0, 1_000_000);
        server.range("large", LARGE - 1_000_000, LARGE);
        server.whole("other", 100_000);
        assert!(server.is_running());
        let ended = server.stop();
        assert!(!ended.stderr.contains("panicked"), "{limits:?}: {ended:?}");
    }
}

/// What others have put on the disk until nothing more went.
fn fill(file: &std::path::Path) {
    let mut file = fs::File::create(file).unwrap();
    while std::io::Write::write_all(&mut file, &[7; 4096]).is_ok() {}
}

#[test]
fn fault15_a_disk_that_others_have_filled_is_evicted_from() {
    const IDLE: u64 = 3 * 1024 * 1024;
    const NEW: u64 = 1024 * 1024;
    let world = World::new(&[("idle", IDLE), ("new", NEW)]);
    let cache = Cache::new();
    let Some(server) = serve_on_small_disk(&world, &cache, &["--min-free", "1MiB"]) else {
        return;
    };
    server.whole("idle", IDLE);
    // Recorded, so that rows have to go.
    server.whole("idle", IDLE);
    assert_eq!(world.sent("idle"), IDLE);
    std::thread::sleep(Duration::from_secs(2)); // why: one group commit, which nothing outside tells of
    let inside = format!("/proc/{}/root{}", server.pid(), cache.home().display());
    fill(&PathBuf::from(inside).join("others"));
    server.whole("new", NEW);
    std::thread::sleep(Duration::from_secs(2)); // why: as above
    let sent = world.sent("new");
    server.whole("new", NEW);
    assert_eq!(
        world.sent("new"),
        sent,
        "it was passed through and not kept"
    );
    let ended = server.stop();
    assert!(!ended.stderr.contains("the index is full"), "{ended:?}");
}
