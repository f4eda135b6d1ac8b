//! Inputs that a fuzzer has found worth keeping.

/// Tries `check` on each input of `corpus`: one a line, in hexadecimal.
///
/// # Panics
/// Where `check` does, and where a line is not hexadecimal.
pub fn replay(corpus: &str, check: fn(&[u8])) {
    for line in corpus.lines() {
        let digit = |at| u8::from_str_radix(&line[at..at + 2], 16).expect("hexadecimal");
        let input: Vec<u8> = (0..line.len()).step_by(2).map(digit).collect();
        check(&input);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_line_is_an_input() {
        static SEEN: std::sync::Mutex<Vec<Vec<u8>>> = std::sync::Mutex::new(Vec::new());
        super::replay("00ff\n\n41\n", |input| {
            SEEN.lock().unwrap().push(input.to_vec());
        });
        assert_eq!(*SEEN.lock().unwrap(), [vec![0, 255], vec![], b"A".to_vec()]);
    }
}
