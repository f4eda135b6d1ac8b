//! `chunkd serve`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chunk_proxy::HostNames;
use tokio::net::{TcpListener, TcpStream};

use crate::failure::{Failure, Outcome};
use crate::instance::Instance;
use crate::origin::Origin;
use crate::settings::{ServeSettings, Settings};
use crate::signals::Signals;
use crate::wire::Role;
use crate::{admin, compose, folder, output, run};

/// How long an origin may take to accept a connection before a warning is due.
const ORIGIN_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn serve(settings: &Settings, serve: &ServeSettings) -> Outcome<()> {
    if settings.mounts.is_empty() {
        return Err(Failure::usage(
            "no origin is given; say for example `chunkd serve --origin https://media.example.org/library/`",
        ));
    }
    let identity = match &serve.identity {
        Some(files) => Some(files.read()?),
        None => None,
    };
    let scheme = if identity.is_some() { "https" } else { "http" };
    let mut signals = Signals::watch()
        .map_err(|error| Failure::failed(format!("cannot watch for signals: {error}")))?;
    folder::prepare(&settings.cache_dir)?;
    let lock = run::take_over(&settings.cache_dir).await?;
    // Before anything is opened: a port in use is the commonest reason not to start.
    let listener = listen(serve.listen, "--listen").await?;
    let pages = match serve.admin_listen {
        Some(address) => Some(listen(address, "--admin-listen").await?),
        None => None,
    };
    let instance = Instance::start(lock, settings, Role::Serve).await?;
    let host = Arc::clone(instance.host());
    let address = listener.local_addr().map_err(Failure::failed)?;
    let proxy = compose::proxy(&host.manager, instance.stores(), settings, serve, identity)?;
    host.observe(proxy.clone());
    let mut draining = host.draining();
    let players = tokio::spawn(async move {
        proxy
            .serve(listener, async move { draining.wait().await })
            .await;
    });
    let pages = match pages {
        Some(listener) => {
            let address = listener.local_addr().map_err(Failure::failed)?;
            tracing::info!("health and metrics on http://{address}/");
            Some(tokio::spawn(admin::serve_address(
                listener,
                HostNames::new(serve.hosts.clone()),
                Arc::clone(&host),
            )))
        }
        None => None,
    };
    for origin in settings.mounts.iter() {
        tokio::spawn(warn_of_silence(origin.clone()));
        output::line(format!(
            "chunkd: {scheme}://{address}{} -> {}",
            origin.mount(),
            origin.url
        ))?;
    }
    signals.next().await;
    tracing::info!("ending; a second signal ends at once");
    let drained = async {
        host.drain();
        if let Err(error) = players.await {
            tracing::warn!(%error, "the server for players broke");
        }
        instance.stop().await;
        if let Some(pages) = pages {
            // It ends with the host.
            let _ = pages.await;
        }
    };
    tokio::select! {
        () = drained => Ok(()),
        () = signals.next() => Err(Failure::failed(
            "ended at once; answers under way were cut, and what had not been recorded yet is lost",
        )),
    }
}

async fn listen(address: SocketAddr, flag: &str) -> Outcome<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let free = match free_port(address).await {
                Some(port) => format!("{flag} {}", SocketAddr::new(address.ip(), port)),
                None => format!("{flag} {}", SocketAddr::new(address.ip(), 0)),
            };
            Err(Failure::failed(format!(
                "port {} on {} is in use by another program; say {free}",
                address.port(),
                address.ip()
            )))
        }
        Err(error) => Err(Failure::failed(format!(
            "cannot listen on {address}: {error}; say for example {flag} {}:8787",
            Ipv4Addr::LOCALHOST
        ))),
    }
}

/// A port that is free at this moment.
async fn free_port(address: SocketAddr) -> Option<u16> {
    let probe = TcpListener::bind(SocketAddr::new(address.ip(), 0)).await;
    probe.ok()?.local_addr().ok().map(|address| address.port())
}

/// Warns where an origin cannot be connected to. It may come back, and what is cached plays meanwhile.
async fn warn_of_silence(origin: Origin) {
    let connection = TcpStream::connect(origin.url.address());
    let reason = match tokio::time::timeout(ORIGIN_TIMEOUT, connection).await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    tracing::warn!(
        "the origin {} does not answer: {reason}; what is cached is served, and it may come back",
        origin.url
    );
}
