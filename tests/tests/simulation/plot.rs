//! What will happen in the world of a seed: how fast and how reliable everything is, and who does what when.

use std::num::NonZeroU32;
use std::time::Duration;

use fastrand::Rng;
use headstart_tests::arc::model::{
    Flags, Generation, Key, Kind, Meta, Object, Phase, SCALE_SET_FINALIZER, ScaleSet,
};

use super::broken::Broken;
use super::people::{Act, Played};
use super::world::{Event, NAMESPACE, World, ms};

/// How good or bad a world is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    /// Which ARC.
    pub(crate) flags: Flags,
    /// Longest call of ARC to the API server, in milliseconds.
    pub(crate) arc_latency: u64,
    /// What an answer of the API server to ARC takes on its way back.
    pub(crate) arc_back: u64,
    /// Longest lag of ARC's watches.
    pub(crate) arc_lag: u64,
    /// Longest lag of ours.
    pub(crate) our_lag: u64,
    /// Longest call of ours to the API server.
    pub(crate) our_latency: u64,
    /// Longest registration.
    pub(crate) registration: u64,
    /// Most calls of ours at once.
    pub(crate) concurrency: NonZeroU32,
    /// How long our calls may take.
    pub(crate) timeout: Duration,
    /// Percentage of our calls that go wrong.
    pub(crate) faults: u64,
    /// Percentage of writes that the webhook does not see.
    pub(crate) past_webhook: u64,
    /// Most runners of a set.
    pub(crate) most: usize,
    /// When the last fault is over.
    pub(crate) end: Duration,
    /// Whether the controller is there at the end.
    pub(crate) has_controller: bool,
    /// Whether Pods are made by us too.
    pub(crate) with_pods: bool,
    /// Percentage of changes that our watches bring twice, once more or not at all.
    pub(crate) losses: u64,
    /// Shortest and longest job, in milliseconds.
    pub(crate) job: (u64, u64),
    /// When our leader is cut off from everything, from when until when.
    pub(crate) partition: Option<(Duration, Duration)>,
}

/// How long everything has to come to rest after the last fault: one heartbeat of the listener, and what ARC needs then.
pub(crate) const CALM: Duration = Duration::from_secs(75);

/// When all jobs are long over, and everything that waits has waited long enough: the sweeper's turn comes last.
const REST: Duration = Duration::from_secs(1_000);

impl Manners {
    /// Draws them.
    pub(crate) fn draw(rng: &mut Rng, focus: Broken) -> Self {
        let generation = [Generation::Master, Generation::Release][rng.usize(..2)];
        let flags = if rng.bool() { Flags::stock(generation) } else { Flags::tuned(generation) };
        let end = ms(rng.u64(8_000..30_000));
        let from = ms(rng.u64(1_000..8_000));
        let mut manners = Self {
            flags,
            arc_latency: [6, 40, 120][rng.usize(..3)],
            arc_back: 0,
            arc_lag: [4, 40, 400][rng.usize(..3)],
            our_lag: [4, 40, 100][rng.usize(..3)],
            our_latency: [10, 60, 300][rng.usize(..3)],
            registration: [2, 150, 400][rng.usize(..3)],
            concurrency: NonZeroU32::new(rng.u32(1..=10)).unwrap(),
            timeout: [ms(3_000), ms(30_000)][rng.usize(..2)],
            faults: [0, 0, 8, 30][rng.usize(..4)],
            past_webhook: [0, 0, 20][rng.usize(..3)],
            most: [1, 3, 6][rng.usize(..3)],
            end,
            has_controller: rng.u8(..8) != 0,
            with_pods: rng.u8(..4) != 0,
            losses: [0, 0, 4, 20][rng.usize(..4)],
            job: (200, 20_000),
            partition: (rng.u8(..6) == 0).then(|| (from, (from + ms(rng.u64(500..20_000))).min(end))),
        };
        match focus {
            Broken::QuietGuard | Broken::OwedIgnored => manners.arc_lag = 4,
            Broken::HandedBackUncounted => manners.arc_lag = 400,
            Broken::AllStampedAlike => (manners.with_pods, manners.past_webhook) = (true, 0),
            Broken::DeletionUnheard => manners.registration = 2_000,
            Broken::Impatience => (manners.faults, manners.timeout) = (30, ms(30_000)),
            Broken::SilenceIgnored => (manners.has_controller, manners.past_webhook) = (false, 0),
            _ => {}
        }
        manners
    }
}

/// What happens where a rule is needed most.
fn trouble(number: usize, focus: Broken) -> Option<Act> {
    match focus {
        Broken::QuietGuard => Some(Act::PinnedAfterRaw(number, ms(20))),
        Broken::OwedIgnored => Some(Act::AskedAfterRaw(number, ms(20))),
        Broken::NeedCountedAnew => Some(Act::RunnerDeleted(number)),
        Broken::DeletionUnheard => Some(Act::Deleted(number)),
        Broken::AllStampedAlike => Some(Act::Quota(Some(1))),
        Broken::RawUnheard => Some(Act::ListenerRestarts(number)),
        Broken::JournalsIgnored | Broken::Impatience => Some(Act::LeaderDies),
        _ => None,
    }
}

impl World {
    /// Draws what will happen.
    pub(crate) fn plot(&mut self, focus: Broken) {
        let sets = 1 + usize::from(self.rng.u8(..3) == 0) + usize::from(self.rng.u8(..6) == 0);
        for number in 0..sets {
            self.install(number);
            self.plot_jobs(number, focus);
            self.plot_troubles(number);
        }
        self.plot_controllers();
        let end = self.manners.end;
        if self.rng.u8(..6) == 0 {
            let (at, most) = (self.between(0, 5_000), self.rng.usize(1..=self.manners.most));
            self.at(at, Event::Act(Act::Quota(Some(most))));
        }
        if self.rng.u8(..6) == 0 {
            let at = self.moment();
            self.at(at, Event::Act(Act::ManagerRestarts));
        }
        if let Some((from, until)) = self.manners.partition {
            self.at(from, Event::Act(Act::Cut(until)));
            self.at(until, Event::Act(Act::Healed));
        }
        self.at(end, Event::Act(Act::Peace));
        self.at(end + CALM, Event::Act(Act::Calm));
        // The garbage collector finds late what was made for an owner that was gone already.
        self.at(end + CALM + ms(60_000), Event::Collect);
        self.at(end + CALM + REST, Event::Act(Act::End));
    }

    /// Some moment before the last fault is over.
    fn moment(&mut self) -> Duration {
        let end = u64::try_from(self.manners.end.as_millis()).unwrap();
        ms(self.rng.u64(2_000..end))
    }

    pub(crate) fn install(&mut self, number: usize) {
        let name = format!("set{number}");
        let scale_set_id = self.service.add_set(&name, 1);
        let key = Key::new(NAMESPACE, &name);
        let min = if self.rng.u8(..3) == 0 { self.rng.i64(1..=2) } else { 0 };
        let meta = Meta::new(key.clone()).finalized(&[SCALE_SET_FINALIZER]);
        let set =
            ScaleSet { meta, scale_set_id, template: "one".into(), min, max: 1000, phase: Phase::Running };
        self.store.create(Object::ScaleSet(set), self.now).unwrap();
        self.played.push(Played::new(key, scale_set_id, min));
    }

    fn plot_jobs(&mut self, number: usize, focus: Broken) {
        let end = self.manners.end;
        let mut at = self.between(2_000, 4_000);
        while at < end {
            let count = self.rng.usize(1..=self.manners.most);
            self.at(at, Event::Act(Act::Jobs(number, count)));
            if let Some(act) = trouble(number, focus) {
                let wait = self.between(50, 1_500);
                if at + wait < end {
                    self.at(at + wait, Event::Act(act));
                    self.at(at + wait + ms(5_000), Event::Act(Act::LeaderStarts));
                }
            }
            // Many bursts come in pieces.
            at += match self.rng.u8(..6) {
                0 => ms(20),
                1 => self.between(100, 1_500),
                2 => self.between(1_000, 5_000),
                _ => self.between(5_000, 20_000),
            };
        }
    }

    fn plot_troubles(&mut self, number: usize) {
        let troubles = [
            (10, Act::ListenerRestarts(number)),
            (16, Act::Deleted(number)),
            (20, Act::Drained(number)),
            (12, Act::Upgraded(number)),
            (12, Act::Unpublished(number)),
            (6, Act::RunnerDeleted(number)),
        ];
        // Nobody can tell that ARC is about to begin if it takes longer for that than the guard waits.
        let early = [(8, Act::PinnedAfterRaw(number, ms(20))), (8, Act::PinnedAfterRaw(number, ms(1_000)))];
        let early = early.into_iter().filter(|_| self.manners.arc_lag < 100);
        for (rarely, act) in troubles.into_iter().chain(early).collect::<Vec<_>>() {
            if self.rng.u8(..rarely) == 0 {
                let at = self.moment();
                self.at(at, Event::Act(act));
            }
        }
    }

    fn plot_controllers(&mut self) {
        self.at(ms(200), Event::Act(Act::LeaderStarts));
        for _ in 0..[0, 0, 1, 2][self.rng.usize(..4)] {
            let at = self.moment();
            let act = match self.rng.u8(..3) {
                // It goes on for a while although its Lease is not renewed.
                0 => Act::RenewalsStop,
                _ => Act::LeaderDies,
            };
            self.at(at, Event::Act(act));
            let rest = self.between(10_000, 25_000);
            self.at(at + rest, Event::Act(Act::LeaderStarts));
        }
        let last = if self.manners.has_controller { Act::LeaderStarts } else { Act::LeaderDies };
        self.at(self.manners.end, Event::Act(last));
    }

    /// A set, by its number, as its scale set has it now.
    pub(crate) fn set_of(&self, number: usize) -> Option<Key> {
        let played = &self.played[number];
        let sets = self.store.of_kind(Kind::RunnerSet).filter_map(Object::runner_set);
        let own = sets.filter(|set| set.meta.owner_of(Kind::ScaleSet).as_ref() == Some(&played.key));
        own.filter(|set| !set.meta.deleting).map(|set| set.meta.key.clone()).next()
    }
}
