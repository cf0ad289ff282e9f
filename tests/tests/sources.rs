//! Sources that an agent must refuse: each with its own reason, nothing published, staging empty, tried again later.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use headstart_tests::agent::Node;
use headstart_tests::archive::{Tar, config, config_for_file, pack, sha256};
use headstart_tests::tree::{self, NODE16, directory_config};
use tar::EntryType;

/// The agent refuses this configuration for `reason`, keeps trying, and leaves nothing behind.
#[track_caller]
fn refused(node: Node, reason: &'static str) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let agent = node.start();
        assert_eq!(agent.failed().await, reason, "{caller}: {:#?}", agent.log());
        let twice = |status: &serde_json::Value| status["versions"][0]["failures"].as_u64() >= Some(2);
        let status = agent.status("tried again", twice).await;
        assert_eq!(status["ready"], false, "{caller}");
        assert_eq!(status["versions"][0]["state"], "failed", "{caller}");
        let fault = &status["versions"][0]["fault"];
        assert!(
            !fault["message"].as_str().unwrap().is_empty() && !fault["remedy"].as_str().unwrap().is_empty()
        );
        for folder in ["versions", "staging", "trash", "replaced"] {
            assert_eq!(node.list(folder), [""; 0], "{caller}: {folder}");
        }
        let (code, text) = agent.get("/readyz").await.unwrap();
        assert_eq!(code, 503, "{caller}");
        assert!(text.contains(reason), "{caller}: {text}");
        let (_, metrics) = agent.get("/metrics").await.unwrap();
        let counter = format!("headstart_cachesync_install_failures_total{{reason=\"{reason}\"}}");
        assert!(metrics.contains(&counter), "{caller}: {metrics}");
    }
}

async fn refused_archive(content: &[u8], reason: &'static str) {
    let node = Node::new("");
    node.configure(&config_for_file(&node.path("source.tar.gz"), content));
    refused(node, reason).await;
}

async fn refused_member(tar: Tar, reason: &'static str) {
    refused_archive(&tar.packed("gz"), reason).await;
}

#[tokio::test]
async fn archives_must_have_the_pinned_digest() {
    let node = Node::new("");
    let path = node.path("source.tar.gz");
    fs::write(&path, Tar::sound().packed("gz")).unwrap();
    node.configure(&config(&format!("file://{}", path.display()), &"0".repeat(64)));
    refused(node, "DigestMismatch").await;
}

#[tokio::test]
async fn broken_archives_are_named() {
    let whole = Tar::sound().packed("gz");
    refused_archive(&whole[..whole.len() / 2], "ArchiveCorrupt").await;
    refused_archive(b"<html>not found</html>", "ArchiveCorrupt").await;
    refused_archive(
        &pack(
            b"not a tar archive, but longer than one block of five hundred and twelve bytes"
                .repeat(20)
                .as_slice(),
            "gz",
        ),
        "ArchiveCorrupt",
    )
    .await;
}

#[tokio::test]
async fn truncated_xz_and_zst_archives_are_named() {
    for name in ["source.tar.xz", "source.tar.zst"] {
        let node = Node::new("");
        let whole = Tar::sound().packed(name);
        node.configure(&config_for_file(&node.path(name), &whole[..whole.len() - 20]));
        refused(node, "ArchiveCorrupt").await;
    }
}

#[tokio::test]
async fn an_archive_that_ends_too_early_or_goes_on_is_named() {
    let plain = Tar::sound().plain();
    // Cut between two members: everything that is kept is there, but the end is not.
    refused_archive(&pack(&plain[..plain.len() - 1024], "gz"), "ArchiveCorrupt").await;
    let twice = [plain.clone(), Tar::sound().plain()].concat();
    refused_archive(&pack(&twice, "gz"), "ArchiveCorrupt").await;
}

#[tokio::test]
async fn paths_never_leave_the_tree() {
    refused_member(Tar::sound().file("externals/../../evil", b"x", 0o644), "PathEscape").await;
    refused_member(Tar::sound().file("/etc/evil", b"x", 0o644), "PathEscape").await;
    refused_member(Tar::sound().file("externals/node16/a\u{7f}b", b"x", 0o644), "BadName").await;
}

#[tokio::test]
async fn links_never_leave_the_tree() {
    refused_member(Tar::sound().link("externals/node16/bin/evil", "/etc/passwd"), "LinkEscape").await;
    refused_member(Tar::sound().link("externals/node16/bin/evil", "../../../etc/passwd"), "LinkEscape").await;
    refused_member(Tar::sound().hard_link("externals/node16/bin/evil", "/etc/passwd"), "HardlinkEscape")
        .await;
    refused_member(Tar::sound().hard_link("externals/node16/bin/evil", "run.sh"), "HardlinkEscape").await;
}

#[tokio::test]
async fn links_through_other_links_lead_nowhere() {
    let tar = Tar::sound()
        .link("externals/node16/a/b/c/up", "../../../../")
        .link("externals/node16/evil", "a/b/c/up/../../../../root");
    refused_member(tar, "LinkEscape").await;
    refused_member(Tar::sound().link("externals/node16/none", ""), "LinkEscape").await;
}

#[tokio::test]
async fn a_link_in_place_of_a_folder_leads_nowhere() {
    let tar = Tar::default().link("externals/node16", "node12").file(
        "externals/node16/bin/node",
        tree::STAND_IN,
        0o755,
    );
    refused_member(tar, "PathConflict").await;
}

#[tokio::test]
async fn devices_pipes_and_setuid_files_are_refused() {
    refused_member(Tar::sound().member(EntryType::Char, "externals/node16/tty", b"", 0o644), "SpecialFile")
        .await;
    refused_member(Tar::sound().member(EntryType::Fifo, "externals/node16/pipe", b"", 0o644), "SpecialFile")
        .await;
    refused_member(Tar::sound().file("externals/node16/bin/su", b"x", 0o4755), "SetuidFile").await;
    refused_member(Tar::sound().file("externals/node16/bin/sg", b"x", 0o2755), "SetuidFile").await;
}

#[tokio::test]
async fn a_file_never_takes_the_place_of_a_folder() {
    let tar = Tar::default().file("externals/node16", b"x", 0o644);
    refused_member(tar, "PathConflict").await;
    let twice = Tar::sound().file("externals/node16/bin/node", tree::STAND_IN, 0o755);
    refused_member(twice, "PathConflict").await;
}

#[tokio::test]
async fn bombs_are_stopped_by_the_limits() {
    // Small as packed, larger than limits.unpackedBytes as unpacked, and of a path that is not even kept.
    refused_member(Tar::sound().file("externals/zeros", &vec![0; 301_000_000], 0o644), "TooLarge").await;
    let many = (0..1001).fold(Tar::sound(), |tar, at| tar.file(&format!("externals/many/{at}"), b"", 0o644));
    refused_member(many, "TooManyFiles").await;
    // A hard link is nothing in the archive and a whole file in the tree.
    let large = tree::node16_config("SOURCE").replace("preset: node16", "images: [x:1]\n    entries: all");
    let node = Node::new("");
    let content = Tar::default().file("externals/node16/bin/node", tree::STAND_IN, 0o755);
    let content = content.file("externals/node16/big", &vec![7; 10_000_000], 0o644);
    let links = (0..40)
        .fold(content, |tar, at| tar.hard_link(&format!("externals/node16/{at}"), "externals/node16/big"));
    let config = config_for_file(&node.path("source.tar.gz"), &links.packed("gz"));
    let source = config.split("source: ").nth(1).unwrap();
    node.configure(&large.replace("SOURCE", source));
    refused(node, "TooLarge").await;
    // A member's name is held in memory, so an absurd one is stopped before it is read.
    let name = vec![b'a'; 5_000_000];
    let long =
        Tar::sound().member(EntryType::GNULongName, "././@LongLink", &name, 0o644).file("x", b"", 0o644);
    refused_member(long, "ArchiveCorrupt").await;
}

#[tokio::test]
async fn every_node_entry_must_be_named() {
    refused_member(Tar::sound().file("externals/node20/bin/node", tree::STAND_IN, 0o755), "UnnamedEntry")
        .await;
    let node = Node::new("");
    tree::write(&node.path("externals"), &["node12", "node16", "node16_alpine", "node24"]);
    node.configure(&directory_config(&node.path("externals")));
    refused(node, "UnnamedEntry").await;
}

#[tokio::test]
async fn what_is_kept_must_be_there_and_run() {
    refused_member(Tar::default().file("externals/run.sh", b"x", 0o755), "MissingFile").await;
    refused_member(Tar::default().file("elsewhere/run.sh", b"x", 0o755), "MissingFile").await;
    for (content, mode, reason) in [
        (&b"#!/bin/sh\necho v16\n"[..], 0o644, "MissingFile"),
        (b"#!/bin/sh\nexit 3\n", 0o755, "CanaryFailed"),
        (b"#!/bin/sh\nexit 127\n", 0o755, "CanaryFailed"),
        (b"#!/no/such/interpreter\n", 0o755, "CanaryFailed"),
        // What the program does to the tree while it runs is seen by the check after it.
        (b"#!/bin/sh\necho x >> \"${0%/*}/../LICENSE\"; echo v16\n", 0o755, "CheckFailed"),
        (b"#!/bin/sh\nchmod 4755 \"$0\"; echo v16\n", 0o755, "CheckFailed"),
        (b"neither a script nor a program", 0o755, "WrongArch"),
    ] {
        let node = Node::new("");
        tree::write(&node.path("externals"), &NODE16);
        tree::write_file(&node.path("externals/node16/bin/node"), content, mode);
        node.configure(&directory_config(&node.path("externals")));
        // Where nobody else may pass, the program runs as the agent's own user, who may change the tree.
        fs::set_permissions(node.path(""), fs::Permissions::from_mode(0o700)).unwrap();
        refused(node, reason).await;
    }
}

#[tokio::test]
async fn a_tree_without_any_node_is_no_tree() {
    let node = Node::new("");
    let config = config_for_file(&node.path("source.tar.gz"), &Tar::sound().packed("gz"));
    let everything = "images: [x:1]\n    entries: all";
    // The folder inside the archive was forgotten, so that `externals` itself looks like an entry.
    node.configure(&config.replace("preset: node16", everything).replace("path: externals, ", ""));
    refused(node, "MissingFile").await;
}

#[tokio::test]
async fn programs_for_another_machine_are_refused() {
    let node = Node::new("");
    tree::write(&node.path("externals"), &NODE16);
    let mut program = fs::read(tree::real_node()).unwrap();
    program.truncate(4096);
    program[18] ^= 0x55;
    tree::write_file(&node.path("externals/node16/bin/node"), &program, 0o755);
    node.configure(&directory_config(&node.path("externals")));
    refused(node, "WrongArch").await;
}

#[tokio::test]
async fn hostile_folders_are_refused_too() {
    for (reason, spoil) in [
        (
            "LinkEscape",
            (|node| symlink("/etc/passwd", node.path("externals/node16/evil")).unwrap()) as fn(&Node),
        ),
        ("SpecialFile", |node| drop(UnixListener::bind(node.path("externals/node16/socket")).unwrap())),
        ("SetuidFile", |node| tree::write_file(&node.path("externals/node16/su"), b"x", 0o4755)),
        ("SourceUnavailable", |node| fs::remove_dir_all(node.path("externals")).unwrap()),
    ] {
        let node = Node::new("");
        tree::write(&node.path("externals"), &NODE16);
        spoil(&node);
        node.configure(&directory_config(&node.path("externals")));
        refused(node, reason).await;
    }
}

#[tokio::test]
async fn what_lies_where_nothing_is_kept_is_not_even_looked_at() {
    let node = Node::new("");
    tree::write(&node.path("externals"), &NODE16);
    let packages = node.path("externals/node16/lib/node_modules");
    fs::create_dir_all(&packages).unwrap();
    let _socket = UnixListener::bind(packages.join("socket")).unwrap();
    node.configure(&directory_config(&node.path("externals")));
    node.start().ready().await;
    assert!(!node.installed().join("tree/node16/lib").exists());
}

#[tokio::test]
async fn an_archive_longer_than_the_limit_is_refused() {
    let node = Node::new("");
    let content = Tar::sound().packed("gz");
    let config = config_for_file(&node.path("source.tar.gz"), &content);
    node.configure(&config.replace("archiveBytes: 300000000", "archiveBytes: 10"));
    refused(node, "TooLarge").await;
}

#[tokio::test]
async fn sources_that_cannot_be_reached_are_named() {
    let digest = sha256(b"");
    for url in ["file:///nowhere/source.tar.gz", "http://127.0.0.1:9/source.tar.gz"] {
        refused(Node::new(&config(url, &digest)), "SourceUnavailable").await;
    }
}
