//! Views agree after healing: everybody who lives is seen as alive by all others of its cluster and by hubs, and its facts
//! are known as far as it has told them.

use codeco_protocol::gossip::Liveness;

use super::super::world::World;

/// What members have believed of each other.
#[derive(Debug, Default)]
pub(crate) struct ViewsWatch {
    /// Living members that were called dead by one that could hear them.
    pub(crate) beliefs: Vec<(u64, usize, usize, Liveness)>,
    /// Whether beliefs are kept.
    pub(crate) keeps: bool,
}

impl ViewsWatch {
    pub(crate) fn believes(&mut self, now: u64, observer: usize, about: usize, liveness: Liveness) {
        if self.keeps {
            self.beliefs.push((now, observer, about, liveness));
        }
    }

    pub(crate) fn gone(&mut self, _at: usize) {}
}

impl World {
    /// Two members of which one does not see the other as it is.
    pub(crate) fn views_differ(&self) -> Option<String> {
        for cluster in 0..self.clusters.len() {
            for observer in self.nodes_of(cluster) {
                let Some(process) = &self.machines[observer].process else { continue };
                for about in self.nodes_of(cluster).filter(|about| *about != observer) {
                    let believed = process.ring.liveness(self.machines[about].id());
                    let wanted =
                        if self.machines[about].is_gone() { Liveness::Dead } else { Liveness::Alive };
                    if believed != Some(wanted) {
                        let (a, b) = (&self.machines[observer].name, &self.machines[about].name);
                        return Some(format!("{a} believes of {b}: {believed:?}"));
                    }
                }
            }
        }
        self.facts_differ()
    }

    fn facts_differ(&self) -> Option<String> {
        for cluster in 0..self.clusters.len() {
            for observer in self.nodes_of(cluster) {
                for about in self.nodes_of(cluster).filter(|about| *about != observer) {
                    if self.lags_behind(observer, about) {
                        let (a, b) = (&self.machines[observer].name, &self.machines[about].name);
                        return Some(format!("{a} does not know all that {b} has told"));
                    }
                }
            }
        }
        for hub in 0..self.scenario.fleet.hubs {
            for (about, machine, _) in self.nodes() {
                if self.lags_behind(hub, about) {
                    let told = machine
                        .process
                        .as_ref()
                        .map(|p| (p.knowledge.own_mark(), p.links.contains_key(&hub)));
                    let process = self.machines[hub].process.as_ref();
                    let known =
                        process.map(|p| (p.knowledge.mark(machine.id()), p.links.contains_key(&about)));
                    let hub = &self.machines[hub].name;
                    return Some(format!(
                        "{hub} knows {known:?} of {}, which has told {told:?}",
                        machine.name
                    ));
                }
            }
        }
        None
    }
}
