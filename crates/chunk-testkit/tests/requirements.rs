//! The documents that say what is proved, held against the tests that are there.
//!
//! `docs/REQUIREMENTS.md` has a section for each requirement and trap, `docs/FAULTS.md` one for each fault; in it,
//! each test is a line of its own, with its crate. The name of a test says what it proves: `r13_…`,
//! `trap07_…`, `fault05_…`, or several at once. It is checked both ways: a line names a test that is there, and a test
//! with such a name has its line. To write the lines anew:
//!
//! ```text
//! CHUNKD_WRITE_PROOFS=1 cargo test -p chunk-testkit --test requirements
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const REQUIREMENTS: &str = "docs/REQUIREMENTS.md";
const FAULTS: &str = "docs/FAULTS.md";

/// What a section says when nothing proves it.
const GAP: &str = "- not tested yet";

/// What brings the documents up to date.
const REFRESH: &str = "CHUNKD_WRITE_PROOFS=1 cargo test -p chunk-testkit --test requirements";

/// Something that a test can prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Requirement(u32),
    Trap(u32),
    Fault(u32),
}

/// Where a test is and what it is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Proof {
    member: String,
    test: String,
}

impl Id {
    /// The id in a heading such as `### R13: …`, `### Trap 7: …`, `### 5: …`.
    fn of_heading(line: &str) -> Option<Self> {
        let (name, _) = line.strip_prefix("### ")?.split_once(':')?;
        if let Some(number) = name.strip_prefix('R') {
            return Some(Self::Requirement(number.parse().ok()?));
        }
        match name.strip_prefix("Trap ") {
            Some(number) => Some(Self::Trap(number.parse().ok()?)),
            None => Some(Self::Fault(name.parse().ok()?)),
        }
    }

    /// The ids in a test's name: whole words of it.
    fn all_in(name: &str) -> impl Iterator<Item = Self> {
        name.split('_').filter_map(|word| {
            let number = |digits: &str| match digits.len() {
                1 | 2 => digits.parse().ok(),
                _ => None,
            };
            if let Some(digits) = word.strip_prefix("trap") {
                number(digits).map(Self::Trap)
            } else if let Some(digits) = word.strip_prefix("fault") {
                number(digits).map(Self::Fault)
            } else {
                number(word.strip_prefix('r')?).map(Self::Requirement)
            }
        })
    }
}

impl Proof {
    /// What `- chunk-core: `name`` says.
    fn of_line(line: &str) -> Option<Self> {
        let (member, test) = line.strip_prefix("- ")?.split_once(": `")?;
        Some(Self {
            member: member.to_owned(),
            test: test.strip_suffix('`')?.to_owned(),
        })
    }

    fn line(&self) -> String {
        format!("- {}: `{}`", self.member, self.test)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Files below `folder` that end in `extension`; links are not followed.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be listed") {
            let entry = entry.expect("the folder can be listed");
            let kind = entry.file_type().expect("the file has a type");
            if kind.is_dir() && entry.file_name() != "target" {
                folders.push(entry.path());
            } else if kind.is_file() && entry.path().extension().is_some_and(|e| e == extension) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// The tests in a file: functions under a test attribute, and in a file of conformance rules all of them, because
/// the suites' macros expand them to tests.
fn tests_in(text: &str, has_rules: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_attributed = false;
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[") && line.contains("test") && !line.contains("cfg") {
            is_attributed = true;
        }
        let declared = line.strip_prefix("pub ").unwrap_or(line);
        let declared = declared.strip_prefix("async ").unwrap_or(declared);
        if let Some(rest) = declared.strip_prefix("fn ") {
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            if is_attributed || has_rules {
                found.push(rest[..end].to_owned());
            }
            is_attributed = false;
        }
    }
    found
}

/// Every test of the workspace whose name says what it proves.
fn proofs() -> BTreeMap<Id, BTreeSet<Proof>> {
    let root = root();
    let mut found: BTreeMap<Id, BTreeSet<Proof>> = BTreeMap::new();
    for folder in ["crates", "xtask"] {
        for path in files(&root.join(folder), "rs") {
            let name = path
                .strip_prefix(&root)
                .expect("the path is below the root");
            let member = match folder {
                "xtask" => "xtask".to_owned(),
                _ => name
                    .components()
                    .nth(1)
                    .map(|part| part.as_os_str().to_string_lossy().into_owned())
                    .unwrap_or_default(),
            };
            let has_rules = name.starts_with("crates/chunk-testkit/src")
                && name.components().any(|part| {
                    part.as_os_str()
                        .to_str()
                        .is_some_and(|part| part.starts_with("rules"))
                });
            let text = fs::read_to_string(&path).expect("the file is text");
            for test in tests_in(&text, has_rules) {
                for id in Id::all_in(&test) {
                    found.entry(id).or_default().insert(Proof {
                        member: member.clone(),
                        test: test.clone(),
                    });
                }
            }
        }
    }
    found
}

/// The lines of each section of a document.
fn sections(document: &str) -> Vec<(Id, Vec<&str>)> {
    let mut found: Vec<(Id, Vec<&str>)> = Vec::new();
    let mut is_inside = false;
    for line in document.lines() {
        if line.starts_with('#') {
            is_inside = false;
            if let Some(id) = Id::of_heading(line) {
                found.push((id, Vec::new()));
                is_inside = true;
            }
        } else if is_inside && let Some((_, lines)) = found.last_mut() {
            lines.push(line);
        }
    }
    found
}

/// What is wrong with a document.
fn faults_of(
    document: &str,
    expected: &[Id],
    proofs: &BTreeMap<Id, BTreeSet<Proof>>,
) -> Vec<String> {
    let mut found = Vec::new();
    let sections = sections(document);
    let ids: Vec<Id> = sections.iter().map(|(id, _)| *id).collect();
    if ids != expected {
        found.push(format!(
            "the sections are {ids:?} and should be {expected:?}"
        ));
    }
    for (id, lines) in &sections {
        let none = BTreeSet::new();
        let there = proofs.get(id).unwrap_or(&none);
        let named: Vec<Proof> = lines.iter().copied().filter_map(Proof::of_line).collect();
        for proof in &named {
            if !there.contains(proof) {
                found.push(format!("{id:?} names {}, which is not there", proof.line()));
            }
        }
        for proof in there.iter().filter(|proof| !named.contains(proof)) {
            found.push(format!("{id:?} does not name {}", proof.line()));
        }
        if named.is_empty() {
            found.push(format!("{id:?} names no test"));
        }
        if !lines
            .iter()
            .any(|line| !line.is_empty() && !line.starts_with("- "))
        {
            found.push(format!("{id:?} does not say what it is"));
        }
    }
    found
}

/// The document with the tests that are there now.
fn rewritten(document: &str, proofs: &BTreeMap<Id, BTreeSet<Proof>>) -> String {
    let mut out = String::new();
    let mut section: Option<Id> = None;
    let mut is_written = false;
    for line in document.lines() {
        if line.starts_with('#') {
            section = Id::of_heading(line);
            is_written = false;
        }
        let is_proof = line == GAP || Proof::of_line(line).is_some();
        let Some(id) = section.filter(|_| is_proof) else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        if is_written {
            continue;
        }
        is_written = true;
        match proofs.get(&id) {
            Some(tests) => {
                for proof in tests {
                    out.push_str(&proof.line());
                    out.push('\n');
                }
            }
            None => {
                out.push_str(GAP);
                out.push('\n');
            }
        }
    }
    out
}

fn expected(document: &str) -> Vec<Id> {
    match document {
        FAULTS => (1..=48).map(Id::Fault).collect(),
        _ => (1..=29)
            .map(Id::Requirement)
            .chain((1..=17).map(Id::Trap))
            .collect(),
    }
}

fn assert_in_order(name: &str) {
    let proofs = proofs();
    let mut document = read(name);
    if std::env::var_os("CHUNKD_WRITE_PROOFS").is_some() {
        document = rewritten(&document, &proofs);
        fs::write(root().join(name), &document).expect("the document is writable");
    }
    let found = faults_of(&document, &expected(name), &proofs);
    assert!(
        found.is_empty(),
        "{name}:\n{}\nTo write its lines anew: {REFRESH}",
        found.join("\n")
    );
}

#[test]
fn every_requirement_and_trap_names_tests_that_are_there() {
    assert_in_order(REQUIREMENTS);
}

#[test]
fn every_fault_names_tests_that_are_there() {
    assert_in_order(FAULTS);
}

#[test]
fn no_test_proves_what_no_document_knows() {
    let known: BTreeSet<Id> = [REQUIREMENTS, FAULTS]
        .into_iter()
        .flat_map(expected)
        .collect();
    let proofs = proofs();
    let unknown: Vec<_> = proofs
        .iter()
        .filter(|(id, _)| !known.contains(id))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// A name with three underscores or more is one that somebody will search for.
#[test]
fn the_documents_name_nothing_that_is_not_in_the_code() {
    let root = root();
    let mut words: BTreeSet<String> = BTreeSet::new();
    for (folder, extension) in [("crates", "rs"), ("xtask", "rs"), ("migrations", "sql")] {
        for path in files(&root.join(folder), extension) {
            let text = fs::read_to_string(path).expect("the file is text");
            let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
            words.extend(text.split(is_end).map(str::to_owned));
        }
    }
    let mut missing = Vec::new();
    let mut documents = files(&root.join("docs"), "md");
    documents.push(root.join("README.md"));
    for path in documents {
        let text = fs::read_to_string(&path).expect("the document is text");
        for quoted in text.split('`').skip(1).step_by(2) {
            let is_name = quoted.matches('_').count() >= 3
                && quoted
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if is_name && !words.contains(quoted) {
                missing.push(format!("{}: {quoted}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

mod the_check_itself {
    use super::*;

    const DOCUMENT: &str = "### R1: one\n\nWhat it is.\n\n- chunk-core: `r01_it_holds`\n\n\
        ### R8: two\n\nWhat it is.\n\n- chunk-core: `r08_so_does_this`\n";

    fn known() -> BTreeMap<Id, BTreeSet<Proof>> {
        let tests = |test: &str| {
            BTreeSet::from([Proof {
                member: "chunk-core".to_owned(),
                test: test.to_owned(),
            }])
        };
        BTreeMap::from([
            (Id::Requirement(1), tests("r01_it_holds")),
            (Id::Requirement(8), tests("r08_so_does_this")),
        ])
    }

    const IDS: [Id; 2] = [Id::Requirement(1), Id::Requirement(8)];

    #[test]
    fn takes_a_document_that_is_right() {
        assert_eq!(faults_of(DOCUMENT, &IDS, &known()), Vec::<String>::new());
        assert_eq!(rewritten(DOCUMENT, &known()), DOCUMENT);
    }

    #[test]
    fn refuses_a_test_that_is_not_there_and_one_of_another_crate() {
        for wrong in [
            DOCUMENT.replace("it_holds", "it_held"),
            DOCUMENT.replacen("chunk-core", "chunk-proxy", 1),
        ] {
            // The line is wrong, and the right one is missing.
            assert_eq!(faults_of(&wrong, &IDS, &known()).len(), 2);
            assert_eq!(rewritten(&wrong, &known()), DOCUMENT);
        }
    }

    #[test]
    fn refuses_a_gap_and_writes_one_where_there_is_no_test() {
        let other = DOCUMENT.replace("R8", "R9");
        let ids = [IDS[0], Id::Requirement(9)];
        let written = rewritten(&other, &known());
        assert!(written.contains(GAP), "{written}");
        assert_eq!(faults_of(&written, &ids, &known()).len(), 1);
    }

    #[test]
    fn refuses_a_test_without_a_line() {
        let mut known = known();
        let another = Proof {
            member: "chunk-proxy".to_owned(),
            test: "r01_and_here".to_owned(),
        };
        known.entry(IDS[0]).or_default().insert(another);
        assert_eq!(faults_of(DOCUMENT, &IDS, &known).len(), 1);
        assert_eq!(
            faults_of(&rewritten(DOCUMENT, &known), &IDS, &known).len(),
            0
        );
    }

    #[test]
    fn refuses_a_missing_section_and_an_empty_one() {
        let all = [IDS[0], IDS[1], Id::Trap(3)];
        assert_eq!(faults_of(DOCUMENT, &all, &known()).len(), 1);
        let silent = DOCUMENT.replace("- chunk-core: `r08_so_does_this`\n", "");
        assert_eq!(faults_of(&silent, &IDS, &known()).len(), 2);
        let empty = DOCUMENT.replace("What it is.", "");
        assert_eq!(faults_of(&empty, &IDS, &known()).len(), 2);
    }

    #[test]
    fn knows_a_test_by_its_attribute_or_by_its_suite() {
        let text = "#[tokio::test(start_paused = true)]\nasync fn r01_a() {}\nfn r02_helper() {}\n\
            #[test]\n#[ignore = \"slow\"]\nfn r03_b() {}\n";
        assert_eq!(tests_in(text, false), ["r01_a", "r03_b"]);
        let rules = "pub async fn fault04_a<S>(s: &S) {}\nrules! {\n    fn trap07_b(store) {\n";
        assert_eq!(tests_in(rules, true), ["fault04_a", "trap07_b"]);
        assert_eq!(tests_in(rules, false), Vec::<String>::new());
        let ids: Vec<Id> = Id::all_in("r1_trap07_fault12_range_r123_r2d2").collect();
        assert_eq!(ids, [Id::Requirement(1), Id::Trap(7), Id::Fault(12)]);
    }
}
