//! The rules of the forwarding contract, one function each.
//!
//! Each takes an adapter whose unnamed origin serves [`world`], and panics where the rule is broken. They run in
//! paused time: a wait for something that never happens fails at once.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chunk_core::CacheKey;
use chunk_ports::{
    BodyStream, FetchError, ForwardRequest, ForwardResponse, OriginForward, Resource, Secret,
};
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};

use crate::origin::{Cut, Fault, OriginObject, OriginWorld, When};

/// The one object of [`world`].
const FILM: &str = "film.mkv";

/// A text that stands for a signature in every target asked for.
const PLANTED: &str = "planted-secret";

/// What the rules expect the origin to hold.
#[must_use]
pub fn world() -> OriginWorld {
    let world = OriginWorld::new();
    let object = OriginObject::new(FILM, 1000)
        .header("Allow", "GET, PUT")
        .header("Connection", "X-Named")
        .header("Keep-Alive", "timeout=5")
        .header("Set-Cookie", "session=1")
        .header("X-Internal", "1")
        .header("X-Named", "1");
    world.put(object);
    world
}

fn request(method: &str, headers: &[(&str, &str)], body: &[&'static str]) -> ForwardRequest {
    let target = format!("/{FILM}?token={PLANTED}");
    let key = CacheKey::new("", &target, &["token"]).expect("a key");
    let pieces: Vec<_> = body.iter().map(|piece| Ok(Bytes::from(*piece))).collect();
    ForwardRequest {
        method: method.to_owned(),
        resource: Resource::new(Arc::new(key), Secret::new(target)),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect(),
        body: (!pieces.is_empty()).then(|| Box::pin(stream::iter(pieces)) as BodyStream),
    }
}

/// What `future` gives, if it ever gives anything.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    let day = Duration::from_secs(24 * 3600);
    let given = tokio::time::timeout(day, future).await;
    given.expect("nothing happened for a day")
}

async fn answer<F: OriginForward + ?Sized>(
    forward: &F,
    request: ForwardRequest,
) -> ForwardResponse {
    soon(forward.forward(request)).await.expect("an answer")
}

/// All bytes of an answer, and its error if it ends with one. Nothing may follow an error.
async fn drain(mut answer: ForwardResponse) -> (Vec<u8>, Option<FetchError>) {
    let mut bytes = Vec::new();
    while let Some(item) = soon(answer.body.next()).await {
        match item {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) => {
                let more = soon(answer.body.next()).await;
                assert!(more.is_none(), "more after an error");
                return (bytes, Some(error));
            }
        }
    }
    (bytes, None)
}

async fn text(answer: ForwardResponse) -> String {
    let (bytes, error) = drain(answer).await;
    assert!(error.is_none(), "{error:?}");
    String::from_utf8(bytes).expect("a text")
}

fn names(answer: &ForwardResponse) -> Vec<&str> {
    let names = answer.headers.iter().map(|(name, _)| name.as_str());
    names.collect()
}

fn status(status: u16, body: &str) -> Fault {
    Fault::Status {
        status,
        headers: Vec::new(),
        body: body.to_owned(),
    }
}

/// Waits until nothing is under way, and says whether the latest exchange was ended from here.
async fn was_ended(world: &OriginWorld) -> bool {
    soon(
        world
            .journal()
            .wait_until(|journal| journal.requests() > 0 && journal.in_flight() == 0),
    )
    .await;
    let last = world.journal().last().expect("a request");
    last.ended_by_peer
}

/// Method, target and body arrive as they are, whether or not the client tells the body's length, and what the
/// origin says comes back.
pub async fn a_body_goes_up_and_the_answer_comes_back<F>(forward: &F, world: &OriginWorld)
where
    F: OriginForward + ?Sized,
{
    let length: &[(&str, &str)] = &[("content-length", "6")];
    for (method, framing) in [("PUT", length), ("POST", &[]), ("MKCOL", length)] {
        let answer = answer(forward, request(method, framing, &["abc", "def"])).await;
        assert_eq!(answer.status, 200);
        assert_eq!(text(answer).await, format!("{method} done"));
        let record = world.journal().last().expect("a request");
        assert_eq!(record.method, method);
        assert_eq!(record.target, format!("/{FILM}?token={PLANTED}"));
        assert_eq!(record.body, b"abcdef");
    }
}

/// A `DELETE` does not become one with an empty chunked body.
pub async fn a_request_without_a_body_has_none<F>(forward: &F, world: &OriginWorld)
where
    F: OriginForward + ?Sized,
{
    answer(forward, request("DELETE", &[], &[])).await;
    let record = world.journal().last().expect("a request");
    assert_eq!(record.header("transfer-encoding"), None);
    assert!(record.body.is_empty());
}

/// Credentials, cookies and what nobody has heard of stay behind; the origin is named by the adapter.
pub async fn only_listed_fields_go_up<F>(forward: &F, world: &OriginWorld)
where
    F: OriginForward + ?Sized,
{
    let unlisted = [
        ("cookie", "a=b"),
        ("authorization", "Bearer x"),
        ("proxy-authorization", "Basic x"),
        ("x-unheard-of", "1"),
        ("x-forwarded-for", "192.0.2.1"),
        ("range", "bytes=0-1"),
        ("if-match", "\"tag\""),
        ("host", "elsewhere.example"),
    ];
    answer(forward, request("DELETE", &unlisted, &[])).await;
    let record = world.journal().last().expect("a request");
    for (name, _) in &unlisted[..6] {
        assert_eq!(record.header(name), None, "{name}");
    }
    // A precondition decides whether the method is carried out at all.
    assert_eq!(record.header("if-match"), Some("\"tag\""));
    assert_ne!(record.header("host"), Some("elsewhere.example"));
}

/// A cookie would be set for the proxy's own host, and with it for every other origin behind it.
pub async fn only_listed_fields_come_back<F>(forward: &F, _world: &OriginWorld)
where
    F: OriginForward + ?Sized,
{
    let answer = answer(forward, request("DELETE", &[], &[])).await;
    let names = names(&answer);
    assert!(names.contains(&"allow"), "{names:?}");
    for unlisted in ["set-cookie", "x-internal"] {
        assert!(!names.contains(&unlisted), "{names:?}");
    }
}

/// Fields of one connection stay on it (RFC 9110, 7.6.1), those named by `Connection` included.
pub async fn nothing_hop_by_hop_travels<F>(forward: &F, world: &OriginWorld)
where
    F: OriginForward + ?Sized,
{
    let fields = [
        ("connection", "close, x-named"),
        ("x-named", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("te", "trailers"),
        ("trailer", "x-named"),
        ("upgrade", "websocket"),
    ];
    let answer = answer(forward, request("DELETE", &fields, &[])).await;
    let record = world.journal().last().expect("a request");
    for (name, value) in fields {
        assert_ne!(record.header(name), Some(value), "{name}");
    }
    let names = names(&answer);
    for hop in ["connection", "keep-alive", "x-named", "transfer-encoding"] {
        assert!(!names.contains(&hop), "{names:?}");
    }
}

/// What the origin refuses or fails at is its answer, not an error of the way there.
pub async fn any_status_is_an_answer<F>(forward: &F, world: &OriginWorld)
where
    F: OriginForward + ?Sized,
{
    for code in [204, 304, 400, 401, 403, 404, 405, 409, 412, 429, 500, 503] {
        let body = if matches!(code, 204 | 304) { "" } else { "why" };
        world.fault(FILM, When::Next, status(code, body));
        let answer = answer(forward, request("PUT", &[], &[])).await;
        assert_eq!(answer.status, code);
        assert_eq!(text(answer).await, body, "{code}");
    }
}

/// Whether to follow is the client's decision: the method may not be safe to repeat elsewhere.
pub async fn a_redirect_goes_back_as_it_is<F>(forward: &F, world: &OriginWorld)
where
    F: OriginForward + ?Sized,
{
    for code in [301, 302, 303, 307, 308] {
        world.journal().clear();
        let fault = Fault::Redirect {
            status: code,
            location: format!("/{FILM}"),
        };
        world.fault(FILM, When::Next, fault);
        let answer = answer(forward, request("POST", &[], &[])).await;
        assert_eq!(answer.status, code);
        let location = ("location".to_owned(), format!("/{FILM}").into_bytes());
        assert!(answer.headers.contains(&location), "{:?}", answer.headers);
        assert_eq!(world.journal().requests(), 1);
    }
}

/// One call is one request, whatever becomes of it.
pub async fn nothing_is_retried<F>(forward: &F, world: &OriginWorld)
where
    F: OriginForward + ?Sized,
{
    world.fault(FILM, When::Next, Fault::retry_after(503, "0"));
    assert_eq!(answer(forward, request("POST", &[], &[])).await.status, 503);
    assert_eq!(world.journal().requests(), 1);
    // Over the connection that the first call left, and over a new one.
    for _ in 0..2 {
        world.journal().clear();
        world.fault(FILM, When::Next, Fault::NoAnswer);
        let error = soon(forward.forward(request("POST", &[], &[])))
            .await
            .expect_err("there was no answer");
        assert!(matches!(error, FetchError::Unreachable(_)), "{error:?}");
        assert_eq!(world.journal().requests(), 1);
    }
}

/// A long answer is streamed, not gathered.
pub async fn the_head_comes_before_the_body<F>(forward: &F, world: &OriginWorld)
where
    F: OriginForward + ?Sized,
{
    world.fault(FILM, When::Next, Fault::StallAfter { bytes: 0 });
    let answer = answer(forward, request("POST", &[], &[])).await;
    assert_eq!(answer.status, 200);
    world.release();
    assert_eq!(text(answer).await, "POST done");
}

/// Half an answer does not pass for a whole one.
pub async fn a_body_that_breaks_off_ends_with_an_error<F>(forward: &F, world: &OriginWorld)
where
    F: OriginForward + ?Sized,
{
    for how in [Cut::Close, Cut::Reset] {
        world.fault(FILM, When::Next, Fault::CutAfter { bytes: 4, how });
        let answer = match soon(forward.forward(request("POST", &[], &[]))).await {
            Ok(answer) => answer,
            // A reset may overtake the head.
            Err(error) => {
                assert!(how == Cut::Reset, "{error:?}");
                continue;
            }
        };
        let (bytes, error) = drain(answer).await;
        assert!("POST".as_bytes().starts_with(&bytes), "{bytes:?}");
        assert!(
            matches!(error, Some(FetchError::Interrupted(_))),
            "{error:?}"
        );
    }
}

/// A client that breaks off in the middle of its body has not sent that body.
pub async fn what_the_client_sends_badly_is_not_passed_on_as_whole<F>(
    forward: &F,
    world: &OriginWorld,
) where
    F: OriginForward + ?Sized,
{
    for framing in [("content-length", "6"), ("transfer-encoding", "chunked")] {
        let mut broken = request("PUT", &[framing], &[]);
        broken.body = Some(Box::pin(stream::iter([
            Ok(Bytes::from_static(b"abc")),
            Err(FetchError::Interrupted("the client left".into())),
        ])));
        let passed_on = soon(forward.forward(broken)).await;
        assert!(passed_on.is_err(), "{passed_on:?}");
        // The origin reads whole requests only: it never got one.
        assert_eq!(world.journal().requests(), 0, "{framing:?}");
    }
}

/// Nobody waits for the answer any more: the origin learns of it.
pub async fn dropping_the_call_ends_the_exchange<F>(forward: &F, world: &OriginWorld)
where
    F: OriginForward + ?Sized,
{
    world.fault(FILM, When::Next, Fault::StallBeforeHead);
    let call = forward.forward(request("POST", &[], &[]));
    let waited = tokio::time::timeout(Duration::from_secs(1), call).await;
    assert!(waited.is_err(), "{waited:?}");
    assert!(was_ended(world).await);
}

/// The same for an answer of which only the beginning was wanted.
pub async fn dropping_the_body_ends_the_exchange<F>(forward: &F, world: &OriginWorld)
where
    F: OriginForward + ?Sized,
{
    world.fault(FILM, When::Next, status(200, &"long ".repeat(100_000)));
    world.fault(FILM, When::Nth(1), Fault::StallAfter { bytes: 100_000 });
    let mut answer = answer(forward, request("POST", &[], &[])).await;
    let first = soon(answer.body.next()).await;
    assert!(matches!(first, Some(Ok(_))), "{first:?}");
    drop(answer);
    assert!(was_ended(world).await);
}

/// Each caller gets the answer to its own request.
pub async fn concurrent_calls_do_not_disturb_each_other<F>(forward: &F, _world: &OriginWorld)
where
    F: OriginForward + ?Sized,
{
    let methods = ["PUT", "POST", "DELETE", "PATCH", "MKCOL", "LOCK"];
    let answers = join_all(methods.map(|method| async move {
        let answer = answer(forward, request(method, &[], &[])).await;
        text(answer).await
    }))
    .await;
    assert_eq!(answers, methods.map(|method| format!("{method} done")));
}

/// Neither an error nor what caused it names what was asked for.
pub async fn fault48_no_error_of_a_forwarded_request_tells_the_target<F>(
    forward: &F,
    world: &OriginWorld,
) where
    F: OriginForward + ?Sized,
{
    let untold = |error: &(dyn Error + 'static)| {
        for cause in std::iter::successors(Some(error), |error| <dyn Error>::source(*error)) {
            let told = format!("{cause} {cause:?}");
            assert!(!told.contains(PLANTED), "{told}");
        }
    };
    let sent = request("POST", &[], &[]);
    assert!(!format!("{sent:?}").contains(PLANTED));
    world.fault(FILM, When::Next, Fault::NoAnswer);
    let error = soon(forward.forward(sent)).await.expect_err("no answer");
    untold(&error);
    let fault = Fault::CutAfter {
        bytes: 4,
        how: Cut::Close,
    };
    world.fault(FILM, When::Next, fault);
    let answer = answer(forward, request("POST", &[], &[])).await;
    assert!(!format!("{answer:?}").contains(PLANTED));
    let (_, error) = drain(answer).await;
    untold(&error.expect("the body broke off"));
}
