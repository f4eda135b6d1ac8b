//! The rules, as pure functions over a file's name and text.

use std::fmt;

/// Lines that a source file may have.
const LONGEST_FILE: usize = 600;

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    line: usize,
    why: Why,
}

/// What is wrong with a line or a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    TooLong,
    TrailingWhiteSpace,
    NoFinalNewline,
    MachinePath,
    Unfinished,
    Allow,
    Placeholder,
    SilentIgnore,
    Sleep,
}

impl Broken {
    /// The one rule from which a file can be excepted.
    pub(super) fn is_length(&self) -> bool {
        self.why == Why::TooLong
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::TooLong => "more than 600 lines: split it by job",
            Why::TrailingWhiteSpace => "white space at the end of the line",
            Why::NoFinalNewline => "no newline at the end of the file",
            Why::MachinePath => "a path of somebody's machine",
            Why::Unfinished => "a note about unfinished work: finish it, or open an issue",
            Why::Allow => "say #[expect(lint, reason = \"…\")] instead of allowing",
            Why::Placeholder => "a placeholder or a debugging aid",
            Why::SilentIgnore => "an ignored test must say why: #[ignore = \"…\"]",
            Why::Sleep => {
                "a test that sleeps; if it must, say why in a comment `// why: …` there or just above"
            }
        };
        write!(f, "{} {why}", self.line)
    }
}

/// Every rule that a file breaks. `name` is its path from the root of the repository.
pub(super) fn broken(name: &str, text: &str) -> Vec<Broken> {
    let mut found = Vec::new();
    let is_rust = name.ends_with(".rs");
    let mut in_tests = is_test_file(name);
    let mut previous = "";
    for (index, line) in text.lines().enumerate() {
        let mut report = |why| {
            found.push(Broken {
                line: index + 1,
                why,
            })
        };
        if line.ends_with([' ', '\t']) {
            report(Why::TrailingWhiteSpace);
        }
        if names_machine_path(line) {
            report(Why::MachinePath);
        }
        if is_rust {
            in_tests |= line.trim_start().starts_with("#[cfg(test)]");
            for why in in_rust(line) {
                report(why);
            }
            if in_tests && sleeps(line) && !says_why(line) && !says_why(previous) {
                report(Why::Sleep);
            }
        }
        previous = line;
    }
    let lines = text.lines().count();
    if is_rust && lines > LONGEST_FILE {
        found.push(Broken {
            line: lines,
            why: Why::TooLong,
        });
    }
    if !text.is_empty() && !text.ends_with('\n') {
        found.push(Broken {
            line: lines,
            why: Why::NoFinalNewline,
        });
    }
    found
}

/// What is wrong with the front page of a crate, if anything.
///
/// A library shows an example that compiles; a program shows how it is called.
pub(super) fn front_page(text: &str, is_library: bool) -> Option<&'static str> {
    let page: Vec<&str> = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .collect();
    if page.is_empty() {
        return Some("the crate has no front page (`//!` at the top)");
    }
    let fences: Vec<&str> = page
        .iter()
        .filter_map(|line| line.trim().strip_prefix("```"))
        .step_by(2)
        .collect();
    if fences.is_empty() {
        return Some("the front page shows no example");
    }
    let compiles = |info: &&str| {
        info.split(',')
            .all(|word| matches!(word.trim(), "" | "rust" | "no_run" | "should_panic"))
    };
    (is_library && !fences.iter().any(compiles))
        .then_some("the front page has no example that compiles")
}

fn in_rust(line: &str) -> impl Iterator<Item = Why> {
    // The patterns are put together here, so that this file does not break its own rules.
    let placeholder = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
    ];
    let unfinished = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    [
        (
            placeholder.iter().any(|p| has_word(line, p)),
            Why::Placeholder,
        ),
        (
            unfinished.iter().any(|p| has_word(line, p)),
            Why::Unfinished,
        ),
        (
            line.contains(concat!("#[", "allow(")) || line.contains(concat!("#![", "allow(")),
            Why::Allow,
        ),
        (line.contains(concat!("#[", "ignore]")), Why::SilentIgnore),
    ]
    .into_iter()
    .filter_map(|(is_broken, why)| is_broken.then_some(why))
}

fn is_test_file(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("/tests.rs") || name.ends_with("_tests.rs")
}

fn sleeps(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.contains(concat!("thread::", "sleep")) || code.contains(concat!("time::", "sleep("))
}

fn says_why(line: &str) -> bool {
    line.contains("// why: ")
}

/// Whether a path below a home or work folder of some machine begins in the line.
fn names_machine_path(line: &str) -> bool {
    let folders = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
    ];
    folders.iter().any(|folder| {
        line.match_indices(folder).any(|(at, _)| {
            // In the middle of a path or an address it is somebody else's folder of that name.
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || "._-~}>*/".contains(c))
        })
    })
}

/// Whether `word` stands in the line without being the end or the beginning of a longer word.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && (word.ends_with('(') || !after.is_some_and(is_part))
    })
}
