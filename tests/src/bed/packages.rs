//! Debian packages that a program of the test bed needs to be built or to run.

use anyhow::{Context as _, Result, bail};

use super::command::{is_installed, run, say};

/// Something outside the repository that must be there.
#[derive(Clone, Copy)]
pub struct Need {
    /// What it is for, in words.
    what: &'static str,
    package: &'static str,
    is_there: fn() -> bool,
}

/// runc is linked with it.
pub const LIBSECCOMP: Need = Need {
    what: "libseccomp with its headers (runc)",
    package: "libseccomp-dev",
    is_there: || run(&["pkg-config", "--exists", "libseccomp"]).is_ok(),
};

/// How [`LIBSECCOMP`] is found.
pub const PKG_CONFIG: Need =
    Need { what: "pkg-config (runc)", package: "pkg-config", is_there: || is_installed("pkg-config") };

/// kube-proxy writes its rules with it.
pub const NFTABLES: Need =
    Need { what: "nft (kube-proxy)", package: "nftables", is_there: || is_installed("nft") };

/// The link between the box and this machine.
pub const IPROUTE: Need =
    Need { what: "ip (the node's network)", package: "iproute2", is_there: || is_installed("ip") };

/// Makes sure that all are there; root installs what is missing.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.is_there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let packages = packages.join(" ");
    let is_root = rustix::process::geteuid().is_root();
    if !is_root || !is_installed("apt-get") {
        let what: Vec<&str> = missing.iter().map(|need| need.what).collect();
        bail!("missing: {}; install as root: apt-get install {packages}", what.join(", "));
    }
    say(&format!("installing {packages}"));
    run(&["apt-get", "update", "-q"])?;
    // New machines run their own updates when they start.
    let mut install = vec!["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "-q"];
    install.extend(packages.split(' '));
    run(&install)?;
    let still = missing.iter().find(|need| !(need.is_there)());
    still
        .map_or(Ok(()), |need| bail!("{} is installed, but {} was not found", need.package, need.what))
        .context("Debian packages")
}
