//! The configuration file as an administrator meets it: what is accepted, and what is said about every mistake.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use headstart_externals::config::{Config, Level, Source};
use headstart_externals::selection::Entries;

const SHA: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A sound configuration; tests replace parts of it.
fn sound() -> String {
    format!(
        "apiVersion: headstart.dev/v1
profiles:
  - name: node20
    images: ['ghcr.io/actions/actions-runner:2.321.*']
    entries: {{node20: [bin/node, LICENSE]}}
    omit: ['node12*']
    hooks: {{legacy: [/home/runner/k8s/index.js], readTemplates: true, ownTemplate: none}}
    revisions:
      - source:
          archive:
            path: externals
            amd64: {{url: 'https://example.com/runner.tar.gz', sha256: {SHA}}}
"
    )
}

fn problems_of(text: &str) -> Vec<(String, String)> {
    let problems = Config::parse(text).expect_err("has problems");
    problems.iter().map(|problem| (problem.path.clone(), problem.message.clone())).collect()
}

/// Replaces one part of the sound configuration and expects exactly one problem, at `path`, saying `words`.
#[track_caller]
fn one_problem(from: &str, to: &str, path: &str, words: &str) {
    let text = sound();
    assert!(text.contains(from), "{from:?} is not in the sound configuration");
    let problems = problems_of(&text.replace(from, to));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].0, path);
    assert!(problems[0].1.contains(words), "{:?} does not say {words:?}", problems[0].1);
}

#[test]
fn a_sound_configuration_is_accepted_with_its_defaults() {
    let config = Config::parse(&sound()).unwrap();
    assert_eq!(config.host_root, "/var/lib/headstart");
    assert_eq!(config.limits.files, 200_000);
    let (profile, revision) = config.revisions().next().unwrap();
    assert!(matches!(&profile.selection.entries, Entries::Named(entries) if entries.len() == 1));
    assert!(matches!(&revision.source, Source::Archive { downloads, .. } if downloads.len() == 1));
    assert!(revision.version.as_str().starts_with("node20-"));
}

#[test]
fn the_embedded_configuration_is_the_node16_profile() {
    let config = Config::embedded().unwrap();
    let (profile, revision) = config.revisions().next().unwrap();
    assert_eq!(profile.name, "node16");
    assert!(profile.selection.omits("node12_alpine"));
    assert!(revision.images.iter().any(|image| image.matches("ghcr.io/actions/actions-runner:2.304.0")));
    assert!(!revision.images.iter().any(|image| image.matches("ghcr.io/actions/actions-runner:2.308.0")));
    assert!(!revision.images.iter().any(|image| image.matches("ghcr.io/actions/actions-runner:latest")));
}

#[test]
fn the_documented_example_is_accepted() {
    let config = Config::parse(include_str!("../../docs/config.example.yaml")).unwrap();
    assert!(!config.runner_creation.namespaces.is_empty(), "shows how one is named");
}

#[test]
fn unknown_fields_are_named_with_their_path() {
    one_problem("omit:", "omitt: [x]\n    omit:", "profiles[0].omitt", "unknown field");
    one_problem(
        "path: externals",
        "path: externals\n            arm: 1",
        "profiles[0].revisions[0].source.archive.arm",
        "unknown",
    );
}

#[test]
fn a_file_without_profiles_says_what_to_add() {
    let problems = problems_of("apiVersion: headstart.dev/v1\n");
    assert_eq!(problems, [("profiles".to_owned(), problems[0].1.clone())]);
    assert!(problems[0].1.contains("add at least one"));
}

#[test]
fn two_profiles_of_one_name_are_refused() {
    let text = sound();
    let profile = text.split("profiles:\n").nth(1).unwrap();
    let problems = problems_of(&format!("{text}{profile}"));
    assert_eq!(problems.len(), 1);
    assert!(problems[0].1.contains("two profiles are named \"node20\""));
}

#[test]
fn two_equal_revisions_are_refused() {
    let text = sound();
    let revision = text.split("revisions:\n").nth(1).unwrap();
    let problems = problems_of(&format!("{text}{revision}"));
    assert!(problems[0].1.contains("two revisions"), "{problems:?}");
}

#[test]
fn paths_that_leave_the_tree_are_refused() {
    let at = "profiles[0].entries.node20[1]";
    one_problem("LICENSE", "../../etc/passwd", at, "leaves the tree");
    one_problem("LICENSE", "/etc/passwd", at, "is absolute");
    one_problem(
        "path: externals",
        "path: ../externals",
        "profiles[0].revisions[0].source.archive.path",
        "leaves",
    );
    one_problem("{node20:", "{../node20:", "profiles[0].entries.../node20", "one folder of externals");
}

#[test]
fn sources_need_a_digest_or_a_revision_name() {
    let download = format!("{{url: 'https://example.com/runner.tar.gz', sha256: {SHA}}}");
    let at = "profiles[0].revisions[0].source.archive.amd64.sha256";
    one_problem(&format!(", sha256: {SHA}"), "", at, "only with its pinned digest");
    one_problem(SHA, "abc", at, "64 lower-case hex");
    let archive = format!("archive:\n            path: externals\n            amd64: {download}");
    let directory = "directory: {path: /srv/externals}";
    one_problem(&archive, directory, "profiles[0].revisions[0].source", "has no digest");
    let named = sound().replace(&archive, directory).replace("- source:", "- revision: a\n        source:");
    Config::parse(&named).unwrap();
}

/// The sound configuration with a runner image as its source, written as `fields`.
fn runner_image(fields: &str) -> String {
    let text = sound();
    let (head, _) = text.split_once("          archive:").unwrap();
    format!("{head}          runnerImage: {{{fields}}}\n")
}

#[test]
fn a_runner_image_is_a_source_with_the_official_path() {
    let pinned = format!("image: 'example.com/runner@sha256:{SHA}'");
    let config = Config::parse(&runner_image(&pinned)).unwrap();
    let Source::RunnerImage { image, path } = &config.profiles[0].revisions[0].source else { panic!() };
    assert_eq!((image.as_str(), path.as_str()), (&pinned[8..pinned.len() - 1], "/home/runner/externals"));
    let named = runner_image("image: 'runner:1', path: /externals/");
    let named = named.replace("- source:", "- revision: a\n        source:");
    let config = Config::parse(&named).unwrap();
    let Source::RunnerImage { image, path } = &config.profiles[0].revisions[0].source else { panic!() };
    assert_eq!((image.as_str(), path.as_str()), ("runner:1", "/externals"));
}

#[test]
fn a_runner_image_must_be_one_image_that_cannot_change_unnoticed() {
    let pinned = format!("image: 'runner@sha256:{SHA}'");
    let at = "profiles[0].revisions[0].source.runnerImage";
    for (fields, below, words) in [
        ("image: 'runner:1'", ".image", "can change under its name"),
        ("image: 'runner:*'", ".image", "wildcard"),
        ("image: ''", ".image", "is empty"),
        ("image: 'run ner'", ".image", "white space"),
        ("image: 'runner@sha256:abc'", ".image", "64 lower-case hex"),
        ("path: /externals", ".image", "is missing"),
        (&format!("{pinned}, path: externals"), ".path", "absolute path"),
        (&format!("{pinned}, path: /a/../b"), ".path", "absolute path"),
        (&format!("{pinned}, tag: x"), ".tag", "unknown field"),
    ] {
        let problems = problems_of(&runner_image(fields));
        assert_eq!(problems.len(), 1, "{fields}: {problems:?}");
        assert_eq!(problems[0].0, format!("{at}{below}"), "{fields}");
        assert!(problems[0].1.contains(words), "{fields}: {problems:?}");
    }
}

#[test]
fn a_revision_has_exactly_one_source() {
    let at = "profiles[0].revisions[0].source";
    let second = "archive:\n            path: externals";
    let image = "{image: 'runner:1'}";
    one_problem(second, &format!("runnerImage: {image}\n          {second}"), at, "more than one");
    let none = sound().split_once("          archive:").unwrap().0.replace("source:", "source: {}");
    assert!(problems_of(&none)[0].1.contains("`runnerImage`"));
}

#[test]
fn addresses_are_checked() {
    let at = "profiles[0].revisions[0].source.archive.amd64.url";
    one_problem(
        "https://example.com/runner.tar.gz",
        "ftp://example.com/runner.tar.gz",
        at,
        "must start with",
    );
    one_problem("https://example.com/", "https://user:secret@example.com/", at, "credentials");
    one_problem("runner.tar.gz", "runner.zip", &at.replace("url", "format"), "cannot be told");
}

#[test]
fn entries_must_keep_node_and_not_contradict_omit() {
    one_problem("[bin/node, LICENSE]", "[LICENSE]", "profiles[0].entries.node20", "does not keep bin/node");
    one_problem("'node12*'", "'node2*'", "profiles[0].entries.node20", "both kept and omitted");
    one_problem(
        "{node20: [bin/node, LICENSE]}",
        "everything",
        "profiles[0].entries",
        "must be `all` or a map",
    );
}

#[test]
fn a_preset_decides_its_recipe_alone() {
    let problems = problems_of(&sound().replace("entries:", "preset: node16\n    entries:"));
    assert!(problems[0].1.contains("`preset` decides"), "{problems:?}");
    let problems = problems_of(&sound().replace("entries:", "preset: node99\n    entries:"));
    assert!(problems.iter().any(|(_, words)| words.contains("there is node16")), "{problems:?}");
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = sound()
        .replace("headstart.dev/v1", "headstart.dev/v9")
        .replace("name: node20", "name: Node_20")
        .replace("images:", "imagess: []\n    images:")
        .replace("LICENSE", "../x")
        .replace("https://", "ftp://");
    let paths: Vec<String> = problems_of(&text).into_iter().map(|(path, _)| path).collect();
    assert_eq!(
        paths,
        [
            "profiles[0].imagess",
            "apiVersion",
            "profiles[0].name",
            "profiles[0].entries.node20[1]",
            "profiles[0].revisions[0].source.archive.amd64.url",
        ]
    );
}

#[test]
fn text_that_is_not_yaml_is_refused_with_its_line() {
    let problems = problems_of("apiVersion: headstart.dev/v1\nprofiles: [\n");
    assert!(problems[0].0.starts_with("line "), "{problems:?}");
    let problems = problems_of("apiVersion: headstart.dev/v1\nprofiles: node16\n");
    assert!(problems[0].0.starts_with("line 2"), "{problems:?}");
}

#[test]
fn volume_images_must_be_pinned() {
    let at = "profiles[0].revisions[0].volumeImage";
    one_problem("- source:", "- volumeImage: example.com/externals:v1\n        source:", at, "is not pinned");
}

#[test]
fn problems_are_reported_where_they_are() {
    one_problem(
        "omit: ['node12*']",
        "omit: ['z/bad', 'node12']",
        "profiles[0].omit[0]",
        "must name an entry",
    );
    let two = sound().replace("2.321.*'", "2.321.*', 'a b', '**']");
    let two = two.replace("'**']]", "'**']");
    let paths: Vec<String> = problems_of(&two).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["profiles[0].images[1]", "profiles[0].images[2]"]);
    one_problem(
        "images: ['ghcr.io/actions/actions-runner:2.321.*']",
        "images: []",
        "profiles[0].revisions[0].images",
        "names no runner image",
    );
}

#[test]
fn node_labels_must_be_labels() {
    one_problem("profiles:", "nodeSelector: {'a b/c d': 'x y z'}\nprofiles:", "nodeSelector", "not a label");
    Config::parse(&sound().replace("profiles:", "nodeSelector: {pool.example.com/kind: runners}\nprofiles:"))
        .unwrap();
}

#[test]
fn wrong_types_are_told_in_the_words_of_the_file() {
    let problems = problems_of(&sound().replace("{node20: [bin/node, LICENSE]}", "[node20]"));
    assert!(problems[0].1.contains("`entries` must be `all`, or a map"), "{problems:?}");
}

#[test]
fn settings_of_the_rollout_have_defaults_and_bounds() {
    let default = Config::parse(&sound()).unwrap();
    let rollout = default.rollout;
    assert_eq!((rollout.percent, rollout.paused), (95, false));
    assert_eq!([rollout.wait, rollout.grace, rollout.keep].map(|time| time.as_secs()), [600, 300, 600]);
    assert_eq!((default.verify.interval.as_secs(), default.verify.bytes_per_second), (86_400, 32 << 20));
    assert!(default.startup_taints.is_empty());
    for (setting, path, words) in [
        ("rollout: {percent: 0}", "rollout.percent", "between 1 and 100"),
        ("rollout: {percent: 101}", "rollout.percent", "between 1 and 100"),
        ("rollout: {graceSeconds: 99999999}", "rollout.graceSeconds", "the default is 300"),
        ("verify: {intervalSeconds: 0}", "verify.intervalSeconds", "the default is 86400"),
        ("verify: {bytesPerSecond: 0}", "verify.bytesPerSecond", "at least 1"),
        ("limits: {cacheBytes: 0}", "limits.cacheBytes", "at least 1"),
        ("startupTaints: [node.kubernetes.io/not-ready]", "startupTaints[0]", "headstart.dev/"),
        ("startupTaints: ['headstart.dev/a b']", "startupTaints[0]", "taint key"),
    ] {
        one_problem("profiles:", &format!("{setting}\nprofiles:"), path, words);
    }
    let set = "limits: {reserveBytes: 0}\nstartupTaints: [headstart.dev/cache-not-ready]\nprofiles:";
    let config = Config::parse(&sound().replace("profiles:", set)).unwrap();
    assert_eq!((config.limits.reserve_bytes, config.startup_taints.len()), (0, 1));
}

#[test]
fn runners_are_created_concurrently_nowhere_until_a_namespace_is_named() {
    let default = Config::parse(&sound()).unwrap().runner_creation;
    assert!(default.namespaces.is_empty());
    assert_eq!(default.level, Level::Pods);
    let creation =
        |section: &str| sound().replace("profiles:", &format!("runnerCreation: {section}\nprofiles:"));
    let named = Config::parse(&creation("{namespaces: [b, a, b], level: runners}")).unwrap().runner_creation;
    assert_eq!(named.namespaces.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(named.level, Level::Runners);
    for (section, path, words) in [
        ("{namespaces: [a, 'b*']}", "runnerCreation.namespaces[1]", "is not the name of a namespace"),
        ("{namespaces: [arc.runners]}", "runnerCreation.namespaces[0]", "inner dashes"),
        ("{namespace: [a]}", "runnerCreation.namespace", "unknown field"),
    ] {
        one_problem("profiles:", &format!("runnerCreation: {section}\nprofiles:"), path, words);
    }
    let problems = problems_of(&creation("{level: secrets}"));
    assert!(problems[0].0.starts_with("line 2"), "{problems:?}");
    assert!(problems[0].1.contains("pods") && problems[0].1.contains("runners"), "{problems:?}");
}

#[test]
fn what_is_offered_is_one_of_the_revisions() {
    one_problem("revisions:", "offer: other\n    revisions:", "profiles[0].offer", "`revision` name of one");
    let two =
        sound().replace("- source:", "- {revision: a, source: {directory: {path: /x}}}\n      - source:");
    let target = |text: &str| Config::parse(text).unwrap().profiles[0].target();
    assert_eq!(target(&two), 1, "the newest");
    assert_eq!(target(&two.replace("revisions:", "offer: a\n    revisions:")), 0);
}

#[test]
fn credentials_are_named_and_only_for_https() {
    let at = "profiles[0].revisions[0].source.archive.amd64";
    let with = |auth: &str| format!("sha256: {SHA}, auth: {auth}");
    let from = format!("sha256: {SHA}");
    one_problem(&from, &with("{}"), &format!("{at}.auth"), "either `bearer` or `basic`");
    let secret = format!("{at}.auth.bearer.secret");
    one_problem(&from, &with("{bearer: {}}"), &secret, "must name a folder");
    one_problem(&from, &with("{bearer: {secret: ../x}}"), &secret, "must name a folder");
    let plain = sound().replace("https://", "http://").replace(&from, &with("{bearer: {secret: x}}"));
    assert!(problems_of(&plain)[0].1.contains("over https only"));
    let mirror = format!("{from}, mirrors: [{{url: 'ftp://example.com/x'}}]");
    one_problem(&from, &mirror, &format!("{at}.mirrors[0].url"), "must start with");
    Config::parse(&sound().replace(&from, &with("{basic: {secret: example-com}}"))).unwrap();
}
