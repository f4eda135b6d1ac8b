//! What must hold of any bytes that a file, or the index, has for these parsers.

use chunk_core::{BLOCK_SIZE, BlockMap, Container};

/// The length of a file, and its first bytes; what is looked at later are the same bytes again.
pub(crate) fn container(data: &[u8]) {
    let Some((len, head)) = data.split_first_chunk() else {
        return;
    };
    let total_len = u64::from_le_bytes(*len);
    let Some(mut found) = Container::probe(head, total_len) else {
        return;
    };
    let mut looks = 0;
    loop {
        let mut last = 0;
        for range in found.hot() {
            assert!(last <= range.start() && range.end() <= total_len);
            assert!(range.len() <= 16 << 20);
            last = range.end();
        }
        assert!(found.hot().len() <= 8);
        assert!(
            found
                .rate()
                .is_none_or(|rate| (500..=1_000_000_000).contains(&rate))
        );
        let Some(needs) = found.needs() else {
            break;
        };
        assert!(needs.end() <= total_len && needs.len() <= 64 << 10);
        looks += 1;
        assert!(looks <= 8, "it never has enough");
        // Where the file goes on, there are other bytes than at its beginning.
        let from = usize::try_from(needs.start())
            .unwrap_or(usize::MAX)
            .min(head.len());
        let len = usize::try_from(needs.len()).unwrap();
        let bytes = &head[from..];
        let bytes = if bytes.is_empty() { head } else { bytes };
        found.read_on(&bytes[..len.min(bytes.len())]);
    }
}

/// Where a segment begins, how long its file is, and what the index has of its blocks.
pub(crate) fn block_map(data: &[u8]) {
    let Some((numbers, bits)) = data.split_first_chunk::<16>() else {
        return;
    };
    let (start, len) = numbers.split_at(8);
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let (start, total_len) = (number(start) / BLOCK_SIZE * BLOCK_SIZE, number(len));
    let map = BlockMap::from_bytes(bits);
    assert_eq!(map, BlockMap::from_bytes(map.as_bytes()));
    assert_eq!(map.iter().count(), map.count());
    assert!(map.iter().all(|block| map.contains(block)));
    let mut last = start;
    let mut covered = 0;
    for range in map.byte_ranges(start, total_len) {
        assert!(last <= range.start() && range.end() <= total_len);
        last = range.end();
        covered += range.len();
    }
    assert!(covered <= map.count() as u64 * BLOCK_SIZE);
}
