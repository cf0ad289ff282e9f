//! stub
use headstart_runtime::shutdown::Shutdown;
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {}
pub(crate) async fn run(_: Args, _: Shutdown) -> anyhow::Result<()> { Ok(()) }
