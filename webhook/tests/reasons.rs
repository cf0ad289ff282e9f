//! `docs/reasons.md` lists every code with its meaning and remedy; it is written from the code, by `make docs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use headstart_webhook::reason::{Outcome, Reason, Rule, Unpaired};
use headstart_webhook::runner_sets::reason::PinReason;

const INTRODUCTION: &str = "\
# Why a pod was changed or left alone

Written by `make docs` from the webhook's own table; do not edit.

Every decision of the webhook has one of these reasons. They are in the metric `headstart_webhook_decisions_total`, in
the audit annotation `decision`, in the webhook's log, in the output of `headstart explain`, and, as `<rule>/<reason>`, in
the annotation `headstart.dev/decision` of pods that were changed.
";

/// A title, what stands below it, and the outcome of the reasons there.
const SECTIONS: [(&str, &str, Outcome); 3] = [
    ("Rewritten", "The pod mounts the cache.", Outcome::Rewritten),
    ("Nothing to do", "The pod stays as it is, as it should.", Outcome::Expected),
    (
        "Withheld",
        "The namespace asked for the cache and the pod did not get it. The pod is created as it was posted, and whoever \
         creates it gets a warning with the reason.",
        Outcome::Withheld,
    ),
];

fn row(text: &mut String, code: &str, meaning: &str, remedy: &str) {
    writeln!(text, "| `{code}` | {meaning} | {remedy} |").unwrap();
}

fn table(text: &mut String, title: &str, words: &str) {
    write!(text, "\n## {title}\n\n{words}\n\n| reason | meaning | what to do |\n|---|---|---|\n").unwrap();
}

fn rendered() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (title, words, outcome) in SECTIONS {
        table(&mut text, title, words);
        for reason in Reason::ALL.iter().filter(|reason| reason.outcome() == outcome) {
            row(&mut text, reason.code(), reason.meaning(), reason.remedy());
        }
    }
    let words = "A lean runner copies a few files, a paired one only links. This is why a lean one was not paired; it is in \
                 the metric `headstart_webhook_unpaired_total`.";
    table(&mut text, "Lean, not paired", words);
    for why in Unpaired::ALL {
        row(&mut text, why.code(), why.meaning(), why.remedy());
    }
    runner_sets(&mut text);
    let rules: Vec<String> = Rule::ALL.iter().map(|rule| format!("`{rule}`")).collect();
    write!(text, "\n## Rules\n\nThe shapes of pods that are told apart: {}.\n", rules.join(", ")).unwrap();
    text
}

/// The reasons of runner sets in the order in which they are found out, which says what each of them rules out.
fn runner_sets(text: &mut String) {
    let words = "What a listener writes to an EphemeralRunnerSet is *pinned* (stored so that the controller creates the \
                 runners, all at once) or stored as it was written, so that Actions Runner Controller creates them. These are \
                 the reasons in the order in which they are looked for; the first one counts. They are in the metric \
                 `headstart_webhook_runner_set_decisions_total`, in the audit annotation `decision` and in the log.";
    write!(text, "\n## Scale-ups of runner sets\n\n{words}\n\n").unwrap();
    text.push_str("| reason | decision | meaning | what to do |\n|---|---|---|---|\n");
    for reason in PinReason::ALL {
        let decision = match reason.outcome() {
            Outcome::Rewritten => "pinned",
            Outcome::Expected => "as written",
            Outcome::Withheld => "as written, in trouble",
        };
        writeln!(text, "| `{reason}` | {decision} | {} | {} |", reason.meaning(), reason.remedy()).unwrap();
    }
}

#[test]
fn the_list_of_reasons_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reasons.md");
    if std::env::var_os("HEADSTART_BLESS").is_some() {
        std::fs::write(&path, rendered()).unwrap();
    }
    let written = std::fs::read_to_string(&path).expect("docs/reasons.md is there; run `make docs`");
    assert!(written == rendered(), "docs/reasons.md is out of date; run `make docs`");
}
