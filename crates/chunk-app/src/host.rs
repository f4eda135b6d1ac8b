//! What the process that holds the folder shares between its socket, its proxy and its command.

use std::sync::{Arc, OnceLock};

use chunk_events::BroadcastEvents;
use chunk_manager::ChunkManager;
use chunk_proxy::Proxy;
use tokio::sync::watch;

use crate::metrics;
use crate::origin::Mounts;
use crate::wire::{Instance, Role};

/// The manager with all that orders need besides.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) manager: ChunkManager,
    pub(crate) mounts: Mounts,
    pub(crate) events: Arc<BroadcastEvents>,
    pub(crate) role: Role,
    /// Whether nothing is fetched in the background, because each byte costs.
    pub(crate) is_metered: bool,
    proxy: OnceLock<Proxy>,
    draining: watch::Sender<bool>,
    closing: watch::Sender<bool>,
    handover: watch::Sender<bool>,
}

impl Host {
    pub(crate) fn new(
        manager: ChunkManager,
        mounts: Mounts,
        events: Arc<BroadcastEvents>,
        role: Role,
        is_metered: bool,
    ) -> Self {
        Self {
            manager,
            mounts,
            events,
            role,
            is_metered,
            proxy: OnceLock::new(),
            draining: watch::Sender::new(false),
            closing: watch::Sender::new(false),
            handover: watch::Sender::new(false),
        }
    }

    pub(crate) fn instance(&self) -> Instance {
        Instance {
            role: self.role,
            pid: std::process::id(),
        }
    }

    /// Makes the server for players part of the metrics.
    pub(crate) fn observe(&self, proxy: Proxy) {
        // There is one in a process's life.
        let _ = self.proxy.set(proxy);
    }

    /// What is counted, in the Prometheus text format.
    pub(crate) fn metrics(&self) -> String {
        let proxy = self.proxy.get().map(Proxy::statistics);
        metrics::render(&self.manager.statistics(), proxy.as_ref())
    }

    /// Tells the server for players to take no more of them.
    pub(crate) fn drain(&self) {
        self.draining.send_replace(true);
    }

    pub(crate) fn draining(&self) -> Signal {
        Signal(self.draining.subscribe())
    }

    /// Tells everybody that long answers end here.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    pub(crate) fn closing(&self) -> Signal {
        Signal(self.closing.subscribe())
    }

    /// Asks this process to let go of the folder.
    pub(crate) fn request_handover(&self) {
        self.handover.send_replace(true);
    }

    pub(crate) fn handover_requested(&self) -> Signal {
        Signal(self.handover.subscribe())
    }
}

/// Something that happens once; seen also by those who look later.
#[derive(Clone, Debug)]
pub(crate) struct Signal(watch::Receiver<bool>);

impl Signal {
    /// Waits for it.
    pub(crate) async fn wait(&mut self) {
        if self.0.wait_for(|happened| *happened).await.is_err() {
            // The sender has gone without it: it will never happen.
            std::future::pending::<()>().await;
        }
    }
}
