//! A cluster that stays: `bed up` and `bed down`.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::cluster::{Cluster, node_unavailable};
use super::command::say;
use super::headstart;
use super::leftovers::remains;
use super::place::{Place, known, sweep};
use crate::wait::blocking;

const PATIENCE: Duration = Duration::from_secs(60);

/// What kind of cluster is wanted.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Wish {
    /// It stays until `bed down`
    #[arg(long)]
    pub kept: bool,
    /// Without Headstart
    #[arg(long)]
    pub bare: bool,
}

impl Wish {
    fn flags(self) -> impl Iterator<Item = &'static str> {
        let flags = [(self.kept, "--kept"), (self.bare, "--bare")];
        flags.into_iter().filter(|(wanted, _)| *wanted).map(|(_, flag)| flag)
    }
}

/// Starts a cluster that outlives this process, in the hands of one that waits to be told to end.
pub fn up(wish: Wish) -> Result<()> {
    let _turn = start_turn()?;
    sweep()?;
    if let Some(reason) = node_unavailable() {
        bail!("{reason}");
    }
    if let Some(place) = known()?.into_iter().find(|place| place.kept) {
        bail!("a cluster is up already ({}); take it down with `make cluster-down`", place.folder.display());
    }
    let mut holder = Command::new(std::env::current_exe()?);
    holder.arg("hold").args(wish.flags()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut holder = holder.spawn()?;
    let output = holder.stdout.take().context("no pipe")?;
    let lines: Vec<String> = BufReader::new(output).lines().map_while(Result::ok).collect();
    if lines.is_empty() {
        holder.wait()?;
        bail!("the cluster did not come up");
    }
    lines.iter().for_each(|line| println!("{line}"));
    Ok(())
}

/// One start at a time: until a cluster is up nobody else can see it.
fn start_turn() -> Result<File> {
    let turn = File::create(std::env::temp_dir().join("headstart-bed-up.lock"))?;
    turn.try_lock().context("another `make cluster` is under way")?;
    Ok(turn)
}

/// `bed hold`: owns a cluster until SIGTERM, and one that is not kept until its standard input ends. Says what there is
/// to say, and closes its output then.
pub async fn hold(wish: Wish) -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let cluster = tokio::select! {
        cluster = start(wish) => cluster?,
        _ = terminate.recv() => bail!("told to end while it was starting"),
    };
    let (kubeconfig, kubectl) = (cluster.kubeconfig(), cluster.kubectl_program()?);
    // In one piece: who reads may go away after the first line.
    let text = format!("KUBECONFIG={}\nKUBECTL={}\n", kubeconfig.display(), kubectl.display());
    print!("{text}");
    // Whoever waits for the end of `bed up`'s output must not wait for the end of the cluster.
    let nowhere = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    rustix::stdio::dup2_stderr(&nowhere)?;
    if wish.kept {
        // Only now: until here an interrupted `bed up` takes it along.
        rustix::process::setsid()?;
        terminate.recv().await;
    } else {
        tokio::select! {
            _ = terminate.recv() => {}
            () = input_ended() => {}
        }
    }
    Ok(())
}

/// Waits until whoever holds the other end of the standard input is gone.
async fn input_ended() {
    let (ended, end) = tokio::sync::oneshot::channel();
    // A thread of its own: the runtime would wait for one of its own.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = end.await;
}

async fn start(wish: Wish) -> Result<Cluster> {
    let images = if wish.bare { Vec::new() } else { headstart::images()? };
    let cluster = Cluster::make(&images, wish.kept).await?;
    if !wish.bare {
        headstart::install(&cluster).await?;
    }
    Ok(cluster)
}

/// Takes down what `bed up` made, removes what dead owners left, and fails if anything of it is still there.
pub fn down() -> Result<()> {
    // What is known afterwards has a living owner.
    sweep()?;
    let kept: Vec<Place> = known()?.into_iter().filter(|place| place.kept).collect();
    for place in &kept {
        if let Some(owner) = Pid::from_raw(place.owner) {
            // Gone already is as good.
            let _ = kill_process(owner, Signal::TERM);
        }
        let gone = blocking(PATIENCE, || {
            sweep().ok()?;
            remains(place).is_empty().then_some(())
        });
        if gone.is_none() {
            bail!("still there after {PATIENCE:?}:\n{}", remains(place).join("\n"));
        }
        say(&format!("{} is gone, nothing is left", place.folder.display()));
    }
    sweep()
}
