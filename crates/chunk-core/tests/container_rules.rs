//! Headers built by hand, one per format, and what may not come of bytes from outside.

use std::time::Duration;

use chunk_core::{ByteRange, Container, ContainerKind};
use proptest::prelude::*;

const MIB: u64 = 1024 * 1024;

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).unwrap()
}

mod mp4 {
    pub(super) fn atom(code: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(body.len() + 8)
            .unwrap()
            .to_be_bytes()
            .to_vec();
        out.extend_from_slice(code);
        out.extend_from_slice(body);
        out
    }

    pub(super) fn ftyp() -> Vec<u8> {
        atom(b"ftyp", b"isom\0\0\x02\0isomiso2")
    }

    /// The header of a `mdat` of `len` bytes in all, with a 64-bit length.
    pub(super) fn mdat(len: u64) -> Vec<u8> {
        let mut out = 1_u32.to_be_bytes().to_vec();
        out.extend_from_slice(b"mdat");
        out.extend_from_slice(&len.to_be_bytes());
        out
    }

    pub(super) fn mvhd(version: u8, timescale: u32, duration: u64) -> Vec<u8> {
        let mut body = vec![version, 0, 0, 0];
        if version == 1 {
            body.extend_from_slice(&[0; 16]);
            body.extend_from_slice(&timescale.to_be_bytes());
            body.extend_from_slice(&duration.to_be_bytes());
        } else {
            body.extend_from_slice(&[0; 8]);
            body.extend_from_slice(&timescale.to_be_bytes());
            body.extend_from_slice(&u32::try_from(duration).unwrap().to_be_bytes());
        }
        body.extend_from_slice(&[0; 80]);
        atom(b"mvhd", &body)
    }

    /// A `moov` of `len` bytes in all.
    pub(super) fn moov(len: usize, first: &[u8]) -> Vec<u8> {
        let mut body = first.to_vec();
        let rest = len - 16 - first.len();
        body.extend_from_slice(&atom(b"trak", &vec![7; rest]));
        atom(b"moov", &body)
    }
}

#[test]
fn an_mp4_with_its_index_in_front() {
    let mut head = mp4::ftyp();
    let start = head.len() as u64;
    head.extend(mp4::moov(5_000, &mp4::mvhd(0, 600, 60_000)));
    head.extend(mp4::mdat(40 * MIB));
    let film = Container::probe(&head, 100_000_000).unwrap();
    assert_eq!(film.kind(), ContainerKind::Mp4);
    assert_eq!(film.duration(), Some(Duration::from_secs(100)));
    assert_eq!(film.rate(), Some(1_000_000));
    assert_eq!(film.hot(), [range(start, start + 5_000)]);
    assert_eq!(film.needs(), None);
}

#[test]
fn an_index_in_front_that_is_longer_than_the_head() {
    let mut head = mp4::ftyp();
    let start = head.len() as u64;
    head.extend(mp4::moov(900_000, &mp4::mvhd(1, 90_000, 9_000_000)));
    head.truncate(65_536);
    let film = Container::probe(&head, 50_000_000).unwrap();
    assert_eq!(film.rate(), Some(500_000));
    assert_eq!(film.hot(), [range(start, start + 900_000)]);
    assert_eq!(film.needs(), None);
}

#[test]
fn an_mp4_with_its_index_behind_the_media() {
    let index = mp4::moov(80_000, &mp4::mvhd(0, 1000, 8_000));
    let mut head = mp4::ftyp();
    head.extend(mp4::atom(b"free", &[]));
    let at = head.len() as u64 + 6_000_000_000;
    head.extend(mp4::mdat(6_000_000_000));
    head.resize(65_536, 0);
    let total = at + index.len() as u64;
    let mut film = Container::probe(&head, total).unwrap();
    assert_eq!(film.rate(), None);
    assert_eq!(film.hot(), [range(at, total)], "nothing else can be there");
    assert_eq!(film.needs(), Some(range(at, at + 65_536)));
    film.read_on(&index[..65_536]);
    assert_eq!(film.duration(), Some(Duration::from_secs(8)));
    assert_eq!(film.rate(), Some(total / 8));
    assert_eq!(film.hot(), [range(at, total)]);
    assert_eq!(film.needs(), None);
    let before = film.clone();
    film.read_on(&index);
    assert_eq!(film, before, "nothing was needed");
}

#[test]
fn free_space_between_media_and_index_costs_one_more_look() {
    let mut head = mp4::ftyp();
    let gap = head.len() as u64 + MIB;
    head.extend(mp4::mdat(MIB));
    let total = gap + 200_000 + 1_000;
    let mut film = Container::probe(&head, total).unwrap();
    let mut free = 200_000_u32.to_be_bytes().to_vec();
    free.extend_from_slice(b"free");
    free.resize(65_536, 0);
    film.read_on(&free);
    assert_eq!(film.needs(), Some(range(gap + 200_000, total)));
    assert_eq!(film.hot(), [range(gap + 200_000, total)]);
    film.read_on(&mp4::moov(1_000, &mp4::mvhd(0, 1, 2)));
    assert_eq!(film.duration(), Some(Duration::from_secs(2)));
}

#[test]
fn a_file_in_fragments_tells_its_duration_elsewhere() {
    let mut mehd = vec![0; 4];
    mehd.extend_from_slice(&30_000_u32.to_be_bytes());
    let mut children = mp4::mvhd(0, 1_000, 0);
    children.extend(mp4::atom(b"mvex", &mp4::atom(b"mehd", &mehd)));
    let mut head = mp4::ftyp();
    head.extend(mp4::moov(600, &children));
    let film = Container::probe(&head, 30_000_000).unwrap();
    assert_eq!(film.rate(), Some(1_000_000));
    // Without it nothing is known, and nothing more is asked.
    let mut head = mp4::ftyp();
    head.extend(mp4::moov(600, &mp4::mvhd(0, 1_000, 0)));
    let film = Container::probe(&head, 30_000_000).unwrap();
    assert_eq!((film.duration(), film.needs()), (None, None));
}

#[test]
fn an_index_is_hot_up_to_16_mib() {
    let mut head = mp4::ftyp();
    let start = head.len() as u64;
    head.extend_from_slice(&(40 * MIB as u32).to_be_bytes());
    head.extend_from_slice(b"moov");
    head.extend(mp4::mvhd(0, 1, 100));
    let film = Container::probe(&head, 100 * MIB).unwrap();
    assert_eq!(film.hot(), [range(start, start + 16 * MIB)]);
}

mod mkv {
    pub(super) fn element(id: u32, body: &[u8]) -> Vec<u8> {
        let mut out = id_bytes(id);
        // A size of eight bytes is always allowed.
        out.extend_from_slice(&((body.len() as u64) | (1 << 56)).to_be_bytes());
        out.extend_from_slice(body);
        out
    }

    pub(super) fn id_bytes(id: u32) -> Vec<u8> {
        let bytes = id.to_be_bytes();
        let skip = bytes.iter().take_while(|&&byte| byte == 0).count();
        bytes[skip..].to_vec()
    }

    pub(super) fn uint(id: u32, value: u64) -> Vec<u8> {
        element(id, &value.to_be_bytes())
    }

    pub(super) fn seek(id: u32, position: u64) -> Vec<u8> {
        let mut body = element(0x53AB, &id_bytes(id));
        body.extend(uint(0x53AC, position));
        element(0x4DBB, &body)
    }

    pub(super) fn info(scale: Option<u64>, duration: &[u8]) -> Vec<u8> {
        let mut body = scale.map_or(Vec::new(), |scale| uint(0x2AD7B1, scale));
        body.extend(element(0x4489, duration));
        element(0x1549_A966, &body)
    }

    pub(super) const CUES: u32 = 0x1C53_BB6B;
    pub(super) const TAGS: u32 = 0x1254_C367;
    pub(super) const INFO: u32 = 0x1549_A966;

    /// A file whose segment, of unknown size, begins with these children; and where the segment's data begin.
    pub(super) fn file(children: &[Vec<u8>]) -> (Vec<u8>, u64) {
        let mut out = element(0x1A45_DFA3, &element(0x4282, b"matroska"));
        out.extend(id_bytes(0x1853_8067));
        out.push(0xFF);
        let base = out.len() as u64;
        out.extend(children.concat());
        out.extend(id_bytes(0x1F43_B675));
        out.push(0xFF);
        (out, base)
    }
}

#[test]
fn a_matroska_with_cues_and_tags_at_the_end() {
    let seeks = |info| {
        let body = [
            mkv::seek(mkv::INFO, info),
            mkv::seek(mkv::CUES, 9_000_000),
            mkv::seek(mkv::TAGS, 9_050_000),
        ];
        mkv::element(0x114D_9B74, &body.concat())
    };
    let info = mkv::info(Some(1_000_000), &10_000_f64.to_be_bytes());
    let info_at = seeks(0).len() as u64;
    let (head, base) = mkv::file(&[seeks(info_at), info]);
    let total = base + 9_060_000;
    let mut film = Container::probe(&head, total).unwrap();
    assert_eq!(film.kind(), ContainerKind::Matroska);
    assert_eq!(film.duration(), Some(Duration::from_secs(10)));
    assert_eq!(film.rate(), Some(total / 10));
    let (cues, tags) = (base + 9_000_000, base + 9_050_000);
    assert_eq!(film.hot(), [range(cues, tags), range(tags, total)]);
    assert_eq!(film.needs(), Some(range(cues, total)));
    film.read_on(&mkv::element(mkv::CUES, &[0; 10_000]));
    let end = cues + 10_000 + 12;
    assert_eq!(film.hot(), [range(cues, end), range(tags, total)]);
    assert_eq!(film.needs(), None);
}

#[test]
fn a_duration_in_matroska_is_a_float_of_either_width() {
    let duration = |scale, bytes: &[u8]| {
        let (head, _) = mkv::file(&[mkv::info(scale, bytes)]);
        Container::probe(&head, 1_000_000).unwrap().duration()
    };
    let millis = |millis| Some(Duration::from_millis(millis));
    assert_eq!(duration(None, &1_500_f32.to_be_bytes()), millis(1_500));
    assert_eq!(duration(None, &1_500_f64.to_be_bytes()), millis(1_500));
    assert_eq!(
        duration(None, &0.5_f64.to_be_bytes()),
        Some(Duration::from_micros(500))
    );
    assert_eq!(
        duration(Some(100_000), &7_200_000.25_f64.to_be_bytes()),
        Some(Duration::from_micros(720_000_025))
    );
    assert_eq!(duration(Some(1), &(1_u64 << 60).to_be_bytes()), None);
    for nothing in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX, 1e-300] {
        assert_eq!(duration(None, &nothing.to_be_bytes()), None, "{nothing}");
    }
}

#[test]
fn cues_in_front_need_no_look() {
    let cues = mkv::element(mkv::CUES, &[0; 300]);
    let head = mkv::element(
        0x114D_9B74,
        &[mkv::seek(mkv::CUES, 0), mkv::seek(mkv::CUES, 0)].concat(),
    );
    let at = head.len() as u64;
    let head = mkv::element(
        0x114D_9B74,
        &[mkv::seek(mkv::CUES, at), mkv::seek(mkv::CUES, at)].concat(),
    );
    let (bytes, base) = mkv::file(&[head, cues]);
    let film = Container::probe(&bytes, 100 * MIB).unwrap();
    assert_eq!(film.hot(), [range(base + at, base + at + 312)]);
    assert_eq!(film.needs(), None);
}

#[test]
fn cues_far_from_the_end_are_hot_as_far_as_one_look_until_it_has_been_had() {
    let head = mkv::element(0x114D_9B74, &mkv::seek(mkv::CUES, 5 * MIB));
    let (bytes, base) = mkv::file(&[head]);
    let at = base + 5 * MIB;
    let mut film = Container::probe(&bytes, 900 * MIB).unwrap();
    assert_eq!(film.hot(), [range(at, at + 65_536)]);
    film.read_on(&mkv::element(mkv::CUES, &[0; 200_000])[..65_536]);
    assert_eq!(film.hot(), [range(at, at + 200_012)]);
    // Something else lies there: the seek head was wrong.
    let mut film = Container::probe(&bytes, 900 * MIB).unwrap();
    film.read_on(&[0; 65_536]);
    assert_eq!((film.hot(), film.needs()), (&[][..], None));
}

mod avi {
    pub(super) fn chunk(code: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut out = code.to_vec();
        out.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        out.extend_from_slice(body);
        out.resize(out.len().next_multiple_of(2), 0);
        out
    }

    pub(super) fn list(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        chunk(b"LIST", &[&kind[..], body].concat())
    }

    /// A head whose `movi` holds `media` bytes; `extra` follows in the header list.
    pub(super) fn head(micros: u32, frames: u32, extra: &[u8], riff: u32, media: u32) -> Vec<u8> {
        let mut avih = vec![0; 56];
        avih[..4].copy_from_slice(&micros.to_le_bytes());
        avih[16..20].copy_from_slice(&frames.to_le_bytes());
        let mut out = b"RIFF".to_vec();
        out.extend_from_slice(&riff.to_le_bytes());
        out.extend_from_slice(b"AVI ");
        out.extend(list(
            b"hdrl",
            &[chunk(b"avih", &avih), extra.to_vec()].concat(),
        ));
        out.extend(chunk(b"JUNK", &[1, 2, 3]));
        out.extend_from_slice(b"LIST");
        out.extend_from_slice(&(media + 4).to_le_bytes());
        out.extend_from_slice(b"movi");
        out
    }
}

#[test]
fn an_avi_with_its_index_behind_the_media() {
    let head = avi::head(40_000, 250, &[], 0, 4_999_999);
    // Padded to an even length.
    let at = head.len() as u64 + 5_000_000;
    let total = at + 4_008;
    let head = avi::head(
        40_000,
        250,
        &[],
        u32::try_from(total - 8).unwrap(),
        4_999_999,
    );
    let mut film = Container::probe(&head, total).unwrap();
    assert_eq!(film.kind(), ContainerKind::Avi);
    assert_eq!(film.duration(), Some(Duration::from_secs(10)));
    assert_eq!(film.rate(), Some(total / 10));
    assert_eq!(film.hot(), [range(at, total)]);
    assert_eq!(film.needs(), Some(range(at, total)));
    film.read_on(&avi::chunk(b"idx1", &[0; 2_000]));
    assert_eq!(film.hot(), [range(at, at + 2_008)]);
    assert_eq!(film.needs(), None);
}

#[test]
fn an_avi_in_several_lists_counts_all_of_its_frames_or_none() {
    let riff = 900_000_000;
    let head = avi::head(40_000, 250, &[], riff, 890_000_000);
    let film = Container::probe(&head, 3_000_000_000).unwrap();
    assert_eq!(
        film.duration(),
        None,
        "250 frames are those of the first list"
    );
    let odml = avi::list(b"odml", &avi::chunk(b"dmlh", &90_000_u32.to_le_bytes()));
    let head = avi::head(40_000, 250, &odml, riff, 890_000_000);
    let film = Container::probe(&head, 3_600_000_000).unwrap();
    assert_eq!(film.rate(), Some(1_000_000));
}

#[test]
fn a_rate_that_no_media_have_is_none() {
    let rate = |timescale, duration, total| {
        let mut head = mp4::ftyp();
        head.extend(mp4::moov(1_000, &mp4::mvhd(0, timescale, duration)));
        Container::probe(&head, total).unwrap().rate()
    };
    assert_eq!(rate(1, 1_000, 1_000_000), Some(1_000));
    assert_eq!(rate(1, 1_000_000, 1_000_000), None);
    assert_eq!(rate(1_000_000, 1, 1_000_000), None);
    assert_eq!(rate(0, 1, 1_000_000), None);
    assert_eq!(rate(1, 0, 1_000_000), None);
}

#[test]
fn other_files_are_none() {
    for head in [
        &b""[..],
        b"<!doctype html><title>Log in</title>",
        b"RIFF\x10\0\0\0WAVEfmt ",
        b"\x1A\x45\xDF",
        b"ID3\x04\0\0\0\0\0\0",
        b"\0\0\0\x10ft",
    ] {
        assert_eq!(Container::probe(head, 1_000_000), None, "{head:?}");
    }
}

/// Beginnings that get past the first look, so that the rest is parsed.
fn beginnings() -> Vec<Vec<u8>> {
    let seeks = [mkv::seek(mkv::CUES, 5_000), mkv::seek(mkv::INFO, 9_000)].concat();
    let info = mkv::info(Some(1_000_000), &10_000_f64.to_be_bytes());
    let mut front = mp4::ftyp();
    front.extend(mp4::moov(700, &mp4::mvhd(0, 600, 60_000)));
    let mut behind = mp4::ftyp();
    behind.extend(mp4::mdat(70_000));
    vec![
        Vec::new(),
        mp4::ftyp(),
        front,
        behind,
        mkv::file(&[]).0,
        mkv::file(&[mkv::element(0x114D_9B74, &seeks), info]).0,
        avi::head(40_000, 250, &[], 0, 80_000),
    ]
}

fn check(film: &Container, total: u64) -> Result<(), TestCaseError> {
    prop_assert!(film.hot().len() <= 8);
    for pair in film.hot().windows(2) {
        prop_assert!(pair[0].end() <= pair[1].start(), "{:?}", film.hot());
    }
    for hot in film.hot() {
        prop_assert!(hot.end() <= total && hot.len() <= 16 * MIB, "{hot}");
    }
    if let Some(needs) = film.needs() {
        prop_assert!(needs.end() <= total && needs.len() <= 65_536, "{needs}");
    }
    if let Some(rate) = film.rate() {
        prop_assert!((500..=1_000_000_000).contains(&rate));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_give_ranges_inside_the_file_and_come_to_an_end(
        beginning in 0..7_usize,
        noise in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        tail in proptest::collection::vec(any::<u8>(), 0..400),
        further in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 12),
        total in prop_oneof![0..2_000_u64, 0..40 * MIB, any::<u64>()],
    ) {
        let samples = beginnings();
        let mut head = samples[beginning].clone();
        head.extend(tail);
        for (at, byte) in noise {
            if !head.is_empty() {
                let at = at.index(head.len());
                head[at] = byte;
            }
        }
        if let Some(mut film) = Container::probe(&head, total) {
            check(&film, total)?;
            for (number, bytes) in further.iter().enumerate() {
                if film.needs().is_none() {
                    break;
                }
                prop_assert!(number < 8, "it asks for ever");
                // A whole header in an unexpected place is as good as any.
                let bytes = samples.get(number).filter(|_| bytes.len() % 2 == 0).unwrap_or(bytes);
                film.read_on(bytes);
                check(&film, total)?;
            }
        }
    }
}
