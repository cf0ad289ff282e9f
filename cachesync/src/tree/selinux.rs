//! SELinux labels: files that carry the categories of the agent's own container are denied to every other one.

use std::path::Path;

use headstart_externals::fault::FaultReason;

use crate::fault::{Fault, Outcome};

/// The attribute that holds a file's label.
const LABEL: &str = "security.selinux";

/// A fault if the tree's label has categories; fine where there are no labels.
pub(crate) fn check(tree: &Path) -> Outcome<()> {
    let mut label = [0; 256];
    let Ok(length) = rustix::fs::lgetxattr(tree, LABEL, &mut label[..]) else { return Ok(()) };
    let label = String::from_utf8_lossy(&label[..length]).trim_end_matches('\0').to_owned();
    if has_categories(&label) {
        let message = format!("{} has the SELinux label {label}; other pods may not read it", tree.display());
        return Err(Fault::new(FaultReason::SelinuxCategories, message));
    }
    Ok(())
}

/// Whether the level of a label `user:role:type:level` names categories, as `s0:c12,c34` does.
fn has_categories(label: &str) -> bool {
    label.splitn(4, ':').nth(3).is_some_and(|level| level.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_behind_the_level() {
        assert!(has_categories("system_u:object_r:container_file_t:s0:c12,c34"));
        assert!(!has_categories("system_u:object_r:container_file_t:s0"));
        assert!(!has_categories("unlabeled"));
    }
}
