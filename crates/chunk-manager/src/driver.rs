//! The one owner of the scheduler: facts in, actions carried out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chunk_core::scheduler::{
    Action, Config, Failure, Input, Outcome, ReaderId, Role, RunId, Scheduler, SourceId,
};
use chunk_core::{ByteRange, Container, Tick};
use chunk_ports::{CacheEvent, FetchError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::counters::{add, set};
use crate::error::OpenError;
use crate::hot_zones::HotZones;
use crate::idling::IDLE;
use crate::inner::Inner;
use crate::live::Live;
use crate::pages::is_page_for_media;
use crate::run::{RunControl, RunTask};
use crate::timeline::{Happening, InFlight, RunAccount, Span, Step, reason};
use crate::waiters::Told;

/// How many commands are taken in before actions are carried out.
const BATCH: usize = 256;
/// What the driver can be told.
#[derive(Debug)]
pub(crate) enum Command {
    Input(Input),
    Opened {
        live: Arc<Live>,
        input: Input,
    },
    ReaderGone {
        live: Arc<Live>,
        reader: ReaderId,
    },
    /// The next bytes of a run have become readable.
    Progressed {
        run: RunId,
        live: Arc<Live>,
        range: ByteRange,
    },
    /// A look at a film's header has told something, or nothing.
    Probed {
        live: Arc<Live>,
        container: Option<Container>,
    },
    RunEnded {
        run: RunId,
        live: Arc<Live>,
        result: Result<(), FetchError>,
    },
    LengthLearned {
        live: Arc<Live>,
        total_len: u64,
    },
    /// The origin has another representation.
    Superseded {
        live: Arc<Live>,
    },
    /// The entry is being removed.
    Close {
        live: Arc<Live>,
        done: oneshot::Sender<()>,
    },
    /// An order has begun to rest: who asks goes on once the scheduler has decided what that means.
    Rested {
        done: oneshot::Sender<()>,
    },
    Ask {
        source: SourceId,
        answer: oneshot::Sender<Activity>,
    },
    Explain {
        source: SourceId,
        offset: u64,
        answer: oneshot::Sender<InFlight>,
    },
    Shutdown {
        done: oneshot::Sender<()>,
    },
}

/// What goes on with one source.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Activity {
    pub(crate) is_fetching: bool,
    pub(crate) queued_bytes: u64,
}

pub(crate) struct Driver {
    pub(crate) inner: Arc<Inner>,
    pub(crate) scheduler: Scheduler,
    commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) lives: HashMap<SourceId, Arc<Live>>,
    pub(crate) runs: HashMap<RunId, Arc<RunControl>>,
    /// The last failure of each source, for those who wait in vain.
    pub(crate) errors: HashMap<SourceId, OpenError>,
    /// When to look whether a source without readers can be closed.
    pub(crate) idle: BTreeMap<SourceId, Tick>,
    tasks: JoinSet<()>,
    step: Step,
    pub(crate) hot_zones: HotZones,
}

impl Driver {
    pub(crate) fn new(
        inner: Arc<Inner>,
        config: Config,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Self {
            inner,
            scheduler: Scheduler::new(config),
            commands,
            lives: HashMap::new(),
            runs: HashMap::new(),
            errors: HashMap::new(),
            idle: BTreeMap::new(),
            tasks: JoinSet::new(),
            step: Step::default(),
            hot_zones: HotZones::default(),
        }
    }

    pub(crate) async fn drive(mut self) {
        let clock = Arc::clone(&self.inner.clock);
        loop {
            let wake = self
                .scheduler
                .poll_timeout()
                .into_iter()
                .chain(self.idle.values().copied().min())
                .min()
                .unwrap_or(Tick::NEVER);
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    let Some(command) = command else { return };
                    if let Some(done) = self.take_in(command) {
                        return self.end(done).await;
                    }
                    for _ in 0..BATCH {
                        let Ok(command) = self.commands.try_recv() else { break };
                        if let Some(done) = self.take_in(command) {
                            return self.end(done).await;
                        }
                    }
                }
                () = clock.sleep_until(wake), if wake != Tick::NEVER => {
                    self.handle(Input::TimedOut);
                    self.close_idle();
                }
                Some(_) = self.tasks.join_next() => {}
            }
            self.act();
        }
    }

    pub(crate) fn handle(&mut self, input: Input) {
        let now = self.inner.clock.now();
        let follows = self.hot_zones.note(now, &input);
        self.scheduler.handle(now, input);
        if let Some(input) = follows {
            self.scheduler.handle(now, input);
        }
    }

    /// Takes in one command; gives back whom to tell once everything is shut down.
    fn take_in(&mut self, command: Command) -> Option<oneshot::Sender<()>> {
        match command {
            Command::Input(Input::Supplied { source, range }) => self.supplied(source, range),
            Command::Input(input) => self.handle(input),
            Command::Opened { live, input } => {
                self.idle.insert(live.source, self.inner.clock.now() + IDLE);
                self.lives.insert(live.source, Arc::clone(&live));
                self.handle(input);
                self.hot_zones.look(&self.inner, &live);
            }
            Command::ReaderGone { live, reader } => self.reader_gone(&live, reader),
            Command::Progressed { run, live, range } => {
                self.progressed(run, &live, range);
                self.hot_zones.look(&self.inner, &live);
            }
            Command::Probed { live, container } => self.probed(&live, container),
            Command::RunEnded { run, live, result } => self.run_ended(run, &live, result),
            Command::LengthLearned { live, total_len } => {
                live.learn_length(total_len);
                // Nobody could tell before that the last chunk was whole.
                if let Some(last) = total_len.checked_sub(1) {
                    self.inner.announce(&live, last, 1);
                }
                self.handle(Input::LengthLearned {
                    source: live.source,
                    total_len,
                });
                self.inner.length_learned(&live);
            }
            Command::Superseded { live } => self.supersede(&live),
            Command::Close { live, done } => {
                self.close(&live);
                // Runs of the source end on their own; the entry's files are removed by name, so that a
                // write that is under way cannot come back.
                let _ = done.send(());
            }
            Command::Rested { done } => {
                self.act();
                let _ = done.send(());
            }
            Command::Ask { source, answer } => {
                let activity = Activity {
                    is_fetching: self.scheduler.is_fetching(source),
                    queued_bytes: self
                        .scheduler
                        .queue()
                        .demands(source)
                        .map(|demand| demand.range.len())
                        .sum(),
                };
                let _ = answer.send(activity);
            }
            Command::Explain {
                source,
                offset,
                answer,
            } => {
                let _ = answer.send(self.in_flight(source, offset));
            }
            Command::Shutdown { done } => return Some(done),
        }
        None
    }

    /// Carries out what the scheduler wants.
    pub(crate) fn act(&mut self) {
        self.fetch_hot_zones();
        while let Some(action) = self.scheduler.poll_action() {
            match action {
                Action::Fetch {
                    run,
                    source,
                    start,
                    end,
                    until,
                    level,
                    role,
                } => {
                    let Some(live) = self.lives.get(&source) else {
                        self.handle(Input::Finished { run });
                        continue;
                    };
                    let now = self.inner.clock.now();
                    let account = RunAccount::new(run, level, role, live, start, now);
                    self.inner.counters.asked(role);
                    if let Role::Hedge(late) = role {
                        self.runs.get(&late).inspect(|late| late.account.compete());
                    }
                    self.step.started(&self.inner.timeline, &account, live, end);
                    let control = Arc::new(RunControl::new(until, end, account));
                    self.runs.insert(run, Arc::clone(&control));
                    let task = RunTask {
                        inner: Arc::clone(&self.inner),
                        live: Arc::clone(live),
                        control,
                        run,
                        start,
                        end,
                    };
                    self.tasks.spawn(task.carry_out());
                }
                Action::Allow { run, until } => {
                    if let Some(control) = self.runs.get(&run) {
                        control.account.halted(self.why_halted(run));
                        control.allow(until);
                    }
                }
                Action::Shorten { run, end } => {
                    if let Some(control) = self.runs.get(&run) {
                        control.shorten(end);
                        let now = self.inner.clock.now();
                        let why = self.why_halted(run);
                        Step::shortened(&self.inner.timeline, now, &control.account, end, why);
                    }
                }
                Action::Abort { run } => {
                    if let Some(control) = self.runs.get(&run) {
                        control.account.halted(self.why_halted(run));
                        control.abort();
                        self.step.stopped(control);
                    }
                }
                Action::Ended {
                    source,
                    range,
                    outcome,
                } => self.request_ended(source, range, outcome),
                Action::GaveUp { source } => {
                    if let Some(live) = self.lives.get(&source) {
                        // Several runs may end on one refusal, each with a word of its own or none.
                        let error = self.errors.get(&source).cloned();
                        let error = error.unwrap_or(OpenError::Unreachable);
                        let now = self.inner.clock.now();
                        let reason = reason(&error);
                        let what = Happening::GaveUp { reason };
                        self.inner.timeline.note(now, &live.key, Span::ALL, what);
                        self.inner.order_unanswered(live, &error);
                        live.fail(error, now);
                        self.inner.space.change();
                    }
                }
            }
        }
        self.step
            .settle(&self.inner.timeline, self.inner.clock.now());
        self.note_put_back();
        let counters = &self.inner.counters;
        set(&counters.active_runs, self.scheduler.active_runs() as u64);
        set(&counters.held_runs, self.scheduler.held_runs() as u64);
        set(&counters.queued_ranges, self.scheduler.queue().len() as u64);
    }

    /// Bytes that were lost again before the driver heard of their coming are lost for the scheduler as well:
    /// the word of their loss may have come first, from another run's task.
    fn progressed(&mut self, run: RunId, live: &Live, range: ByteRange) {
        self.handle(Input::Progressed {
            run,
            bytes: range.len(),
        });
        self.lost_again(live, range);
    }

    /// The same of bytes that came by other means than a run.
    fn supplied(&mut self, source: SourceId, range: ByteRange) {
        self.handle(Input::Supplied { source, range });
        if let Some(live) = self.lives.get(&source).cloned() {
            self.lost_again(&live, range);
        }
    }

    fn lost_again(&mut self, live: &Live, range: ByteRange) {
        let lost: Vec<ByteRange> = live.lock().readable.gaps(range).collect();
        for range in lost {
            self.handle(Input::Forgotten {
                source: live.source,
                range,
            });
        }
    }

    fn request_ended(&self, source: SourceId, range: ByteRange, outcome: Outcome) {
        let Some(live) = self.lives.get(&source) else {
            return;
        };
        match outcome {
            Outcome::Served => {}
            Outcome::Cancelled => live.tell_waits(range, &Told::Cancelled),
            Outcome::Failed => {
                let reason = self
                    .errors
                    .get(&source)
                    .map_or_else(|| "the bytes cannot be had".to_owned(), ToString::to_string);
                self.inner.events.publish(CacheEvent::range_failed(
                    Arc::clone(&live.key),
                    range,
                    reason.into(),
                ));
            }
        }
    }

    fn run_ended(&mut self, run: RunId, live: &Arc<Live>, result: Result<(), FetchError>) {
        let control = self.runs.remove(&run);
        let (inner, control) = (Arc::clone(&self.inner), control.as_ref());
        let Err(error) = result else {
            self.step.ended(&inner, control, Ok(()));
            self.handle(Input::Finished { run });
            return;
        };
        let told = error.to_string();
        tracing::debug!(key = %live.key, %error, "a run failed");
        if let FetchError::Changed { now } = &error {
            let is_page = live
                .lock()
                .meta
                .as_ref()
                .is_some_and(|meta| is_page_for_media(&meta.representation, now));
            if !is_page {
                self.step.ended(&inner, control, Err((&told, None)));
                self.handle(Input::Finished { run });
                self.supersede(live);
                return;
            }
            self.inner.meet_page(live, now.as_ref().clone());
        }
        // Nobody is in the middle of a file of which nothing is known: who came late need not try on.
        let away = match &error {
            FetchError::NoConnection(_) if live.lock().meta.is_none() => {
                let now = self.inner.clock.now();
                self.inner.reach.retry_after(live.key.origin(), now)
            }
            _ => None,
        };
        let reported = match (&error, away) {
            (_, Some(retry_after)) => OpenError::Away { retry_after },
            (FetchError::Changed { .. }, _) => OpenError::Refused {
                reason: "a page in place of the file".to_owned(),
            },
            (other, _) => OpenError::from(other),
        };
        self.errors.insert(live.source, reported);
        let failure = if error.is_retryable() && away.is_none() {
            add(&self.inner.counters.retries, 1);
            Failure::Transient {
                retry_after: error.retry_after(),
            }
        } else {
            Failure::Permanent
        };
        let before = self.scheduler.poll_timeout();
        self.handle(Input::Failed { run, failure });
        // What the scheduler waits for now and did not before is to try again.
        let now = self.inner.clock.now();
        let retry_in = self
            .scheduler
            .poll_timeout()
            .filter(|&at| at > now && before.is_none_or(|before| at < before))
            .map(|at| at.since(now));
        self.step.ended(&inner, control, Err((&told, retry_in)));
    }

    /// The origin has another representation: what is missing of this one will stay missing, and the
    /// next one to open the entry starts a new generation.
    fn supersede(&mut self, live: &Arc<Live>) {
        self.inner.start_over(live);
        let now = self.inner.clock.now();
        self.inner
            .timeline
            .note(now, &live.key, Span::ALL, Happening::Replaced);
        live.supersede();
        self.handle(Input::SourceFailed {
            source: live.source,
        });
        // Those who asked for its bytes are told while it is still known.
        self.act();
        let is_first = self.lives.remove(&live.source).is_some();
        self.idle.remove(&live.source);
        self.errors.remove(&live.source);
        if is_first {
            self.ask_again_for_jobs(live);
        }
    }

    /// Durable requests outlive the representation that was being fetched for them; what was recorded of it
    /// is worth nothing to them any more.
    fn ask_again_for_jobs(&self, live: &Arc<Live>) {
        let (recorded, total_len, resource) = {
            let state = live.lock();
            let recorded: Vec<ByteRange> = state.recorded.iter().collect();
            (recorded, state.total_len(), state.resource.clone())
        };
        let has_jobs = self.inner.jobs().ask_again(live.entry, recorded, total_len);
        if !has_jobs {
            return;
        }
        self.inner.dirty.mark_jobs(live.entry);
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            if let Ok(live) = inner.live(&resource).await {
                inner.resume_jobs(&live);
            }
        });
    }

    fn reader_gone(&mut self, live: &Arc<Live>, reader: ReaderId) {
        self.handle(Input::ReaderGone { reader });
        self.inner.share_rings_of(live);
        self.inner.dirty.mark(live);
        self.inner.space.change();
        if !live.take_end() {
            return;
        }
        if live.lock().is_superseded {
            // It was kept for its readers only.
            let inner = Arc::clone(&self.inner);
            tokio::spawn(async move {
                if let Err(error) = inner.remove_retired().await {
                    tracing::warn!(%error, "bytes of a former version could not be removed");
                }
            });
            return;
        }
        if self.inner.fill || self.hot_zones.has_asked(live.source) {
            self.end_fill(live);
        }
        self.stays_open_for_now(live);
    }

    async fn end(&mut self, done: oneshot::Sender<()>) {
        self.shut_down().await;
        if done.send(()).is_err() {
            // Nobody waits who would see to it.
            self.inner.record().await;
        }
    }

    /// Stops everything that is in flight and waits for it.
    async fn shut_down(&mut self) {
        let lives: Vec<Arc<Live>> = self.lives.values().cloned().collect();
        for live in &lives {
            self.handle(Input::SourceClosed {
                source: live.source,
            });
        }
        while let Some(action) = self.scheduler.poll_action() {
            if let Action::Abort { run } = action
                && let Some(control) = self.runs.get(&run)
            {
                control.abort();
            }
        }
        for control in self.runs.values() {
            control.abort();
        }
        while self.tasks.join_next().await.is_some() {}
        for live in lives {
            live.close();
            self.inner.dirty.mark(&live);
        }
        // What was opened too late to be known here.
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Opened { live, .. } = command {
                live.close();
            }
        }
    }
}
