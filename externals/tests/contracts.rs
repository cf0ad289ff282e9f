//! The contracts between programs, held against golden files: a change here is a change for every running cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use headstart_externals::arch::Arch;
use headstart_externals::config::{Config, OwnTemplate};
use headstart_externals::fault::FaultReason;
use headstart_externals::image::ImagePattern;
use headstart_externals::report::{MAX_BYTES, MAX_VERSIONS, NodeReport, VersionReport, VersionState};
use headstart_externals::staged::{Findings, SourceRecord, StageOutcome, TemplateFinding};
use headstart_externals::state::{Allowed, MountKind, Phase, PublishedState};
use proptest::prelude::*;

/// Compares `text` with a golden file; `HEADSTART_BLESS=1` writes the file anew.
fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("HEADSTART_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{name} differs");
}

fn version(name: &str, state: VersionState) -> VersionReport {
    VersionReport {
        name: name.parse().unwrap(),
        state,
        wanted: true,
        reason: None,
        tree: None,
        own_template: None,
        repairs: 0,
    }
}

#[test]
fn node_report_v1() {
    let ready = VersionReport {
        tree: Some("0123456789abcdef".into()),
        own_template: Some(TemplateFinding::Present),
        ..version("node16-0123456789ab", VersionState::Ready)
    };
    let failed = VersionReport {
        reason: Some(FaultReason::DigestMismatch),
        ..version("node20-0123456789ab", VersionState::Failed)
    };
    let old = VersionReport { wanted: false, ..version("node16-ba9876543210", VersionState::Ready) };
    let mut report = NodeReport::new("worker-1", Arch::Amd64, None, vec![old, ready, failed]);
    report.agent = "0.0.0".to_owned();
    let text = serde_json::to_string_pretty(&report).unwrap() + "\n";
    assert_golden("node-report-v1.json", &text);
    assert_eq!(NodeReport::parse(&text).unwrap(), report);
}

#[test]
fn published_state_v1() {
    let mut state = PublishedState::immediate(&Config::parse(include_str!("golden/config.yaml")).unwrap());
    state.allowed = Allowed::Namespaces([("arc-runners".to_owned(), [MountKind::HostPath].into())].into());
    state.generation = 7;
    let text = serde_json::to_string_pretty(&state).unwrap() + "\n";
    assert_golden("published-state-v1.json", &text);
    assert_eq!(PublishedState::parse(&text).unwrap(), state);
}

#[test]
fn staged_source_v1() {
    let name = "node16-0123456789ab".parse().unwrap();
    let findings = Findings { own_template: TemplateFinding::None };
    let staged = StageOutcome::Staged { tree_sha256: "ab".repeat(32), findings };
    let message = "the source has node20, which the profile neither keeps nor omits".to_owned();
    let refused = StageOutcome::Refused { reason: FaultReason::UnnamedEntry, message };
    for (file, outcome) in [("staged-source-v1.json", staged), ("staged-source-refused-v1.json", refused)] {
        let record = SourceRecord::new("ghcr.io/actions/actions-runner:2.304.0", &name, outcome);
        let text = serde_json::to_string_pretty(&record).unwrap() + "\n";
        assert_golden(file, &text);
        assert_eq!(SourceRecord::parse(text.as_bytes()).unwrap(), record);
    }
}

#[test]
fn a_staged_source_is_good_for_its_own_image_and_version_only() {
    let text = include_str!("golden/staged-source-v1.json");
    let record = SourceRecord::parse(text.as_bytes()).unwrap();
    let other = "node16-ba9876543210".parse().unwrap();
    let digest = "ab".repeat(32);
    let findings = Findings { own_template: TemplateFinding::None };
    assert_eq!(record.staged_from(&record.image, &record.version), Some((digest.as_str(), findings)));
    assert_eq!(record.staged_from("ghcr.io/actions/actions-runner:2.305.0", &record.version), None);
    assert_eq!(record.staged_from(&record.image, &other), None);
    let refused = SourceRecord::parse(include_bytes!("golden/staged-source-refused-v1.json")).unwrap();
    assert_eq!(refused.staged_from(&refused.image, &refused.version), None);
    let later = text.replace("\"none\"", "\"encrypted\"").replacen('{', "{\"later\": 1,", 1);
    let later = SourceRecord::parse(later.as_bytes()).unwrap();
    let (_, findings) = later.staged_from(&later.image, &later.version).unwrap();
    assert_eq!(findings.own_template, TemplateFinding::Unknown);
    assert!(SourceRecord::parse(text.replace("StagedSource", "Pod").as_bytes()).is_err());
}

#[test]
fn readers_ignore_fields_of_newer_writers_but_not_other_kinds() {
    let report = include_str!("golden/node-report-v1.json").replacen('{', "{\"later\": 1,", 1);
    assert!(NodeReport::parse(&report).is_ok());
    assert!(NodeReport::parse(&report.replace("headstart.dev/v1", "headstart.dev/v2")).is_err());
    let report = report.replace("\"failed\"", "\"melting\"").replace("DigestMismatch", "TooHot");
    let read = NodeReport::parse(&report).unwrap();
    assert_eq!(read.versions[1].state, VersionState::Unknown);
    assert_eq!(read.versions[1].reason, Some(FaultReason::Unknown));
    let state = include_str!("golden/published-state-v1.json").replacen('{', "{\"later\": 1,", 1);
    let melting = PublishedState::parse(&state.replace("\"offered\"", "\"melting\"")).unwrap();
    assert!(melting.named(melting.versions[1].name.as_str()).is_none());
    assert!(PublishedState::parse(&state.replace("\"PublishedState\"", "\"Pod\"")).is_err());
}

#[test]
fn a_word_of_a_newer_writer_makes_nothing_else_unreadable_and_is_not_lost() {
    let golden = include_str!("golden/published-state-v1.json");
    let known = PublishedState::parse(golden).unwrap();
    let mut newer: serde_json::Value = serde_json::from_str(golden).unwrap();
    let version = &mut newer["versions"][0];
    version["recipe"]["source"] = serde_json::json!({ "torrent": { "magnet": "x" } });
    version["hooks"]["ownTemplate"] = "encrypted".into();
    version["arches"] = serde_json::json!(["riscv64"]);
    let read = PublishedState::parse(&newer.to_string()).unwrap();
    assert_eq!(read.versions[1..], known.versions[1..]);
    let odd = &read.versions[0];
    assert_eq!(odd.hooks.own_template, OwnTemplate::Unknown);
    assert_eq!(odd.arches, [Arch::Unknown].into(), "it is for some architectures still");
    assert!(!Arch::Unknown.is_among(&odd.arches), "another one, for all we know");
    assert!(odd.recipe.as_ref().unwrap().known().is_none());
    let written = serde_json::to_value(&read).unwrap();
    assert_eq!(written["versions"][0]["recipe"], newer["versions"][0]["recipe"]);
    for (path, word) in [("/auth", "kerberos"), ("/format", "tar.br")] {
        let mut newer: serde_json::Value = serde_json::from_str(golden).unwrap();
        let download = newer.pointer_mut("/versions/0/recipe/source/archive/downloads/amd64").unwrap();
        download[&path[1..]] = word.into();
        assert!(PublishedState::parse(&newer.to_string()).is_ok(), "{word}");
    }
}

#[test]
fn immediate_mode_offers_the_newest_revision_and_keeps_the_older() {
    let state = PublishedState::immediate(&Config::parse(include_str!("golden/config.yaml")).unwrap());
    let phases: Vec<Phase> = state.versions.iter().map(|version| version.phase).collect();
    assert_eq!(phases, [Phase::Retiring, Phase::Offered]);
    assert!(state.named(state.versions[0].name.as_str()).is_some());
    assert!(state.named("node20-000000000000").is_none());
    assert!(state.allows("anywhere", MountKind::Image));
}

#[test]
fn retired_versions_are_never_obeyed_and_pairs_are_exact() {
    let mut state = PublishedState::immediate(&Config::parse(include_str!("golden/config.yaml")).unwrap());
    state.versions[0].phase = Phase::Retired;
    let name = state.versions[0].name.to_string();
    assert!(state.named(&name).is_none());
    state.allowed = Allowed::Namespaces([("a".to_owned(), [MountKind::HostPath].into())].into());
    assert!(state.allows("a", MountKind::HostPath));
    assert!(!state.allows("a", MountKind::Image));
    assert!(!state.allows("b", MountKind::HostPath));
}

#[test]
fn images_are_published_with_their_version() {
    let state = PublishedState::immediate(&Config::parse(include_str!("golden/config.yaml")).unwrap());
    let offered: Vec<_> = state.offered_for("ghcr.io/actions/actions-runner:2.322.0").collect();
    assert_eq!(offered.len(), 1);
    assert_eq!(offered[0].images, [ImagePattern::new("ghcr.io/actions/actions-runner:2.322.*")]);
    assert_eq!(
        state.offered_for("ghcr.io/actions/actions-runner:2.321.0").count(),
        0,
        "only the older revision's"
    );
}

proptest! {
    #[test]
    fn a_report_always_fits_and_says_how_many_versions_there_are(
        count in 0usize..100,
        profile in "[a-z]{1,40}",
        node in "[a-z]{1,253}",
        wanted in 0usize..100,
    ) {
        let versions: Vec<VersionReport> = (0..count)
            .map(|n| VersionReport {
                name: format!("{profile}-{n:012x}").parse().unwrap(),
                state: VersionState::Installing,
                wanted: n < wanted,
                reason: Some(FaultReason::SourceUnavailable),
                tree: Some("0".repeat(16)),
                own_template: Some(TemplateFinding::Present),
                repairs: u32::MAX,
            })
            .collect();
        let text = NodeReport::new(&node, Arch::Arm64, Some(FaultReason::RootNotWritable), versions).encode();
        let read = NodeReport::parse(&text).unwrap();
        prop_assert!(text.len() <= MAX_BYTES);
        prop_assert!(read.versions.len() <= MAX_VERSIONS);
        prop_assert_eq!(read.version_count, count);
        let first_unwanted = read.versions.iter().position(|version| !version.wanted).unwrap_or(read.versions.len());
        prop_assert!(read.versions[first_unwanted..].iter().all(|version| !version.wanted));
    }
}
