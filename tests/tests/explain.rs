//! `headstart explain` as people use it: inputs of every form, and one clear message for each that cannot be read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use headstart_tests::fixtures;
use headstart_tests::programs::program;
use headstart_tests::tree::node16_config;
use serde_json::Value;

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn explain(arguments: &[&str], input: &str) -> Said {
    let mut child = Command::new(program("headstart"))
        .arg("explain")
        .args(arguments)
        .current_dir(fixtures::folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn reasons(said: &Said) -> Vec<String> {
    let lines = said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line["reason"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn text_shows_reason_version_and_difference_without_colours_in_a_pipe() {
    let said = explain(&["--any-image", "hooks/v0.8.1/prepare-plain.json"], "");
    assert_eq!(said.code, Some(0));
    for words in
        ["rewritten (workflow-current: mounted)", "version node16-", "+   - hostPath:", "-   - emptyDir: {}"]
    {
        assert!(said.out.contains(words), "{words:?} is not in {}", said.out);
    }
    assert!(!said.out.contains('\x1b'));
    let said = explain(&["hooks/v0.8.1/prepare-plain.json"], "");
    assert!(said.out.contains("unchanged (workflow-current: image-unknown)"), "{}", said.out);
}

#[test]
fn yaml_lists_and_several_documents_are_read() {
    let pod = |name: &str| {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: []}}\n")
    };
    let said = explain(&["-o", "json", "-"], &format!("{}---\n{}", pod("a"), pod("b")));
    assert_eq!((said.code, reasons(&said)), (Some(0), vec!["not-arc".to_owned(); 2]), "{}", said.err);
    assert!(said.out.contains("standard input#2"));
    let list =
        r#"{"apiVersion":"v1","kind":"List","items":[{"kind":"Pod","spec":{}},{"kind":"Pod","spec":{}}]}"#;
    assert_eq!(reasons(&explain(&["-o", "json", "-"], list)).len(), 2);
}

#[test]
fn unreadable_inputs_are_named_with_line_and_cause_and_the_others_still_done() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cases = [
        (write("broken.json", "{\n \"kind\": \"Pod\",\n oops\n}"), ":3: not JSON: "),
        (write("broken.yaml", "kind: Pod\nspec: [\n"), "neither JSON nor YAML: "),
        (write("other.yaml", "kind: ConfigMap\n"), ":1: is a ConfigMap; expected a Pod"),
        (write("empty.yaml", "\n"), ":1: holds no object"),
        (write("kindless.json", "{}"), ":1: has no `kind`"),
        (
            write("review.json", r#"{"kind":"AdmissionReview","request":{}}"#),
            ":1: the AdmissionReview has no request.object",
        ),
        (write("job.json", r#"{"kind":"Job","spec":7}"#), ":1: the Job has no spec.template"),
        (
            write("request.json", r#"{"kind":"AdmissionReview","request":7}"#),
            ":1: the AdmissionReview has no",
        ),
        (write("list.json", r#"{"kind":"List","items":7}"#), ": the List has no `items`"),
        (dir.path().join("missing.json").to_str().unwrap().to_owned(), ": cannot be read: "),
    ];
    for (path, cause) in &cases {
        let said = explain(&["-o", "json", path, "arc/default.json"], "");
        assert_eq!(said.code, Some(2), "{path}");
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
        assert!(said.err.starts_with("error: ") && said.err.contains(path.as_str()), "{}", said.err);
        assert!(said.err.contains(cause), "{:?} does not say {cause:?}", said.err);
        assert_eq!(reasons(&said), ["no-hooks"], "the other input is done");
    }
    let said = explain(&["-o", "json", dir.path().to_str().unwrap()], "");
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("skipped: ") && said.err.contains("is a ConfigMap"), "{}", said.err);
}

#[test]
fn a_configuration_decides_which_images_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yaml");
    let known = "preset: node16\n    images: ['ghcr.io/actions/actions-runner:latest']";
    let text = node16_config("{directory: {path: /srv/externals}}").replace("preset: node16", known);
    std::fs::write(&config, &text).unwrap();
    let flags = ["-o", "json", "--config", config.to_str().unwrap(), "arc/kubernetes.json"];
    assert_eq!(reasons(&explain(&flags, "")), ["lean"]);
    std::fs::write(&config, text.replace("name: node16", "nam: node16")).unwrap();
    let said = explain(&flags, "");
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("profiles[0].nam: unknown field"), "{}", said.err);
    assert!(said.err.contains("profiles[0].name: is missing"), "{}", said.err);
}

#[test]
fn bad_flags_are_explained() {
    for flags in [&["--mount", "nfs", "-"][..], &["-o", "xml", "-"], &[]] {
        let said = explain(flags, "");
        assert_eq!(said.code, Some(2), "{flags:?}");
        assert!(said.err.contains("--help"), "{}", said.err);
    }
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let mut child = Command::new(program("headstart"))
        .args(["explain", "hooks", "arc"])
        .current_dir(fixtures::folder())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!String::from_utf8(output.stderr).unwrap().contains("panicked"));
}

#[test]
fn folders_are_read_without_following_links() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixtures::folder().join("arc/default.json"), dir.path().join("pod.json")).unwrap();
    std::os::unix::fs::symlink(".", dir.path().join("loop")).unwrap();
    let said = explain(&["-o", "json", dir.path().to_str().unwrap()], "");
    assert_eq!((said.code, reasons(&said)), (Some(0), vec!["no-hooks".to_owned()]), "{}", said.err);
    let empty = tempfile::tempdir().unwrap();
    let said = explain(&[empty.path().to_str().unwrap()], "");
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("holds no .json"), "{}", said.err);
}

#[test]
fn a_whole_cluster_may_be_piped_in() {
    let pod = std::fs::read_to_string(fixtures::folder().join("arc/kubernetes.json")).unwrap();
    let item: Value = serde_json::from_str(&pod).unwrap();
    let yaml: String = (0..3000)
        .map(|_| format!("---\n# a pod\nkind: Pod\nmetadata: {}\nspec: {}\n", item["metadata"], item["spec"]))
        .collect();
    let said = explain(&["--any-image", "-o", "json", "-"], &yaml);
    assert_eq!((said.code, reasons(&said).len()), (Some(0), 3000), "{}", said.err);
}
