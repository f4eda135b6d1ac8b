//! What was asked and what was sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chunk_core::{ByteRange, RangeSet};
use tokio::sync::Notify;

/// One request as the origin saw it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RequestRecord {
    /// The method.
    pub method: String,
    /// The request target as it stood in the request line.
    pub target: String,
    /// The object it named, whether or not there is one.
    pub object: String,
    /// The `Range` field.
    pub range: Option<String>,
    /// Every field, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The request's body.
    pub body: Vec<u8>,
    /// Which connection it came on, counted from 0.
    pub connection: u64,
    /// The status answered, 0 until then.
    pub status: u16,
    /// The version served.
    pub version: u64,
    /// The offset of the body's first byte in the object, where the body is content.
    pub content_start: Option<u64>,
    /// Body bytes handed to the transport.
    pub body_sent: u64,
    /// Whether the answer is over, well or not.
    pub finished: bool,
    /// Whether the peer ended it before its time.
    pub ended_by_peer: bool,
}

impl RequestRecord {
    /// The value of a field, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Default)]
struct Inner {
    records: Vec<RequestRecord>,
    /// How many records from the front the test has put behind it.
    cleared: usize,
    in_flight: usize,
    max_in_flight: usize,
}

impl Inner {
    fn current(&self) -> &[RequestRecord] {
        self.records.get(self.cleared..).unwrap_or_default()
    }
}

/// Every request of one origin, in order of arrival. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
}

impl Journal {
    /// All records.
    #[must_use]
    pub fn records(&self) -> Vec<RequestRecord> {
        self.lock().current().to_vec()
    }

    /// The records of one object.
    #[must_use]
    pub fn records_of(&self, object: &str) -> Vec<RequestRecord> {
        let mut records = self.records();
        records.retain(|record| record.object == object);
        records
    }

    /// The latest record.
    #[must_use]
    pub fn last(&self) -> Option<RequestRecord> {
        self.lock().current().last().cloned()
    }

    /// The number of requests.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.lock().current().len()
    }

    /// The number of requests for one object.
    #[must_use]
    pub fn requests_of(&self, object: &str) -> usize {
        self.sum(object, |_| 1) as usize
    }

    /// Body bytes sent for one object, of every version.
    #[must_use]
    pub fn bytes_of(&self, object: &str) -> u64 {
        self.sum(object, |record| record.body_sent)
    }

    /// Content bytes of one object that were sent at least once, each version for itself.
    #[must_use]
    pub fn distinct_bytes_of(&self, object: &str) -> u64 {
        let mut versions: Vec<(u64, RangeSet)> = Vec::new();
        for record in self.lock().current().iter().filter(|r| r.object == object) {
            let Some(range) = record
                .content_start
                .and_then(|start| ByteRange::with_len(start, record.body_sent).ok())
            else {
                continue;
            };
            match versions.iter_mut().find(|(v, _)| *v == record.version) {
                Some((_, sent)) => {
                    sent.insert(range);
                }
                None => versions.push((record.version, RangeSet::from_iter([range]))),
            }
        }
        versions.iter().map(|(_, sent)| sent.len()).sum()
    }

    /// Content bytes of one object that were sent more often than once, each time after the first.
    #[must_use]
    pub fn duplicate_bytes_of(&self, object: &str) -> u64 {
        let content = self.sum(object, |record| {
            record.content_start.map_or(0, |_| record.body_sent)
        });
        content - self.distinct_bytes_of(object)
    }

    /// Requests under way now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// The most requests that were ever under way at one instant.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.lock().max_in_flight
    }

    /// Forgets the records and the maximum, for a second act of a test; those of requests under way too.
    pub fn clear(&self) {
        let mut inner = self.lock();
        inner.cleared = inner.records.len();
        inner.max_in_flight = inner.in_flight;
    }

    /// Waits until `reached` holds for the journal; woken by changes, never by time.
    pub async fn wait_until(&self, reached: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if reached(self) {
                return;
            }
            changed.await;
        }
    }

    /// Notes a request; returns where its record is.
    pub(crate) fn begin(&self, record: RequestRecord) -> Exchange {
        let mut inner = self.lock();
        inner.records.push(record);
        inner.in_flight += 1;
        inner.max_in_flight = inner.max_in_flight.max(inner.in_flight);
        let index = inner.records.len() - 1;
        drop(inner);
        self.changed.notify_waiters();
        Exchange {
            journal: self.clone(),
            index,
            complete: false,
        }
    }

    fn sum(&self, object: &str, value: impl Fn(&RequestRecord) -> u64) -> u64 {
        let inner = self.lock();
        let of_object = inner.current().iter().filter(|r| r.object == object);
        of_object.map(value).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request under way; ends when dropped, as ended by the peer unless [`Exchange::complete`] was called.
#[derive(Debug)]
pub(crate) struct Exchange {
    journal: Journal,
    index: usize,
    complete: bool,
}

impl Exchange {
    /// Changes the record.
    pub(crate) fn note(&self, change: impl FnOnce(&mut RequestRecord)) {
        if let Some(record) = self.journal.lock().records.get_mut(self.index) {
            change(record);
        }
        self.journal.changed.notify_waiters();
    }

    /// Counts body bytes.
    pub(crate) fn sent(&self, bytes: u64) {
        self.note(|record| record.body_sent += bytes);
    }

    /// The object asked for.
    pub(crate) fn object(&self) -> String {
        let inner = self.journal.lock();
        let record = inner.records.get(self.index);
        record.map_or_else(String::new, |record| record.object.clone())
    }

    /// The origin has done all it meant to do.
    pub(crate) fn complete(mut self) {
        self.complete = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut inner = self.journal.lock();
        inner.in_flight -= 1;
        let ended_by_peer = !self.complete;
        if let Some(record) = inner.records.get_mut(self.index) {
            record.finished = true;
            record.ended_by_peer = ended_by_peer;
        }
        drop(inner);
        self.journal.changed.notify_waiters();
    }
}
