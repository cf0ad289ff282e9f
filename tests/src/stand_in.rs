//! Small programs that stand in for Node.js where an agent has to run them, and tell which one they are.

use std::process::Command;

/// Its version as Node.js says it; without that question, who it is.
const SOURCE: &str = r#"
#include <stdio.h>
#include <string.h>

int main(int count, char **words) {
  puts(count > 1 && strcmp(words[1], "--version") == 0 ? "v16.20.2" : NAME);
  return 0;
}
"#;

/// A static program that says `name`, a few plain words.
pub fn stand_in(name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("node.c"), folder.path().join("node"));
    std::fs::write(&source, SOURCE).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-Os", "-static", "-s", &format!("-DNAME=\"{name}\""), "-o"]).arg(&program).arg(&source);
    let output = compiler.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(&program).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_who_it_is_and_which_version_of_node_it_stands_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node");
        crate::tree::write_file(&path, &stand_in("some profile"), 0o755);
        let says = |words: &[&str]| Command::new(&path).args(words).output().unwrap().stdout;
        assert_eq!(says(&["--version"]), b"v16.20.2\n");
        assert_eq!(says(&[]), b"some profile\n");
    }
}
