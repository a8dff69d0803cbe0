//! Types people see: the manifest, the objects of the HTTP API, and what the command line prints. All serde, all
//! with a JSON schema; machines exchange other types, see the crate's documentation.
//!
//! A manifest goes text → [`load_manifests`] → [`CodecoApp`] → [`CodecoApp::resolve`] → [`ResolvedApp`].

mod classes;
pub mod codes;
mod error;
mod load;
mod locate;
mod manifest;
mod placement;
mod pod;
mod quantity;
mod read;
mod resolve;
mod selector;
mod suggest;
mod times;
mod tree;
mod views;

pub use classes::{
    Choice, ComplianceClass, FailureTolerance, OnReconnect, Partition, Profile, QosClass, Restart,
    SecurityClass, ServiceClass,
};
pub use codes::ErrorCode;
pub use error::ManifestError;
pub use load::{FILE_BYTES_MAX, FILE_DOCUMENTS_MAX, FILE_ERRORS_MAX, load_manifests};
pub use manifest::{
    API_VERSION, AppSpec, CHANNELS_PER_SERVICE_MAX, Channel, ChannelSettings, CodecoApp, KIND, Metadata,
    NAMESPACE_DEFAULT, OtherService, SERVICES_MAX, ServiceSpec,
};
pub use placement::{
    DisruptionBudget, MAX_UNAVAILABLE_DEFAULT, Placement, PlacementRules, REPLICAS_DEFAULT,
    REPLICAS_PER_APP_MAX, REPLICAS_PER_SERVICE_MAX, SELECTOR_LABELS_MAX, Spread,
};
pub use pod::{
    CONTAINER_ITEMS_MAX, CONTAINERS_MAX, CPU_REQUEST_DEFAULT, Container, ContainerPort, EnvVar,
    GRACE_SECONDS_DEFAULT, GRACE_SECONDS_MAX, MEMORY_REQUEST_DEFAULT, PodSpec, ResourceDemands,
};
pub use quantity::{QUANTITY_LEN_MAX, Quantity, QuantityError, QuantityProblem, parse_count};
pub use resolve::{
    ENV_APP, ENV_FENCING_TOKEN, ENV_INDEX, ENV_NAMESPACE, ENV_SERVICE, RESERVED_ENV, ResolvedApp,
    ResolvedService,
};
pub use selector::{REQUIREMENTS_MAX, Selector, SelectorError};
pub use times::{parse_rfc3339, rfc3339};
pub use tree::{DOCUMENT_BYTES_MAX, DOCUMENT_DEPTH_MAX, DOCUMENT_TEXT_MAX, DOCUMENT_VALUES_MAX};
pub use views::*;
