//! The recorded pods and reviews below `tests/fixtures`.

use std::path::PathBuf;

use serde_json::Value;

/// The folder of the fixtures.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// One fixture, by its path below the folder.
pub fn read(path: &str) -> Value {
    let path = folder().join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Every JSON fixture in one folder, by its path below the fixtures, sorted.
pub fn list(below: &str) -> Vec<String> {
    let root = folder();
    let walk = walkdir::WalkDir::new(root.join(below)).sort_by_file_name();
    walk.into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned())
        .collect()
}
