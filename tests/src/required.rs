//! Which tests a machine may pass over because it gives them too few rights, and that this can be forbidden.

use crate::bed::command::say;

/// Whether `HEADSTART_REQUIRE_NODE` forbids it: then a test that cannot run fails.
pub fn all_are_required() -> bool {
    std::env::var_os("HEADSTART_REQUIRE_NODE").is_some()
}

/// Whether a test that needs root for this is passed over; says so.
pub fn is_passed_over(what_for: &str) -> bool {
    let is_passed_over = !rustix::process::geteuid().is_root() && !all_are_required();
    if is_passed_over {
        say(&format!("skipped: needs root {what_for}"));
    }
    is_passed_over
}
