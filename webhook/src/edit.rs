//! Edits of a pod: rules plan them without touching the pod, one place applies them and records the JSON Patch, so
//! a recorded patch always applies.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::{Map, Value};

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

/// An edit that does not fit the pod.
#[derive(Debug)]
pub(crate) struct Misfit;

/// Applies the edits in order and returns what they came to; edits that change nothing leave no trace.
pub(crate) fn apply(pod: &mut Value, edits: Vec<Edit>) -> Result<Vec<PatchOperation>, Misfit> {
    let mut recorder = Recorder { pod, operations: Vec::with_capacity(edits.len()) };
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

/// Does to the pod what it records. The operations are those of JSON Patch, without its pointers as text, which would
/// be taken apart again for every step.
struct Recorder<'a> {
    pod: &'a mut Value,
    operations: Vec<PatchOperation>,
}

impl Recorder<'_> {
    fn set(&mut self, place: &[String], value: Value) -> Result<(), Misfit> {
        if self.get(place) == Some(&value) {
            return Ok(());
        }
        // Maps that are missing on the way come with the value.
        let missing = (1..place.len()).find(|depth| self.is_missing(&place[..*depth]));
        let (place, inner) = place.split_at(missing.unwrap_or(place.len()));
        let wrap = |value, key: &String| Value::Object(Map::from_iter([(key.clone(), value)]));
        self.add(place, inner.iter().rev().fold(value, wrap))
    }

    fn replace(&mut self, place: &[String], value: Value) -> Result<(), Misfit> {
        let found = self.get_mut(place).ok_or(Misfit)?;
        if *found != value {
            found.clone_from(&value);
            self.operations.push(PatchOperation::Replace(ReplaceOperation { path: pointer(place), value }));
        }
        Ok(())
    }

    fn append(&mut self, mut place: Place, value: Value) -> Result<(), Misfit> {
        if self.is_missing(&place) {
            return self.set(&place, Value::Array(vec![value]));
        }
        place.push("-".to_owned());
        self.add(&place, value)
    }

    fn remove(&mut self, place: &[String]) -> Result<(), Misfit> {
        let (last, parent) = place.split_last().ok_or(Misfit)?;
        match self.get_mut(parent).ok_or(Misfit)? {
            Value::Object(members) => drop(members.remove(last).ok_or(Misfit)?),
            Value::Array(items) => {
                let index = last.parse().ok().filter(|index| *index < items.len()).ok_or(Misfit)?;
                items.remove(index);
            }
            _ => return Err(Misfit),
        }
        self.operations.push(PatchOperation::Remove(RemoveOperation { path: pointer(place) }));
        Ok(())
    }

    /// Adds a member, in place of one that is there, or an item at the end of a list.
    fn add(&mut self, place: &[String], value: Value) -> Result<(), Misfit> {
        let (last, parent) = place.split_last().ok_or(Misfit)?;
        match self.get_mut(parent).ok_or(Misfit)? {
            Value::Object(members) => drop(members.insert(last.clone(), value.clone())),
            Value::Array(items) if last == "-" => items.push(value.clone()),
            _ => return Err(Misfit),
        }
        self.operations.push(PatchOperation::Add(AddOperation { path: pointer(place), value }));
        Ok(())
    }

    fn get(&self, place: &[String]) -> Option<&Value> {
        place.iter().try_fold(&*self.pod, |value, part| match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            value => value.get(part),
        })
    }

    fn get_mut(&mut self, place: &[String]) -> Option<&mut Value> {
        place.iter().try_fold(&mut *self.pod, |value, part| match value {
            Value::Array(items) => items.get_mut(part.parse::<usize>().ok()?),
            value => value.get_mut(part),
        })
    }

    fn is_missing(&self, place: &[String]) -> bool {
        self.get(place).is_none_or(Value::is_null)
    }
}

/// A pointer from its parts: slashes and tildes in keys are escaped here and nowhere else.
fn pointer(place: &[String]) -> PointerBuf {
    PointerBuf::from_tokens(place)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
        assert_eq!(
            operations.len(),
            3,
            "setting what is there already is no edit, and maps come with their members"
        );
        let mut again = original;
        json_patch::patch(&mut again, &operations).unwrap();
        assert_eq!(again, pod);
        assert_eq!(pod["metadata"]["labels"]["headstart.dev/version"], "v");
        assert_eq!(pod["list"], json!([1, 2]));
        assert_eq!(pod["other"], json!([3]));
    }

    #[test]
    fn what_is_recorded_does_to_a_pod_what_was_done() {
        let original = json!({"a": {"b/c": [1, {"d~": 2}, 3]}, "e": {"f": 4}});
        let edits = vec![
            Edit::Set(place(["a", "b/c", "1", "g", "h", "i"]), json!([5])),
            Edit::Set(place(["a", "b/c", "1", "d~"]), json!(6)),
            Edit::Set(place(["e", "f"]), json!(7)),
            Edit::Append(place(["a", "b/c"]), json!(8)),
            Edit::Append(place(["e", "j", "k"]), json!(9)),
            Edit::Replace(place(["a", "b/c", "0"]), json!({"l": 10})),
            Edit::Remove(place(["a", "b/c", "2"])),
            Edit::Remove(place(["e", "f"])),
        ];
        let mut pod = original.clone();
        let operations = apply(&mut pod, edits).unwrap();
        let mut again = original;
        json_patch::patch(&mut again, &operations).unwrap();
        assert_eq!(again, pod);
        assert_eq!(
            pod,
            json!({"a": {"b/c": [{"l": 10}, {"d~": 6, "g": {"h": {"i": [5]}}}, 8]}, "e": {"j": {"k": [9]}}})
        );
    }

    #[test]
    fn an_edit_that_does_not_fit_is_an_error() {
        for edit in [
            Edit::Replace(place(["list", "0"]), json!(1)),
            Edit::Replace(place(["items", "1"]), json!(1)),
            Edit::Remove(place(["items", "1"])),
            Edit::Remove(place(["items", "x"])),
            Edit::Remove(place(["list"])),
            Edit::Set(place(["items", "0", "below"]), json!(1)),
            Edit::Set(place(["items", "x"]), json!(1)),
            Edit::Append(place(["text"]), json!(1)),
        ] {
            let mut pod = json!({"items": [1], "text": "t"});
            assert!(apply(&mut pod, vec![edit]).is_err());
            assert_eq!(pod, json!({"items": [1], "text": "t"}));
        }
    }
}
