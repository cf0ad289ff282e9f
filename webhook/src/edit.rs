//! Edits of a pod: rules plan them without touching the pod, one place applies them and records the JSON Patch, so
//! a recorded patch always applies.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchError, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::{Value, json};

/// Where an edit happens: the unescaped parts of a JSON pointer.
pub(crate) type Place = Vec<String>;

/// One planned edit.
#[derive(Debug)]
pub(crate) enum Edit {
    /// Sets a member; missing maps on the way are made.
    Set(Place, Value),
    /// Replaces an element that is there.
    Replace(Place, Value),
    /// Appends to a list, which is made if it is not there.
    Append(Place, Value),
    /// Removes an element that is there. What follows it in its list moves, so removals come last.
    Remove(Place),
}

/// A place from its parts.
pub(crate) fn place<const N: usize>(parts: [&str; N]) -> Place {
    parts.into_iter().map(ToOwned::to_owned).collect()
}

/// Applies the edits in order and returns what they came to; edits that change nothing leave no trace.
pub(crate) fn apply(pod: &mut Value, edits: Vec<Edit>) -> Result<Vec<PatchOperation>, PatchError> {
    let mut recorder = Recorder { pod, operations: Vec::new() };
    for edit in edits {
        match edit {
            Edit::Set(place, value) => recorder.set(&place, value)?,
            Edit::Replace(place, value) => recorder.replace(&place, value)?,
            Edit::Append(place, value) => recorder.append(place, value)?,
            Edit::Remove(place) => recorder.remove(&place)?,
        }
    }
    Ok(recorder.operations)
}

struct Recorder<'a> {
    pod: &'a mut Value,
    operations: Vec<PatchOperation>,
}

impl Recorder<'_> {
    fn set(&mut self, place: &[String], value: Value) -> Result<(), PatchError> {
        if self.get(place) == Some(&value) {
            return Ok(());
        }
        for depth in 1..place.len() {
            if self.is_missing(&place[..depth]) {
                self.add(&place[..depth], json!({}))?;
            }
        }
        self.add(place, value)
    }

    fn replace(&mut self, place: &[String], value: Value) -> Result<(), PatchError> {
        if self.get(place) == Some(&value) {
            return Ok(());
        }
        self.record(PatchOperation::Replace(ReplaceOperation { path: pointer(place), value }))
    }

    fn append(&mut self, mut place: Place, value: Value) -> Result<(), PatchError> {
        if self.is_missing(&place) {
            return self.set(&place, json!([value]));
        }
        place.push("-".to_owned());
        self.add(&place, value)
    }

    fn remove(&mut self, place: &[String]) -> Result<(), PatchError> {
        self.record(PatchOperation::Remove(RemoveOperation { path: pointer(place) }))
    }

    fn add(&mut self, place: &[String], value: Value) -> Result<(), PatchError> {
        self.record(PatchOperation::Add(AddOperation { path: pointer(place), value }))
    }

    fn get(&self, place: &[String]) -> Option<&Value> {
        pointer(place).resolve(self.pod).ok()
    }

    fn is_missing(&self, place: &[String]) -> bool {
        self.get(place).is_none_or(Value::is_null)
    }

    fn record(&mut self, operation: PatchOperation) -> Result<(), PatchError> {
        json_patch::patch(self.pod, std::slice::from_ref(&operation))?;
        self.operations.push(operation);
        Ok(())
    }
}

/// A pointer from its parts: slashes and tildes in keys are escaped here and nowhere else.
fn pointer(place: &[String]) -> PointerBuf {
    PointerBuf::from_tokens(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_minimal_and_escape_keys() {
        let original = json!({"metadata": {"labels": null}, "list": [1]});
        let label = || place(["metadata", "labels", "headstart.dev/version"]);
        let mut pod = original.clone();
        let edits = vec![
            Edit::Set(label(), json!("v")),
            Edit::Set(label(), json!("v")),
            Edit::Append(place(["list"]), json!(2)),
            Edit::Append(place(["other"]), json!(3)),
            Edit::Replace(place(["list", "0"]), json!(1)),
        ];
        let operations = apply(&mut pod, edits).unwrap();
        assert_eq!(operations.len(), 4, "setting what is there already is no edit");
        let mut again = original;
        json_patch::patch(&mut again, &operations).unwrap();
        assert_eq!(again, pod);
        assert_eq!(pod["metadata"]["labels"]["headstart.dev/version"], "v");
        assert_eq!(pod["list"], json!([1, 2]));
        assert_eq!(pod["other"], json!([3]));
    }

    #[test]
    fn an_edit_that_does_not_fit_is_an_error() {
        assert!(apply(&mut json!({}), vec![Edit::Replace(place(["list", "0"]), json!(1))]).is_err());
    }
}
