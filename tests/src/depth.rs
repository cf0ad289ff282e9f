//! How deep tests go: as deep as CI affords, or all the way.

/// Whether `HEADSTART_FULL` asks for all the way, as `make test-full` does.
pub fn is_full() -> bool {
    std::env::var_os("HEADSTART_FULL").is_some()
}
