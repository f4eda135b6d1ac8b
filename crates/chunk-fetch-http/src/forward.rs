//! Requests that a cache does not answer, passed on.

use async_trait::async_trait;
use chunk_ports::{FetchError, ForwardRequest, ForwardResponse, OriginForward};
use futures_util::TryStreamExt as _;
use http::header::{HeaderName, RANGE};
use http::{HeaderMap, HeaderValue, Method};
use reqwest::Body;

use crate::body::CheckedBody;
use crate::failure::{before_forwarded_head, two_ends, within_forwarded_body};
use crate::fetcher::{HttpFetcher, permit};
use crate::wire::has_two_ends;

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
        let url = origin.place(&request.resource)?.url;
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
        let permit = permit(origin).await?;
        let mut asked = origin.forward.request(method, url).headers(fields);
        if let Some(body) = request.body {
            asked = asked.body(Body::wrap_stream(body));
        }
        // No limit to the head's time: a long upload comes before it.
        let answer = asked.send().await.map_err(before_forwarded_head)?;
        if has_two_ends(answer.headers()) {
            return Err(two_ends());
        }
        let headers = ANSWER_FIELDS
            .iter()
            .flat_map(|name| {
                let values = answer.headers().get_all(*name).iter();
                values.map(|value| ((*name).to_owned(), value.as_bytes().to_vec()))
            })
            .collect();
        Ok(ForwardResponse {
            status: answer.status().as_u16(),
            headers,
            body: CheckedBody::stream(
                answer.bytes_stream().map_err(within_forwarded_body),
                None,
                origin.config.progress_timeout,
                permit,
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
