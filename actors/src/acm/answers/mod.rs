//! The answers of a member of the fleet to what people ask of it.
//!
//! | file | concept |
//! |---|---|
//! | `fleet` | what is asked, and of whom it is found out |
//! | `views` | from what the member knows to what people read |
//! | `planning` | dry runs, and taking nodes and clusters out of use |
//! | `intents` | intents: as placement gets them, as they hold, and those without effect yet |
//! | `looking` | links, check-ups, faults for drills |
//! | `forgetting` | removing a node for good |
//! | `brakes` | releasing brakes |
//! | `certs` | certificates, revocation, the authority |
//! | `naming` | names that are clear in the whole fleet |

mod brakes;
mod certs;
mod fleet;
mod forgetting;
mod intents;
mod looking;
mod naming;
mod planning;
mod views;

pub use certs::{CertAuthority, Certified, Handover, Standing, standings};
pub use fleet::{MemberFleet, app_spec};
