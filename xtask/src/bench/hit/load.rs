//! The load generator: one thread, as many connections as told, each with one request after the other.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::client::{Client, Progress};
use super::session::Trust;
use super::waits::{Waits, Watch};
use super::{Case, FILES, LENGTH, Pages, Size};
use crate::bench::process::{Process, own_seconds};
use crate::random::Random;

/// As much is read at once: it stays in the core's own cache.
const PIECE: usize = 256 << 10;
/// What happens before is not counted: connections open, and the first answers come.
const WARM_UP: Duration = Duration::from_millis(150);

/// What one turn of one server came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    pub(super) bytes: u64,
    pub(super) elapsed: f64,
    /// The server's processor time, in seconds.
    pub(super) server: f64,
    /// The generator's own.
    pub(super) client: f64,
    /// From a request to the first byte of its answer.
    pub(super) first_bytes: Vec<Duration>,
    /// What was seen of its waits for a disk, where there are any to be expected.
    pub(super) waits: Waits,
    /// The server's anonymous memory at the end.
    pub(super) anonymous: u64,
}

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Load {
    case: Case,
    clients: Vec<Client>,
    random: Random,
    epoll: std::os::fd::OwnedFd,
    piece: Vec<u8>,
}

impl Load {
    /// Connects; `seed` decides what is asked for.
    pub(super) fn new(
        server: SocketAddr,
        trust: Option<&Trust>,
        case: Case,
        seed: u64,
    ) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut clients = Vec::new();
        for number in 0..case.connections {
            let client = Client::connect(server, trust)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, client.stream(), data, epoll::EventFlags::IN)?;
            clients.push(client);
        }
        Ok(Self {
            case,
            clients,
            random: Random::new(seed),
            epoll,
            piece: vec![0; PIECE],
        })
    }

    /// Asks and reads for so long, after a while that is not counted.
    pub(super) fn run(mut self, server: &Process, turn: Duration) -> Result<Sample> {
        for number in 0..self.clients.len() {
            self.ask(number)?;
        }
        self.read_until(Instant::now() + WARM_UP, &mut Sample::default())?;
        let mut sample = Sample::default();
        let (server_before, client_before) = (server.seconds()?, own_seconds()?);
        let is_cold = self.case.pages == Pages::Dropped;
        let watch = is_cold.then(|| Watch::start(*server));
        let started = Instant::now();
        let outcome = self.read_until(started + turn, &mut sample);
        sample.waits = watch.map(Watch::stop).unwrap_or_default();
        outcome?;
        sample.elapsed = started.elapsed().as_secs_f64();
        if sample.bytes == 0 {
            bail!("not a byte in {turn:?}");
        }
        sample.client = own_seconds()? - client_before;
        sample.server = server.seconds()? - server_before;
        sample.anonymous = server.anonymous()?;
        Ok(sample)
    }

    fn ask(&mut self, number: usize) -> Result<()> {
        let file = self.random.below(FILES);
        let range = match self.case.size {
            Size::Whole => None,
            Size::Range(length) => {
                let start = self.random.below(LENGTH / length) * length;
                Some((start, start + length))
            }
        };
        self.clients[number].ask(file, range)
    }

    fn read_until(&mut self, end: Instant, sample: &mut Sample) -> Result<()> {
        let mut events = Vec::with_capacity(self.clients.len());
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            let wait = Timespec::try_from(end - now)?;
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait))?;
            for event in &events {
                let number = usize::try_from(event.data.u64())?;
                let progress = self.clients[number].read(&mut self.piece)?;
                let Progress {
                    bytes,
                    first_byte,
                    is_whole,
                } = progress;
                sample.bytes += bytes;
                sample.first_bytes.extend(first_byte);
                if is_whole {
                    self.ask(number)?;
                }
            }
        }
    }
}
