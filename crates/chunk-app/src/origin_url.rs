//! An origin's base URL: what is printed of it, and what lies below it.

use std::fmt;

use chunk_ports::Secret;

/// `http` or `https`, a host, and a path to which request targets are appended. Printed without user
/// name and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct OriginUrl {
    scheme: &'static str,
    userinfo: Option<Secret>,
    host: String,
    port: Option<u16>,
    /// Without a slash at its end: empty, or `/…`.
    path: String,
}

/// Why a text is not a base URL. Never holds the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OriginUrlError {
    #[error(
        "it does not begin with http:// or https://; say for example https://media.example.org/library/"
    )]
    Scheme,
    #[error("it names no host; say for example https://media.example.org/library/")]
    Host,
    #[error("its port is not a number from 1 to 65535")]
    Port,
    #[error(
        "it has a query or a fragment; give the part that all files have in common, up to a `/`"
    )]
    Query,
    #[error(
        "it holds a space, a control character or a letter outside ASCII; write those as %20 and the like"
    )]
    Character,
    // A path may hold an `@`. But an unescaped slash in a password makes a host of what stands before it, and a path,
    // which is printed, of the rest.
    #[error(
        "it has an `@` behind a `/`: in a user name or a password write `/` as %2F, in a path write `@` as %40"
    )]
    At,
    // Where some libraries read a slash.
    #[error("it holds a `\\`, which is no part of a URL; write %5C")]
    Backslash,
    // A host has none, and whoever writes another origin behind it meant two.
    #[error(
        "it holds a `,` and goes on like another one; several are separated by blanks (CHUNKD_ORIGIN='a=URL b=URL') or \
         have an --origin NAME=URL each"
    )]
    Several,
}

impl OriginUrl {
    pub(crate) fn parse(text: &str) -> Result<Self, OriginUrlError> {
        if text.chars().any(|c| !c.is_ascii_graphic()) {
            return Err(OriginUrlError::Character);
        }
        if text.contains(['?', '#']) {
            return Err(OriginUrlError::Query);
        }
        if text.contains('\\') {
            return Err(OriginUrlError::Backslash);
        }
        if is_several(text) {
            return Err(OriginUrlError::Several);
        }
        // Before anything else is said of its parts: they are not what they were meant to be.
        if has_at_in_path(text) {
            return Err(OriginUrlError::At);
        }
        let Split {
            scheme,
            userinfo,
            host,
            port,
            rest,
        } = split(text)?;
        Ok(Self {
            scheme,
            userinfo: userinfo.map(Secret::new),
            host: host.to_ascii_lowercase(),
            port,
            path: rest.trim_end_matches('/').to_owned(),
        })
    }

    /// The URL with user name and password, for the one who connects.
    pub(crate) fn to_secret(&self) -> Secret {
        match &self.userinfo {
            Some(userinfo) => Secret::new(format!(
                "{}://{}@{}{}/",
                self.scheme,
                userinfo.expose(),
                self.authority(),
                self.path
            )),
            None => Secret::new(self.to_string()),
        }
    }

    /// Whether it came with a user name or a password.
    pub(crate) const fn has_login(&self) -> bool {
        self.userinfo.is_some()
    }

    /// The same URL with user name and password of another.
    pub(crate) fn with_login_of(&self, other: &Self) -> Self {
        Self {
            userinfo: other.userinfo.clone(),
            ..self.clone()
        }
    }

    /// Host and port to connect to.
    pub(crate) fn address(&self) -> (&str, u16) {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        (host, self.effective_port())
    }

    /// Whether both are on the same scheme, host and port.
    pub(crate) fn is_same_server(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.host == other.host
            && self.effective_port() == other.effective_port()
    }

    /// Whether both are the same base, however they are spelled and whoever logs in.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        self.is_same_server(other) && self.path == other.path
    }

    /// The path and query, below this base, that `url` names; `None` where it lies elsewhere. A fragment
    /// is dropped.
    pub(crate) fn target_of<'a>(&self, url: &'a str) -> Option<&'a str> {
        let url = url.split('#').next().unwrap_or(url);
        let parts = split(url).ok()?;
        let same = parts.scheme == self.scheme
            && parts.host.eq_ignore_ascii_case(&self.host)
            && parts.port.unwrap_or(default_port(parts.scheme)) == self.effective_port();
        let below = parts.rest.strip_prefix(self.path.as_str())?;
        (same && below.starts_with('/')).then_some(below)
    }

    fn effective_port(&self) -> u16 {
        self.port.unwrap_or(default_port(self.scheme))
    }

    fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }
}

impl fmt::Display for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}/", self.scheme, self.authority(), self.path)
    }
}

impl fmt::Debug for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OriginUrl({self})")
    }
}

struct Split<'a> {
    scheme: &'static str,
    userinfo: Option<&'a str>,
    host: &'a str,
    port: Option<u16>,
    rest: &'a str,
}

fn split(text: &str) -> Result<Split<'_>, OriginUrlError> {
    let (scheme, after) = text.split_once("://").ok_or(OriginUrlError::Scheme)?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => "http",
        "https" => "https",
        _ => return Err(OriginUrlError::Scheme),
    };
    let end = after.find(['/', '?']).unwrap_or(after.len());
    let (authority, rest) = after.split_at(end);
    // The last `@`: what stands before it may hold others, however wrongly.
    let (userinfo, server) = match authority.rsplit_once('@') {
        Some((userinfo, server)) => (Some(userinfo), server),
        None => (None, authority),
    };
    // A colon inside brackets belongs to an IPv6 address.
    let colon = server
        .rfind(':')
        .filter(|at| server.rfind(']').is_none_or(|bracket| bracket < *at));
    let (host, port) = match colon {
        Some(at) => {
            let port = server[at + 1..].parse().map_err(|_| OriginUrlError::Port)?;
            if port == 0 {
                return Err(OriginUrlError::Port);
            }
            (&server[..at], Some(port))
        }
        None => (server, None),
    };
    if host.is_empty() {
        return Err(OriginUrlError::Host);
    }
    Ok(Split {
        scheme,
        userinfo,
        host,
        port,
        rest,
    })
}

/// Whether a comma stands in the host, or before what could be another origin.
fn is_several(text: &str) -> bool {
    let after = text.split_once("://").map_or("", |(_, after)| after);
    let authority = after.split('/').next().unwrap_or_default();
    let server = authority.rsplit('@').next().unwrap_or_default();
    server.contains(',')
        || after
            .split(',')
            .skip(1)
            .any(|next| next.contains("=http") || next.starts_with("http"))
}

fn has_at_in_path(text: &str) -> bool {
    let after = text.split_once("://").map(|(_, after)| after);
    let path = after.and_then(|after| after.split_once('/'));
    path.is_some_and(|(_, path)| path.contains('@'))
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> OriginUrl {
        OriginUrl::parse(text).unwrap()
    }

    #[test]
    fn it_is_printed_without_credentials() {
        let base = url("HTTPS://user:p@ss@Media.example.org/library");
        assert_eq!(base.to_string(), "https://media.example.org/library/");
        assert!(!format!("{base:?}").contains("ss"));
        assert_eq!(
            base.to_secret().expose(),
            "https://user:p@ss@media.example.org/library/"
        );
        assert_eq!(url("http://[::1]:8080").address(), ("::1", 8080));
        assert_eq!(url("http://[::1]/a/").to_string(), "http://[::1]/a/");
        assert_eq!(url("http://u:p,w@h/a,b/").to_string(), "http://h/a,b/");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, error) in [
            ("media.example.org", OriginUrlError::Scheme),
            ("ftp://media.example.org/", OriginUrlError::Scheme),
            ("https://", OriginUrlError::Host),
            ("https:///library", OriginUrlError::Host),
            ("https://h:0/", OriginUrlError::Port),
            ("https://h:http/", OriginUrlError::Port),
            ("https://h/a?token=1", OriginUrlError::Query),
            ("https://h/a b", OriginUrlError::Character),
            ("https://h/@a/", OriginUrlError::At),
            ("https://u:1\\2@h/", OriginUrlError::Backslash),
            ("http://h/,b=http://h/", OriginUrlError::Several),
            ("http://h/a/,https://h/", OriginUrlError::Several),
            ("http://h,i/", OriginUrlError::Several),
            ("http://h:80,b=http://u:p@h/", OriginUrlError::Several),
        ] {
            assert_eq!(OriginUrl::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn fault48_an_unescaped_slash_in_a_password_is_refused_wherever_it_leaves_the_host() {
        for text in [
            "http://user:pa/ss@host/",
            "http://user:12/ss@host/",
            "http://us/er:ss@host/",
            "http://user:p@ss/ss@host/",
            "http:///user:ss@host/",
            "http://user:12/ss@host:80/library/",
        ] {
            let error = OriginUrl::parse(text).unwrap_err();
            assert_eq!(error, OriginUrlError::At, "{text}");
        }
        let escaped = url("http://user:12%2Fss%40@host/%40films/");
        assert_eq!(escaped.to_string(), "http://host/%40films/");
    }

    #[test]
    fn a_url_below_it_is_recognised_whatever_its_spelling() {
        let base = url("https://media.example.org/library/");
        for (text, target) in [
            ("https://media.example.org/library/a.mkv", Some("/a.mkv")),
            (
                "https://MEDIA.example.org:443/library/a?x=1#t=5",
                Some("/a?x=1"),
            ),
            ("https://u:p@media.example.org/library/a", Some("/a")),
            ("https://media.example.org/library", None),
            ("https://media.example.org/library2/a", None),
            ("http://media.example.org/library/a", None),
            ("https://media.example.org:444/library/a", None),
            ("https://other.example.org/library/a", None),
        ] {
            assert_eq!(base.target_of(text), target, "{text}");
        }
    }
}
