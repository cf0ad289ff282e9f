//! One tree on disk: written, looked at, linked to, run.

pub mod canary;
pub mod farm;
pub(crate) mod flush;
pub mod inspect;
pub mod selinux;
pub mod writer;
