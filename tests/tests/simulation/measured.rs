//! The race that was measured on the real ARC, with the shipped engine in the place of the prototype.

use std::num::NonZeroU32;
use std::time::Duration;

use fastrand::Rng;
use headstart_tests::arc::model::{Flags, Generation, Kind};

use super::broken::Broken;
use super::people::Act;
use super::plot::Manners;
use super::world::{Event, World, ms};

/// When ARC is done, and so are we.
const REST: Duration = Duration::from_secs(60);

impl Manners {
    /// A machine like the one on which it was measured, and nothing goes wrong.
    fn measured(generation: Generation) -> Self {
        Self {
            flags: Flags::stock(generation),
            arc_latency: 6,
            arc_back: 3,
            arc_lag: 2,
            our_lag: 4,
            our_latency: 10,
            registration: 150,
            concurrency: NonZeroU32::new(10).unwrap(),
            timeout: ms(30_000),
            faults: 0,
            past_webhook: 0,
            most: 100,
            end: REST,
            has_controller: true,
            with_pods: true,
            losses: 0,
            job: (3_600_000, 3_600_000),
            partition: None,
        }
    }
}

impl World {
    /// 100 runners are asked for by a raw generation, and so many milliseconds later by a pinned one. Gives how many live in the
    /// end, how many have gone, and the first rule that was broken.
    pub(crate) fn pinned_after_raw(
        generation: Generation,
        wait: u64,
        broken: Broken,
    ) -> (usize, usize, Option<String>) {
        let mut world = Self::empty(Manners::measured(generation), Rng::with_seed(1), broken, false);
        world.install(0);
        world.at(ms(200), Event::Act(Act::LeaderStarts));
        world.at(ms(8_000), Event::Act(Act::PinnedAfterRaw(0, ms(wait))));
        world.play(|world, _| world.now > REST);
        let live = world.store.of_kind(Kind::RunnerSet).map(|set| world.live(&set.meta().uid)).sum();
        (live, world.lived.len(), world.violation)
    }
}
