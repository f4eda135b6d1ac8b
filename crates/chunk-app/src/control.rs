//! What a command may order, whoever carries it out.
//!
//! [`Local`] is the process that holds the folder; [`crate::remote::Remote`] is a way to it. Both give
//! the same answers, because the far end of the second is the first.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use chunk_core::CacheKey;
use chunk_manager::{EntryStatus, ManagerError, Timeline};
use tokio::sync::mpsc;

use crate::failure::{Failure, Outcome};
use crate::fetching;
use crate::host::Host;
use crate::wire::{
    ActivityReport, BadBlockReport, EntryReport, EvictAnswer, EvictOrder, FetchEvent, FetchOrder,
    JobReport, OriginReport, PinAnswer, PinOrder, QueueReport, SCHEMA, StatusReport, VerifyAnswer,
    VerifyOrder, WhyAnswer, WhyOrder, WhyReport, queued_bytes, state_and_reason,
};

/// The orders.
#[async_trait]
pub(crate) trait Control: Send + Sync + fmt::Debug {
    /// What is cached and what goes on.
    async fn status(&self) -> Outcome<StatusReport>;

    /// The files that somebody asked to have in whole and that are not there yet.
    async fn jobs(&self) -> Outcome<Vec<JobReport>>;

    /// Orders files in whole and tells how it goes. The channel ends early where whoever carries it out
    /// ends; the order stays.
    async fn fetch(&self, order: FetchOrder) -> Outcome<mpsc::Receiver<FetchEvent>>;

    /// Where a byte is, and how it came.
    async fn why(&self, order: WhyOrder) -> Outcome<WhyAnswer>;

    /// Checks every recorded block.
    async fn verify(&self, order: VerifyOrder) -> Outcome<VerifyAnswer>;

    /// Removes a file, or all that may go.
    async fn evict(&self, order: EvictOrder) -> Outcome<EvictAnswer>;

    /// Pins or unpins a file.
    async fn pin(&self, order: PinOrder) -> Outcome<PinAnswer>;
}

/// Orders carried out in this process.
#[derive(Clone, Debug)]
pub(crate) struct Local(pub(crate) Arc<Host>);

#[async_trait]
impl Control for Local {
    async fn status(&self) -> Outcome<StatusReport> {
        let entries = self.entries().await?;
        let manager = &self.0.manager;
        let statistics = manager.statistics();
        let queued = entries.iter().filter(|entry| entry.queued_bytes > 0);
        let mut reports: Vec<EntryReport> = entries
            .iter()
            .map(|entry| EntryReport::new(entry, self.0.is_metered))
            .collect();
        reports.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(StatusReport {
            schema: SCHEMA,
            origins: self
                .0
                .mounts
                .iter()
                .map(|origin| OriginReport {
                    name: origin.name.clone(),
                    mount: origin.mount(),
                    url: origin.url.to_string(),
                })
                .collect(),
            stored_bytes: entries.iter().map(|entry| entry.recorded_bytes).sum(),
            queue: QueueReport {
                entries: queued.clone().count() as u64,
                bytes: queued.filter_map(queued_bytes).sum(),
                transfers: statistics.active_runs,
            },
            activity: ActivityReport::new(&statistics, &manager.tally(), &entries),
            entries: reports,
        })
    }

    async fn jobs(&self) -> Outcome<Vec<JobReport>> {
        let entries = self.entries().await?;
        let jobs = entries.iter().filter(|entry| entry.queued_bytes > 0);
        Ok(jobs
            .map(|entry| JobReport {
                path: entry.key.to_string(),
                state: state_and_reason(entry, self.0.is_metered).0.to_owned(),
                queued_bytes: queued_bytes(entry),
                recorded_bytes: entry.recorded_bytes,
                total_bytes: entry.total_len,
            })
            .collect())
    }

    async fn fetch(&self, order: FetchOrder) -> Outcome<mpsc::Receiver<FetchEvent>> {
        for origin in &order.origins {
            self.0.mounts.expect(&origin.name, &origin.url)?;
        }
        // All or none: a slip in the last of many is told before the first begins.
        let resources = order
            .targets
            .iter()
            .map(|target| self.0.mounts.resource(target))
            .collect::<Outcome<Vec<_>>>()?;
        Ok(fetching::start(Arc::clone(&self.0), resources))
    }

    async fn why(&self, order: WhyOrder) -> Outcome<WhyAnswer> {
        // A file that could not be opened has left no trace but in memory.
        let keys = match self.keys(&order.path).await {
            Ok(keys) => keys,
            Err(failure) => {
                let wanted = self.0.mounts.resource(&order.path)?.key;
                let timeline = self.timeline(&wanted, order.offset).await?;
                if timeline.moments.is_empty() {
                    return Err(failure);
                }
                vec![wanted]
            }
        };
        let mut files = Vec::new();
        for key in keys {
            let timeline = self.timeline(&key, order.offset).await?;
            files.push(WhyReport::new(&timeline, self.0.role));
        }
        Ok(WhyAnswer {
            schema: SCHEMA,
            files,
        })
    }

    async fn verify(&self, order: VerifyOrder) -> Outcome<VerifyAnswer> {
        let report = self
            .0
            .manager
            .verify(order.repair)
            .await
            .map_err(Failure::failed)?;
        Ok(VerifyAnswer {
            entries: report.entries,
            blocks: report.blocks,
            bytes: report.bytes,
            bad: report
                .bad
                .iter()
                .map(|bad| BadBlockReport {
                    path: bad.key.to_string(),
                    start_byte: bad.range.start(),
                    end_byte: bad.range.last(),
                })
                .collect(),
            repaired: report.repaired,
        })
    }

    async fn evict(&self, order: EvictOrder) -> Outcome<EvictAnswer> {
        let manager = &self.0.manager;
        let Some(path) = order.path else {
            let freed_bytes = manager.evict_all().await.map_err(Failure::failed)?;
            return Ok(EvictAnswer { freed_bytes });
        };
        let mut freed_bytes = 0;
        for key in self.keys(&path).await? {
            freed_bytes += manager.evict(&key).await.map_err(|error| match error {
                ManagerError::InUse => {
                    Failure::failed(format!("{key} is being read; try again when it is not"))
                }
                other => Failure::failed(other),
            })?;
        }
        Ok(EvictAnswer { freed_bytes })
    }

    async fn pin(&self, order: PinOrder) -> Outcome<PinAnswer> {
        let mut path = order.path.clone();
        for key in self.keys(&order.path).await? {
            self.0
                .manager
                .pin(&key, order.pinned)
                .await
                .map_err(Failure::failed)?;
            path = key.to_string();
        }
        Ok(PinAnswer {
            path,
            pinned: order.pinned,
        })
    }
}

impl Local {
    async fn timeline(&self, key: &CacheKey, offset: u64) -> Outcome<Timeline> {
        let manager = &self.0.manager;
        manager.why(key, offset).await.map_err(Failure::failed)
    }

    async fn entries(&self) -> Outcome<Vec<EntryStatus>> {
        self.0.manager.status().await.map_err(Failure::failed)
    }

    /// The entries that a path or URL names. Without a query it names every variant of the file, because
    /// what `status` prints of a query cannot be typed back.
    async fn keys(&self, text: &str) -> Outcome<Vec<Arc<CacheKey>>> {
        let mounts = &self.0.mounts;
        let text = text.strip_suffix("?…").unwrap_or(text);
        let wanted = mounts.resource(text);
        let entries = self.entries().await?;
        let keys: Vec<_> = entries
            .iter()
            .map(|entry| &entry.key)
            .filter(|key| {
                let wanted = wanted.as_ref().is_ok_and(|wanted| names(&wanted.key, key));
                // `status` lists also what came of origins that are not in use now.
                wanted
                    || mounts
                        .former_key(text, key.origin())
                        .is_some_and(|w| names(&w, key))
            })
            .map(Arc::clone)
            .collect();
        if keys.is_empty() {
            let wanted = wanted?.key;
            return Err(Failure::failed(format!(
                "nothing is cached for {wanted}; `chunkd status` lists what is"
            )));
        }
        Ok(keys)
    }
}

/// Whether `wanted` names `key`, with its query or as one of all variants.
fn names(wanted: &CacheKey, key: &CacheKey) -> bool {
    key.origin() == wanted.origin()
        && key.path() == wanted.path()
        && (wanted.query().is_empty() || key.query() == wanted.query())
}
