//! What an origin can do wrong, one way per variant.

/// How a connection ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cut {
    /// An orderly close (FIN).
    Close,
    /// A reset (RST).
    Reset,
}

/// One departure from a right answer. Several may apply to one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// 200 with the whole file to a range request.
    IgnoreRange,
    /// `If-Range`, `If-None-Match` and `If-Modified-Since` are not looked at.
    IgnoreConditions,
    /// A 206 that starts `by` bytes later than asked, and says so.
    StartLater {
        /// How many bytes.
        by: u64,
    },
    /// A 206 that ends `by` bytes earlier than asked, and says so (which is allowed).
    EndEarlier {
        /// How many bytes.
        by: u64,
    },
    /// A 206 without `Content-Range`.
    NoContentRange,
    /// A 206 with this `Content-Range`, whatever its body is.
    ContentRange(String),
    /// A 206 whose `Content-Range` names this total.
    WrongTotal(u64),
    /// A 206 whose `Content-Range` leaves the total open (`*`).
    NoTotal,
    /// The body ends after this many bytes.
    CutAfter {
        /// How many.
        bytes: u64,
        /// How.
        how: Cut,
    },
    /// `Content-Length` and body are this many bytes longer than `Content-Range` says.
    LongerThanRange {
        /// How many.
        by: u64,
    },
    /// The body is this many bytes longer than `Content-Length` says.
    LongerThanLength {
        /// How many.
        by: u64,
    },
    /// `Transfer-Encoding: chunked`, no `Content-Length`.
    Chunked,
    /// Neither length nor chunks: the body ends with the connection.
    UntilClose,
    /// A `Content-Encoding: gzip` that nobody asked for.
    Gzip,
    /// `multipart/byteranges` for one range.
    Multipart,
    /// This status, these fields and this body, whatever was asked.
    Status {
        /// The status code.
        status: u16,
        /// Fields besides the framing.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// This status to HEAD; GET is not affected.
    HeadStatus(u16),
    /// Nothing, not even a head, until the test releases it.
    StallBeforeHead,
    /// Nothing after this many body bytes until the test releases it.
    StallAfter {
        /// How many.
        bytes: u64,
    },
    /// A redirect.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The `Location` field.
        location: String,
    },
    /// A log-in page in HTML with status 200.
    LoginPage,
    /// From this request on the object has this version.
    NewVersion(u64),
    /// The head leaves byte by byte, this many milliseconds apart.
    SlowHead {
        /// The gap in milliseconds.
        gap_ms: u64,
    },
    /// The body leaves byte by byte, this many milliseconds apart.
    Drip {
        /// The gap in milliseconds.
        gap_ms: u64,
    },
    /// The connection is closed without an answer.
    NoAnswer,
}

impl Fault {
    /// A plain status without body.
    #[must_use]
    pub const fn status(status: u16) -> Self {
        Self::Status {
            status,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// A status that asks for patience: seconds or an HTTP date.
    #[must_use]
    pub fn retry_after(status: u16, value: &str) -> Self {
        Self::Status {
            status,
            headers: vec![("Retry-After".to_owned(), value.to_owned())],
            body: String::new(),
        }
    }

    /// A 302 to `location`.
    #[must_use]
    pub fn redirect(location: impl Into<String>) -> Self {
        Self::Redirect {
            status: 302,
            location: location.into(),
        }
    }
}

/// To which requests of an object a [`Fault`] applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// To every one.
    Always,
    /// To the next one.
    Next,
    /// To the `n`-th one, counted from 1 over the object's life.
    Nth(u64),
    /// To every one from the `n`-th on.
    From(u64),
}
