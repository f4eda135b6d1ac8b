//! Wall clocks that show no time which HTTP can write.
//!
//! The server library renders a date whenever one of its connections is polled, whether or not one is to be sent, and
//! panics where there is none. So no connection of its is polled then.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// The last second that has a date (RFC 9110, 5.6.7: four digits for the year).
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// How long a client may take to hear that it is not served.
const MOMENT: Duration = Duration::from_secs(1);

const ANSWER: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 55\r\n\
    Retry-After: 30\r\n\
    Cache-Control: no-store\r\n\
    Connection: close\r\n\r\n\
    the clock of this machine is not between 1970 and 9999\n";

/// Since 1970, or as near to that as has a date.
pub(crate) fn clamped(now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST)
}

/// Whether the wall clock shows a time that HTTP can write: in the years 1970 to 9999.
pub(crate) fn is_now() -> bool {
    is_dated(SystemTime::now())
}

fn is_dated(now: SystemTime) -> bool {
    now.duration_since(UNIX_EPOCH)
        .is_ok_and(|since| since.as_secs() <= LAST.as_secs())
}

/// Drives `served`, a connection of the server library, for as long as the wall clock shows a time that HTTP can write.
/// `None` where it does not: then the connection is to be dropped.
pub async fn while_dated<F: Future>(served: F) -> Option<F::Output> {
    driven(served, is_now).await
}

async fn driven<F: Future>(served: F, is_now: impl Fn() -> bool) -> Option<F::Output> {
    let mut served = pin!(served);
    poll_fn(|cx| {
        if is_now() {
            served.as_mut().poll(cx).map(Some)
        } else {
            tracing::warn!("the clock of this machine is not between 1970 and 9999; set it");
            Poll::Ready(None)
        }
    })
    .await
}

/// Says on a connection why nothing is served on it.
pub(crate) async fn refuse(mut wire: impl AsyncWrite + Unpin) {
    let told = async {
        wire.write_all(ANSWER.as_bytes()).await?;
        wire.shutdown().await
    };
    let _ = timeout(MOMENT, told).await;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn fault40_every_time_has_a_date_or_is_known_to_have_none() {
        let second = Duration::from_secs(1);
        for (now, is_in) in [
            (UNIX_EPOCH - second, false),
            (UNIX_EPOCH, true),
            (UNIX_EPOCH + LAST + Duration::from_millis(999), true),
            (UNIX_EPOCH + LAST + second, false),
        ] {
            assert_eq!(is_dated(now), is_in, "{now:?}");
            // Panics where there is none.
            let date = httpdate::fmt_http_date(UNIX_EPOCH + clamped(now));
            assert_eq!(date.len(), 29, "{date}");
        }
    }

    #[tokio::test]
    async fn fault40_a_connection_is_not_polled_while_the_clock_has_no_date() {
        let is_right = Cell::new(true);
        let polls = Cell::new(0);
        let served = poll_fn(|cx| {
            assert!(is_right.get(), "the library would panic");
            polls.set(polls.get() + 1);
            if polls.get() == 2 {
                is_right.set(false);
            }
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!(driven(served, || is_right.get()).await, None);
        assert_eq!(polls.get(), 2);
        let served = std::future::ready(7);
        assert_eq!(driven(served, || true).await, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn the_refusal_has_the_length_that_it_says() {
        let mut wire = Vec::new();
        refuse(&mut wire).await;
        let (head, body) = ANSWER.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        assert_eq!(wire, ANSWER.as_bytes());
    }
}
