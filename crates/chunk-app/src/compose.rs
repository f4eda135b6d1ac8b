//! Which adapters stand behind the ports.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use chunk_bytes_file::{FileByteStoreOptions, FolderLock, FolderLockError};
use chunk_events::BroadcastEvents;
use chunk_fetch_http::{HttpFetcher, OriginConfig};
use chunk_manager::ChunkManager;
use chunk_ports::{ChunkFetcher, ChunkStore, EventSink, OriginForward, TallyStore};
use chunk_proxy::{Cors, Mount, PartitionKey, Proxy, ProxyConfig, TlsIdentity};
use chunk_store_sqlite::{Durability, SqliteChunkStore, SqliteOptions};

use crate::access::Access;
use crate::descriptors::Descriptors;
use crate::failure::{Failure, Outcome, with_causes};
use crate::folder::INDEX;
use crate::host::Host;
use crate::idle::IdleFetcher;
use crate::origin::{Mounts, Origin};
use crate::secret_key;
use crate::settings::{ServeSettings, Settings};
use crate::wire::Role;

/// The folder of the bytes, in the cache folder.
const BYTES: &str = "data";

/// How many events a slow listener may fall behind before it has to look for itself.
const EVENTS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// What stands behind the manager.
#[derive(Debug)]
pub(crate) struct Stores {
    index: Arc<SqliteChunkStore>,
    /// The way to the origins; a short command has none.
    http: Option<Arc<HttpFetcher>>,
}

impl Stores {
    /// Ends the index in order; after that it opens without recovery.
    pub(crate) async fn close(&self) {
        if let Err(error) = self.index.close().await {
            tracing::warn!(
                error = with_causes(&error),
                "the index could not be closed in order"
            );
        }
    }
}

/// The folder's lock, unless another process has it.
pub(crate) fn try_lock(folder: &Path) -> Outcome<Option<FolderLock>> {
    match FolderLock::acquire(folder) {
        Ok(lock) => Ok(Some(lock)),
        Err(FolderLockError::Taken { .. }) => Ok(None),
        Err(error) => Err(Failure::failed(format!(
            "cannot lock the cache folder {}: {}; choose another with --cache-dir DIR",
            folder.display(),
            with_causes(&error)
        ))),
    }
}

/// Opens everything in the locked folder. A short command gets a manager that does nothing by itself, so that
/// looking at the cache neither begins to work the queue off nor makes room. Origins in `moved` are at another
/// URL than before.
pub(crate) async fn host(
    settings: &Settings,
    role: Role,
    moved: &[String],
) -> Outcome<(Host, Stores)> {
    let folder = &settings.cache_dir;
    let unusable = |error: &dyn std::error::Error| {
        Failure::failed(format!(
            "cannot use the cache folder {}: {}",
            folder.display(),
            with_causes(error)
        ))
    };
    let descriptors = Descriptors::of_this_process(settings.mounts.iter().count())?;
    // First: what cannot be asked is told before anything is begun.
    let http = match role {
        Role::Command => None,
        Role::Serve | Role::Fetch => Some(Arc::new(fetcher(&settings.mounts, descriptors)?)),
    };
    // One flush of the log per group commit, so that a power cut takes nothing that was recorded.
    let options = SqliteOptions::new(folder.join(INDEX)).durability(Durability::PowerCut);
    let opened = SqliteChunkStore::open_with(options)
        .await
        .map_err(|error| unusable(&error))?;
    if let Some(aside) = &opened.set_aside {
        tracing::error!(
            "the index was damaged and is now {}; the cache starts empty",
            aside.display()
        );
    }
    let index = Arc::new(opened.store);
    let bytes = FileByteStoreOptions::new()
        .max_open_files(descriptors.segments)
        .open(folder.join(BYTES))
        .map_err(|error| unusable(&error))?;
    let fetcher: Arc<dyn ChunkFetcher> = match &http {
        Some(http) => Arc::clone(http) as Arc<dyn ChunkFetcher>,
        None => Arc::new(IdleFetcher),
    };
    let events = Arc::new(BroadcastEvents::new(EVENTS));
    let mut builder = ChunkManager::builder(
        Arc::clone(&index) as Arc<dyn ChunkStore>,
        Arc::new(bytes),
        fetcher,
    );
    for origin in settings.mounts.iter() {
        if let Some(rate) = origin.background_rate {
            builder = builder.origin_background_rate(origin.name.clone(), rate);
        }
        if origin.immutable {
            builder = builder.immutable_origin(origin.name.clone());
        }
    }
    for origin in moved {
        let mount = match origin.as_str() {
            "" => "/".to_owned(),
            name => format!("/{name}/"),
        };
        tracing::warn!(
            "the origin at {mount} is at another URL than before; what was cached from there is given up"
        );
        builder = builder.moved_origin(origin);
    }
    if role == Role::Command {
        builder = builder.resting();
    }
    let limits = settings
        .limits
        .clone()
        .with_max_connections(descriptors.connections);
    let manager = builder
        .events(Arc::clone(&events) as Arc<dyn EventSink>)
        .tally(Arc::clone(&index) as Arc<dyn TallyStore>)
        .chunk_size(settings.chunk_size)
        .limits(limits)
        .fill(settings.fill)
        .scrub(role != Role::Command)
        .start()
        .await
        .map_err(|error| unusable(&error))?;
    let mut mounts = settings.mounts.clone();
    if mounts.hide_queries() {
        mounts = mounts.with_query_key(PartitionKey::new(secret_key::of_folder(folder)?));
    }
    let host = Host::new(manager, mounts, events, role, settings.limits.metered);
    Ok((host, Stores { index, http }))
}

/// The server for players, in front of `manager`.
pub(crate) fn proxy(
    manager: &ChunkManager,
    stores: &Stores,
    settings: &Settings,
    serve: &ServeSettings,
    identity: Option<TlsIdentity>,
) -> Outcome<Proxy> {
    let mut mounts = Vec::new();
    for origin in settings.mounts.iter() {
        let mut mount = Mount::named(origin.name.clone())
            .with_signature_parameters(origin.signature_parameters.clone());
        if origin.immutable {
            mount = mount.immutable();
        }
        if origin.forward_auth {
            let key = secret_key::of_folder(&settings.cache_dir)?;
            mount = mount.forwarding_authorization(PartitionKey::new(key));
        }
        if origin.hides_queries {
            let key = secret_key::of_folder(&settings.cache_dir)?;
            mount = mount.hiding_queries(PartitionKey::new(key));
        }
        mounts.push(mount);
    }
    let cors = if serve.cors.is_empty() {
        Cors::Off
    } else {
        Cors::Allow(serve.cors.clone())
    };
    let clients = Descriptors::of_this_process(mounts.len())?.clients;
    if clients < serve.max_connections {
        tracing::warn!(
            "this process may have too few files and connections open (ulimit -n) for max_connections, {}; players \
             get {clients}",
            serve.max_connections
        );
    }
    let mut config = ProxyConfig::new(mounts)
        .with_hosts(serve.hosts.clone())
        .with_cors(cors)
        .with_grace(serve.grace)
        .with_max_connections(clients.min(serve.max_connections));
    config.tls = identity;
    let manager = manager.clone();
    match &stores.http {
        Some(http) => {
            let forward = Arc::clone(http) as Arc<dyn OriginForward>;
            Proxy::with_forward(manager, forward, config)
        }
        None => Proxy::new(manager, config),
    }
    .map_err(Failure::usage)
}

fn fetcher(mounts: &Mounts, descriptors: Descriptors) -> Outcome<HttpFetcher> {
    let mut builder = HttpFetcher::builder();
    for origin in mounts.iter() {
        let access = origin.access(&|name| std::env::var(name).ok())?;
        let mut config = origin_config(origin, access);
        config.max_connections = descriptors.requests();
        builder = builder.origin(origin.name.clone(), config);
    }
    builder
        .build()
        .map_err(|error| Failure::usage(with_causes(&error)))
}

fn origin_config(origin: &Origin, access: Access) -> OriginConfig {
    let mut config = OriginConfig::new(access.url.expose());
    config.headers = access.headers;
    config.extra_ca_pem = access.ca;
    config.identity_pem = access.client_cert;
    config.allow_private = origin.allow_private;
    config.forward_authorization = origin.forward_auth;
    config.immutable = origin.immutable;
    config.private_cache = origin.private_cache;
    config
}
