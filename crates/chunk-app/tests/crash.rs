//! The real program, killed between two system calls, and what the next one makes of what is left.
//!
//! A run under `strace` lists the calls that change files; further runs are killed right before one of
//! them each. `CHUNKD_CRASH_POINTS=N` takes N points per test instead of a few (a large number: all), and
//! `CHUNKD_CRASH_SEED` another sample. Where `strace` may not trace, kills from outside remain.

#![expect(
    clippy::print_stdout,
    reason = "the seed and the points, for who looks into a failure"
)]

mod crash_support;

use chunk_testkit::origin::{Fault, When};
use crash_support::index::{Recorded, recorded};
use crash_support::strace::{Injection, Point, Tracing};
use crash_support::{Cache, Running, World};

/// Small enough for many runs; several segments of 1 MiB, blocks that are cut, and one short file.
const OBJECTS: &[(&str, u64)] = &[
    ("film.mkv", 2_300_001),
    ("short", 70_000),
    ("third", 700_000),
];

const FETCH: &[&str] = &[
    "--chunk-size",
    "1MiB",
    "--json",
    "/film.mkv",
    "/short",
    "/third",
];

const DEFAULT_SEED: u64 = 0x5eed;

fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |given| given.parse().unwrap())
}

/// The first and the last point of each kind of call, and others up to `most` in all.
fn sample(test: &str, points: Vec<Point>, most: u64) -> Vec<Point> {
    let most = usize::try_from(number("CHUNKD_CRASH_POINTS", most)).unwrap();
    let seed = number("CHUNKD_CRASH_SEED", DEFAULT_SEED);
    let all = points.len();
    let (mut chosen, mut rest) = (Vec::new(), Vec::new());
    for (index, point) in points.iter().enumerate() {
        let is_last = points
            .get(index + 1)
            .is_none_or(|next| next.call != point.call);
        if point.nth == 1 || is_last {
            chosen.push(point.clone());
        } else {
            rest.push(point.clone());
        }
    }
    let mut state = seed;
    while !rest.is_empty() && chosen.len() < most {
        // Knuth's multiplier; the upper bits are the random ones.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let index = usize::try_from(state >> 33).unwrap() % rest.len();
        chosen.push(rest.swap_remove(index));
    }
    println!(
        "{test}: {} of {all} points, CHUNKD_CRASH_SEED={seed}",
        chosen.len()
    );
    chosen
}

/// A cache with every object whole, made by runs that nobody disturbed.
fn whole_cache(world: &World) -> Cache {
    let cache = Cache::new();
    let ended = fetch(world, |arguments| cache.run(arguments));
    assert!(ended.status.success(), "{ended:?}");
    cache
}

fn fetch<T>(world: &World, run: impl FnOnce(&[&str]) -> T) -> T {
    let url = world.origin.url();
    let mut arguments = vec!["fetch", "--origin", &url];
    arguments.extend(FETCH);
    run(&arguments)
}

fn state_of(world: &World, cache: &Cache) -> Recorded {
    world.runtime.block_on(recorded(&cache.folder()))
}

/// Everything that holds after any crash.
fn holds_after(world: &mut World, cache: &Cache, what: &str) {
    println!("after {what}");
    cache.begin();
    let left = state_of(world, cache);
    let verified = cache.json(&["verify", "--json"]);
    assert_eq!(
        verified["bad"].as_array().unwrap().len(),
        0,
        "{what}: {verified}"
    );
    let checked = verified["bytes"].as_u64().unwrap();
    let total: u64 = left.ranges.iter().map(|(_, ranges)| ranges.len()).sum();
    assert_eq!(checked, total, "{what}: recovery lost something");
    what_is_recorded_needs_no_origin(world, cache, &left);
    let server = cache.serve(&world.origin.url());
    for &(object, len) in OBJECTS {
        let asked = world.origin.journal().requests_of(object);
        server.whole(object, len);
        let again = world.sent_since(object, asked);
        let missing = len - left.of(object).len();
        assert!(
            again <= missing,
            "{what}: {again} bytes of {object} again, {missing} were missing"
        );
    }
    server.stop();
    let now = state_of(world, cache);
    for generation in cache.generation_folders() {
        assert!(
            now.generations.contains(&generation),
            "{what}: nobody knows folder {generation}"
        );
    }
}

fn what_is_recorded_needs_no_origin(world: &mut World, cache: &Cache, left: &Recorded) {
    if left.ranges.iter().all(|(_, ranges)| ranges.is_empty()) {
        return;
    }
    world.runtime.block_on(world.origin.close());
    let server = cache.serve(&world.origin.url());
    for (object, ranges) in &left.ranges {
        for range in ranges.iter() {
            server.range(object, range.start(), range.end());
        }
    }
    server.stop();
    world.runtime.block_on(world.origin.reopen()).unwrap();
}

fn contains(more: &Recorded, less: &Recorded, what: &str) {
    for (object, ranges) in &less.ranges {
        let now = more.of(object);
        for range in ranges.iter() {
            assert!(now.contains_range(range), "{what}: {object} lost {range:?}");
        }
    }
}

fn kill(point: &Point, cache: &Cache) -> Tracing {
    Tracing::new(
        Injection::Kill(point.clone()),
        Tracing::paths_of(&cache.folder()),
    )
}

fn watch(cache: &Cache) -> Tracing {
    Tracing::new(Injection::None, Tracing::paths_of(&cache.folder()))
}

#[test]
fn fault24_killed_between_any_two_calls_of_the_first_start() {
    if !Tracing::is_possible() {
        return;
    }
    let status = ["status", "--json"];
    let cache = Cache::new();
    cache.begin();
    let tracing = watch(&cache);
    assert!(cache.run_traced(&tracing, &status).status.success());
    let points = sample("the first start", tracing.points(), 90);
    let tried = points.len();
    let mut killed = 0;
    for point in points {
        let cache = Cache::new();
        cache.begin();
        let ended = cache.run_traced(&kill(&point, &cache), &status);
        killed += usize::from(ended.was_killed());
        assert!(
            ended.was_killed() || ended.status.success(),
            "{point:?}: {ended:?}"
        );
        let ended = cache.run(&status);
        assert!(ended.status.success(), "{point:?}: {ended:?}");
        assert!(!ended.stderr.contains("damaged"), "{point:?}: {ended:?}");
        let aside = cache.folder().join("index.db.damaged-1");
        assert!(!aside.exists(), "{point:?}");
    }
    assert!(killed * 2 > tried, "only {killed} of {tried} were killed");
}

#[test]
fn fault24_killed_between_any_two_calls_of_a_fetch() {
    if !Tracing::is_possible() {
        return;
    }
    let mut world = World::new(OBJECTS);
    let cache = Cache::new();
    let tracing = watch(&cache);
    let ended = fetch(&world, |arguments| cache.run_traced(&tracing, arguments));
    assert!(ended.status.success(), "{ended:?}");
    let points = sample("fetch", tracing.points(), 45);
    let (tried, mut killed) = (points.len(), 0);
    for point in points {
        let cache = Cache::new();
        let ended = fetch(&world, |arguments| {
            cache.run_traced(&kill(&point, &cache), arguments)
        });
        killed += usize::from(ended.was_killed());
        assert!(
            ended.was_killed() || ended.status.success(),
            "{point:?}: {ended:?}"
        );
        holds_after(&mut world, &cache, &format!("{point:?}"));
    }
    assert!(killed * 2 > tried, "only {killed} of {tried} were killed");
}

#[test]
fn fault24_killed_between_any_two_calls_of_a_recovery() {
    if !Tracing::is_possible() {
        return;
    }
    let mut world = World::new(OBJECTS);
    let crashed = crashed_in_the_middle(&world);
    let before = state_of(&world, &crashed);
    assert!(before.knows("film.mkv"));
    let status = ["status", "--json"];
    let cache = Cache::copy_of(&crashed);
    let tracing = watch(&cache);
    assert!(cache.run_traced(&tracing, &status).status.success());
    for point in sample("recovery", tracing.points(), 25) {
        let cache = Cache::copy_of(&crashed);
        cache.run_traced(&kill(&point, &cache), &status);
        let what = format!("recovery, {point:?}");
        contains(&state_of(&world, &cache), &before, &what);
        holds_after(&mut world, &cache, &what);
    }
}

/// A cache whose process was killed with a part recorded and more under way.
fn crashed_in_the_middle(world: &World) -> Cache {
    let cache = Cache::new();
    world.origin.fault(
        "film.mkv",
        When::Always,
        Fault::StallAfter { bytes: 1_500_000 },
    );
    let running = fetch(world, |arguments| Running::start(cache.command(arguments)));
    cache.entry_until("/film.mkv", |entry| {
        entry["recorded_bytes"].as_u64() >= Some(1_000_000)
    });
    running.kill();
    world.origin.clear_faults("film.mkv");
    cache
}

#[test]
fn fault24_killed_between_any_two_calls_of_an_eviction() {
    if !Tracing::is_possible() {
        return;
    }
    let mut world = World::new(OBJECTS);
    let whole = whole_cache(&world);
    let evict = ["evict", "--json", "/film.mkv"];
    let cache = Cache::copy_of(&whole);
    let tracing = watch(&cache);
    let ended = cache.run_traced(&tracing, &evict);
    assert!(ended.status.success(), "{ended:?}");
    assert!(
        tracing
            .points()
            .iter()
            .any(|point| point.call == "unlinkat"),
        "nothing was unlinked"
    );
    for point in sample("evict", tracing.points(), 25) {
        let cache = Cache::copy_of(&whole);
        cache.run_traced(&kill(&point, &cache), &evict);
        let what = format!("evict, {point:?}");
        let left = state_of(&world, &cache);
        assert_eq!(left.of("third").len(), 700_000, "{what}");
        holds_after(&mut world, &cache, &what);
    }
}

#[test]
fn fault24_killed_between_any_two_calls_of_a_pin() {
    if !Tracing::is_possible() {
        return;
    }
    let mut world = World::new(OBJECTS);
    let whole = whole_cache(&world);
    let before = state_of(&world, &whole);
    let pin = ["pin", "--json", "/film.mkv"];
    let cache = Cache::copy_of(&whole);
    let tracing = watch(&cache);
    assert!(cache.run_traced(&tracing, &pin).status.success());
    for point in sample("pin", tracing.points(), 20) {
        let cache = Cache::copy_of(&whole);
        let ended = cache.run_traced(&kill(&point, &cache), &pin);
        let what = format!("pin, {point:?}");
        let left = state_of(&world, &cache);
        contains(&left, &before, &what);
        // What it said it did is done.
        if ended.stdout.contains("true") {
            assert!(left.pinned.contains("film.mkv"), "{what}");
        }
        holds_after(&mut world, &cache, &what);
    }
}

#[test]
fn fault24_killed_between_any_two_calls_of_a_server_that_fills() {
    if !Tracing::is_possible() {
        return;
    }
    let mut world = World::new(OBJECTS);
    let serve_and_read = |world: &World, cache: &Cache, tracing: &Tracing| {
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
        let Some(server) = cache.try_serve_traced(tracing, &arguments) else {
            return;
        };
        for &(object, len) in OBJECTS {
            match server.body(&format!("/{object}"), None) {
                Ok(body) => {
                    // Cut off or whole, what came is right.
                    assert!(body.len() as u64 <= len);
                    let right = chunk_testkit::origin::verify_content(object, 1, 0, &body);
                    assert_eq!(right, Ok(()), "{tracing:?}");
                }
                Err(_) => break,
            }
        }
        server.stop_if_running();
    };
    let cache = Cache::new();
    let tracing = watch(&cache);
    serve_and_read(&world, &cache, &tracing);
    let points = tracing.points();
    assert!(
        points.iter().any(|point| point.call == "pwritev"),
        "{points:?}"
    );
    for point in sample("serve", points, 25) {
        let cache = Cache::new();
        serve_and_read(&world, &cache, &kill(&point, &cache));
        holds_after(&mut world, &cache, &format!("serve, {point:?}"));
    }
}

/// The route that needs no tracer.
#[test]
fn fault24_killed_from_outside_when_the_origin_has_sent_so_much() {
    let mut world = World::new(OBJECTS);
    for bytes in [0, 1, 65_536, 300_000, 1_048_576, 1_500_000, 2_300_000] {
        let cache = Cache::new();
        let before = world.sent("film.mkv");
        let asked = world.origin.journal().requests();
        world
            .origin
            .fault("film.mkv", When::Always, Fault::StallAfter { bytes });
        let running = fetch(&world, |arguments| Running::start(cache.command(arguments)));
        let arrived = world.origin.journal();
        // Over several connections the stall may never come: then it is killed while it ends, or a moment after.
        world.runtime.block_on(arrived.wait_until(|journal| {
            journal.bytes_of("film.mkv") >= before + bytes && journal.requests() > asked
        }));
        running.kill();
        world.origin.clear_faults("film.mkv");
        holds_after(&mut world, &cache, &format!("{bytes} bytes had been sent"));
    }
}

#[test]
fn fault26_a_second_process_refuses_a_folder_that_is_served_and_a_kill_lets_it_go() {
    let world = World::new(OBJECTS);
    let cache = Cache::new();
    let url = world.origin.url();
    let server = cache.serve(&url);
    let second = cache.run(&["serve", "--listen", "127.0.0.1:0", "--origin", &url]);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(
        second.stderr.contains("serves the cache folder"),
        "{second:?}"
    );
    server.whole("short", 70_000);
    server.kill();
    let server = cache.serve(&url);
    server.whole("short", 70_000);
    server.stop();
}
