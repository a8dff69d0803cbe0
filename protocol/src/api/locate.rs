//! Finds the line of a field. The YAML parser tells places only with errors, so this walks to the field and fails
//! there on purpose.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::read::{Path, Segment};

const HERE: &str = "here";

/// The line, from 1, of the field's key in a YAML document; of what encloses it if it is missing.
pub(super) fn line_of(text: &str, path: &Path) -> Option<u64> {
    let segments = path.segments();
    let error = Walk(&segments).deserialize(serde_yaml_ng::Deserializer::from_str(text)).err()?;
    u64::try_from(error.location()?.line()).ok()
}

struct Walk<'a>(&'a [Segment]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HERE)
    }

    // Scalars are left to the default methods: all of them fail, here.

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((Segment::Index(index), rest)) = self.0.split_first() else {
            return Err(de::Error::custom(HERE));
        };
        for _ in 0..*index {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Err(de::Error::custom(HERE));
            }
        }
        seq.next_element_seed(Walk(rest))?;
        Err(de::Error::custom(HERE))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Segment::Key(key), rest)) = self.0.split_first() else {
            return Err(de::Error::custom(HERE));
        };
        while let Some(right) = map.next_key_seed(IsKey { key, last: rest.is_empty() })? {
            if right {
                map.next_value_seed(Walk(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Err(de::Error::custom(HERE))
    }
}

struct IsKey<'a> {
    key: &'a str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<bool, E> {
        let right = text == self.key;
        if right && self.last { Err(E::custom(HERE)) } else { Ok(right) }
    }
}
