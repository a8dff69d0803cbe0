//! What happens next: events ordered by time, then by the order in which they were made.

use std::collections::BTreeMap;

use codeco_actors::swm::election::electorate::Electorate;
use codeco_actors::swm::home::ClusterFacts;
use codeco_protocol::ids::{MemberId, ReplicaId};
use codeco_protocol::messages::ControlMessage;
use codeco_protocol::token::{Term, Token};

/// Something that happens at one point of true time. Numbers of lives and boots make events of dead processes void.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Deliver {
        from: MemberId,
        to: MemberId,
        message: ControlMessage,
    },
    LedgerTick {
        node: usize,
        life: u64,
    },
    ElectorTick {
        node: usize,
        life: u64,
    },
    HomeTick {
        life: u64,
    },
    AgentStart {
        node: usize,
        life: u64,
    },
    ElectorStart {
        node: usize,
        life: u64,
    },
    HomeStart {
        life: u64,
    },
    ProcessStarts {
        node: usize,
        process: u64,
    },
    ProcessReady {
        node: usize,
        process: u64,
    },
    ProcessStops {
        node: usize,
        replica: ReplicaId,
        token: Token,
    },
    GuardFires {
        node: usize,
        boot: u64,
    },
    GuardKills {
        node: usize,
        boot: u64,
    },
    Announce {
        node: usize,
    },
    Hears {
        node: usize,
        term: Term,
        electorate: Electorate,
    },
    Summarize {
        node: usize,
    },
    Summary {
        number: u64,
        sent: u64,
        facts: ClusterFacts,
    },
    LookAround,
    User,
    /// An operator says that the nodes a lead misses are gone.
    ReleaseBrake {
        node: usize,
    },
    Fault,
    Heal {
        from: usize,
        to: usize,
    },
    FaultsEnd,
    Inspect,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: BTreeMap<(u64, u64), Event>,
    made: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        self.made += 1;
        self.events.insert((at, self.made), event);
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}
