//! The process that holds the folder: its manager, its socket, and how both end.

use std::sync::Arc;

use chunk_bytes_file::FolderLock;
use tokio::task::JoinHandle;

use crate::admin;
use crate::compose::{self, Stores};
use crate::control::Local;
use crate::failure::{Failure, Outcome};
use crate::host::{Host, Signal};
use crate::record::{Record, Shape};
use crate::settings::Settings;
use crate::socket;
use crate::wire::Role;

/// A running cache. [`Instance::stop`] ends it in order; dropped, it ends as by a crash, which loses at
/// most what was on its way to the index.
#[derive(Debug)]
pub(crate) struct Instance {
    host: Arc<Host>,
    stores: Stores,
    admin: JoinHandle<()>,
    folder: std::path::PathBuf,
    /// Last, so that it is the last to go.
    _lock: FolderLock,
}

impl Instance {
    /// Opens everything in the locked folder and answers on its socket.
    pub(crate) async fn start(lock: FolderLock, settings: &Settings, role: Role) -> Outcome<Self> {
        let folder = settings.cache_dir.clone();
        let known = Record::read(&folder);
        let moved = match role {
            Role::Command => Vec::new(),
            Role::Serve | Role::Fetch => known.moved(&settings.mounts),
        };
        let (host, stores) = compose::host(settings, role, &moved).await?;
        let host = Arc::new(host);
        if role != Role::Command {
            let mut record = known.with(&settings.mounts);
            if role == Role::Serve {
                record = record.shaped(Shape::of(settings));
            }
            // After that, so that a crash in between only repeats it.
            if let Err(error) = record.write(&folder) {
                tracing::warn!(%error, "the origins cannot be recorded; later commands need --origin");
            }
        }
        let listener = socket::listen(&folder).map_err(|error| {
            Failure::failed(format!(
                "cannot make the socket in the cache folder {}: {error}",
                folder.display()
            ))
        })?;
        let admin = tokio::spawn(admin::serve_socket(listener, Arc::clone(&host)));
        Ok(Self {
            host,
            stores,
            admin,
            folder,
            _lock: lock,
        })
    }

    pub(crate) const fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// What is needed of the stores and the origin beyond the manager.
    pub(crate) const fn stores(&self) -> &Stores {
        &self.stores
    }

    pub(crate) fn control(&self) -> Local {
        Local(Arc::clone(&self.host))
    }

    pub(crate) fn handover_requested(&self) -> Signal {
        self.host.handover_requested()
    }

    /// Ends long answers, records what has arrived, and lets go of the folder.
    pub(crate) async fn stop(self) {
        self.host.close();
        // New orders find nobody from here on and look again.
        if let Err(error) = socket::remove(&self.folder) {
            tracing::warn!(%error, "the socket cannot be removed");
        }
        if let Err(error) = self.admin.await {
            tracing::warn!(%error, "the admin server broke");
        }
        self.host.manager.shutdown().await;
        self.stores.close().await;
    }
}
