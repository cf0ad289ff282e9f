//! The process shell that all Headstart programs share: logs, signals, admin port, TLS files, server, the way to the
//! cluster and leadership. It holds no word of the domain.

pub mod admin;
pub mod age;
pub mod cluster;
pub mod config_map;
pub mod lag;
pub mod lease;
pub mod log;
pub mod metrics;
pub mod poll;
pub mod process;
pub mod program;
pub mod server;
pub mod shutdown;
pub mod tls;
pub mod trouble;
