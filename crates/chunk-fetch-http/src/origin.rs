//! A configured origin, ready to be asked.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chunk_ports::{FetchError, Resource, Secret};
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;
use tokio::sync::Semaphore;
use url::Url;

use crate::config::{BuildError, OriginConfig};
use crate::freshness::Policy;
use crate::lookup::{Lookup, Reach, Resolver};
use crate::memo::{Asked, Memo, Place};
use crate::tls::TlsSetup;
use crate::wire::{Connector, Transport};

/// An origin with its ways to ask: one for the origin itself, which may be anywhere, with its
/// credentials; one for wherever it redirects to, without.
pub(crate) struct Origin {
    pub(crate) config: OriginConfig,
    /// Without user and password, its path without a slash at the end.
    base: Secret,
    base_url: Url,
    secrets: HeaderMap,
    pub(crate) own: Transport,
    pub(crate) elsewhere: Transport,
    pub(crate) slots: Arc<Semaphore>,
    /// Those of them that requests may take which are passed on: how long an upload takes is its client's affair, and
    /// whoever plays must not wait for it.
    pub(crate) passing: Arc<Semaphore>,
    pub(crate) memo: Memo,
}

impl Origin {
    pub(crate) fn new(
        name: &str,
        config: OriginConfig,
        lookup: &Arc<dyn Lookup>,
    ) -> Result<Self, BuildError> {
        let mut base_url = parse_base(name, config.base_url.expose())?;
        let login = take_login(&mut base_url);
        let tls = TlsSetup::new(name, &config)?;
        let transport = |tls, reach| {
            let connector = Connector {
                resolver: Resolver {
                    lookup: Arc::clone(lookup),
                    reach,
                },
                tls,
                timeout: config.connect_timeout,
            };
            Transport::new(connector, config.max_connections)
        };
        let own = transport(tls.own, Reach::Anywhere);
        let elsewhere = transport(tls.elsewhere, Reach::of_redirects(&config));
        let mut secrets = HeaderMap::new();
        if let Some(basic) = login {
            secrets.insert(AUTHORIZATION, basic);
        }
        for (field, value) in &config.headers {
            let (field, value) = parse_header(name, field, value)?;
            secrets.append(field, value);
        }
        Ok(Self {
            base: Secret::new(base_url.as_str().trim_end_matches('/')),
            base_url,
            secrets,
            own,
            elsewhere,
            slots: Arc::new(Semaphore::new(config.max_connections.max(1))),
            passing: Arc::new(Semaphore::new((config.max_connections / 2).max(1))),
            memo: Memo::default(),
            config,
        })
    }

    /// Where a resource is: base and target joined as texts.
    pub(crate) fn place(&self, resource: &Resource) -> Result<Place, FetchError> {
        let forbidden = |reason: &str| FetchError::Forbidden {
            reason: reason.to_owned(),
        };
        let target = resource.target.expose();
        if !target.starts_with('/') || target.chars().any(|c| c.is_control() || c == '#') {
            return Err(forbidden("the target is not a path with a query"));
        }
        // What reads the URL would ask for a `/`, which is another file.
        if target
            .split('?')
            .next()
            .is_some_and(|path| path.contains('\\'))
        {
            return Err(forbidden("the target's path holds a `\\`"));
        }
        let url = Url::parse(&format!("{}{target}", self.base.expose()))
            .map_err(|_| forbidden("the target does not make a URL"))?;
        // Dot segments must not climb out of the part of the origin that the operator opened.
        let prefix = self.base_url.path().trim_end_matches('/');
        let below = url
            .path()
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with('/'));
        if !below {
            return Err(forbidden("the target leaves the origin's path"));
        }
        Ok(Place::stable(url, target))
    }

    /// What a redirect of `stable` is remembered under: credentials may lead elsewhere.
    pub(crate) fn asked(&self, stable: &Place, resource: &Resource) -> Asked {
        let forwarded = resource
            .authorization
            .as_ref()
            .filter(|_| self.config.forward_authorization);
        Asked {
            // Of this origin, so that scheme and host need not be told apart.
            target: stable.target(),
            authorization: forwarded.map(|secret| secret.expose().to_owned()),
        }
    }

    /// Whether `url` is on this origin, where its credentials may go.
    pub(crate) fn is_own(&self, url: &Url) -> bool {
        crate::redirect::same_origin(&self.base_url, url)
    }

    /// The fields for a request to the origin itself: those of every request, the configured ones, and
    /// the resource's credentials where they are forwarded.
    pub(crate) fn own_fields(&self, resource: &Resource) -> HeaderMap {
        let mut fields = common_fields();
        for name in self.secrets.keys() {
            fields.remove(name);
        }
        for (name, value) in &self.secrets {
            fields.append(name, value.clone());
        }
        if self.config.forward_authorization
            && let Some(secret) = &resource.authorization
            && let Ok(mut value) = HeaderValue::from_str(secret.expose())
        {
            value.set_sensitive(true);
            fields.insert(AUTHORIZATION, value);
        }
        fields
    }

    pub(crate) const fn policy(&self) -> Policy {
        Policy {
            private_cache: self.config.private_cache,
            immutable: self.config.immutable,
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Reach {
    pub(crate) const fn of_redirects(config: &OriginConfig) -> Self {
        if config.allow_private {
            Self::Anywhere
        } else {
            Self::PublicOnly
        }
    }
}

/// What every request carries, to whomever it goes.
pub(crate) fn common_fields() -> HeaderMap {
    let agent = concat!("chunkd/", env!("CARGO_PKG_VERSION"));
    HeaderMap::from_iter([
        (USER_AGENT, HeaderValue::from_static(agent)),
        (ACCEPT, HeaderValue::from_static("*/*")),
        // A coded body has other offsets.
        (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
    ])
}

fn parse_base(name: &str, text: &str) -> Result<Url, BuildError> {
    let wrong = |reason| BuildError::BaseUrl {
        origin: name.to_owned(),
        reason,
    };
    let url = Url::parse(text).map_err(|_| wrong("cannot be read; write http://HOST/PATH"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("must begin with http:// or https://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("must end with its path, without '?' and '#'"));
    }
    // Where a password holds a slash, or what is read as one, the host is what stands before it.
    if url.path().contains('@') || text.contains('\\') {
        return Err(wrong(
            "must have neither an '@' behind its host, which is %40 in a path, nor a '\\'; a '/' in a \
             password is %2F",
        ));
    }
    Ok(url)
}

/// Takes user and password out of `url`, and makes the field of them that a server wants (RFC 7617).
fn take_login(url: &mut Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut login: Vec<u8> = percent_decode_str(url.username()).collect();
    login.push(b':');
    login.extend(percent_decode_str(url.password().unwrap_or_default()));
    // Neither fails for a URL that has a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(login))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn parse_header(
    origin: &str,
    name: &str,
    value: &Secret,
) -> Result<(HeaderName, HeaderValue), BuildError> {
    let wrong = || BuildError::Header {
        origin: origin.to_owned(),
        name: name.to_owned(),
    };
    let field: HeaderName = name.parse().map_err(|_| wrong())?;
    // These belong to the request itself.
    let ours = [
        "host",
        "range",
        "if-range",
        "if-none-match",
        "if-modified-since",
        "accept-encoding",
        "content-length",
        "transfer-encoding",
        "connection",
    ];
    if ours.contains(&field.as_str()) {
        return Err(wrong());
    }
    let mut value = HeaderValue::from_str(value.expose()).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok((field, value))
}
