//! The webhook's certificates: issued, renewed and rotated by the leader, so that nothing else has to be installed.
//!
//! One CA, in a Secret that only the controller reads, signs one leaf for the webhook's Service. A new CA is trusted
//! (its certificate stands in the webhook configuration's bundle) for a while before it signs, and the old one as long
//! as it is valid after it has stopped.

mod issue;
mod keeper;
mod plan;
mod secrets;
mod vault;

pub use issue::{Certified, Window, authority, leaf, window};
pub use keeper::{Keeper, Names};
pub use plan::{Held, HeldLeaf, Step, plan};
pub use vault::{Leaf, Vault};
