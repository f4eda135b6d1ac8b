//! The load generator's end of TLS: it opens records where they lie, many of them for one call of the system.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::unbuffered::ConnectionState;

/// As much is read at once.
const INCOMING: usize = 256 << 10;
/// What the client has to say is short: requests, and its part of the handshake.
const OUTGOING: usize = 16 << 10;
/// The name that the certificate is for.
const NAME: &str = "localhost";

/// A certificate that all servers of a run have, and the one client that trusts it.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    /// In PEM.
    pub(super) chain: String,
    /// In PEM.
    pub(super) key: String,
}

/// What is agreed on with a server.
#[derive(Debug, Clone)]
pub(super) struct Trust(Arc<ClientConfig>);

impl Certificate {
    pub(super) fn make() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        Ok(Self {
            chain: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        })
    }

    /// For a client that speaks `protocol` (RFC 7301) and knows one cipher, so that all servers use the same.
    pub(super) fn trusted(&self, protocol: &str) -> Result<Trust> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.chain.as_bytes())?)?;
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(Trust(Arc::new(config)))
    }
}

impl Trust {
    pub(super) fn speaks_http_2(&self) -> bool {
        self.0.alpn_protocols == [b"h2"]
    }
}

/// A connection with TLS.
pub(super) struct Session {
    connection: UnbufferedClientConnection,
    incoming: Vec<u8>,
    /// Where in it what has not been opened begins and ends.
    from: usize,
    to: usize,
    outgoing: Vec<u8>,
    /// How much of it there is to send.
    unsent: usize,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// More from the server.
    Records,
    /// The same, or words of the client's own.
    Nothing,
}

impl Session {
    /// Shakes hands over a stream that waits.
    pub(super) fn begin(stream: &mut TcpStream, trust: &Trust) -> Result<Self> {
        let name = ServerName::try_from(NAME)?;
        let mut session = Self {
            connection: UnbufferedClientConnection::new(Arc::clone(&trust.0), name)?,
            incoming: vec![0; INCOMING],
            from: 0,
            to: 0,
            outgoing: vec![0; OUTGOING],
            unsent: 0,
        };
        while session.advance(stream, None, |_| bail!("an answer to nothing"))? == Needs::Records {
            session.read(stream)?;
        }
        let agreed = session.connection.alpn_protocol();
        if agreed != trust.0.alpn_protocols.first().map(Vec::as_slice) {
            bail!("the server does not speak what it is asked to");
        }
        Ok(session)
    }

    /// Says something.
    pub(super) fn send(&mut self, stream: &mut TcpStream, words: &[u8]) -> Result<()> {
        self.advance(stream, Some(words), |_| {
            bail!("an answer before its question")
        })
        .map(|_| ())
    }

    /// Reads once and hands over what is in the records that are whole.
    pub(super) fn receive(
        &mut self,
        stream: &mut TcpStream,
        take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if self.read(stream)? {
            self.advance(stream, None, take)?;
        }
        Ok(())
    }

    /// `false` where there is nothing yet.
    fn read(&mut self, stream: &mut TcpStream) -> Result<bool> {
        self.incoming.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        match stream.read(&mut self.incoming[self.to..]) {
            Ok(0) => bail!("the server has closed the connection"),
            Ok(count) => {
                self.to += count;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("reading an answer"),
        }
    }

    /// Opens what there is, and says `words` where they may be said.
    fn advance(
        &mut self,
        stream: &mut TcpStream,
        mut words: Option<&[u8]>,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Needs> {
        loop {
            let records = &mut self.incoming[self.from..self.to];
            let status = self.connection.process_tls_records(records);
            let mut opened = status.discard;
            let mut needs = None;
            match status.state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        opened += record.discard;
                        take(record.payload)?;
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    self.unsent += data.encode(&mut self.outgoing[self.unsent..])?;
                }
                ConnectionState::TransmitTlsData(data) => {
                    send(stream, &self.outgoing[..self.unsent])?;
                    self.unsent = 0;
                    data.done();
                }
                ConnectionState::WriteTraffic(mut traffic) => match words.take() {
                    Some(words) => {
                        let count = traffic.encrypt(words, &mut self.outgoing[self.unsent..])?;
                        send(stream, &self.outgoing[..self.unsent + count])?;
                        self.unsent = 0;
                    }
                    None => needs = Some(Needs::Nothing),
                },
                ConnectionState::BlockedHandshake => needs = Some(Needs::Records),
                other => bail!("the server ends the connection: {other:?}"),
            }
            self.from += opened;
            if let Some(needs) = needs {
                return Ok(needs);
            }
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// An empty send buffer takes so little as a whole.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    if stream.write(bytes)? != bytes.len() {
        bail!("a request was not taken as a whole");
    }
    Ok(())
}
