//! Requests that a cache does not answer, passed on.

use async_trait::async_trait;
use chunk_ports::{FetchError, ForwardRequest, ForwardResponse, OriginForward};
use futures_util::TryStreamExt as _;
use http::header::{HeaderName, RANGE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method};

use crate::body::CheckedBody;
use crate::failure::{Side, before_head, within_body};
use crate::fetcher::{HttpFetcher, permit};
use crate::wire::Upload;

/// What a client may tell the origin. Credentials travel as the resource's `authorization`, cookies not at all.
const REQUEST_FIELDS: &[&str] = &[
    "accept",
    "accept-language",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "depth",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "overwrite",
    "prefer",
];

/// What the origin may tell a client. Nothing hop-by-hop, and no `Set-Cookie`.
const ANSWER_FIELDS: &[&str] = &[
    "accept-patch",
    "accept-post",
    "accept-ranges",
    "allow",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "date",
    "dav",
    "etag",
    "expires",
    "last-modified",
    "location",
    "preference-applied",
    "retry-after",
    "vary",
    "www-authenticate",
];

#[async_trait]
impl OriginForward for HttpFetcher {
    async fn forward(&self, request: ForwardRequest) -> Result<ForwardResponse, FetchError> {
        let origin = self.origin(request.resource.key.origin())?;
        let place = origin.place(&request.resource)?;
        let method = Method::from_bytes(request.method.as_bytes())
            .ok()
            .filter(|method| {
                !matches!(
                    *method,
                    Method::GET | Method::HEAD | Method::CONNECT | Method::TRACE
                )
            })
            .ok_or_else(|| FetchError::Forbidden {
                reason: "a method that is not passed on".to_owned(),
            })?;
        let mut fields = origin.own_fields(&request.resource);
        let passed = allowed(&request.headers, REQUEST_FIELDS);
        fields.extend(passed);
        fields.remove(RANGE);
        let turn = permit(&origin.passing).await?;
        let slot = permit(&origin.slots).await?;
        let target = place.target();
        let body = Upload::new(request.body);
        // No limit to the head's time: a long upload comes before it.
        let answer = origin
            .own
            .send(method, &place.url, &target, fields, body)
            .await
            .map_err(|error| before_head(error, Side::Origin))?;
        // Elsewhere a client would give its credentials away for nothing.
        let may_challenge = origin.config.forward_authorization;
        let headers = ANSWER_FIELDS
            .iter()
            .filter(|name| may_challenge || **name != WWW_AUTHENTICATE.as_str())
            .flat_map(|name| {
                let values = answer.head.headers.get_all(*name).iter();
                values.map(|value| ((*name).to_owned(), value.as_bytes().to_vec()))
            })
            .collect();
        let promised = answer.body.len();
        Ok(ForwardResponse {
            status: answer.head.status.as_u16(),
            headers,
            body: CheckedBody::stream(
                answer.body.map_err(move |error| {
                    let _until_the_end = &turn;
                    within_body(error, Side::Origin)
                }),
                promised,
                origin.config.progress_timeout,
                slot,
            ),
        })
    }
}

fn allowed(fields: &[(String, Vec<u8>)], list: &[&str]) -> HeaderMap {
    fields
        .iter()
        .filter(|(name, _)| list.contains(&name.to_ascii_lowercase().as_str()))
        .filter_map(|(name, value)| {
            let name: HeaderName = name.parse().ok()?;
            Some((name, HeaderValue::from_bytes(value).ok()?))
        })
        .collect()
}
