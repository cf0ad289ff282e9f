//! One tree on disk: written, looked at, linked to, run.

pub mod canary;
pub mod farm;
pub mod inspect;
pub mod selinux;
pub mod writer;
