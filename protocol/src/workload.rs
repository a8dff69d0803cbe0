//! What a replica runs, as machines pass it on. Made from the manifest by [`crate::api`], opaque to placement but
//! for its resources and its partition policy.

use bincode::{Decode, Encode};

use crate::ids::{AppName, AppUid, Namespace, ReplicaId, ServiceName};
use crate::resources::Resources;
use crate::token::Token;
use crate::units::{BitsPerSecond, Micros};

/// What a copy may do while its node is cut off from those who decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum PartitionPolicy {
    /// At most one copy runs; it needs a lease and is stopped when the lease ends.
    Fence,
    /// Runs without lease, also after a cold boot; a second copy may run for a while.
    Autonomous,
}

/// When a finished container is started again, as in Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum RestartPolicy {
    /// Whatever its exit status.
    Always,
    /// Only after a non-zero exit status.
    OnFailure,
    /// Never.
    Never,
}

/// One container of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ContainerSpec {
    /// Name, unique within the replica.
    pub name: String,
    /// Image reference; only runtimes that pull images use it.
    pub image: String,
    /// Program and its first arguments; empty means the image's own.
    pub command: Vec<String>,
    /// Further arguments.
    pub args: Vec<String>,
    /// Environment, name and value.
    pub env: Vec<(String, String)>,
    /// Working directory; `None` is the image's or the runtime's own.
    pub working_dir: Option<String>,
    /// Requests of this container.
    pub requests: Resources,
}

/// A directed demand for traffic from one service to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ChannelSpec {
    /// Name within the application.
    pub name: String,
    /// Sending service.
    pub from: ServiceName,
    /// Receiving application; `None` is the same one.
    pub to_app: Option<AppName>,
    /// Receiving service.
    pub to: ServiceName,
    /// Port of the receiver.
    pub port: Option<u16>,
    /// Whether bandwidth is reserved along the path.
    pub assured: bool,
    /// Least bandwidth; `None` where the manifest asks for none.
    pub bandwidth: Option<BitsPerSecond>,
    /// Longest one-way delay; `None` where the manifest asks for none.
    pub delay_max: Option<Micros>,
}

impl ChannelSpec {
    /// The service at the other end, for one of its two ends in the same application.
    #[must_use]
    pub fn other_end(&self, service: &ServiceName) -> Option<&ServiceName> {
        match (*service == self.from, *service == self.to) {
            _ if self.to_app.is_some() => None,
            (true, false) => Some(&self.to),
            (false, true) => Some(&self.from),
            _ => None,
        }
    }

    /// What is reserved for it along its path.
    #[must_use]
    pub fn reserves(&self) -> Option<BitsPerSecond> {
        self.bandwidth.filter(|bandwidth| self.assured && bandwidth.0 > 0)
    }
}

/// Everything a node needs to run one replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct WorkloadSpec {
    /// Namespace of the application.
    pub namespace: Namespace,
    /// Name of the application.
    pub app: AppName,
    /// Number of the specification this was made from; grows with every change of the application.
    pub generation: u64,
    /// Containers, at least one.
    pub containers: Vec<ContainerSpec>,
    /// What to do with finished containers.
    pub restart: RestartPolicy,
    /// Time between the request to stop and the kill.
    pub stop_grace: Micros,
    /// Sum of the containers' requests: what the node reserves.
    pub resources: Resources,
    /// What to do while cut off.
    pub partition: PartitionPolicy,
    /// The pod spec as the user wrote it, in JSON: fields this project does not interpret are handed on untouched.
    pub pod_spec_json: String,
    /// How long a cluster whose home is silent keeps its right to a copy; `None` is for ever.
    pub lost_after: Option<Micros>,
}

/// A replica as handed to a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Workload {
    /// Which replica.
    pub replica: ReplicaId,
    /// Under which token: the fencing token its processes are given.
    pub token: Token,
    /// What to run.
    pub spec: WorkloadSpec,
}

impl Workload {
    /// The application's uid.
    #[must_use]
    pub fn app(&self) -> AppUid {
        self.replica.app
    }
}
