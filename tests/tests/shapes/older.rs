//! Runners of the older controller: their start script copies four files instead of thousands.

use headstart_tests::bed::command::say;
use headstart_tests::jobs::runners;
use headstart_tests::pods::{Copied, Pods, decision_on, name};
use serde_json::Value;

use super::turn;

#[tokio::test]
async fn the_start_script_of_an_older_runner_handles_four_files() {
    let Some(turn) = turn().await else { return };
    let plain = turn.plain("older-stock");
    let (stored, stock) = starts(&turn.pods(&plain)).await;
    assert!(decision_on(&stored).is_null() && stock.files > 2000, "{stock:?}");
    let namespace = turn.opted_in("older", "hostpath", &[]).await;
    let (stored, lean) = starts(&turn.pods(&namespace)).await;
    assert_eq!(decision_on(&stored), "runner-older/lean", "{stored}");
    assert_eq!((lean.files, lean.written, lean.links), (4, 4, 0), "{lean:?}");
    say(&format!("the start of an older runner, without Headstart {stock:?}, with it {lean:?}"));
}

/// Makes one, waits for its start script, and runs Node.js from where a job would.
async fn starts(pods: &Pods<'_>) -> (Value, Copied) {
    let stored = pods.create(&runners::older(pods.namespace()));
    let name = name(&stored);
    let copied = pods.copied(name).await;
    pods.runs(name).await;
    let ran =
        pods.exec(name, "/runner/externals/node16/bin/node -p 'process.version + \" \" + process.execPath'");
    assert_eq!(ran, "v16.20.2 /runner/externals/node16/bin/node\n");
    (stored, copied)
}
