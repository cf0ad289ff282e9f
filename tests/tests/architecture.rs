//! The shape of the workspace, from its manifests and sources: arrows, purity, budgets, supply chain.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use headstart_tests::programs::repository;
use toml::{Table, Value};

fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manifest(path: impl AsRef<Path>) -> Table {
    read(path).parse().unwrap()
}

fn members() -> Vec<String> {
    let workspace = manifest("Cargo.toml");
    let members = workspace["workspace"]["members"].as_array().unwrap();
    members.iter().map(|member| member.as_str().unwrap().to_owned()).collect()
}

/// The dependencies of a member that its programs are built with.
fn dependencies(member: &str) -> BTreeSet<String> {
    let manifest = manifest(Path::new(member).join("Cargo.toml"));
    manifest["dependencies"].as_table().unwrap().keys().cloned().collect()
}

/// All Rust files of the repository, relative to its root.
fn sources() -> Vec<PathBuf> {
    let members = members().into_iter().map(|member| repository().join(member));
    let walk = members.flat_map(|member| walkdir::WalkDir::new(member).sort_by_file_name());
    walk.map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .map(|path| path.strip_prefix(repository()).unwrap().to_owned())
        .collect()
}

#[test]
fn arrows_point_from_programs_to_libraries_only() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("externals", &[][..]),
        ("runtime", &[]),
        ("webhook", &["externals", "runtime"]),
        ("cachesync", &["externals", "runtime"]),
        ("controller", &["externals", "runtime"]),
        ("cli", &["externals", "runtime", "webhook", "cachesync"]),
        ("tests", &["externals", "runtime", "webhook", "cachesync", "controller"]),
    ]);
    let members = members();
    assert_eq!(
        members.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        allowed.keys().copied().collect()
    );
    for member in members {
        for dependency in dependencies(&member) {
            if let Some(own) = dependency.strip_prefix("headstart-") {
                assert!(allowed[member.as_str()].contains(&own), "{member} must not depend on {own}");
            }
        }
    }
}

#[test]
fn the_domain_is_pure() {
    let allowed = ["serde", "serde-saphyr", "serde_ignored", "serde_json", "sha2", "thiserror", "url"];
    let used = dependencies("externals");
    let foreign: Vec<&String> = used.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
    assert!(foreign.is_empty(), "externals may not need {foreign:?}: no tokio, no kube, no clock");
    assert!(!dependencies("runtime").contains("headstart-externals"), "the process shell knows no domain");
}

/// Files that decide: they get values and give values.
const PURE: &[&str] = &[
    "externals/src/",
    "runtime/src/lease/election.rs",
    "webhook/src/decide.rs",
    "webhook/src/edit.rs",
    "webhook/src/object.rs",
    "webhook/src/placement.rs",
    "webhook/src/plan.rs",
    "webhook/src/pod.rs",
    "webhook/src/prefilter.rs",
    "webhook/src/reason.rs",
    "webhook/src/review.rs",
    "webhook/src/rules/",
    "webhook/src/runner_sets/decide.rs",
    "webhook/src/runner_sets/known.rs",
    "webhook/src/runner_sets/reason.rs",
    "webhook/src/runner_sets/review.rs",
    "webhook/src/volume.rs",
    "cachesync/src/backoff.rs",
    "cachesync/src/complete.rs",
    "cachesync/src/mount_info.rs",
    "cachesync/src/plan.rs",
    "cachesync/src/scrub/pace.rs",
    "cachesync/src/scrub/schedule.rs",
    "cachesync/src/report/lease.rs",
    "cachesync/src/report/schedule.rs",
    "cachesync/src/source/intake.rs",
    "cachesync/src/source/retry.rs",
    "cachesync/src/stage/choose.rs",
    "cli/src/diff.rs",
    "controller/src/actions/answer.rs",
    "controller/src/actions/credentials.rs",
    "controller/src/actions/error.rs",
    "controller/src/actions/inputs.rs",
    "controller/src/actions/spec.rs",
    "controller/src/actions/url.rs",
    "controller/src/certificates/plan.rs",
    "controller/src/creation/borrow/",
    "controller/src/creation/call.rs",
    "controller/src/creation/census.rs",
    "controller/src/creation/engine/",
    "controller/src/creation/gate/",
    "controller/src/creation/journal.rs",
    "controller/src/creation/names.rs",
    "controller/src/creation/objects.rs",
    "controller/src/creation/report.rs",
    "controller/src/creation/runner/",
    "controller/src/creation/seen.rs",
    "controller/src/creation/sweep.rs",
    "controller/src/creation/template.rs",
    "controller/src/creation/verdict.rs",
    "controller/src/creation/view.rs",
    "controller/src/news.rs",
    "controller/src/nodes/condition.rs",
    "controller/src/nodes/observed.rs",
    "controller/src/nodes/taints.rs",
    "controller/src/paired/losses.rs",
    "controller/src/probe/auto.rs",
    "controller/src/probe/outcome.rs",
    "controller/src/probe/pods.rs",
    "controller/src/publish/changes.rs",
    "controller/src/publish/forgotten.rs",
    "controller/src/publish/nodes.rs",
    "controller/src/publish/phases.rs",
    "controller/src/publish/progress.rs",
    "controller/src/publish/template.rs",
    "tests/src/actions_service/calls.rs",
    "tests/src/actions_service/endpoint.rs",
    "tests/src/actions_service/faults.rs",
    "tests/src/actions_service/jobs.rs",
    "tests/src/actions_service/replies.rs",
    "tests/src/actions_service/state.rs",
    "tests/src/actions_service/tokens.rs",
    "tests/src/actions_service/wire.rs",
    "tests/src/arc/apply.rs",
    "tests/src/arc/model/",
    "tests/src/arc/store.rs",
    "tests/src/arc/virtual_run.rs",
    "tests/src/bed/node_config.rs",
    "tests/src/bed/plan.rs",
    "tests/src/bed/versions.rs",
];

#[test]
fn pure_files_touch_neither_files_nor_clocks_nor_the_network() {
    let impure = [
        "std::fs",
        "std::net",
        "std::process",
        "std::thread",
        "std::env::",
        "SystemTime",
        "Instant",
        "tokio",
        "reqwest",
        "rustix",
        "Mutex",
        "println!",
        "tracing",
    ];
    let pure = |path: &PathBuf| PURE.iter().any(|prefix| path.to_str().unwrap().starts_with(prefix));
    let files: Vec<PathBuf> = sources().into_iter().filter(pure).collect();
    assert!(files.len() > 20, "{files:?}");
    for file in files {
        let text = read(&file);
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in impure {
            // Colours of a difference depend on the terminal, asked once at the edge.
            let edge = file == Path::new("cli/src/diff.rs") && word == "std::env::";
            assert!(edge || !code.contains(word), "{} names {word}", file.display());
        }
    }
}

#[test]
fn every_file_says_why_it_exists_and_is_short() {
    for file in sources() {
        let text = read(&file);
        assert!(
            text.starts_with("//! "),
            "{} must open with a sentence that says why it exists",
            file.display()
        );
        let code = text.split("#[cfg(test)]").next().unwrap().lines().count();
        let limit = if file.starts_with("tests") { 500 } else { 400 };
        assert!(code <= limit, "{} has {code} lines, split it", file.display());
    }
}

#[test]
fn tests_wait_for_conditions_and_are_never_ignored() {
    let waiting = ["tests/src/wait.rs"];
    for file in sources() {
        let is_test = file.starts_with("tests") || file.components().any(|part| part.as_os_str() == "tests");
        if !is_test || waiting.iter().any(|path| file == Path::new(path)) || file.ends_with("architecture.rs")
        {
            continue;
        }
        let text = read(&file);
        for word in ["sleep(", "#[ignore"] {
            assert!(!text.contains(word), "{} has {word}", file.display());
        }
    }
}

#[test]
fn every_member_takes_versions_and_lints_from_the_workspace() {
    for member in members() {
        let manifest = manifest(Path::new(&member).join("Cargo.toml"));
        assert_eq!(manifest["lints"]["workspace"], Value::Boolean(true), "{member}");
        for table in ["dependencies", "dev-dependencies"] {
            for (name, value) in manifest.get(table).and_then(Value::as_table).into_iter().flatten() {
                assert_eq!(value.get("workspace"), Some(&Value::Boolean(true)), "{member}: {name}");
            }
        }
    }
}

/// `(name, version)` of every crate that is really built; the lock file also names what no feature asks for.
fn built() -> BTreeSet<(String, String)> {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["tree", "--workspace", "--locked", "--edges", "all", "--prefix", "none", "--format", "{p}"]);
    let output = cargo.current_dir(repository()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once(" v"));
    pairs.map(|(name, rest)| (name.to_owned(), rest.split(' ').next().unwrap().to_owned())).collect()
}

#[test]
fn banned_crates_are_not_in_the_tree() {
    let deny = manifest("deny.toml");
    let banned =
        deny["bans"]["deny"].as_array().unwrap().iter().map(|entry| entry["crate"].as_str().unwrap());
    let built: BTreeSet<String> = built().into_iter().map(|(name, _)| name).collect();
    let found: Vec<&str> = banned.filter(|name| built.contains(*name)).collect();
    assert!(found.is_empty(), "{found:?}");
    assert!(built.contains("rustls"));
}

#[test]
fn no_crate_is_there_in_two_major_versions_without_a_reason() {
    let deny = manifest("deny.toml");
    let skipped: BTreeSet<&str> = deny["bans"]["skip"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["crate"].as_str().unwrap())
        .collect();
    let mut majors: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, version) in built() {
        let mut parts = version.split('.');
        let (major, minor) = (parts.next().unwrap(), parts.next().unwrap());
        let major = if major == "0" { format!("0.{minor}") } else { major.to_owned() };
        majors.entry(name).or_default().insert(major);
    }
    let double: Vec<_> =
        majors.iter().filter(|(name, majors)| majors.len() > 1 && !skipped.contains(name.as_str())).collect();
    assert!(double.is_empty(), "{double:?}");
}

#[test]
fn the_makefile_explains_every_target() {
    let text = read("Makefile");
    let phony = text.lines().find_map(|line| line.strip_prefix(".PHONY: ")).unwrap();
    for target in phony.split_whitespace() {
        let explained =
            text.lines().any(|line| line.starts_with(&format!("{target}:")) && line.contains(" ## "));
        assert!(explained, "{target} has no line for make help");
    }
}

#[test]
fn the_readme_is_short_and_its_links_lead_somewhere() {
    let text = read("README.md");
    assert!(text.lines().count() <= 150);
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = read(page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            let local = !path.is_empty() && !path.contains("://");
            assert!(!local || repository().join(path).exists(), "{page} links to {path}");
        }
    }
}

#[test]
fn the_code_map_names_every_crate() {
    let text = read("ARCHITECTURE.md");
    for member in members() {
        assert!(text.contains(&format!("`{member}/`")), "{member} is not in the code map");
    }
}
