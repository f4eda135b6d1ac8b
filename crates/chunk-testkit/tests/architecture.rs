//! The structure of the workspace, guarded by plain `cargo test`.
//!
//! The rules are parsed and checked by the same code as `cargo xtask arch`; here they are also shown to refuse what
//! they should.

#[path = "../../../xtask/src/arch.rs"]
mod arch;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use arch::{Rules, packages};
use serde_json::{Value, json};

const DOCUMENT: &str = "
<!-- arrows -->
| crate | depends on | in its tests also |
|---|---|---|
| `core` | nothing of ours | |
| `ports` | `core` | |
| `adapter` | `ports`, `core` | `testkit` |
| `testkit` | `ports`, `core` | |
<!-- /arrows -->
<!-- externals -->
| crate | external dependencies |
|---|---|
| `core` | `thiserror` |
<!-- /externals -->
";

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn metadata_of(folder: &Path) -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(folder)
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

fn violations(document: &str, metadata: &Value) -> Vec<String> {
    let rules = Rules::parse(document).expect("the document has its tables");
    rules.violations(&packages(metadata).expect("the metadata have the known shape"))
}

fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
    let dependencies: Vec<Value> = dependencies
        .iter()
        .map(|(name, kind)| json!({"name": name, "kind": kind, "path": null}))
        .collect();
    json!({"name": name, "dependencies": dependencies})
}

/// A workspace that keeps to `DOCUMENT`, with one package replaced by `changed`.
fn workspace_with(changed: Value) -> Value {
    let mut members = vec![
        package("core", &[("thiserror", None), ("proptest", Some("dev"))]),
        package("ports", &[("core", None)]),
        package("adapter", &[("ports", None), ("testkit", Some("dev"))]),
        package("testkit", &[("ports", None), ("tokio", None)]),
    ];
    match members.iter_mut().find(|m| m["name"] == changed["name"]) {
        Some(member) => *member = changed,
        None => members.push(changed),
    }
    json!({ "packages": members })
}

#[test]
fn the_workspace_keeps_to_the_arrows_of_its_document() {
    let document = fs::read_to_string(workspace_root().join("docs/ARCHITECTURE.md"))
        .expect("docs/ARCHITECTURE.md is there");
    assert_eq!(
        violations(&document, &metadata_of(&workspace_root())),
        Vec::<String>::new()
    );
}

#[test]
fn an_allowed_workspace_has_no_violation() {
    let clean = workspace_with(package("core", &[("thiserror", None)]));
    assert_eq!(violations(DOCUMENT, &clean), Vec::<String>::new());
}

#[test]
fn a_planted_arrow_is_refused() {
    let planted = workspace_with(package("ports", &[("core", None), ("adapter", None)]));
    assert_eq!(
        violations(DOCUMENT, &planted),
        ["ports: the arrow to `adapter` is not allowed"]
    );
}

#[test]
fn the_testkit_is_for_tests_only() {
    let planted = workspace_with(package("adapter", &[("ports", None), ("testkit", None)]));
    assert_eq!(
        violations(DOCUMENT, &planted),
        ["adapter: the arrow to `testkit` is not allowed"]
    );
}

#[test]
fn an_arrow_in_tests_needs_its_own_permission() {
    let planted = workspace_with(package("ports", &[("adapter", Some("dev"))]));
    assert_eq!(
        violations(DOCUMENT, &planted),
        ["ports: the arrow to `adapter` is not allowed, in tests neither"]
    );
}

#[test]
fn a_build_dependency_is_an_arrow_like_any_other() {
    let planted = workspace_with(package("core", &[("ports", Some("build"))]));
    assert_eq!(
        violations(DOCUMENT, &planted),
        ["core: the arrow to `ports` is not allowed"]
    );
}

#[test]
fn an_external_dependency_off_the_list_is_refused() {
    let planted = workspace_with(package("core", &[("tokio", None)]));
    assert_eq!(
        violations(DOCUMENT, &planted),
        ["core: the external dependency `tokio` is not on its allow-list"]
    );
}

#[test]
fn an_unknown_crate_and_a_missing_one_are_refused() {
    let mut metadata = workspace_with(package("surprise", &[]));
    let members = metadata["packages"].as_array_mut().expect("a list");
    members.retain(|member| member["name"] != "testkit");
    assert_eq!(
        violations(DOCUMENT, &metadata),
        [
            "testkit is in the arrow table but not in the workspace",
            "surprise is not in the arrow table"
        ]
    );
}

#[test]
fn a_document_without_its_table_is_refused() {
    assert!(Rules::parse("# Nothing here").is_err());
    assert!(Rules::parse(&DOCUMENT.replace("<!-- /externals -->", "")).is_err());
    assert!(Rules::parse(&DOCUMENT.replace("| `ports` | `core` |", "| `core` | |")).is_err());
}

#[test]
fn a_forbidden_dependency_planted_in_a_manifest_is_refused() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted-arrow");
    write(
        &folder.join("Cargo.toml"),
        "[workspace]\nresolver = \"3\"\nmembers = [\"*\"]\n",
    );
    for (name, dependencies) in [
        (
            "core",
            "harmless = { package = \"adapter\", path = \"../adapter\" }",
        ),
        ("ports", "core = { path = \"../core\" }"),
        ("adapter", "ports = { path = \"../ports\" }"),
        ("testkit", "core = { path = \"../core\" }"),
    ] {
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n{dependencies}\n"
        );
        write(&folder.join(name).join("Cargo.toml"), &manifest);
        write(&folder.join(name).join("src/lib.rs"), "");
    }
    // The dependency is renamed: what counts is the package behind the name.
    assert_eq!(
        violations(DOCUMENT, &metadata_of(&folder)),
        ["core: the arrow to `adapter` is not allowed"]
    );
}

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().expect("a file has a folder"))
        .expect("the folder is writable");
    fs::write(path, content).expect("the file is writable");
}
