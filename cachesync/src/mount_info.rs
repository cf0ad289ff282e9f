//! The mounts of a process, as the kernel writes them down (proc_pid_mountinfo(5)).

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The number of its file system.
    pub(crate) device: String,
    /// Which folder of the file system is mounted.
    pub(crate) root: String,
    /// Where.
    pub(crate) point: String,
}

/// All mounts in a `mountinfo` file, in its order: a later one hides an earlier one at the same place.
pub(crate) fn read(text: &str) -> Vec<Mount> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ').skip(2);
    let device = fields.next()?.to_owned();
    Some(Mount { device, root: unescaped(fields.next()?), point: unescaped(fields.next()?) })
}

/// Space, tab, line feed and backslash are written as octal numbers.
fn unescaped(field: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(field.to_owned(), |text, (code, meant)| text.replace(code, meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_odd_characters() {
        let text = "37 21 254:0 /var/lib/with\\040space//deleted /cache rw,relatime - ext4 /dev/vda rw\n\nnonsense\n";
        let mount = Mount {
            device: "254:0".to_owned(),
            root: "/var/lib/with space//deleted".to_owned(),
            point: "/cache".to_owned(),
        };
        assert_eq!(read(text), [mount]);
    }
}
