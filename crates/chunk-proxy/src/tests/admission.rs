//! Who may ask, over the wire.

use super::film::Film;
use super::player::Player;
use super::{play, proxy_with};
use crate::config::{Cors, Mount, ProxyConfig};

fn unnamed() -> ProxyConfig {
    ProxyConfig::new(vec![Mount::unnamed()])
}

#[tokio::test(start_paused = true)]
async fn fault42_a_name_that_somebody_pointed_here_gets_a_421() {
    let film = Film::new(100);
    let mut player = play(&film);
    player
        .send("GET /f HTTP/1.1\r\nHost: rebound.example\r\n\r\n")
        .await;
    assert_eq!(player.answer().await.status(), 421);
    player
        .send("GET http://rebound.example/f HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(player.answer().await.status(), 421);
    assert_eq!(film.journal(), []);

    let listed = proxy_with(
        &film,
        unnamed().with_hosts(vec!["media.example".to_owned()]),
    );
    let mut player = Player::connect(&listed);
    player
        .send("GET /f HTTP/1.1\r\nHost: media.example:8787\r\n\r\n")
        .await;
    assert_eq!(player.answer().await.status(), 200);
    player
        .send("GET http://media.example/f HTTP/1.1\r\nHost: rebound.example\r\n\r\n")
        .await;
    assert_eq!(
        player.answer().await.status(),
        200,
        "an absolute target beats the field"
    );
}

#[tokio::test(start_paused = true)]
async fn fault43_no_page_from_elsewhere_may_read_unless_it_is_listed() {
    let film = Film::new(100);
    let mut player = play(&film);
    let answer = player.get("/f", &["Origin: https://page.example"]).await;
    assert_eq!(answer.field("access-control-allow-origin"), None);
    assert_eq!(answer.field("vary"), None);

    let cors = Cors::Allow(vec!["https://page.example".to_owned()]);
    let mut player = Player::connect(&proxy_with(&film, unnamed().with_cors(cors)));
    let answer = player
        .get("/f", &["Origin: https://page.example", "Range: bytes=0-0"])
        .await;
    assert_eq!(
        answer.field("access-control-allow-origin"),
        Some("https://page.example")
    );
    assert!(
        answer
            .field("access-control-expose-headers")
            .unwrap()
            .contains("Content-Range")
    );
    assert_eq!(answer.field("vary"), Some("Origin"));
    let answer = player.get("/f", &["Origin: https://other.example"]).await;
    assert_eq!(answer.field("access-control-allow-origin"), None);
    assert_eq!(
        answer.field("vary"),
        Some("Origin"),
        "caches must tell the two apart"
    );
    let answer = player
        .get("/f", &["Origin: https://page.example", "Range: bytes=200-"])
        .await;
    assert_eq!(answer.status(), 416);
    assert_eq!(
        answer.field("access-control-allow-origin"),
        Some("https://page.example")
    );
}

#[tokio::test(start_paused = true)]
async fn a_preflight_is_answered_here() {
    let film = Film::new(100);
    let cors = Cors::Allow(vec!["https://page.example".to_owned()]);
    let mut player = Player::connect(&proxy_with(&film, unnamed().with_cors(cors)));
    let asking = "Access-Control-Request-Method: GET";
    player
        .ask("OPTIONS", "/f", &["Origin: https://page.example", asking])
        .await;
    let answer = player.answer().await;
    assert_eq!(answer.status(), 204);
    assert!(
        answer
            .field("access-control-allow-headers")
            .unwrap()
            .contains("Range")
    );
    assert!(
        answer
            .field("access-control-allow-methods")
            .unwrap()
            .contains("GET")
    );
    player
        .ask("OPTIONS", "/f", &["Origin: https://other.example", asking])
        .await;
    let answer = player.answer().await;
    assert_eq!(answer.field("access-control-allow-methods"), None);
    assert_eq!(answer.field("access-control-allow-origin"), None);
    assert_eq!(film.journal(), []);
}

#[tokio::test(start_paused = true)]
async fn named_origins_have_their_folders_and_an_unknown_name_tells_nothing() {
    let film = Film::new(100);
    let config = ProxyConfig::new(vec![Mount::named("films"), Mount::named("private")]);
    let mut player = Player::connect(&proxy_with(&film, config));
    assert_eq!(player.get("/films/f", &[]).await.status(), 200);
    for target in ["/", "/other/f", "/film", "/films%2ff"] {
        let answer = player.get(target, &[]).await;
        assert_eq!(answer.status(), 404, "{target}");
        assert!(!answer.text().contains("private"), "{}", answer.text());
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_way_to_the_origin_other_methods_are_refused() {
    let film = Film::new(100);
    for method in ["POST", "PUT", "DELETE", "PATCH", "BREW", "TRACE"] {
        let mut player = play(&film);
        player.ask(method, "/f", &[]).await;
        let answer = player.answer().await;
        assert_eq!(
            (answer.status(), answer.field("allow")),
            (405, Some("GET, HEAD, OPTIONS")),
            "{method}"
        );
    }
    let mut player = play(&film);
    player
        .send("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(player.answer().await.status(), 405);
    assert!(player.is_closed().await);
    let mut player = play(&film);
    player.ask("OPTIONS", "*", &[]).await;
    assert_eq!(
        player.answer().await.field("allow"),
        Some("GET, HEAD, OPTIONS")
    );
    assert_eq!(film.journal(), []);
}
