//! The load generator's end of HTTP/2: one request at a time, and as much of the protocol (RFC 9113) as that takes.

use anyhow::{Result, bail};

/// What a client begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The length of a frame's head.
const HEAD: usize = 9;
/// A frame with anything but data is short.
const LONGEST: usize = 16 << 10;
/// What a stream, and what a connection may bring before it is told that there is room: all that there can be.
const WINDOW: u32 = (1 << 31) - 1;
/// What a connection may bring before it has been told anything.
const FIRST_WINDOW: u32 = (1 << 16) - 1;
/// After so much the connection is told that there is room again.
const REPORTED: u64 = 1 << 28;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection's frames, whatever pieces they come in.
#[derive(Debug)]
pub(super) struct Frames {
    /// The head of a frame, and all of one that brings no data.
    partial: Vec<u8>,
    /// What is left of a frame with data.
    data_left: usize,
    /// Whether it is the last of its stream.
    is_last: bool,
    stream: u32,
    unreported: u64,
    /// What has to be said to the server.
    pub(super) words: Vec<u8>,
}

/// What a server says about the request under way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// The head, as it is packed.
    Head(&'a [u8]),
    Data(&'a [u8]),
    End,
}

impl Frames {
    pub(super) fn new() -> Self {
        let mut frames = Self {
            partial: Vec::new(),
            data_left: 0,
            is_last: false,
            stream: 0,
            unreported: 0,
            words: PREFACE.to_vec(),
        };
        // SETTINGS_ENABLE_PUSH and SETTINGS_INITIAL_WINDOW_SIZE.
        let mut settings = vec![0, 2, 0, 0, 0, 0, 0, 4];
        settings.extend_from_slice(&WINDOW.to_be_bytes());
        frames.say(SETTINGS, 0, 0, &settings);
        let more = WINDOW - FIRST_WINDOW;
        frames.say(WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        frames
    }

    /// Asks for a file, or for a range of it.
    pub(super) fn ask(&mut self, authority: &str, path: &str, range: Option<&str>) {
        // GET and https, by their places in the static table (RFC 7541, appendix A); then literals by the places of
        // their names.
        let mut block = vec![0x82, 0x87];
        literal(&mut block, &[0x01], authority);
        literal(&mut block, &[0x04], path);
        if let Some(range) = range {
            literal(&mut block, &[0x0f, 50 - 15], range);
        }
        self.stream = if self.stream == 0 { 1 } else { self.stream + 2 };
        self.say(HEADERS, END_STREAM | END_HEADERS, self.stream, &block);
    }

    fn say(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let len = u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        self.words.extend_from_slice(&len[1..]);
        self.words.extend_from_slice(&[kind, flags]);
        self.words.extend_from_slice(&stream.to_be_bytes());
        self.words.extend_from_slice(payload);
    }

    /// Takes bytes from the server.
    pub(super) fn take(
        &mut self,
        mut bytes: &[u8],
        mut tell: impl FnMut(Event<'_>) -> Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            if self.data_left > 0 {
                let (data, rest) = bytes.split_at(bytes.len().min(self.data_left));
                (self.data_left, bytes) = (self.data_left - data.len(), rest);
                tell(Event::Data(data))?;
                self.report(data.len());
                if self.data_left == 0 && self.is_last {
                    tell(Event::End)?;
                }
                continue;
            }
            let wanted = match self.partial.get(..3) {
                Some(len) if self.partial.len() >= HEAD => HEAD + length(len),
                _ => HEAD,
            };
            let (part, rest) = bytes.split_at(bytes.len().min(wanted - self.partial.len()));
            self.partial.extend_from_slice(part);
            bytes = rest;
            if self.partial.len() < HEAD {
                continue;
            }
            let frame = std::mem::take(&mut self.partial);
            let (len, kind, flags) = (length(&frame[..3]), frame[3], frame[4]);
            let is_ours = frame[5..HEAD] == self.stream.to_be_bytes();
            if kind == DATA {
                if !is_ours {
                    bail!("bytes of another stream");
                }
                (self.data_left, self.is_last) = (len, flags & END_STREAM != 0);
                if len == 0 && self.is_last {
                    tell(Event::End)?;
                }
                continue;
            }
            if len > LONGEST {
                bail!("a frame of {len} bytes");
            }
            if frame.len() < HEAD + len {
                self.partial = frame;
                continue;
            }
            let payload = &frame[HEAD..];
            match kind {
                HEADERS if is_ours => tell(Event::Head(payload))?,
                SETTINGS if flags & ACK == 0 => self.say(SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => self.say(PING, ACK, 0, payload),
                RESET | GOAWAY => bail!("the server gives up: {payload:?}"),
                _ => {}
            }
        }
        Ok(())
    }

    fn report(&mut self, count: usize) {
        self.unreported += count as u64;
        if self.unreported >= REPORTED {
            let more = u32::try_from(self.unreported).unwrap_or(WINDOW);
            self.unreported = 0;
            self.say(WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        }
    }
}

fn length(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |len, byte| len << 8 | usize::from(*byte))
}

/// Values here are shorter than what one byte tells (RFC 7541, 5.1).
fn literal(block: &mut Vec<u8>, name: &[u8], value: &str) {
    block.extend_from_slice(name);
    block.push(value.len().min(126) as u8);
    block.extend_from_slice(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::{DATA, END_STREAM, Event, Frames, HEADERS, PING, RESET, SETTINGS};

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let len = u8::try_from(payload.len()).expect("short");
        let head = [0, 0, len, kind, flags, 0, 0, 0, stream];
        [&head[..], payload].concat()
    }

    #[test]
    fn frames_are_read_whatever_pieces_they_come_in() {
        let all = [
            frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 32]),
            frame(HEADERS, 4, 1, &[0x8a]),
            frame(DATA, 0, 1, b"abc"),
            frame(PING, 0, 0, b"12345678"),
            frame(DATA, 0, 1, b"de"),
            frame(DATA, END_STREAM, 1, b""),
        ]
        .concat();
        for size in 1..=all.len() {
            let mut frames = Frames::new();
            frames.ask("localhost:1", "/f", Some("bytes=0-4"));
            frames.words.clear();
            let (mut head, mut data, mut ends) = (Vec::new(), Vec::new(), 0);
            for piece in all.chunks(size) {
                let told = frames.take(piece, |event| {
                    match event {
                        Event::Head(block) => head.extend_from_slice(block),
                        Event::Data(bytes) => data.extend_from_slice(bytes),
                        Event::End => ends += 1,
                    }
                    Ok(())
                });
                told.expect("good frames");
            }
            assert_eq!(
                (&head[..], &data[..], ends),
                (&[0x8a][..], &b"abcde"[..], 1)
            );
            let answers = [frame(SETTINGS, 1, 0, b""), frame(PING, 1, 0, b"12345678")];
            assert_eq!(frames.words, answers.concat());
        }
    }

    #[test]
    fn what_is_no_answer_is_told() {
        for wrong in [
            frame(DATA, 0, 3, b"abc"),
            frame(RESET, 0, 1, &[0, 0, 0, 2]),
            vec![0, 0x80, 0, HEADERS, 4, 0, 0, 0, 1],
        ] {
            let mut frames = Frames::new();
            frames.ask("localhost:1", "/f", None);
            assert!(frames.take(&wrong, |_| Ok(())).is_err(), "{wrong:?}");
        }
    }
}
