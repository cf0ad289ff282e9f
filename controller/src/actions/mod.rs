//! GitHub's Actions service, as far as creating runners needs it: register one just in time, look one up, remove one.
//!
//! ```text
//! spec (JSON of the set) ──► source (reads Secrets, ConfigMap) ──► Inputs ──► Services ──► Service ──► register, find, remove
//! ```
//!
//! - [`spec`] reads from an AutoscalingRunnerSet, or from the `ephemeralRunnerSpec` of an EphemeralRunnerSet, how the
//!   service is reached. Sets with a `vaultConfig` are refused with [`spec::SpecError::Unsupported`]: they are left to ARC.
//! - [`source`] reads the Secrets and the ConfigMap that it names: [`Inputs`].
//! - [`Services`] gives the [`Service`] of some inputs. All sets with the same configuration share one, and so its
//!   connections and its tokens.
//! - [`Service`] is cheap to clone and may be used by any number of callers at once. There is no lock around its calls: so
//!   many calls in flight are so many connections. Nothing is tried again in here, since the caller's gate is to see every
//!   answer; only a token that ran out is fetched anew, once for all who wait for it, and the call is made again once.
//!
//! Identifiers of scale sets and runners are the service's own 64-bit integers, deadlines are [`std::time::Duration`]s,
//! and every failure is a [`ServiceError`]. What is secret is a [`secrecy::SecretString`] and shows in no message and in
//! no `Debug` output.
//!
//! # One runner per call
//!
//! The service has no call that registers several runners: `generatejitconfig` takes one `name` and answers with one
//! configuration, and the request for a call that takes many (`actions/scaleset`, issue 67) is open. N runners are N calls
//! therefore, side by side as the caller's gate allows. If a bulk call comes, it belongs beside [`Service::register`], and
//! the caller would ask its gate once per bulk; nothing else changes.

mod answer;
pub mod credentials;
mod error;
mod http;
mod inputs;
mod service;
mod services;
pub mod source;
pub mod spec;
mod token;
pub mod url;

pub use error::{Refusal, ServiceError};
pub use inputs::{InputError, Inputs, Login};
pub use service::{Agent, Registration, Service};
pub use services::Services;
