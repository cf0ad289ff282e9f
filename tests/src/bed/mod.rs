//! The test bed: what turns this machine into a Kubernetes node that tests can use.

pub mod image;
pub mod images;
