//! An object as rules need it: all of it but its `metadata.managedFields`, which the API server sends along with every
//! creation. They are about as large as the rest, and nobody here looks at them or changes them.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value};

/// An object without its managed fields.
pub(crate) struct Unmanaged(pub(crate) Value);

impl<'de> Deserialize<'de> for Unmanaged {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Without(&["metadata", "managedFields"]).deserialize(deserializer).map(Self)
    }
}

/// Reads a map, or null, and passes over one member of it or of the maps below.
struct Without(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Without {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Without {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            match self.0 {
                [last] if key == *last => drop(map.next_value::<IgnoredAny>()?),
                [first, rest @ ..] if key == *first => {
                    members.insert(key, map.next_value_seed(Without(rest))?);
                }
                _ => drop(members.insert(key, map.next_value()?)),
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_managed_fields_are_left_out() {
        let read = |text: &str| serde_json::from_str::<Unmanaged>(text).ok().map(|object| object.0);
        let pod = r#"{"managedFields":1,"metadata":{"name":"a","managedFields":[{"f:x":{}}],"labels":{"managedFields":"b"}},
            "spec":{"metadata":{"managedFields":2}}}"#;
        let expected = json!({
            "managedFields": 1,
            "metadata": {"name": "a", "labels": {"managedFields": "b"}},
            "spec": {"metadata": {"managedFields": 2}},
        });
        assert_eq!(read(pod), Some(expected));
        assert_eq!(read(r#"{"metadata":null}"#), Some(json!({"metadata": null})));
        assert_eq!(read(r#"{"metadata":[]}"#), None);
        assert_eq!(read("7"), None);
    }
}
