//! The test bed's node: a real kubelet runs real pods, and nothing of it survives its owner, however that one ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use headstart_tests::bed::command::say;
use headstart_tests::bed::leftovers::remains;
use headstart_tests::bed::node_config::PAUSE;
use headstart_tests::bed::owner::Bed;
use headstart_tests::bed::place::{Place, known, sweep};
use headstart_tests::bed::slow_disk::{MOUNT, SlowDisk};
use headstart_tests::bed::supervise::Shape;
use headstart_tests::bed::{Cluster, TestNamespace, node_unavailable};
use headstart_tests::programs::program;
use headstart_tests::wait::until;
use rustix::process::{Pid, Signal, kill_process};

/// Whether there is no node on this machine; says so.
fn skipped() -> bool {
    let reason = node_unavailable();
    if let Some(reason) = &reason {
        say(&format!("skipped: {reason}"));
    }
    reason.is_some()
}

fn run_pod(namespace: &TestNamespace<'_>, name: &str, cluster: &Cluster) {
    let image = format!("--image={PAUSE}");
    let run = ["-n", namespace.name(), "run", name, &image, "--image-pull-policy=IfNotPresent"];
    cluster.kubectl(&run).unwrap();
    let pod = format!("pod/{name}");
    let wait = ["-n", namespace.name(), "wait", "--for=condition=Ready", &pod, "--timeout=60s"];
    cluster.kubectl(&wait).unwrap();
}

fn kill(process: u32) {
    kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), Signal::KILL).unwrap();
}

async fn until_nothing_remains(place: &Place) {
    until(&format!("nothing remains of {}", place.name), || async {
        remains(place).is_empty().then_some(())
    })
    .await;
}

#[test]
fn what_is_passed_over_is_said_and_can_be_forbidden() {
    let said = |required: Option<&str>| {
        let bed = env!("CARGO_BIN_EXE_bed");
        let mut command = Command::new(bed);
        if rustix::process::geteuid().is_root() {
            command = Command::new("setpriv");
            command.args(["--bounding-set=-all", "--inh-caps=-all", bed]);
        }
        command.arg("node").env_remove("HEADSTART_REQUIRE_NODE");
        command.envs(required.map(|value| ("HEADSTART_REQUIRE_NODE", value)));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let (free, forbidden) = (said(None), said(Some("1")));
    for what in ["a real node", "power cuts"] {
        assert!(free.contains(&format!("tests of {what} are passed over: ")), "{free}");
        assert!(forbidden.contains(&format!("tests of {what} run\n")), "{forbidden}");
    }
}

#[tokio::test]
async fn pods_run_and_a_node_survives_the_loss_of_its_parts() {
    if skipped() {
        return;
    }
    let cluster = Cluster::start(&[]).await.unwrap();
    let namespace = TestNamespace::create(&cluster, "pods").unwrap();
    run_pod(&namespace, "before", &cluster);
    // The way of the API server to a webhook's Service: from the node, through kube-proxy.
    let kubectl = cluster.kubectl_program().unwrap().display().to_string();
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let service = "--server=https://10.96.0.1";
    let words = [&kubectl, "--kubeconfig", &kubeconfig, service, "get", "--raw=/livez"];
    let answer = until("kube-proxy serves", || async { cluster.bed().run_inside(&words).ok() }).await;
    assert_eq!(answer, "ok");

    let disk = SlowDisk::mount(&cluster, "1ms", "0.3ms").unwrap();
    cluster.bed().run_inside(&["touch", &format!("{MOUNT}/one"), &format!("{MOUNT}/two")]).unwrap();
    let requests = disk.requests().unwrap();
    assert_eq!(requests["create"], 2, "{requests}");

    cluster.kill("kubelet").unwrap();
    cluster.crash("containerd").unwrap();
    cluster.containerd_answers().await.unwrap();
    cluster.start_again("kubelet").unwrap();
    cluster.node_is_ready().await.unwrap();
    run_pod(&namespace, "after", &cluster);
    let restarts = "--output=jsonpath={.status.containerStatuses[0].restartCount}";
    let restarts = cluster.kubectl(&["-n", namespace.name(), "get", "pod", "before", restarts]).unwrap();
    assert_eq!(restarts, "0", "running pods do not notice");

    let place = cluster.bed().place().clone();
    drop(namespace);
    drop(cluster);
    assert_eq!(remains(&place), [""; 0]);
}

#[tokio::test]
async fn nothing_survives_an_owner_that_is_killed() {
    if skipped() {
        return;
    }
    let mut owner = Command::new(program("bed"));
    owner.args(["hold", "--bare"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut owner = owner.spawn().unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let kubeconfig =
        lines.map_while(Result::ok).find_map(|line| Some(line.strip_prefix("KUBECONFIG=")?.to_owned()));
    let kubeconfig = kubeconfig.expect("the cluster comes up");
    let place = known().unwrap().into_iter().find(|place| Path::new(&kubeconfig).starts_with(&place.folder));
    let place = place.unwrap();
    let found = remains(&place).join("\n");
    for kind in ["process", "cgroup", "link", "folder", "lock"] {
        assert!(found.lines().any(|line| line.starts_with(kind)), "{kind} is looked for in {found}");
    }

    kill(owner.id());
    owner.wait().unwrap();
    until_nothing_remains(&place).await;
}

#[tokio::test]
async fn the_next_run_removes_what_a_killed_supervisor_left() {
    if skipped() {
        return;
    }
    let bed = Bed::make(Shape { node: true, kept: false }).unwrap();
    let place = bed.place().clone();
    assert_eq!(bed.run_inside(&["hostname"]).unwrap(), "node1\n");
    assert!(remains(&place).iter().any(|line| line.starts_with("cgroup")), "{:?}", remains(&place));
    kill(bed.supervisor());
    until("the box ends with its supervisor", || async { bed.run_inside(&["true"]).is_err().then_some(()) })
        .await;
    // Another test's run may be sweeping at this moment.
    until("the next run sweeps", || async {
        sweep().unwrap();
        remains(&place).is_empty().then_some(())
    })
    .await;
}
