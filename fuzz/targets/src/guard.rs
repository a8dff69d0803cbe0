//! The socket between agent and guard.

/// A stream of either side.
pub(crate) mod guard_messages {
    use codeco_node_agent::guard::hostile::{guard_samples, guard_stream};

    use crate::samples;

    pub(crate) fn run(data: &[u8]) {
        guard_stream(data);
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        guard_samples(&samples::workload()).to_vec()
    }
}
