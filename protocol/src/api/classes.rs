//! Classes, profiles and policies a manifest chooses from.

use std::fmt;

use bincode::{Decode, Encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::workload::{PartitionPolicy, RestartPolicy};

/// A closed set of words.
pub trait Choice: Copy + Sized + 'static {
    /// Every word, in the order of the documentation.
    const WORDS: &'static [&'static str];

    /// The value a word stands for. Words are compared exactly, as Kubernetes does.
    fn from_word(word: &str) -> Option<Self>;

    /// The word.
    fn word(self) -> &'static str;
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:tt,)+ }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
            Encode, Decode,
        )]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+
        }

        impl Choice for $name {
            const WORDS: &'static [&'static str] = &[$($word),+];

            fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

choice! {
    /// Quality of service of an application; unset is best effort.
    QosClass {
        /// First served.
        Gold = "Gold",
        /// Served before best effort.
        Silver = "Silver",
        /// Served with what is left.
        #[default]
        BestEffort = "BestEffort",
    }
}

choice! {
    /// Security demanded of the nodes; unset demands none.
    SecurityClass {
        /// Highest demand.
        High = "High",
        /// Above medium.
        Good = "Good",
        /// Medium demand.
        Medium = "Medium",
        /// Low demand.
        Low = "Low",
        /// No demand.
        #[default]
        None = "None",
    }
}

choice! {
    /// Compliance demanded of where the application runs; unset is the lowest demand.
    ComplianceClass {
        /// Highest demand.
        High = "High",
        /// Medium demand.
        Medium = "Medium",
        /// Lowest demand.
        #[default]
        Low = "Low",
    }
}

choice! {
    /// Which failures the application is to survive; unset is low.
    FailureTolerance {
        /// That of a cluster: copies are kept apart among clusters, and among the nodes of each.
        High = "High",
        /// That of a node: copies are kept apart among nodes.
        Medium = "Medium",
        /// None in particular: copies are kept apart as the profile weighs it.
        #[default]
        Low = "Low",
    }
}

choice! {
    /// What placement weighs most; unset weighs evenly.
    Profile {
        /// Energy and carbon.
        Greenness = "Greenness",
        /// Surviving failures of nodes, clusters and links.
        Resilience = "Resilience",
        /// Delay of channels.
        Latency = "Latency",
        /// Price of what is used.
        Cost = "Cost",
        /// Everything evenly.
        #[default]
        Balanced = "Balanced",
    }
}

choice! {
    /// Whether a channel's bandwidth is reserved; unset reserves none.
    ServiceClass {
        /// Nothing reserved.
        #[default]
        BestEffort = "BESTEFFORT",
        /// Bandwidth reserved along the path.
        Assured = "ASSURED",
    }
}

choice! {
    /// What a replica may do while its node is cut off. Unset depends on the volumes, see
    /// [`PodSpec::has_state`](super::PodSpec::has_state).
    Partition {
        /// At most one copy runs.
        #[default]
        Fence = "fence",
        /// Runs on without asking; a second copy may run for a while.
        Autonomous = "autonomous",
    }
}

choice! {
    /// Which of two copies stays once clusters see each other again; unset keeps the original.
    OnReconnect {
        /// The one that was there first.
        #[default]
        KeepOriginal = "keepOriginal",
        /// The one that was started last.
        KeepNewest = "keepNewest",
        /// The one that has run for longest without restart.
        LongestRunning = "longestRunning",
        /// The one with the better score.
        BestScore = "bestScore",
    }
}

choice! {
    /// When a finished container is started again; unset is always, as in Kubernetes.
    Restart {
        /// Whatever its exit status.
        #[default]
        Always = "Always",
        /// Only after a non-zero exit status.
        OnFailure = "OnFailure",
        /// Never.
        Never = "Never",
    }
}

impl From<Partition> for PartitionPolicy {
    fn from(partition: Partition) -> Self {
        match partition {
            Partition::Fence => Self::Fence,
            Partition::Autonomous => Self::Autonomous,
        }
    }
}

impl From<PartitionPolicy> for Partition {
    fn from(policy: PartitionPolicy) -> Self {
        match policy {
            PartitionPolicy::Fence => Self::Fence,
            PartitionPolicy::Autonomous => Self::Autonomous,
        }
    }
}

impl From<Restart> for RestartPolicy {
    fn from(restart: Restart) -> Self {
        match restart {
            Restart::Always => Self::Always,
            Restart::OnFailure => Self::OnFailure,
            Restart::Never => Self::Never,
        }
    }
}
