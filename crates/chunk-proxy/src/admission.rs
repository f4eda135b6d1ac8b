//! Who may ask: host names (against DNS rebinding) and pages from elsewhere (the Fetch standard's CORS).

use std::net::IpAddr;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST,
    ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use crate::config::{Cors, ProxyConfig};

/// The names a server answers to: against pages that reach it by a name of their own that somebody pointed at
/// this machine (DNS rebinding), for servers beside a [`Proxy`](crate::Proxy) that are to keep to the same rule.
#[derive(Clone, Debug, Default)]
pub struct HostNames(Vec<String>);

impl HostNames {
    /// The loopback names and addresses, the address connected to, and `listed`, without ports.
    #[must_use]
    pub const fn new(listed: Vec<String>) -> Self {
        Self(listed)
    }

    /// Whether a request with this head, on a connection to `local`, is for one of the names.
    ///
    /// # Errors
    /// The status to answer with: 421 to another name, 400 where there is none, or several, or no `http` target.
    pub fn admit(&self, head: &Parts, local: Option<IpAddr>) -> Result<(), StatusCode> {
        match admit(&self.0, Scheme::Http, head, local) {
            Ok(_) => Ok(()),
            Err(NotAdmitted::ForeignHost) => Err(StatusCode::MISDIRECTED_REQUEST),
            Err(NotAdmitted::Host | NotAdmitted::Scheme(_)) => Err(StatusCode::BAD_REQUEST),
        }
    }
}

/// What the targets of a server begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Why a request is not looked at further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// 400: no host, or several, or none that can be read.
    Host,
    /// 421: a host this proxy does not answer to.
    ForeignHost,
    /// 400: a scheme other than the server's, which is this one.
    Scheme(Scheme),
}

/// The authority a request is for, once it is known to be one of ours.
///
/// An absolute target beats the `Host` field (RFC 9112, 3.2.2). In HTTP/2, where every target is absolute, the field
/// need not be there, and must not say something else (RFC 9113, 8.3.1).
pub(crate) fn admit(
    hosts: &[String],
    scheme: Scheme,
    head: &Parts,
    local: Option<IpAddr>,
) -> Result<Option<String>, NotAdmitted> {
    let uri = &head.uri;
    let mut lines = head.headers.get_all(HOST).iter();
    let field = match (lines.next(), lines.next()) {
        (Some(line), None) => Some(line.to_str().map_err(|_| NotAdmitted::Host)?),
        // RFC 9112, 3.2: 400 where there is none or more than one. HTTP/1.0 knew no such field.
        (None, None) if head.version < Version::HTTP_11 => None,
        (None, None) if head.version >= Version::HTTP_2 && uri.authority().is_some() => None,
        _ => return Err(NotAdmitted::Host),
    };
    if uri.scheme_str().is_some_and(|said| said != scheme.name()) {
        return Err(NotAdmitted::Scheme(scheme));
    }
    let target = uri.authority().map(http::uri::Authority::as_str);
    if head.version >= Version::HTTP_2
        && let (Some(target), Some(field)) = (target, field)
        && !target.eq_ignore_ascii_case(field)
    {
        return Err(NotAdmitted::Host);
    }
    let authority = target.or(field);
    let Some(authority) = authority else {
        return Ok(None);
    };
    let host = host_of(authority).ok_or(NotAdmitted::Host)?;
    if is_ours(hosts, host, local) {
        Ok(Some(authority.to_ascii_lowercase()))
    } else {
        Err(NotAdmitted::ForeignHost)
    }
}

/// An authority without its port; `None` where it is not one.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        (
            host,
            after
                .strip_prefix(':')
                .or_else(|| after.is_empty().then_some(""))?,
        )
    } else {
        authority.split_once(':').unwrap_or((authority, ""))
    };
    let readable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'@' | b'?' | b'#');
    let good = !host.is_empty()
        && host.bytes().all(readable)
        && port.bytes().all(|byte| byte.is_ascii_digit());
    good.then_some(host)
}

/// The loopback names, the address the client connected to, and the list. Every other name may be one
/// that somebody pointed at this machine so that a page can read from it.
fn is_ours(hosts: &[String], host: &str, local: Option<IpAddr>) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    if let Ok(address) = name.parse::<IpAddr>() {
        let address = address.to_canonical();
        if address.is_loopback() || local.map(|local| local.to_canonical()) == Some(address) {
            return true;
        }
    }
    name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|listed| listed.eq_ignore_ascii_case(name))
}

/// Where a request comes from, as its browser tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// No page, or one of ours.
    Own,
    /// A page that is on the list.
    Listed(HeaderValue),
    /// Any other page.
    Foreign,
}

impl Caller {
    pub(crate) fn of(config: &ProxyConfig, headers: &HeaderMap, authority: Option<&str>) -> Self {
        let Some(origin) = headers.get(ORIGIN) else {
            // Browsers that leave `Origin` out of a request still say where it comes from.
            return match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
                Some(b"cross-site") => Self::Foreign,
                _ => Self::Own,
            };
        };
        let text = origin.to_str().unwrap_or_default();
        if let Cors::Allow(listed) = &config.cors
            && listed
                .iter()
                .any(|listed| listed.eq_ignore_ascii_case(text))
        {
            return Self::Listed(origin.clone());
        }
        let own = text
            .strip_prefix(config.scheme().name())
            .and_then(|rest| rest.strip_prefix("://"));
        if own.is_some() && own.map(str::to_ascii_lowercase).as_deref() == authority {
            Self::Own
        } else {
            Self::Foreign
        }
    }
}

/// Whether a request asks for leave to make another.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Adds what the caller's browser has to see in an answer.
pub(crate) fn allow(config: &ProxyConfig, caller: &Caller, answer: &mut HeaderMap) {
    if config.cors == Cors::Off {
        return;
    }
    answer.append(VARY, HeaderValue::from_static("Origin"));
    if let Caller::Listed(origin) = caller {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(EXPOSED),
        );
    }
}

/// Adds the leave that a preflight asks for.
pub(crate) fn allow_preflight(answer: &mut HeaderMap, methods: HeaderValue) {
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    answer.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(ASKED_WITH),
    );
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

/// Fields of an answer that a page's player needs and a browser would hide.
const EXPOSED: &str =
    "Accept-Ranges, Age, Content-Length, Content-Range, Date, ETag, Last-Modified";

/// Fields that a page's player may ask with.
const ASKED_WITH: &str = "Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Match, \
    If-Range, If-Unmodified-Since, Priority, Range";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mount;

    fn config() -> ProxyConfig {
        ProxyConfig::new(vec![Mount::unnamed()]).with_hosts(vec!["Media.example.org".to_owned()])
    }

    fn with_host(
        hosts: &[&str],
        target: &str,
        version: Version,
    ) -> Result<Option<String>, NotAdmitted> {
        let mut request = http::Request::builder().uri(target).version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let local = Some("192.0.2.7".parse().unwrap());
        admit(&config().hosts, Scheme::Http, &head, local)
    }

    fn host(host: &str) -> Result<Option<String>, NotAdmitted> {
        with_host(&[host], "/", Version::HTTP_11)
    }

    #[test]
    fn fault42_only_our_own_names_are_answered_to() {
        for ours in [
            "localhost",
            "LOCALHOST:8787",
            "localhost.",
            "127.0.0.1:8787",
            "127.9.9.9",
            "[::1]:8787",
            "[::1]",
            "192.0.2.7:80",
            "[::ffff:192.0.2.7]",
            "media.EXAMPLE.org:9",
            "media.example.org.",
        ] {
            assert!(host(ours).is_ok(), "{ours}");
        }
        for foreign in [
            "evil.example",
            "localhost.evil.example",
            "192.0.2.8",
            "[2001:db8::1]",
            "example.org",
            "sub.media.example.org",
            "0.0.0.0",
        ] {
            assert_eq!(host(foreign), Err(NotAdmitted::ForeignHost), "{foreign}");
        }
        for odd in [
            "",
            ":80",
            "local host",
            "localhost:x",
            "user@localhost",
            "[::1",
            "[::1]x",
            "localhost/",
        ] {
            assert_eq!(host(odd), Err(NotAdmitted::Host), "{odd:?}");
        }
    }

    #[test]
    fn a_host_is_needed_once_and_an_absolute_target_beats_it() {
        assert_eq!(
            with_host(&[], "/", Version::HTTP_11),
            Err(NotAdmitted::Host)
        );
        assert_eq!(with_host(&[], "/", Version::HTTP_10), Ok(None));
        let twice = &["localhost", "localhost"];
        assert_eq!(
            with_host(twice, "/", Version::HTTP_11),
            Err(NotAdmitted::Host)
        );
        let absolute = |target| with_host(&["localhost"], target, Version::HTTP_11);
        assert_eq!(
            absolute("http://127.0.0.1:1/a"),
            Ok(Some("127.0.0.1:1".to_owned()))
        );
        assert_eq!(
            absolute("http://evil.example/a"),
            Err(NotAdmitted::ForeignHost)
        );
        assert_eq!(
            absolute("https://localhost/a"),
            Err(NotAdmitted::Scheme(Scheme::Http))
        );
    }

    #[test]
    fn a_target_of_http_2_names_the_host_and_the_field_says_nothing_else() {
        let ask = |target: &str, host: Option<&str>| {
            let mut request = http::Request::builder().uri(target);
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let request = request.version(Version::HTTP_2).body(()).unwrap();
            admit(&[], Scheme::Https, &request.into_parts().0, None)
        };
        let ours = Ok(Some("localhost:1".to_owned()));
        assert_eq!(ask("https://localhost:1/a", None), ours);
        assert_eq!(ask("https://localhost:1/a", Some("LOCALHOST:1")), ours);
        assert_eq!(ask("/a", Some("localhost:1")), ours);
        assert_eq!(
            ask("https://localhost:1/a", Some("localhost:2")),
            Err(NotAdmitted::Host)
        );
        assert_eq!(ask("/a", None), Err(NotAdmitted::Host));
        assert_eq!(
            ask("https://evil.example/a", None),
            Err(NotAdmitted::ForeignHost)
        );
        assert_eq!(
            ask("http://localhost:1/a", None),
            Err(NotAdmitted::Scheme(Scheme::Https))
        );
    }

    #[test]
    fn fault43_pages_from_elsewhere_are_told_apart() {
        let config = config().with_cors(Cors::Allow(vec!["https://player.example".to_owned()]));
        let caller = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            match Caller::of(&config, &headers, Some("localhost:8787")) {
                Caller::Own => "own",
                Caller::Listed(_) => "listed",
                Caller::Foreign => "foreign",
            }
        };
        assert_eq!(caller("origin", "http://localhost:8787"), "own");
        assert_eq!(caller("origin", "http://localhost:9999"), "foreign");
        assert_eq!(caller("origin", "https://player.example"), "listed");
        assert_eq!(caller("origin", "https://player.example.evil"), "foreign");
        assert_eq!(caller("origin", "null"), "foreign");
        assert_eq!(caller("sec-fetch-site", "cross-site"), "foreign");
        assert_eq!(caller("sec-fetch-site", "none"), "own");
        assert_eq!(caller("accept", "*/*"), "own");
    }
}
