//! The fetcher: one request, its redirects, its answer.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use chunk_core::LastModified;
use chunk_ports::{
    ChunkFetcher, Condition, FetchError, FetchOutcome, FetchRequest, FetchedBody, Verdict, Wanted,
};
use futures_util::TryStreamExt as _;
use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderMap, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::{Accepted, Head, is_media_path, refused};
use crate::body::CheckedBody;
use crate::config::{BuildError, OriginConfig};
use crate::content_range::ContentRange;
use crate::failure::{Side, before_head, within_body};
use crate::lookup::{Lookup, Reach, SystemLookup};
use crate::memo::Place;
use crate::origin::{Origin, common_fields};
use crate::wire::Answer;
use crate::{memo, redirect, request};

/// A [`ChunkFetcher`] and [`OriginForward`](chunk_ports::OriginForward) for HTTP origins. Clones share
/// their connections.
///
/// What the port leaves to an adapter, and how it is settled here:
/// - A page in HTML where the known representation is none is [`FetchError::Changed`] with the page's
///   media type, under either condition, so that the caller can set it aside; where nothing is known and
///   the path ends like a media file's, it is [`FetchError::Refused`].
/// - A whole file in answer to [`Condition::Continue`] is taken, from 0, only if it names the known validator.
/// - A 206 may end earlier than asked; one that starts elsewhere or ends later is refused.
/// - A 416 that can only be about a file without bytes is asked again without the range, so that such a file has
///   its validators and media type as any other. So is an answer to a suffix that leaves the total open, unless it has
///   as many bytes as were asked for, from a later one than the first: those end where the file ends.
/// - A continuation goes straight to where the stable URL led within the last minute; where that is refused
///   or gone, and in any other call, the stable URL is asked, so that an expired redirect is never used twice.
/// - Requests beyond the origin's connection cap wait for a place, in the order they came.
#[derive(Clone)]
pub struct HttpFetcher {
    origins: Arc<BTreeMap<String, Origin>>,
}

/// Collects origins for an [`HttpFetcher`].
#[derive(Debug)]
pub struct HttpFetcherBuilder {
    origins: Vec<(String, OriginConfig)>,
    lookup: Arc<dyn Lookup>,
}

impl HttpFetcher {
    /// A fetcher without origins so far.
    #[must_use]
    pub fn builder() -> HttpFetcherBuilder {
        HttpFetcherBuilder {
            origins: Vec::new(),
            lookup: Arc::new(SystemLookup),
        }
    }

    pub(crate) fn origin(&self, name: &str) -> Result<&Origin, FetchError> {
        self.origins.get(name).ok_or_else(|| FetchError::Forbidden {
            reason: "no origin of that name is configured".to_owned(),
        })
    }
}

impl fmt::Debug for HttpFetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.origins.keys().collect();
        f.debug_struct("HttpFetcher")
            .field("origins", &names)
            .finish_non_exhaustive()
    }
}

impl HttpFetcherBuilder {
    /// Adds the origin that cache keys call `name`; the single unnamed one is called the empty string.
    #[must_use]
    pub fn origin(mut self, name: impl Into<String>, config: OriginConfig) -> Self {
        self.origins.push((name.into(), config));
        self
    }

    /// Finds addresses by `lookup` in place of the system's resolver.
    #[must_use]
    pub fn lookup(mut self, lookup: Arc<dyn Lookup>) -> Self {
        self.lookup = lookup;
        self
    }

    /// The fetcher. Makes no connection.
    ///
    /// # Errors
    /// [`BuildError`], for the first origin that cannot be used as configured.
    pub fn build(self) -> Result<HttpFetcher, BuildError> {
        let mut origins = BTreeMap::new();
        for (name, config) in self.origins {
            let origin = Origin::new(&name, config, &self.lookup)?;
            if origins.insert(name.clone(), origin).is_some() {
                return Err(BuildError::Duplicate { origin: name });
            }
        }
        Ok(HttpFetcher {
            origins: Arc::new(origins),
        })
    }
}

#[async_trait]
impl ChunkFetcher for HttpFetcher {
    async fn fetch(&self, request: FetchRequest) -> Result<FetchOutcome, FetchError> {
        let origin = self.origin(request.resource.key.origin())?;
        let stable = origin.place(&request.resource)?;
        let media_expected = is_media_path(stable.url.path());
        let mut range = request::fields(request.wanted, &request.condition)?;
        let own_fields = origin.own_fields(&request.resource);
        let permit = permit(&origin.slots).await?;

        let asked = origin.asked(&stable, &request.resource);
        let remembered = match request.condition {
            Condition::Continue(_) => origin.memo.recall(&asked),
            _ => None,
        };
        let reached = match remembered {
            Some(place) => again(origin, place, &own_fields, &range).await,
            None => Ok(None),
        };
        let reached = match reached {
            Ok(Some(reached)) => reached,
            Ok(None) => {
                origin.memo.forget(&asked);
                ask(origin, stable.clone(), &own_fields, &range).await?
            }
            Err(error) => {
                origin.memo.forget(&asked);
                return Err(error);
            }
        };
        let mut wanted = request.wanted;
        let reached = if is_of_empty_file(&reached.answer, &request)
            || leaves_end_open(&reached.answer, wanted)
        {
            // Such an answer says too little of the file. Without the range it is described.
            range.remove(RANGE);
            wanted = Wanted::Span {
                start: 0,
                end: None,
            };
            ask(origin, stable, &own_fields, &range).await?
        } else {
            reached
        };
        let Reached {
            answer,
            side,
            place,
            lifetime,
        } = reached;
        let now = SystemTime::now();
        let head = Head {
            wanted,
            condition: &request.condition,
            media_expected,
            status: answer.head.status,
            fields: &answer.head.headers,
            body_len: answer.body.len(),
            now,
        };
        let accepted = match head.judge() {
            Ok(accepted) => accepted,
            Err(error) => {
                origin.memo.forget(&asked);
                return Err(error);
            }
        };
        if let Some(lifetime) = lifetime {
            origin.memo.remember(asked, place, lifetime);
        }
        match accepted {
            Accepted::NotModified => {
                let verdict = confirmed(origin, &answer.head.headers, &request.condition, now);
                Ok(FetchOutcome::NotModified(verdict))
            }
            Accepted::Body {
                representation,
                start,
                end,
                ranges,
            } => Ok(FetchOutcome::Body(FetchedBody {
                representation,
                start,
                end,
                ranges,
                verdict: origin.policy().verdict(&answer.head.headers, now),
                body: CheckedBody::stream(
                    answer.body.map_err(move |error| within_body(error, side)),
                    end.map(|end| end - start),
                    origin.config.progress_timeout,
                    permit,
                ),
            })),
        }
    }
}

/// One of the origin's connections, once one is free.
pub(crate) async fn permit(slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, FetchError> {
    // Nothing closes the semaphore.
    Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(|closed| FetchError::Unreachable(Box::new(closed)))
}

/// Whether an answer is the 416 that some servers give to every range of a file without bytes: to one from the
/// first byte or to the end, which any other file has.
fn is_of_empty_file(answer: &Answer, request: &FetchRequest) -> bool {
    let is_from_an_end = matches!(
        request.wanted,
        Wanted::Span { start: 0, .. } | Wanted::Suffix { .. }
    );
    answer.head.status == StatusCode::RANGE_NOT_SATISFIABLE
        && is_from_an_end
        && !matches!(request.condition, Condition::Continue(_))
        && matches!(
            content_range(answer),
            None | Some(ContentRange::Unsatisfied { total_len: 0 })
        )
}

/// Whether an answer to a request for the file's last bytes leaves open whether that is what they are.
fn leaves_end_open(answer: &Answer, wanted: Wanted) -> bool {
    match (wanted, content_range(answer)) {
        (Wanted::Suffix { len }, Some(said @ ContentRange::Part { .. })) => {
            answer.head.status == StatusCode::PARTIAL_CONTENT && said.total_by_suffix(len).is_none()
        }
        _ => false,
    }
}

fn content_range(answer: &Answer) -> Option<ContentRange> {
    let said = answer.head.headers.get(CONTENT_RANGE)?;
    ContentRange::parse(said.to_str().ok()?)
}

/// An answer that is no redirect, and where it was found.
struct Reached {
    answer: Answer,
    side: Side,
    place: Place,
    /// How long the redirects that led here may be remembered; `None` where there were none.
    lifetime: Option<Duration>,
}

/// Asks where a redirect led before; `None` where that no longer is the place.
async fn again(
    origin: &Origin,
    place: Place,
    own_fields: &HeaderMap,
    range: &HeaderMap,
) -> Result<Option<Reached>, FetchError> {
    let asked = ask(origin, place, own_fields, range).await;
    match asked {
        Ok(reached) => {
            // A signature that has run out is a 403 here and a 400 there.
            let status = reached.answer.head.status;
            let stays = matches!(status.as_u16(), 408 | 416 | 425 | 429);
            Ok((stays || !status.is_client_error()).then_some(reached))
        }
        // The caller will come back, and then to the stable URL.
        Err(error) if error.is_retryable() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Asks at `place` and follows where that leads, within bounds.
async fn ask(
    origin: &Origin,
    mut place: Place,
    own_fields: &HeaderMap,
    range: &HeaderMap,
) -> Result<Reached, FetchError> {
    let reach = Reach::of_redirects(&origin.config);
    let mut lifetime = None;
    for _ in 0..=redirect::MAX_HOPS {
        // Once somewhere else has had a say in the address, only the origin's own one is trusted again.
        let side = if origin.is_own(&place.url) {
            Side::Origin
        } else {
            Side::Elsewhere
        };
        let (transport, mut fields) = match side {
            // A foreign host that redirects back gets to choose the path, but not with credentials.
            Side::Origin if place.left_origin => (&origin.own, common_fields()),
            Side::Origin => (&origin.own, own_fields.clone()),
            Side::Elsewhere => (&origin.elsewhere, common_fields()),
        };
        place.left_origin |= side == Side::Elsewhere;
        fields.extend(range.clone());
        let target = place.target();
        let asked = transport.ask(&place.url, &target, fields);
        let answer = tokio::time::timeout(origin.config.head_timeout, asked)
            .await
            .map_err(|_| FetchError::Unreachable("no answer in time".into()))?
            .map_err(|error| before_head(error, side))?;
        let fields = &answer.head.headers;
        if !matches!(answer.head.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(Reached {
                answer,
                side,
                place,
                lifetime,
            });
        }
        let allowed = lifetime.unwrap_or(memo::LONGEST);
        let policy = origin.policy();
        lifetime = Some(policy.redirect_lifetime(fields, SystemTime::now(), allowed));
        let location = fields
            .get(LOCATION)
            .and_then(|location| location.to_str().ok())
            .ok_or_else(|| refused("a redirect to nowhere"))?;
        // The origin's own place is allowed wherever it is; anything else is checked.
        let unchecked = redirect::target(&place.url, location, Reach::Anywhere)?;
        let url = if origin.is_own(&unchecked) {
            unchecked
        } else {
            redirect::target(&place.url, location, reach)?
        };
        place.redirect(url, location);
    }
    Err(refused("more redirects than are followed"))
}

fn confirmed(
    origin: &Origin,
    fields: &HeaderMap,
    condition: &Condition,
    now: SystemTime,
) -> Verdict {
    let known = match condition {
        Condition::IfChanged(known) => known.last_modified,
        _ => None,
    };
    let known = known.map(|time: LastModified| request::moment(time));
    origin.policy().verdict_on_confirmation(fields, known, now)
}
