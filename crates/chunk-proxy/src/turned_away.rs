//! Saying to a newcomer that there is no place.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::framing::{MAX_HEAD, find_end};
use crate::tls::TlsIdentity;

/// How many are turned away at once. It takes little longer than the client takes to say what it wants.
pub(crate) const AT_ONCE: usize = 4;

/// How long to wait for the request, and with TLS for the handshake before it.
const MOMENT: Duration = Duration::from_secs(1);

/// How long to wait for the client's end of the connection afterwards: no longer than an answer takes to reach most of
/// them, because others wait to be told.
const LINGER: Duration = Duration::from_millis(100);

/// A client that comes back at once makes what is busy busier.
const ANSWER: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 48\r\n\
    Retry-After: 2\r\n\
    Cache-Control: no-store\r\n\
    Connection: close\r\n\r\n\
    there are too many connections; try again later\n";

/// Answers 503 to whatever is asked, and ends the connection, whatever the client does. Who comes with TLS is told so
/// in HTTP/1.1.
pub(crate) async fn turn_away(stream: TcpStream, tls: Option<TlsIdentity>) {
    let enough = Instant::now() + MOMENT;
    let Some(identity) = tls else {
        return tell(stream, enough).await;
    };
    if let Ok(Ok(secure)) = timeout_at(enough, identity.shake_hands_in_http_1(stream)).await {
        tell(secure, enough).await;
    }
}

async fn tell(mut stream: impl AsyncRead + AsyncWrite + Unpin, enough: Instant) {
    // Not before the request: what comes unasked for makes some clients give the connection up unread.
    let _ = timeout_at(enough, read_head(&mut stream)).await;
    let told = async {
        stream.write_all(ANSWER.as_bytes()).await?;
        stream.shutdown().await?;
        // What is closed with bytes unread is reset, and the answer may be lost with it.
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = timeout(LINGER, told).await;
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        let scanned = read.len();
        if stream.read_buf(&mut read).await? == 0 || read.len() > MAX_HEAD {
            return Ok(());
        }
        if !matches!(find_end(&read, scanned), Ok(None)) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_length_that_it_says() {
        let (head, body) = ANSWER.split_once("\r\n\r\n").unwrap();
        let said = format!("Content-Length: {}\r\n", body.len());
        assert!(head.contains(&said), "{said}");
    }
}
