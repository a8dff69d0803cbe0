//! Objects as people name them: `app/NAME`, `app NAME`, `apps`, `rs`, …

use std::fmt;

use crate::failure::Failure;

/// Kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    App,
    Replica,
    Node,
    Cluster,
    Event,
    Decision,
    Actor,
    Link,
}

const WORDS: [(Kind, &[&str]); 8] = [
    (Kind::App, &["app", "apps", "codecoapp", "codecoapps"]),
    (Kind::Replica, &["replica", "replicas", "rs"]),
    (Kind::Node, &["node", "nodes", "no"]),
    (Kind::Cluster, &["cluster", "clusters", "cl"]),
    (Kind::Event, &["event", "events", "ev"]),
    (Kind::Decision, &["decision", "decisions", "de"]),
    (Kind::Actor, &["actor", "actors", "ac"]),
    (Kind::Link, &["link", "links", "ln"]),
];

impl Kind {
    pub(crate) fn parse(word: &str) -> Result<Self, Failure> {
        let lower = word.to_ascii_lowercase();
        let known = WORDS.iter().find(|(_, words)| words.contains(&lower.as_str()));
        known.map(|(kind, _)| *kind).ok_or_else(|| {
            let all: Vec<&str> = WORDS.iter().filter_map(|(_, words)| words.get(1).copied()).collect();
            Failure::usage(format!("there is no kind of object {word:?}"))
                .next(format!("kinds: {}; short: no, rs, cl, ev, de, ac, ln", all.join(", ")))
        })
    }

    /// Whether objects of this kind live in a namespace.
    pub(crate) fn namespaced(self) -> bool {
        matches!(self, Self::App | Self::Replica | Self::Decision)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = WORDS.iter().find(|(kind, _)| kind == self).and_then(|(_, words)| words.first());
        f.pad(word.copied().unwrap_or_default())
    }
}

/// A kind, and perhaps a name: `KIND`, `KIND/NAME` or `KIND NAME`.
pub(crate) fn parse(words: &[String]) -> Result<(Kind, Option<String>), Failure> {
    match words {
        [word] => match word.split_once('/') {
            Some((kind, name)) if !name.is_empty() => Ok((Kind::parse(kind)?, Some(name.to_owned()))),
            Some(_) => Err(Failure::usage(format!("{word:?} names nothing after the /"))),
            None => Ok((Kind::parse(word)?, None)),
        },
        [kind, name] if !kind.contains('/') => Ok((Kind::parse(kind)?, Some(name.clone()))),
        _ => Err(Failure::usage(format!("{:?} is no object", words.join(" ")))
            .next("write KIND/NAME or KIND NAME")),
    }
}

/// The name of an object that must be of `kind`.
pub(crate) fn name_of(words: &[String], kind: Kind) -> Result<String, Failure> {
    match parse(words)? {
        (found, Some(name)) if found == kind => Ok(name),
        (found, _) => Err(Failure::usage(format!("{found} was found where {kind}/NAME was expected"))),
    }
}

/// Checks a name that people wrote.
pub(crate) fn checked<T: std::str::FromStr>(text: &str) -> Result<T, Failure>
where
    T::Err: fmt::Display,
{
    text.parse().map_err(|error: T::Err| Failure::usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(ToOwned::to_owned).collect()
    }

    #[test]
    fn object_in_every_spelling_is_understood() {
        for (text, kind, name) in [
            ("apps", Kind::App, None),
            ("app/web", Kind::App, Some("web")),
            ("Apps web", Kind::App, Some("web")),
            ("rs/web/origin-0", Kind::Replica, Some("web/origin-0")),
            ("no", Kind::Node, None),
            ("cl/edge-1", Kind::Cluster, Some("edge-1")),
        ] {
            assert_eq!(parse(&words(text)).unwrap(), (kind, name.map(ToOwned::to_owned)), "{text}");
        }
        for wrong in ["pods", "app/", "app/web more", "app web more"] {
            assert!(parse(&words(wrong)).is_err(), "{wrong}");
        }
        assert!(name_of(&words("node/n1"), Kind::App).is_err());
    }
}
