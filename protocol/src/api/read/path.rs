//! Where in a document something stands.

use std::fmt;
use std::rc::Rc;

/// Longest key repeated in a path.
const KEY_LEN_MAX: usize = 80;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Into an object.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// A path from the root. Cheap to copy: paths share their beginnings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Path(Option<Rc<(Path, Segment)>>);

impl Path {
    pub(crate) fn root() -> Self {
        Self(None)
    }

    pub(crate) fn join(&self, segment: Segment) -> Self {
        Self(Some(Rc::new((self.clone(), segment))))
    }

    pub(crate) fn key(&self, key: &str) -> Self {
        self.join(Segment::Key(key.to_owned()))
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        self.join(Segment::Index(index))
    }

    /// From the root to the end.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        let mut segments = Vec::new();
        let mut here = self;
        while let Some(step) = &here.0 {
            segments.push(step.1.clone());
            here = &step.0;
        }
        segments.reverse();
        segments
    }
}

impl fmt::Display for Path {
    /// `spec.codecoapp-msspec[1].serviceName`; keys with other characters as `labels["example.com/a"]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.segments().iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                    if !key.is_empty() && key.len() <= KEY_LEN_MAX && key.chars().all(plain) {
                        write!(f, "{}{key}", if i > 0 { "." } else { "" })?;
                    } else {
                        write!(f, "[{:?}]", key.chars().take(KEY_LEN_MAX).collect::<String>())?;
                    }
                }
            }
        }
        Ok(())
    }
}
