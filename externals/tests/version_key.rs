//! Version keys: stable across releases, different wherever the content may differ, equal wherever it may not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use headstart_externals::config::Config;

const BASE: &str = include_str!("golden/config.yaml");

/// The version of the first revision of `text`.
fn key_of(text: &str) -> String {
    Config::parse(text).unwrap().revisions().next().unwrap().1.version.to_string()
}

#[test]
fn keys_are_the_same_in_every_release() {
    assert_eq!(key_of(BASE), "node20-e6e286820bfd");
}

#[test]
fn what_decides_the_content_decides_the_key() {
    for (from, to) in [
        ("[bin/node, LICENSE]", "[bin/node]"),
        ("node12*", "node1*"),
        ("revision: first", "revision: other"),
        ("path: externals", "path: other"),
        ("00000000", "00000001"),
    ] {
        let changed = BASE.replacen(from, to, 1);
        assert_ne!(changed, BASE, "{from}");
        assert_ne!(key_of(&changed), key_of(BASE), "{from} -> {to}");
    }
}

#[test]
fn what_does_not_decide_the_content_does_not() {
    for (from, to) in [
        ("https://example.com/", "https://mirror.example.com/"),
        ("2.321.*", "2.320.*"),
        ("readTemplates: true", "readTemplates: false"),
        ("hostRoot: /var/lib/headstart", "hostRoot: /mnt/headstart"),
        ("[bin/node, LICENSE]", "[LICENSE, bin/node]"),
    ] {
        let changed = BASE.replacen(from, to, 1);
        assert_ne!(changed, BASE, "{from}");
        assert_eq!(key_of(&changed), key_of(BASE), "{from} -> {to}");
    }
}

#[test]
fn image_and_path_decide_the_key_of_a_runner_image() {
    let of = |source: &str| {
        key_of(&format!(
            "apiVersion: headstart.dev/v1
profiles:
  - {{name: node16, preset: node16, revisions: [{{revision: a, source: {{{source}}}}}]}}
"
        ))
    };
    let base = of("runnerImage: {image: 'runner:1'}");
    assert_eq!(base, "node16-4813985063bb", "the same in every release");
    assert_eq!(of("runnerImage: {image: 'runner:1', path: /home/runner/externals}"), base);
    assert_ne!(of("runnerImage: {image: 'runner:2'}"), base);
    assert_ne!(of("runnerImage: {image: 'runner:1', path: /runnertmp/externals}"), base);
    assert_ne!(of("directory: {path: /home/runner/externals}"), base);
}
