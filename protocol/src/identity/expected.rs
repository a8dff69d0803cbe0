//! Who is wanted at the other end.

use std::fmt;

use crate::ids::{ClusterName, Identity, Role};

/// Which members are acceptable as the peer of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Expected {
    /// Any member of our trust domain.
    #[default]
    Any,
    /// Any hub.
    Hub,
    /// Any node of the cluster.
    NodeOf(ClusterName),
    /// Exactly this member.
    Id(Identity),
    /// Any of these; nobody if empty.
    OneOf(Vec<Expected>),
}

impl Expected {
    /// Whether `identity` is acceptable.
    #[must_use]
    pub fn admits(&self, identity: &Identity) -> bool {
        match self {
            Self::Any => true,
            Self::Hub => identity.role == Role::Hub,
            Self::NodeOf(cluster) => identity.cluster() == Some(cluster),
            Self::Id(expected) => expected == identity,
            Self::OneOf(choices) => choices.iter().any(|choice| choice.admits(identity)),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any member"),
            Self::Hub => f.write_str("a hub"),
            Self::NodeOf(cluster) => write!(f, "a node of cluster {cluster}"),
            Self::Id(identity) => write!(f, "{identity}"),
            Self::OneOf(choices) => {
                let texts: Vec<String> = choices.iter().map(ToString::to_string).collect();
                write!(f, "one of [{}]", texts.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MemberId;

    #[test]
    fn expectation_admits_only_the_members_it_names() {
        let cluster = |name| ClusterName::new(name).unwrap();
        let hub = Identity { role: Role::Hub, id: MemberId(1) };
        let node = Identity { role: Role::Node(cluster("a")), id: MemberId(1) };
        assert!(Expected::Any.admits(&hub) && Expected::Any.admits(&node));
        assert!(Expected::Hub.admits(&hub) && !Expected::Hub.admits(&node));
        assert!(Expected::NodeOf(cluster("a")).admits(&node));
        assert!(
            !Expected::NodeOf(cluster("b")).admits(&node) && !Expected::NodeOf(cluster("a")).admits(&hub)
        );
        assert!(!Expected::Id(node.clone()).admits(&hub), "same uuid, other role");
        let both = Expected::OneOf(vec![Expected::Hub, Expected::NodeOf(cluster("a"))]);
        assert!(both.admits(&hub) && both.admits(&node));
        assert!(!Expected::OneOf(vec![]).admits(&hub));
        assert_eq!(both.to_string(), "one of [a hub, a node of cluster a]");
    }
}
