//! Rules that are broken on purpose, each in the one place where it bites: a simulation that does not notice is of no use.

use std::time::Duration;

use headstart_controller::creation::borrow::Timing;

/// Which rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// None.
    Nothing,
    /// Creation begins although ARC may still be at work.
    QuietGuard,
    /// All runners carry the stamp of their generation.
    AllStampedAlike,
    /// What vanishes is replaced.
    NeedCountedAnew,
    /// A set is handed back whatever it stores by then.
    HandBackUntested,
    /// A set is handed back only if nothing at all of it has changed since it was seen, its status included.
    HandBackByVersion,
    /// A set is handed back before ARC has counted its runners.
    HandedBackUncounted,
    /// A set is never handed back, the engine believes that it was, and goes on to publish it.
    NeverHandedBack,
    /// A runner whose post had no clear answer is posted again under another name.
    PostedUnderNewName,
    /// The EphemeralRunner comes before its Secret.
    SecretLate,
    /// Runners without an owner.
    OwnerMissing,
    /// Runners without finalizers.
    FinalizersMissing,
    /// The journal is written some time after the first registration.
    JournalLate,
    /// A new leader does not look at the journals of the old one.
    JournalsIgnored,
    /// What is not there at once is taken for never coming.
    Impatience,
    /// The webhook pins although ARC owes runners, and nobody waits until ARC is quiet: the one guards as well as the other.
    OwedIgnored,
    /// Nobody waits until ARC is quiet, and the webhook alone guards: this does no harm where it has its say.
    OwedHonoured,
    /// The webhook pins although nobody renews the Lease.
    SilenceIgnored,
    /// The engine does not hear that a generation was stored raw.
    RawUnheard,
    /// The engine does not hear that a set is being deleted.
    DeletionUnheard,
}

impl Broken {
    /// How long things may take.
    pub(crate) fn timing(self, patience: Duration) -> Timing {
        let timing = Timing { patience, ..Timing::default() };
        match self {
            Self::QuietGuard | Self::OwedIgnored | Self::OwedHonoured => {
                Timing { quiet: Duration::ZERO, ..timing }
            }
            Self::HandedBackUncounted => {
                Timing { count_limit: Duration::ZERO, count_limit_unshielded: Duration::ZERO, ..timing }
            }
            // It would be left to ARC for a while when nobody takes it back.
            Self::NeverHandedBack => Timing { suspension: Duration::ZERO, ..timing },
            Self::Impatience => Timing { patience: Duration::ZERO, absence: Duration::ZERO, ..timing },
            _ => timing,
        }
    }
}
