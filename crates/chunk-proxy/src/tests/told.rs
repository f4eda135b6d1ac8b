//! What clients say of how they read, from their request to the line.

use std::time::Duration;

use chunk_testkit::origin::{Link, OriginObject, OriginWorld};
use tokio::time::{Instant, sleep};

use super::managed::{FILM, film, proxy, world};
use super::player::Player;

const MB: u64 = 1_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// Two long files on a line of so many bytes a second.
fn two(rate: u64) -> (OriginWorld, Link) {
    let world = OriginWorld::new();
    for name in ["one", "other"] {
        world.put(OriginObject::new(name, 1 << 30));
    }
    let link = Link::new()
        .delay(Duration::from_millis(50))
        .total_rate(rate);
    (world, link)
}

/// Takes a file as it comes until dropped.
async fn copy(mut player: Player, target: &str, fields: &[&str]) {
    player.ask("GET", target, fields).await;
    assert_eq!(player.answer_head().await.unwrap().status, 200);
    while player.take(64 * 1024).await.1 {}
}

/// How much of the file that is copied comes in ten seconds beside another copy, and in ten without it.
async fn bytes_beside_and_without_another(fields: &[&str]) -> (u64, u64) {
    let (world, link) = two(2 * MB);
    let proxy = proxy(&world, link).await;
    let first = copy(Player::connect(&proxy), "/one", fields);
    let watched = async {
        sleep(2 * SECOND).await; // why: paused time
        let begun = world.journal().bytes_of("one");
        assert!(begun >= 3 * MB, "{begun} before there was anybody else");
        let other = copy(Player::connect(&proxy), "/other", &[]);
        // why: paused time
        let _ = tokio::time::timeout(10 * SECOND, other).await;
        let beside = world.journal().bytes_of("one");
        sleep(10 * SECOND).await; // why: paused time
        (beside - begun, world.journal().bytes_of("one") - beside)
    };
    tokio::select! {
        () = first => unreachable!("the file is too long for that"),
        counts = watched => counts,
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_that_all_others_go_first_lets_them() {
    let (beside, without) = bytes_beside_and_without_another(&["Priority: u=7, i"]).await;
    assert!(beside < MB / 2, "{beside} bytes in another's way");
    assert!(without > 15 * MB, "{without} bytes of 20 MB");
    // Any other urgency is nothing special, and so is what is no priority.
    for field in ["Priority: u=5", "Priority: u=7, malformed="] {
        let (beside, _) = bytes_beside_and_without_another(&[field]).await;
        assert!(beside > 2 * MB, "{beside} bytes with {field}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_that_all_others_go_first_is_served_before_its_client_gives_up() {
    let (world, link) = two(MB / 5);
    let proxy = proxy(&world, link).await;
    // A film that needs more than there is, for ever.
    let greedy = copy(Player::connect(&proxy), "/one?chunkd-rate=8Mbit/s", &[]);
    let greedy = async {
        sleep(SECOND).await; // why: paused time
        greedy.await;
    };
    let patient = async {
        let mut player = Player::connect(&proxy);
        player.ask("GET", "/other", &["Priority: u=7"]).await;
        player.answer_head().await.unwrap();
        let began = Instant::now();
        while began.elapsed() < 90 * SECOND {
            let waits = Instant::now();
            let (_, came) = player.take(1024).await;
            let waited = waits.elapsed();
            assert!(came && waited < 25 * SECOND, "{waited:?}");
        }
    };
    tokio::select! {
        () = greedy => unreachable!("the file is too long for that"),
        () = patient => {}
    }
}

/// How long it takes until 2 MB are there, beside somebody who began at the same time.
async fn time_to_two_seconds(target: &str) -> Duration {
    let (world, link) = two(2 * MB);
    let proxy = proxy(&world, link).await;
    let began = Instant::now();
    let copying = copy(Player::connect(&proxy), "/other", &[]);
    let playing = async {
        let mut player = Player::connect(&proxy);
        player.ask("GET", target, &[]).await;
        player.answer_head().await.unwrap();
        assert!(player.take(2_000_000).await.1);
        began.elapsed()
    };
    tokio::select! {
        () = copying => unreachable!("the file is too long for that"),
        time = playing => time,
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_is_told_makes_a_player_from_the_first_byte_on() {
    let told = time_to_two_seconds("/one?chunkd-rate=8Mbit/s").await;
    let untold = time_to_two_seconds("/one").await;
    // Until it has two seconds of film it is critical, and the other one no longer after its first MiB.
    assert!(told < Duration::from_millis(1_700), "{told:?}");
    assert!(untold > Duration::from_millis(1_900), "{untold:?}");
}

#[tokio::test(start_paused = true)]
async fn the_switch_is_no_part_of_a_file_and_the_origin_never_sees_it() {
    let world = world();
    let proxy = proxy(&world, super::managed::near()).await;
    let mut player = Player::connect(&proxy);
    let range = ["Range: bytes=0-99999"];
    let told = player
        .get("/film.mkv?v=2&chunkd-rate=8Mbit/s&token=one", &range)
        .await;
    assert_eq!((told.status(), &told.body), (206, &film(0, 100_000)));
    let asked = world.journal().last().unwrap();
    assert_eq!(asked.target, "/film.mkv?v=2&token=one");
    assert_eq!(asked.header("priority"), None);

    let before = world.journal().bytes_of(FILM);
    for target in [
        "/film.mkv?v=2&token=one",
        "/film.mkv?chunkd-rate=1MB%2Fs&v=2&token=one",
        "/film.mkv?v=2&token=one&chunkd-rate=1+MB/s",
    ] {
        // Again on the same connection, which remembers it.
        for _ in 0..3 {
            let again = player.get(target, &range).await;
            assert_eq!(again.body, told.body, "{target}");
            assert_eq!(again.field("etag"), told.field("etag"), "{target}");
        }
    }
    assert_eq!(world.journal().bytes_of(FILM), before, "one file, one key");
    let records = world.journal().records_of(FILM);
    assert!(
        records
            .iter()
            .all(|record| !record.target.contains("chunkd"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_tells_no_rate_is_a_400_that_tells_a_right_one() {
    let world = world();
    let proxy = proxy(&world, super::managed::near()).await;
    let mut player = Player::connect(&proxy);
    let answer = player
        .get("/film.mkv?token=s3cret&chunkd-rate=8", &[])
        .await;
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.text(), "chunkd-rate: 8 has no unit: say 8Mbit/s\n");
    assert_eq!(world.journal().requests(), 0);
    // The connection goes on: it was a good request with a wrong word in it.
    let right = player.get("/film.mkv?chunkd-rate=8Mbit/s", &["Range: bytes=0-9"]);
    assert_eq!(right.await.status(), 206);
}
