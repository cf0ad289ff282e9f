//! What the listener writes: the target by its formula, and the number of its patch (arc.md §2.2).

use serde_json::{Value, json};

/// The numbers that a listener keeps while its process lives.
#[derive(Clone, Copy, Debug)]
pub struct Listener {
    min: i64,
    max: i64,
    sequence: i64,
    last_target: i64,
    dirty: bool,
}

/// Where the numbers of patches begin anew.
const LAST: i64 = i32::MAX as i64;

impl Listener {
    /// A listener that has just started.
    pub fn new(min: i64, max: i64) -> Self {
        Self { min, max, sequence: -1, last_target: -1, dirty: false }
    }

    /// A job started or was completed.
    pub fn touch(&mut self) {
        self.dirty = true;
    }

    /// `replicas` and `patchID` for so many assigned jobs: after the start, each message and each empty poll.
    pub fn patch(&mut self, assigned: i64) -> (i64, i64) {
        let target = self.min.saturating_add(assigned).min(self.max);
        self.sequence = if self.sequence >= LAST { 1 } else { self.sequence + 1 };
        let steady = !self.dirty && target == self.last_target && target == self.min;
        self.dirty = false;
        self.last_target = target;
        (target, if steady { 0 } else { self.sequence })
    }
}

/// The merge patch that the listener sends: a zero is left out of the object, so that the difference removes it.
pub fn body(replicas: i64, patch_id: i64) -> Value {
    let replicas = if replicas == 0 { Value::Null } else { replicas.into() };
    json!({"spec": {"patchID": patch_id, "replicas": replicas}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_patch_and_those_of_steady_idle_have_number_0() {
        let mut listener = Listener::new(2, 10);
        assert_eq!(listener.patch(0), (2, 0), "the sequence begins there");
        assert_eq!(listener.patch(0), (2, 0), "steady");
        assert_eq!(listener.patch(5), (7, 2));
        assert_eq!(listener.patch(5), (7, 3), "not idle");
        assert_eq!(listener.patch(50), (10, 4));
        assert_eq!(listener.patch(0), (2, 5), "another target than before");
        listener.touch();
        assert_eq!(listener.patch(0), (2, 6), "something happened");
        assert_eq!(listener.patch(0), (2, 0));
    }

    #[test]
    fn numbers_begin_anew_at_1() {
        let mut listener = Listener { sequence: LAST - 1, ..Listener::new(0, 10) };
        assert_eq!(listener.patch(1).1, LAST);
        assert_eq!(listener.patch(1).1, 1);
        assert_eq!(body(0, 0).to_string(), r#"{"spec":{"patchID":0,"replicas":null}}"#);
    }
}
