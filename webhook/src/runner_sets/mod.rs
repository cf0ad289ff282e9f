//! Scale-ups of runner sets: a listener's write in, "pinned" or "as it is" out.
//!
//! A pinned generation is one that Actions Runner Controller (ARC) does not act on, so that our controller can create its
//! runners; see [`headstart_externals::pin`]. [`decide::decide`] is the pure heart, [`known::Known`] what the decision may
//! trust in. Around them lie the envelope ([`review`]), the route (`endpoint`), and where the knowledge comes from
//! ([`sources`], [`leader`]).

pub mod decide;
pub(crate) mod endpoint;
pub mod known;
pub mod leader;
pub mod reason;
pub mod review;
pub mod sources;
