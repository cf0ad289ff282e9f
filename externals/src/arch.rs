//! Processor architectures, in the words of Kubernetes' `kubernetes.io/arch` node label.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// An architecture for which the runner publishes externals that Headstart can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64; the only one with `_alpine` (musl) builds of Node.js.
    Amd64,
    /// 64-bit Arm.
    Arm64,
    /// One that only a newer program knows; read, never written by itself, and like no other one.
    #[serde(other)]
    Unknown,
}

impl Arch {
    /// Every architecture that Headstart serves.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// The architecture that this program was compiled for; `None` where Headstart has no name for it.
    pub const fn host() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::Amd64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Arm64)
        } else {
            None
        }
    }

    /// Whether it is one of these; nobody can say that of one that is not known.
    pub fn is_among(self, arches: &BTreeSet<Self>) -> bool {
        self != Self::Unknown && arches.contains(&self)
    }

    /// Whether the runner's externals hold `_alpine` twins here (runner: `src/Misc/externals.sh`).
    pub const fn has_alpine(self) -> bool {
        matches!(self, Self::Amd64)
    }

    /// The `e_machine` value of ELF programs for this architecture.
    pub const fn elf_machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
            // `EM_NONE`: no program is for it.
            Self::Unknown => 0,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Unknown => "unknown",
        })
    }
}
