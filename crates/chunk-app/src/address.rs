//! Addresses to listen on, as they are typed.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// An IP address and a port; `localhost` stands for 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) SocketAddr);

/// Why a text is no address, and what would be one.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no address and port; say for example {example}")]
pub(crate) struct AddressError {
    text: String,
    example: SocketAddr,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port: Option<u16> = port.parse().ok();
        match port {
            Some(port) if host.eq_ignore_ascii_case("localhost") => {
                Ok(Self(SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
            }
            _ => Err(AddressError {
                text: text.to_owned(),
                example: SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(8787))),
            }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_an_address_or_is_told_what_would_be() {
        for (text, address) in [
            ("127.0.0.1:8787", "127.0.0.1:8787"),
            ("[::1]:80", "[::1]:80"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("LocalHost:1", "127.0.0.1:1"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), address);
        }
        for (text, example) in [
            ("8080", "127.0.0.1:8080"),
            (":9000", "127.0.0.1:9000"),
            ("media.example.org:9000", "127.0.0.1:9000"),
            ("localhost", "127.0.0.1:8787"),
            ("localhost:70000", "127.0.0.1:8787"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("`{text}` is no address and port; say for example {example}")
            );
        }
    }
}
