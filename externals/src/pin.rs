//! A pinned generation: how a runner set stores what its listener asked for, so that nothing but our controller acts on it.
//!
//! With `replicas: 0` and a positive `patchID`, Actions Runner Controller (ARC) neither creates nor deletes runners of the
//! set, and it compares `patchID` with others for equality only. So the webhook stores `(N + 1) << 32 | k` there in place of
//! `replicas: N, patchID: k`; what was asked for can be read from the object itself, whoever restarts.

/// Most runners that can be pinned: JSON tools that know doubles only still read the number exactly.
pub const MOST_REPLICAS: u32 = (1 << 20) - 2;

/// Where the number of runners begins.
const SHIFT: u32 = 32;

/// What a listener asked for: one generation of a runner set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation {
    /// How many runners there should be.
    pub replicas: u32,
    /// The listener's own number of it; it grows within a life of the listener, and 0 means "exactly so".
    pub patch_id: u32,
}

/// What a runner set has stored in `spec.replicas` and `spec.patchID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// As ARC reads it: ARC owns this generation.
    Raw {
        /// `spec.replicas`, absent as 0.
        replicas: i64,
        /// `spec.patchID`.
        patch_id: i64,
    },
    /// ARC sees nothing to do: this generation is ours.
    Pinned(Generation),
}

impl Generation {
    /// A generation that may be pinned, from what the listener wrote. `patchID: 0` never is, since it also deletes.
    pub fn pinnable(replicas: i64, patch_id: i64) -> Option<Self> {
        let replicas = u32::try_from(replicas).ok().filter(|replicas| *replicas <= MOST_REPLICAS)?;
        let patch_id = u32::try_from(patch_id).ok().filter(|patch_id| *patch_id > 0)?;
        Some(Self { replicas, patch_id })
    }

    /// The `spec.patchID` that stores it; `spec.replicas` is 0 then.
    pub fn pinned(self) -> i64 {
        (i64::from(self.replicas) + 1) << SHIFT | i64::from(self.patch_id)
    }
}

impl Stored {
    /// What these two fields mean; absent replicas are 0.
    pub fn read(replicas: i64, patch_id: i64) -> Self {
        let low = patch_id & i64::from(u32::MAX);
        let pinned = Generation::pinnable((patch_id >> SHIFT) - 1, low);
        match pinned {
            Some(generation) if replicas == 0 => Self::Pinned(generation),
            _ => Self::Raw { replicas, patch_id },
        }
    }

    /// The generation, if it is ours.
    pub fn pinned(self) -> Option<Generation> {
        match self {
            Self::Pinned(generation) => Some(generation),
            Self::Raw { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pinned_is_read_back() {
        for replicas in [0, 1, 100, MOST_REPLICAS] {
            for patch_id in [1, 7, i32::MAX.unsigned_abs(), u32::MAX] {
                let generation = Generation { replicas, patch_id };
                let stored = generation.pinned();
                assert_eq!(Stored::read(0, stored), Stored::Pinned(generation));
                assert!(stored < 1 << 53, "{stored} is exact as a double");
                assert!(matches!(Stored::read(3, stored), Stored::Raw { .. }), "ARC would act on it");
            }
        }
    }

    #[test]
    fn what_a_listener_writes_is_raw() {
        for patch_id in [0, 1, i64::from(i32::MAX), i64::from(u32::MAX), -1, i64::MIN, 5 << 32, i64::MAX] {
            assert_eq!(Stored::read(0, patch_id), Stored::Raw { replicas: 0, patch_id });
        }
    }

    #[test]
    fn only_what_fits_can_be_pinned() {
        assert!(Generation::pinnable(0, 1).is_some());
        assert!(Generation::pinnable(i64::from(MOST_REPLICAS), 1).is_some());
        for (replicas, patch_id) in
            [(i64::from(MOST_REPLICAS) + 1, 1), (-1, 1), (1, 0), (1, -1), (1, 1 << 32)]
        {
            assert_eq!(Generation::pinnable(replicas, patch_id), None, "{replicas} {patch_id}");
        }
    }
}
