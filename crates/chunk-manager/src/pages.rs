//! Pages in place of files: the log-in page of a hotel's network is no new version of a film, and the page that a server
//! puts where a file was is one. They look the same, so a page is believed when it is still there after a while.

use std::sync::Arc;
use std::time::Duration;

use chunk_core::{Representation, Tick};
use chunk_ports::Clock;

use crate::inner::Inner;
use crate::live::Live;
use crate::options::{First, Purpose};

/// How long after a page came it is asked for again.
pub(crate) const PAUSE: Duration = Duration::from_secs(60);

/// What came in place of a file.
#[derive(Debug)]
pub(crate) struct Page {
    representation: Representation,
    /// From when on it counts where it comes again.
    due: Tick,
}

impl Page {
    pub(crate) fn is_due(&self, now: Tick) -> bool {
        now >= self.due
    }

    /// By a strong validator: a page that is made anew for each who asks has none, or another one each time, and
    /// two of the same length may be any two.
    fn is(&self, page: &Representation) -> bool {
        self.representation.is_confirmed_by(page)
    }
}

/// Whether the origin's new answer looks like a login or error page in place of a media file.
pub(crate) fn is_page_for_media(known: &Representation, now: &Representation) -> bool {
    let is_html = |representation: &Representation| {
        representation.content_type.as_deref().is_some_and(|kind| {
            let kind = kind.trim_start().to_ascii_lowercase();
            ["text/html", "application/xhtml+xml"]
                .iter()
                .any(|page| kind.starts_with(page))
        })
    };
    is_html(now) && !is_html(known)
}

impl Inner {
    /// A page came in place of what is cached, which is served on. Whether it is there to stay is asked later, even
    /// where nobody comes until then. Returns in how long.
    pub(crate) fn meet_page(
        self: &Arc<Self>,
        live: &Arc<Live>,
        representation: Representation,
    ) -> Duration {
        let now = self.clock.now();
        let (due, is_first) = live.note_page(representation, now);
        if is_first {
            tracing::warn!(key = %live.key, "the origin answered with a page in place of the file");
            let (inner, live) = (Arc::downgrade(self), Arc::clone(live));
            let clock = Arc::clone(&self.clock);
            tokio::spawn(async move {
                live.page_is_due(&*clock).await;
                let is_there = {
                    let state = live.lock();
                    state.page.is_some() && !state.is_given_up() && !state.is_closed
                };
                if let Some(inner) = inner.upgrade().filter(|_| is_there) {
                    inner.ask_beside(&live);
                }
            });
        }
        due.since(now)
    }

    /// Lets the index know what replaces `live`, which may be all that is left of the minute it took to find out: who
    /// opens the file once in each session would get it as it was for ever.
    pub(crate) fn take_up_page(self: &Arc<Self>, live: &Live) {
        let resource = live.lock().resource.clone();
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            // Where it fails, it is found out once more.
            drop(inner.open(resource, First::Nothing, Purpose::Order).await);
        });
    }
}

impl Live {
    /// Notes the page that is there at `now`: from when on it counts, and whether there was none before.
    fn note_page(&self, representation: Representation, now: Tick) -> (Tick, bool) {
        let mut state = self.lock();
        let former = state.page.take();
        let is_first = former.is_none();
        let page = match former {
            Some(former) if former.is(&representation) => former,
            _ => Page {
                representation,
                due: now + PAUSE,
            },
        };
        let due = page.due;
        state.page = Some(page);
        drop(state);
        self.doubt(due);
        (due, is_first)
    }

    pub(crate) fn is_known_page(&self, page: &Representation) -> bool {
        let state = self.lock();
        state.page.as_ref().is_some_and(|known| known.is(page))
    }

    /// Waits until the page counts that came last, or until there is none.
    async fn page_is_due(&self, clock: &dyn Clock) {
        loop {
            let due = self.lock().page.as_ref().map(|page| page.due);
            match due {
                Some(due) if clock.now() < due => clock.sleep_until(due).await,
                _ => return,
            }
        }
    }
}
