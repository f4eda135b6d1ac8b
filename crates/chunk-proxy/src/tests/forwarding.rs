//! Methods other than GET and HEAD, with a way to the origin.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use chunk_ports::{BodyStream, FetchError, ForwardRequest, ForwardResponse, OriginForward};
use futures_core::Stream;

use super::film::{Event, Film};
use super::player::Player;
use crate::config::{Mount, PartitionKey, ProxyConfig};
use crate::serve::Proxy;

struct Pieces(VecDeque<Result<Bytes, FetchError>>);

impl Stream for Pieces {
    type Item = Result<Bytes, FetchError>;
    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front())
    }
}

/// A body that comes in these pieces.
pub(super) fn pieces<const N: usize>(pieces: [Result<Bytes, FetchError>; N]) -> BodyStream {
    Box::pin(Pieces(pieces.into()))
}

/// An origin that answers every request alike and remembers the last one.
#[derive(Debug)]
struct Origin {
    status: u16,
    fields: Vec<(&'static str, &'static str)>,
    breaks: bool,
    asked: Mutex<Option<Asked>>,
}

#[derive(Debug)]
struct Asked {
    method: String,
    target: String,
    fields: Vec<String>,
    authorization: Option<String>,
    body: Option<Vec<u8>>,
}

impl Origin {
    fn new(status: u16, fields: &[(&'static str, &'static str)]) -> Arc<Self> {
        Arc::new(Self {
            status,
            fields: fields.to_vec(),
            breaks: false,
            asked: Mutex::new(None),
        })
    }
}

#[async_trait]
impl OriginForward for Origin {
    async fn forward(&self, mut request: ForwardRequest) -> Result<ForwardResponse, FetchError> {
        let mut body = request.body.is_some().then(Vec::new);
        while let (Some(sent), Some(body)) = (&mut request.body, &mut body)
            && let Some(piece) = std::future::poll_fn(|cx| sent.as_mut().poll_next(cx)).await
        {
            body.extend_from_slice(&piece?);
        }
        let mut fields: Vec<String> = request.headers.into_iter().map(|(name, _)| name).collect();
        fields.sort();
        *self.asked.lock().unwrap() = Some(Asked {
            method: request.method,
            target: request.resource.target.expose().to_owned(),
            fields,
            authorization: request
                .resource
                .authorization
                .map(|value| value.expose().to_owned()),
            body,
        });
        let mut pieces: VecDeque<_> =
            [Ok(Bytes::from_static(b"do")), Ok(Bytes::from_static(b"ne"))].into();
        if self.breaks {
            pieces[1] = Err(FetchError::Stalled);
        }
        Ok(ForwardResponse {
            status: self.status,
            headers: self
                .fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
                .collect(),
            body: Box::pin(Pieces(pieces)),
        })
    }
}

fn proxy(film: &Film, origin: &Arc<Origin>, mount: Mount) -> Player {
    let forward: Arc<dyn OriginForward> = Arc::clone(origin) as _;
    let config = ProxyConfig::new(vec![mount]);
    Player::connect(&Proxy::build(Arc::new(film.clone()), Some(forward), config).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_post_goes_through_and_what_it_may_have_changed_is_forgotten() {
    let (film, origin) = (
        Film::new(100),
        Origin::new(201, &[("content-length", "4"), ("x-made", "yes")]),
    );
    let mut player = proxy(&film, &origin, Mount::unnamed());
    let fields = [
        "Content-Length: 5",
        "Content-Type: text/plain",
        "Connection: x-hop, keep-alive",
        "X-Hop: 1",
        "TE: trailers",
        "Authorization: Bearer s3cret",
        "Cookie: a=b",
        "X-Mine: 1",
    ];
    player.ask("POST", "/list?token=t", &fields).await;
    player.send("hello").await;
    let answer = player.answer().await;
    assert_eq!(
        (answer.status(), answer.field("x-made"), answer.text()),
        (201, Some("yes"), "done")
    );
    let asked = origin.asked.lock().unwrap().take().unwrap();
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", "/list?token=t")
    );
    assert_eq!(asked.body.as_deref(), Some(&b"hello"[..]));
    assert_eq!(asked.fields, ["content-length", "content-type", "x-mine"]);
    assert_eq!(asked.authorization, None);
    assert_eq!(film.journal(), [Event::Invalidated("/list".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_unknown_length_goes_through_and_none_stays_none() {
    let (film, origin) = (Film::new(100), Origin::new(201, &[]));
    for (field, sent, arrives) in [
        (
            "Transfer-Encoding: chunked",
            "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            Some(&b"hello"[..]),
        ),
        ("Transfer-Encoding: chunked", "0\r\n\r\n", Some(b"")),
        ("Content-Length: 0", "", None),
        ("X-Mine: 1", "", None),
    ] {
        let mut player = proxy(&film, &origin, Mount::unnamed());
        player.ask("PUT", "/f", &[field]).await;
        player.send(sent).await;
        assert_eq!(player.answer().await.status(), 201, "{field}");
        let asked = origin.asked.lock().unwrap().take().unwrap();
        assert_eq!(asked.body.as_deref(), arrives, "{field} {sent}");
        assert!(!asked.fields.iter().any(|name| name == "transfer-encoding"));
    }
}

#[tokio::test(start_paused = true)]
async fn fault44_a_body_with_broken_framing_is_the_clients_fault() {
    let (film, origin) = (Film::new(100), Origin::new(201, &[]));
    for sent in [
        "5\nhello\n0\n\n",
        "-1\r\n",
        "fffffffffffffffff\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5 hello\r\n",
    ] {
        let mut player = proxy(&film, &origin, Mount::unnamed());
        player
            .ask("POST", "/f", &["Transfer-Encoding: chunked"])
            .await;
        player.send(sent).await;
        let answer = player.answer().await;
        assert_eq!(
            (answer.status(), answer.field("connection")),
            (400, Some("close")),
            "{sent:?}"
        );
        assert!(origin.asked.lock().unwrap().is_none());
    }
    assert_eq!(film.journal(), []);
}

#[tokio::test(start_paused = true)]
async fn only_success_of_an_unsafe_method_invalidates() {
    for (method, status, invalidates) in [
        ("DELETE", 204, true),
        ("PUT", 303, true),
        ("POST", 409, false),
        ("POST", 500, false),
        ("PROPFIND", 207, false),
        ("OPTIONS", 200, false),
    ] {
        let (film, origin) = (Film::new(100), Origin::new(status, &[]));
        let mut player = proxy(&film, &origin, Mount::unnamed());
        player.ask(method, "/f", &[]).await;
        let answer = player.answer().await;
        assert_eq!((answer.status(), answer.whole), (status, true), "{method}");
        assert_eq!(
            film.journal().len(),
            usize::from(invalidates),
            "{method} {status}"
        );
    }
}

/// Why there is no answer; none where it never comes.
type Silence = Option<fn() -> FetchError>;

/// An origin that does not answer.
#[derive(Debug)]
struct Mute(Silence);

#[async_trait]
impl OriginForward for Mute {
    async fn forward(&self, _: ForwardRequest) -> Result<ForwardResponse, FetchError> {
        match self.0 {
            Some(error) => Err(error()),
            None => std::future::pending().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_changed_is_asked_about_though_no_answer_came() {
    let cases: [(Silence, bool); 4] = [
        (None, true),
        (Some(|| FetchError::Stalled), true),
        (Some(|| FetchError::Interrupted("cut".into())), true),
        // Then it has changed nothing.
        (Some(|| FetchError::NoConnection("refused".into())), false),
    ];
    for (answer, invalidates) in cases {
        let film = Film::new(100);
        let config = ProxyConfig::new(vec![Mount::unnamed()]);
        let origin = Arc::new(Mute(answer));
        let proxy = Proxy::build(Arc::new(film.clone()), Some(origin), config).unwrap();
        let mut player = Player::connect(&proxy);
        player.ask("PUT", "/f", &[]).await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await; // why: virtual time, it has been passed on
        drop(player);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await; // why: virtual time, the client's leaving is seen
        assert_eq!(film.journal().len(), usize::from(invalidates), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault43_a_page_from_elsewhere_may_change_nothing() {
    for field in [
        "Origin: https://page.example",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
    ] {
        let (film, origin) = (Film::new(100), Origin::new(200, &[]));
        let mut player = proxy(&film, &origin, Mount::unnamed());
        player.ask("POST", "/f", &[field]).await;
        assert_eq!(player.answer().await.status(), 403, "{field}");
        assert!(origin.asked.lock().unwrap().is_none());
        player
            .ask("POST", "/f", &["Origin: http://localhost:8787"])
            .await;
        assert_eq!(player.answer().await.status(), 200, "a page of ours may");
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_travel_where_the_mount_forwards_them() {
    let (film, origin) = (Film::new(100), Origin::new(200, &[]));
    let mount = Mount::unnamed().forwarding_authorization(PartitionKey::new([1; 32]));
    let mut player = proxy(&film, &origin, mount);
    player
        .ask("POST", "/f", &["Authorization: Bearer mine"])
        .await;
    assert_eq!(player.answer().await.status(), 200);
    let asked = origin.asked.lock().unwrap().take().unwrap();
    assert_eq!(asked.authorization.as_deref(), Some("Bearer mine"));
    assert_eq!(asked.fields, [""; 0], "it travels in no other way");
    let answer = player.get("/f", &["Authorization: Bearer mine"]).await;
    assert_eq!(answer.field("cache-control"), Some("private, max-age=60"));
}

#[tokio::test(start_paused = true)]
async fn hop_by_hop_fields_of_the_answer_stay_behind() {
    let fields = [
        ("transfer-encoding", "chunked"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "9"),
        ("content-length", "4"),
        ("content-length", "9"),
        ("x-kept", "1"),
        ("bad name", "1"),
        ("x-bad", "a\nb"),
    ];
    let (film, origin) = (Film::new(100), Origin::new(200, &fields));
    let mut player = proxy(&film, &origin, Mount::unnamed());
    player.ask("POST", "/f", &[]).await;
    let answer = player.answer().await;
    assert_eq!((answer.text(), answer.whole), ("done", true));
    assert_eq!(
        (
            answer.field("x-kept"),
            answer.field("x-hop"),
            answer.field("x-bad")
        ),
        (Some("1"), None, None)
    );
    assert_eq!(
        (answer.field("keep-alive"), answer.field("content-length")),
        (None, None)
    );
    let switching = Origin::new(101, &[("upgrade", "websocket")]);
    let mut player = proxy(&film, &switching, Mount::unnamed());
    player.ask("POST", "/f", &[]).await;
    assert_eq!(player.answer().await.status(), 502);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_cut() {
    let film = Film::new(100);
    let origin = Arc::new(Origin {
        breaks: true,
        ..Arc::into_inner(Origin::new(200, &[])).unwrap()
    });
    let mut player = proxy(&film, &origin, Mount::unnamed());
    player.ask("POST", "/f", &[]).await;
    let answer = player.answer().await;
    assert_eq!((answer.text(), answer.whole), ("do", false));
}
