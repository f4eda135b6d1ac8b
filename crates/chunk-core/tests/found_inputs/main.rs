//! The inputs that the fuzzer has found worth keeping, once more.

mod checks;

/// One input a line, in hexadecimal.
fn replay(corpus: &str, check: fn(&[u8])) {
    for line in corpus.lines() {
        let digits = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        let input: Vec<u8> = (0..line.len()).step_by(2).map(digits).collect();
        check(&input);
    }
}

#[test]
fn fault35_containers_that_were_found() {
    replay(include_str!("../corpus/container.txt"), checks::container);
}

#[test]
fn fault35_block_maps_that_were_found() {
    replay(include_str!("../corpus/block-map.txt"), checks::block_map);
}
