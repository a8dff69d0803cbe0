//! What the HTTP API answers and the command line prints: views, each with its age, none of them a promise.
//! Times are wall-clock milliseconds; [`rfc3339`](super::rfc3339) writes them for people.

mod app;
mod decision;
mod doctor;
mod fleet;
mod links;
mod list;
mod plan;

pub use app::{
    AppPhase, AppView, ChannelView, Condition, ConditionStatus, IntentView, ReplicaPhase, ReplicaView,
    ServiceView,
};
pub use decision::{
    AGE_UNKNOWN, Bid, BidAnswer, Candidate, DecisionLevel, DecisionView, FilterCount, InputAge, ScorePart,
    SumError,
};
pub use doctor::{CheckUp, CheckView, DoctorView, Verdict};
pub use fleet::{
    ActorState, ActorView, ClusterStatus, ClusterView, ElectorateView, EventObject, EventType, EventView,
    FactSource, FactView, NodeStatus, NodeView, VoterView,
};
pub use links::{LinkSource, LinkStatus, LinkView};
pub use list::{ErrorBody, List};
pub use plan::{PlanView, PlannedAction, PlannedReplica};
