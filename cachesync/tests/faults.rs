//! The page that tells what every fault of the cache means, held against the code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use headstart_externals::fault::FaultReason;

fn page() -> String {
    let rows: String = FaultReason::ALL
        .iter()
        .map(|reason| {
            let away = if reason.is_final() { "yes" } else { "" };
            format!("| `{reason}` | {} | {away} | {} |\n", reason.meaning(), reason.remedy())
        })
        .collect();
    format!(
        "# Faults of the cache\n\nWritten by `make docs`. These are the reasons in the agent's status, in the node condition \
         `headstart.dev/CacheReady`, in Events and in `headstart_cachesync_install_failures_total`. Everything is tried \
         again. Where *keeps pods away* says yes, the fault lies in the node: the controller labels it, and rewritten \
         pods go elsewhere.\n\n| reason | what happened | keeps pods away | what to do |\n|---|---|---|---|\n{rows}"
    )
}

#[test]
fn every_fault_is_on_the_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/faults.md");
    if std::env::var_os("HEADSTART_BLESS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), page(), "run `make docs`");
}

#[test]
fn the_list_of_faults_is_whole() {
    let mut names: Vec<String> = FaultReason::ALL.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), FaultReason::ALL.len());
    assert!(!FaultReason::ALL.contains(&FaultReason::Unknown), "it is read, never written");
}
