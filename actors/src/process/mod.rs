//! What every process of the fleet has in common: its place in the fabric, evidence, health, faults, an orderly end.

mod config;
mod daemon;
mod doctor;
mod drill;
mod faults;
mod health;
mod identity;
mod member;
mod metrics;
mod periodic;
mod profile;
mod readiness;

pub use config::{ConfigError, load_file, resolve_options};
pub use daemon::{DaemonOptions, LogFormat, run_daemon};
pub use doctor::{check_up, udp};
pub use drill::{Fault, Others, PAUSE_SECONDS_MAX};
pub use faults::{Faults, Panic, panic_by};
pub use health::serve_health;
pub use identity::{IdentityState, TrustKeeper};
pub use member::{Member, MemberConfig, MemberError, note_supervision};
pub use metrics::{Metric, MetricKind, Samples, render};
pub use periodic::{Pace, PeriodicMessage, following_child, periodic_child};
pub use profile::MembershipProfile;
pub use readiness::Readiness;
