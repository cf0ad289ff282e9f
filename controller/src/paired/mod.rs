//! Paired runners that live where hostPath stops being allowed: new pods follow at once, but the workflow pods of these
//! still need it, and only people can do something about that.

mod losses;
mod warner;

pub use losses::{counts_on_host_path, lost};
pub use warner::Warner;
