//! Whether a runner image brings a container hook template of its own: a pod whose image does is never paired.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use headstart_externals::staged::TemplateFinding;

/// Names the template to the hooks.
const VARIABLE: &str = "ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE";

/// More than any `.env` file of a runner has.
const MAX_BYTES: u64 = 1 << 20;

/// Looks at the environment of this process, which is the image's and the pod's, and at the runner's own `.env` file
/// beside the externals folder.
pub(super) fn look(externals: &Path) -> TemplateFinding {
    let named = std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty());
    match read(&externals.with_file_name(".env")) {
        Ok(text) if !named && !names_template(&text) => TemplateFinding::None,
        // What cannot be read may name one.
        _ => TemplateFinding::Present,
    }
}

/// The file's text; empty if there is none.
fn read(path: &Path) -> io::Result<String> {
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(io::Error::other("is not a file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    }
    let mut text = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("is absurdly long"));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The runner takes each line up to the first `=` as a name and the rest as its value; an empty value names nothing.
fn names_template(text: &str) -> bool {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.into_iter().any(|(name, value)| name.trim() == VARIABLE && !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_env_file_names_a_template() {
        assert!(names_template("LANG=C\nACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE=/home/runner/t.yaml\n"));
        assert!(names_template("ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE=a=b\r\n"));
        for text in [
            "",
            "ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE=\n",
            "# ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE",
            "X=1",
        ] {
            assert!(!names_template(text), "{text}");
        }
    }
}
