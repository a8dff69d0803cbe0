//! Records of applications that come from other members: what of them is believed.
//!
//! Any member may ask for a copy to be kept, and may become the home from which an application is adopted. So its records
//! are taken only if they are such as [`Home::records_of`](super::Home::records_of) makes for that one application:
//! none may speak of another application, or contain a copy in which there is a copy, and so on.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::api::{REPLICAS_PER_APP_MAX, SERVICES_MAX};
use codeco_protocol::ids::AppUid;

use super::{AppSpec, HomeRecord};

/// A number so high is none that a home got by counting: it would leave no room for those after it.
pub(super) const NUMBER_MAX: u64 = 1 << 62;

/// Whether these records could have been written for that application.
pub(super) fn stand_for(app: AppUid, records: &[HomeRecord]) -> bool {
    records.iter().all(|record| record.app() == Some(app) && is_plain(record))
}

fn is_plain(record: &HomeRecord) -> bool {
    match record {
        HomeRecord::Applied { epoch, generation, spec, .. } => {
            epoch.number <= NUMBER_MAX && *generation <= NUMBER_MAX && is_of_some_size(spec)
        }
        HomeRecord::Mandated { mandate, .. } => mandate.0 <= NUMBER_MAX,
        HomeRecord::HandedBack { .. }
        | HomeRecord::Bounded { .. }
        | HomeRecord::Offered { .. }
        | HomeRecord::Rolling { .. }
        | HomeRecord::Lost { .. }
        | HomeRecord::Recalling { .. }
        | HomeRecord::KeptBy { .. }
        | HomeRecord::Succeeds { .. }
        | HomeRecord::Retired { .. }
        | HomeRecord::Deleting { .. } => true,
        HomeRecord::Removed { .. }
        | HomeRecord::ClusterDrained { .. }
        | HomeRecord::Reconciled { .. }
        | HomeRecord::Copied { .. }
        | HomeRecord::CopyDropped { .. }
        | HomeRecord::Adopted { .. } => false,
    }
}

/// As manifests are read: every copy wanted takes memory, whether there is one or not.
fn is_of_some_size(spec: &AppSpec) -> bool {
    let copies: u64 = spec.services.iter().map(|service| u64::from(service.replicas)).sum();
    spec.services.len() <= SERVICES_MAX && copies <= u64::from(REPLICAS_PER_APP_MAX)
}
