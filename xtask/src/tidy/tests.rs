//! Each rule catches what it is for, and lets its neighbour pass.

use super::rules::{broken, front_page};

/// The complaints about one line in a file of the given name.
fn about(name: &str, line: &str) -> Vec<String> {
    broken(name, &format!("{line}\n"))
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn is_refused(name: &str, line: &str, complaint: &str) {
    let found = about(name, line);
    assert!(
        found.len() == 1 && found[0].contains(complaint),
        "{line:?} in {name}: {found:?}"
    );
}

fn is_fine(name: &str, line: &str) {
    assert_eq!(
        about(name, line),
        Vec::<String>::new(),
        "{line:?} in {name}"
    );
}

#[test]
fn long_files() {
    assert!(broken("a/src/b.rs", &"x\n".repeat(600)).is_empty());
    let found = broken("a/src/b.rs", &"x\n".repeat(601));
    assert!(found.len() == 1 && found[0].is_length());
    assert!(broken("docs/long.md", &"x\n".repeat(601)).is_empty());
}

#[test]
fn white_space_at_the_end() {
    is_refused("README.md", "words ", "white space");
    is_refused("a/src/b.rs", "code();\t", "white space");
    is_fine("README.md", "words");
}

#[test]
fn final_newline() {
    assert_eq!(broken("a.md", "words").len(), 1);
    assert!(broken("a.md", "").is_empty());
}

#[test]
fn machine_paths() {
    is_refused("README.md", concat!("see /ho", "me/me/x"), "machine");
    is_refused("a/src/b.rs", concat!("let p = \"/ro", "ot/x\";"), "machine");
    is_refused("a.toml", concat!("p = '/wo", "rk/x'"), "machine");
    is_fine(
        "README.md",
        concat!("https://example.org/wo", "rk/film.mkv"),
    );
    is_fine("README.md", "the homework");
}

#[test]
fn unfinished_work() {
    is_refused("a/src/b.rs", concat!("// TO", "DO: later"), "unfinished");
    is_refused("a/src/b.rs", concat!("// FIX", "ME"), "unfinished");
    is_fine("a/src/b.rs", "let mastodont = 1;");
}

#[test]
fn allowing_a_lint() {
    is_refused("a/src/b.rs", concat!("#[", "allow(dead_code)]"), "expect");
    is_refused("a/src/b.rs", concat!("#![", "allow(dead_code)]"), "expect");
    is_fine("a/src/b.rs", "#[expect(dead_code, reason = \"soon\")]");
}

#[test]
fn placeholders() {
    is_refused("a/src/b.rs", concat!("to", "do!()"), "placeholder");
    is_refused("a/src/b.rs", concat!("unimple", "mented!()"), "placeholder");
    is_refused("a/src/b.rs", concat!("db", "g!(x)"), "placeholder");
    is_fine("a/src/b.rs", "autodbg!(x)");
}

#[test]
fn ignored_tests() {
    is_refused("a/tests/b.rs", concat!("#[", "ignore]"), "say why");
    is_fine("a/tests/b.rs", "#[ignore = \"an hour\"]");
}

#[test]
fn r26_a_test_that_sleeps_is_refused() {
    let sleep = concat!("    std::thread::", "sleep(d);");
    let virtual_sleep = concat!("    tokio::time::", "sleep(d).await;");
    is_refused("a/tests/b.rs", sleep, "sleeps");
    is_refused("a/tests/b.rs", virtual_sleep, "sleeps");
    is_fine("a/src/b.rs", sleep);
    is_fine(
        "a/tests/b.rs",
        &format!("{virtual_sleep} // why: paused time"),
    );
    is_fine(
        "a/tests/b.rs",
        &format!("    // why: paused time\n{virtual_sleep}"),
    );
    let inside = format!("#[cfg(test)]\nmod tests {{\n{sleep}\n}}\n");
    assert_eq!(broken("a/src/b.rs", &inside).len(), 1);
}

#[test]
fn front_pages() {
    assert!(front_page("mod a;\n", true).is_some());
    assert!(front_page("//! Words only.\n", true).is_some());
    assert!(front_page("//! ```text\n//! $ run\n//! ```\n", true).is_some());
    assert!(front_page("//! ```ignore\n//! x();\n//! ```\n", true).is_some());
    assert_eq!(front_page("//! ```text\n//! $ run\n//! ```\n", false), None);
    assert_eq!(front_page("//! ```no_run\n//! x();\n//! ```\n", true), None);
    let second = "//! ```text\n//! $ run\n//! ```\n//!\n//! ```\n//! x();\n//! ```\n";
    assert_eq!(front_page(second, true), None);
}
