//! Supervision trees: who is restarted when, who is given up, and how to reach whoever runs now.
//!
//! A [`Supervisor`] starts its children in the order listed and stops them backwards. A child that panics,
//! returns an error or cannot be started is restarted after a wait, following the rules of `restart.rs`; one that
//! fails too often is given up, which [`crate::mailbox::Introspection`] shows and an [`Event`] tells, while its
//! supervisor and the others stay up. A supervisor can be the child of another.

mod child;
mod restart;
mod slot;
mod supervisor;

pub use child::{ChildContext, ChildSpec, StartError};
pub use restart::{
    Action, Backoff, ChildIndex, Input, Intensity, Policy, RestartCore, RestartOn, Strategy, Ticket,
};
pub use slot::{ChildRef, ChildSlot};
pub use supervisor::{Event, EventKind, Supervisor, SupervisorHandle, SupervisorSpec};
