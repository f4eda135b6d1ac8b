//! The crates and the only arrows allowed between them.
//!
//! `docs/ARCHITECTURE.md` is the single source: its tables between markers are parsed here and held against what
//! `cargo metadata` says. Everything in this file is a pure function, because a test of a default member includes
//! it, so that plain `cargo test` guards the structure too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What the architecture document allows.
#[derive(Debug)]
pub(crate) struct Rules {
    crates: BTreeMap<String, Arrows>,
    externals: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug)]
struct Arrows {
    normal: BTreeSet<String>,
    tests: BTreeSet<String>,
}

/// One member of the workspace, as far as its dependencies are concerned.
#[derive(Debug)]
pub(crate) struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug)]
struct Dependency {
    name: String,
    in_tests_only: bool,
    by_path: bool,
}

impl Rules {
    /// Reads the tables `arrows` and `externals` of the architecture document.
    pub(crate) fn parse(markdown: &str) -> Result<Self, String> {
        let mut crates = BTreeMap::new();
        for row in table(markdown, "arrows")? {
            let [name, normal, tests, ..] = row.as_slice() else {
                return Err(format!("a row of the arrow table is too short: {row:?}"));
            };
            let arrows = Arrows {
                normal: names(normal),
                tests: names(tests),
            };
            let name = sole_name(name)?;
            if crates.insert(name.clone(), arrows).is_some() {
                return Err(format!("{name} stands twice in the arrow table"));
            }
        }
        let mut externals = BTreeMap::new();
        for row in table(markdown, "externals")? {
            let [name, allowed, ..] = row.as_slice() else {
                return Err(format!(
                    "a row of the externals table is too short: {row:?}"
                ));
            };
            externals.insert(sole_name(name)?, names(allowed));
        }
        Ok(Self { crates, externals })
    }

    /// Everything in the workspace that the document does not allow, one sentence each.
    pub(crate) fn violations(&self, packages: &[Package]) -> Vec<String> {
        let members: BTreeSet<&str> = packages.iter().map(|p| p.name.as_str()).collect();
        let mut found = Vec::new();
        for listed in self.crates.keys() {
            if !members.contains(listed.as_str()) {
                found.push(format!(
                    "{listed} is in the arrow table but not in the workspace"
                ));
            }
        }
        for package in packages {
            let Some(arrows) = self.crates.get(&package.name) else {
                found.push(format!("{} is not in the arrow table", package.name));
                continue;
            };
            for dependency in &package.dependencies {
                let ours = dependency.by_path || self.crates.contains_key(&dependency.name);
                let verdict = if ours {
                    arrows.refuse(dependency)
                } else {
                    self.refuse_external(&package.name, dependency)
                };
                found.extend(verdict.map(|why| format!("{}: {why}", package.name)));
            }
        }
        found
    }

    fn refuse_external(&self, package: &str, dependency: &Dependency) -> Option<String> {
        let allowed = self.externals.get(package)?;
        let refused = !dependency.in_tests_only && !allowed.contains(&dependency.name);
        refused.then(|| {
            format!(
                "the external dependency `{}` is not on its allow-list",
                dependency.name
            )
        })
    }
}

impl Arrows {
    fn refuse(&self, dependency: &Dependency) -> Option<String> {
        let name = &dependency.name;
        if self.normal.contains(name) {
            return None;
        }
        if !dependency.in_tests_only {
            return Some(format!("the arrow to `{name}` is not allowed"));
        }
        (!self.tests.contains(name))
            .then(|| format!("the arrow to `{name}` is not allowed, in tests neither"))
    }
}

/// The members named in the output of `cargo metadata --no-deps --format-version 1`.
pub(crate) fn packages(metadata: &Value) -> Result<Vec<Package>, String> {
    array(metadata, "packages")?
        .iter()
        .map(|package| {
            let dependencies = array(package, "dependencies")?
                .iter()
                .map(|dependency| {
                    Ok(Dependency {
                        name: text(dependency, "name")?,
                        in_tests_only: dependency["kind"] == "dev",
                        by_path: !dependency["path"].is_null(),
                    })
                })
                .collect::<Result<_, String>>()?;
            Ok(Package {
                name: text(package, "name")?,
                dependencies,
            })
        })
        .collect()
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>, String> {
    value[key]
        .as_array()
        .ok_or_else(|| format!("cargo metadata has no list `{key}`"))
}

fn text(value: &Value, key: &str) -> Result<String, String> {
    value[key]
        .as_str()
        .map(ToOwned::to_owned)
        .ok_or_else(|| format!("cargo metadata has no text `{key}`"))
}

/// The body rows of the Markdown table between `<!-- name -->` and `<!-- /name -->`.
fn table(markdown: &str, name: &str) -> Result<Vec<Vec<String>>, String> {
    let missing = || format!("the document has no table between the markers of `{name}`");
    let (_, rest) = markdown
        .split_once(&format!("<!-- {name} -->"))
        .ok_or_else(missing)?;
    let (body, _) = rest
        .split_once(&format!("<!-- /{name} -->"))
        .ok_or_else(missing)?;
    let rows: Vec<Vec<String>> = body
        .lines()
        .filter_map(|line| line.trim().strip_prefix('|')?.strip_suffix('|'))
        .skip(2)
        .map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    if rows.is_empty() {
        return Err(missing());
    }
    Ok(rows)
}

/// The names in backticks of one cell.
fn names(cell: &str) -> BTreeSet<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(ToOwned::to_owned)
        .collect()
}

fn sole_name(cell: &str) -> Result<String, String> {
    let mut all = names(cell).into_iter();
    match (all.next(), all.next()) {
        (Some(name), None) => Ok(name),
        _ => Err(format!(
            "a row must begin with one name in backticks, not with `{cell}`"
        )),
    }
}
