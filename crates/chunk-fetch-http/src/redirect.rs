//! Where a redirect may lead.

use std::net::{IpAddr, Ipv6Addr};

use chunk_ports::FetchError;
use url::Url;

use crate::address::is_public;
use crate::lookup::Reach;

/// How many redirects one request may follow.
pub(crate) const MAX_HOPS: usize = 5;

/// The place `location` names, seen from `from`, if going there is allowed.
///
/// Names are checked again when they are resolved; a literal address never is, so it is checked here.
pub(crate) fn target(from: &Url, location: &str, reach: Reach) -> Result<Url, FetchError> {
    let mut to = from
        .join(location)
        .map_err(|_| refused("a redirect to no URL"))?;
    match to.scheme() {
        "https" => {}
        "http" if from.scheme() == "http" => {}
        "http" => return Err(forbidden("a redirect from https to http")),
        _ => return Err(forbidden("a redirect to another protocol than HTTP")),
    }
    to.set_fragment(None);
    // Credentials in a location would become an Authorization that nobody configured.
    if !to.username().is_empty() || to.password().is_some() {
        return Err(forbidden("a redirect with credentials in its URL"));
    }
    if reach == Reach::PublicOnly && literal(&to).is_some_and(|ip| !is_public(ip)) {
        return Err(not_public());
    }
    Ok(to)
}

/// Whether both URLs have one scheme, host and port.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

pub(crate) fn not_public() -> FetchError {
    forbidden("a redirect leads to an address that is not public")
}

/// The address that stands in a URL in place of a name.
pub(crate) fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    match host.strip_prefix('[') {
        Some(v6) => v6
            .strip_suffix(']')?
            .parse::<Ipv6Addr>()
            .ok()
            .map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

fn forbidden(reason: &str) -> FetchError {
    FetchError::Forbidden {
        reason: reason.to_owned(),
    }
}

fn refused(reason: &str) -> FetchError {
    FetchError::Refused {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(from: &str, location: &str) -> Result<String, FetchError> {
        let from = Url::parse(from).unwrap();
        target(&from, location, Reach::PublicOnly).map(String::from)
    }

    #[test]
    fn locations_are_resolved_against_the_place_they_came_from() {
        let from = "https://media.example/a/b?c";
        for (location, to) in [
            ("d", "https://media.example/a/d"),
            ("/d?e=f", "https://media.example/d?e=f"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("https://cdn.example:444/x#y", "https://cdn.example:444/x"),
        ] {
            assert_eq!(go(from, location).unwrap(), to);
        }
    }

    #[test]
    fn fault41_literal_private_addresses_downgrades_and_other_protocols_are_forbidden() {
        for location in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://169.254.169.254/latest/meta-data/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://[64:ff9b::a00:1]/",
            "http://user:secret@cdn.example/",
            "ftp://cdn.example/",
            "file:///etc/passwd",
        ] {
            let refused = go("http://media.example/", location);
            assert!(
                matches!(refused, Err(FetchError::Forbidden { .. })),
                "{location}"
            );
        }
        let down = go("https://media.example/", "http://cdn.example/");
        assert!(matches!(down, Err(FetchError::Forbidden { .. })));
        assert!(go("http://media.example/", "https://cdn.example/").is_ok());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| same_origin(&Url::parse(a).unwrap(), &Url::parse(b).unwrap());
        assert!(same("http://a/x", "http://A:80/y"));
        assert!(!same("http://a/", "https://a/"));
        assert!(!same("http://a/", "http://a:81/"));
        assert!(!same("http://a/", "http://b/"));
    }
}
