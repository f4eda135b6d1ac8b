//! The proxy over in-memory and loopback connections, against a source whose every byte is a function of
//! its offset and whose every delay and failure is scripted.

mod admission;
mod again;
mod faults;
pub(crate) mod film;
mod forwarding;
mod lane;
mod lifetime;
mod managed;
mod player;
mod players;
mod secure;
mod semantics;
mod streams;
mod told;

use std::sync::Arc;

use crate::config::{Mount, ProxyConfig};
use crate::serve::Proxy;
use film::Film;
use player::Player;

/// A proxy of `film` at `/`.
fn proxy(film: &Film) -> Proxy {
    proxy_with(film, ProxyConfig::new(vec![Mount::unnamed()]))
}

fn proxy_with(film: &Film, config: ProxyConfig) -> Proxy {
    Proxy::build(Arc::new(film.clone()), None, config).unwrap()
}

/// A player connected to a proxy of `film`.
fn play(film: &Film) -> Player {
    Player::connect(&proxy(film))
}
