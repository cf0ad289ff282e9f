//! The process shell that all Headstart programs share: logs, signals, admin port, TLS files, server. It holds no
//! word of the domain.

pub mod admin;
pub mod log;
pub mod poll;
pub mod process;
pub mod program;
pub mod server;
pub mod shutdown;
pub mod tls;
