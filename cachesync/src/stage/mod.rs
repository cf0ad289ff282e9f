//! `headstart-cachesync stage`: runs once inside a runner image and leaves a checked copy of its externals on the
//! node, from which the agent installs. So the kubelet fetches the image, with the cluster's own secrets and mirrors.

mod area;
mod args;
mod choose;
mod template;

use std::path::PathBuf;
use std::time::Duration;

use headstart_externals::arch::Arch;
use headstart_externals::config::Limits;
use headstart_externals::fault::FaultReason;
use headstart_externals::layout::{Root, StagedDir};
use headstart_externals::manifest::tree_digest;
use headstart_externals::selection::Selection;
use headstart_externals::staged::{Findings, SourceRecord, StageOutcome};
use headstart_externals::version::VersionName;
use headstart_runtime::shutdown::Shutdown;

use crate::complete;
use crate::fault::{Fault, Outcome};
use crate::progress::{OnStep, Progress, Step};
use crate::source::{self, Fetched, Intake};
use crate::store::Staging;
use crate::tree::inspect::inspect;
use crate::tree::writer::TreeWriter;
use area::Area;

pub use args::StageArgs;

/// How often a running stage is logged.
const PROGRESS_LOG: Duration = Duration::from_secs(5);

/// One run, looked up in the configuration.
struct Order {
    /// The image that this runs in.
    image: String,
    /// The image that the configuration names.
    configured_image: String,
    version: VersionName,
    selection: Selection,
    limits: Limits,
    arch: Arch,
    externals: PathBuf,
    root: PathBuf,
}

/// Stages once; `on_step` is called at every step.
pub async fn run(args: StageArgs, on_step: OnStep, shutdown: Shutdown) -> anyhow::Result<()> {
    let order = args.order()?;
    let (version, image) = (order.version.clone(), order.image.clone());
    let progress = Progress::new(on_step);
    let seen = progress.clone();
    let work = tokio::task::spawn_blocking(move || order.carry_out(&progress));
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                let fault = match done? {
                    Ok(()) => return Ok(()),
                    Err(fault) => fault,
                };
                anyhow::bail!("failed to stage {version} from {image}: {fault}; {}", fault.remedy);
            }
            () = shutdown.begun() => {
                seen.cancel();
                anyhow::bail!("ended by a signal before {version} was staged; the next run begins anew");
            }
            () = tokio::time::sleep(PROGRESS_LOG) => {
                let at = seen.snapshot();
                let (bytes, files) = (at.bytes_done, at.files_done);
                tracing::info!(%version, step = ?at.step, bytes, files, "staging");
            }
        }
    }
}

impl Order {
    fn carry_out(&self, progress: &Progress) -> Outcome<()> {
        let area = Area::open(Root::new(&self.root), progress)?;
        let version = &self.version;
        if self.is_configured_image() && area.holds(version, &self.image) {
            tracing::info!(%version, image = self.image, "staged before and undamaged");
            return Ok(());
        }
        self.build(&area, progress).inspect_err(|fault| self.tell_agent(&area, fault, progress))
    }

    fn is_configured_image(&self) -> bool {
        self.image == self.configured_image
    }

    fn build(&self, area: &Area, progress: &Progress) -> Outcome<()> {
        if !self.is_configured_image() {
            let Self { image, configured_image, .. } = self;
            let message = format!("this is {image} (--image), the configuration says {configured_image}");
            return Err(Fault::new(FaultReason::StageImageMismatch, message));
        }
        let building = area.building()?;
        let place = building.path().to_owned();
        self.fill(area, building, progress).map_err(|fault| fault.seen_from(&place))
    }

    /// Copies, checks and publishes.
    fn fill(&self, area: &Area, building: Staging, progress: &Progress) -> Outcome<()> {
        progress.reached(Step::StagingCreated);
        let tree = StagedDir::new(building.path()).tree();
        let mut writer = TreeWriter::create(&tree, progress.clone())?;
        let intake = Intake::new(&self.selection, self.arch, self.limits);
        source::unpack(&Fetched::Directory(self.externals.clone()), intake, &mut writer)?;
        let (written, flusher) = writer.finish();
        progress.reached(Step::TreeWritten);
        complete::check(&self.selection, self.arch, &written)?;
        complete::compare(&written, &inspect(&tree)?)?;
        progress.reached(Step::TreeChecked);
        flusher.wait()?;
        let findings = Findings { own_template: template::look(&self.externals) };
        let outcome = StageOutcome::Staged { tree_sha256: tree_digest(&written), findings };
        area.publish(building, &SourceRecord::new(&self.image, &self.version, outcome), progress)?;
        let (version, files) = (&self.version, written.len());
        tracing::info!(%version, files, own_template = ?findings.own_template, "staged");
        Ok(())
    }

    /// Leaves the fault for the agent, so that it shows where people look. A sound copy is never given up for the
    /// stage of another image, and an equal record is left as it is.
    fn tell_agent(&self, area: &Area, fault: &Fault, progress: &Progress) {
        let outcome = StageOutcome::Refused { reason: fault.reason, message: fault.message.clone() };
        let record = SourceRecord::new(&self.image, &self.version, outcome);
        let there = area.record(&self.version);
        let spare = fault.reason == FaultReason::StageImageMismatch
            && there
                .as_ref()
                .is_some_and(|there| there.staged_from(&self.configured_image, &self.version).is_some());
        if fault.reason == FaultReason::Cancelled || spare || there.as_ref() == Some(&record) {
            return;
        }
        let told = area.building().and_then(|building| area.publish(building, &record, progress));
        if let Err(untold) = told {
            tracing::warn!(%untold, "the agent cannot be told");
        }
    }
}
