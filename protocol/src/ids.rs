//! Names and identifiers. Every id is a type of its own, so that a node can never be passed for a cluster.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Longest name accepted, as in Kubernetes (RFC 1123 label).
pub const NAME_LEN_MAX: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not a name: expected 1 to 63 lower-case letters, digits or '-', starting and ending with a \
     letter or digit (RFC 1123 label)"
)]
pub struct NameError {
    /// What was found, cut to 80 characters.
    pub found: String,
}

fn check_name(text: &str) -> Result<(), NameError> {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let ok = !text.is_empty()
        && text.len() <= NAME_LEN_MAX
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && edge(text.chars().next())
        && edge(text.chars().last());
    if ok { Ok(()) } else { Err(NameError { found: text.chars().take(80).collect() }) }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
        pub struct $name(String);

        impl $name {
            /// Checks `text` against RFC 1123.
            ///
            /// # Errors
            /// [`NameError`] with what was found and what was expected.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                check_name(&text)?;
                Ok(Self(text))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(d)?).map_err(serde::de::Error::custom)
            }
        }

        impl<C> Decode<C> for $name {
            fn decode<D: bincode::de::Decoder<Context = C>>(
                decoder: &mut D,
            ) -> Result<Self, bincode::error::DecodeError> {
                let text = String::decode(decoder)?;
                Self::new(text).map_err(|e| bincode::error::DecodeError::OtherString(e.to_string()))
            }
        }

        impl<'de, C> bincode::BorrowDecode<'de, C> for $name {
            fn borrow_decode<D: bincode::de::BorrowDecoder<'de, Context = C>>(
                decoder: &mut D,
            ) -> Result<Self, bincode::error::DecodeError> {
                <Self as Decode<C>>::decode(decoder)
            }
        }
    };
}

name_type! {
    /// A cluster: its agents share a membership and a lead.
    ClusterName
}
name_type! {
    /// A node inside its cluster, as people call it. The identity is [`NodeId`].
    NodeName
}
name_type! {
    /// A hub, as people call it.
    HubName
}
name_type! {
    /// An application inside its namespace. The identity is [`AppUid`].
    AppName
}
name_type! {
    /// A namespace of applications.
    Namespace
}
name_type! {
    /// A service of an application.
    ServiceName
}

macro_rules! uuid_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Default)]
        pub struct $name(pub u128);

        impl $name {
            /// A new random (version 4) id. Shells only: cores are handed their ids.
            #[must_use]
            pub fn random() -> Self {
                Self(Uuid::new_v4().as_u128())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", Uuid::from_u128(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", &Uuid::from_u128(self.0).to_string()[..8])
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Ok(Self(Uuid::parse_str(text)?.as_u128()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.to_string())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

uuid_type! {
    /// A member's identity: the uuid in its certificate. A node keeps it for life; a re-installed node gets a new one.
    MemberId
}
uuid_type! {
    /// One life of an application: a deleted and re-created application of the same name has another uid.
    AppUid
}
uuid_type! {
    /// One life of a node's journal. A node that loses its disk comes back with another incarnation.
    Incarnation
}
uuid_type! {
    /// A decision, which is also its trace id.
    DecisionId
}

/// A node's identity. An alias, because the certificate has one uuid per member whatever its role.
pub type NodeId = MemberId;

/// What a member is allowed to be. Comes from its certificate, never from a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A hub.
    Hub,
    /// A node agent of the cluster named.
    Node(ClusterName),
}

/// Who somebody is: role, cluster and uuid, as read from a verified certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
pub struct Identity {
    /// Role, with the cluster of a node.
    pub role: Role,
    /// Uuid.
    pub id: MemberId,
}

impl Identity {
    /// The cluster of a node; `None` for a hub.
    #[must_use]
    pub fn cluster(&self) -> Option<&ClusterName> {
        match &self.role {
            Role::Hub => None,
            Role::Node(cluster) => Some(cluster),
        }
    }

    /// Whether this is a hub.
    #[must_use]
    pub fn is_hub(&self) -> bool {
        self.role == Role::Hub
    }
}

impl fmt::Display for Identity {
    /// The path of the SPIFFE id, without the trust domain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.role {
            Role::Hub => write!(f, "/hub/{}", self.id),
            Role::Node(cluster) => write!(f, "/cluster/{cluster}/node/{}", self.id),
        }
    }
}

/// The unit that is placed: one copy of a service of an application.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
pub struct ReplicaId {
    /// The application's uid.
    pub app: AppUid,
    /// The service.
    pub service: ServiceName,
    /// Number of the copy, from 0.
    pub index: u32,
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}-{}", self.app, self.service, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_rfc1123_is_accepted_and_others_are_refused_with_what_was_found() {
        for good in ["a", "edge-1", "0", &"x".repeat(63)] {
            assert!(NodeName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", &"x".repeat(64)] {
            let error = NodeName::new(bad).expect_err(bad);
            assert!(error.to_string().contains("RFC 1123"), "{error}");
        }
    }

    #[test]
    fn name_decoded_from_the_wire_is_checked_like_any_other() {
        let config = bincode::config::standard();
        let bytes = bincode::encode_to_vec("Not A Name", config).expect("encodes");
        let decoded: Result<(NodeName, usize), _> = bincode::decode_from_slice(&bytes, config);
        assert!(decoded.is_err());
    }
}
