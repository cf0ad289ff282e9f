//! The test bed: a real control plane and a real node from plain programs, which nothing survives.

pub mod boxed;
pub mod cgroup;
pub mod cluster;
pub mod command;
pub mod control_plane;
pub mod headstart;
pub mod image;
pub mod images;
pub mod init;
pub mod kept;
pub mod leftovers;
pub mod namespace;
pub mod network;
pub mod node_config;
pub mod owner;
pub mod packages;
pub mod pki;
pub mod place;
pub mod plan;
pub mod programs;
pub mod protocol;
pub mod shared;
pub mod slow_disk;
pub mod supervise;
pub mod versions;

pub use cluster::{Cluster, node_unavailable};
pub use control_plane::ControlPlane;
pub use namespace::TestNamespace;
pub use shared::{Shared, Turn};
pub use versions::Minor;
