//! What a process makes of what it knows of others: who leads, who votes, which clusters there are, whom to reach.

use codeco_actors::acm::clusters::{clusters_of, keepers_of, others_of};
use codeco_actors::swm::election::elector::ElectorInput;
use codeco_actors::swm::home::HomeInput;
use codeco_actors::swm::ledger::LedgerInput;
use codeco_actors::swm::telling::{heard_electorate, heard_term};
use codeco_protocol::ids::MemberId;

use super::machine::machine_of;
use super::process::Reaching;
use super::world::World;
use crate::invariant::Violation;

/// A home looks at clusters at least this often: what is known of them grows old.
const HOME_LOOKS: u64 = 1_000_000;
/// Clusters to whose leads connections are kept.
const CLUSTERS_MAX: usize = 64;

impl World {
    pub(crate) fn look(&mut self, at: usize) -> Result<(), Violation> {
        let clock = self.read_clock(at);
        let own = self.machines[at].id();
        let cluster = self.machines[at].identity.cluster().cloned();
        let Some(process) = &mut self.machines[at].process else { return Ok(()) };
        let news = process.looked != process.knowledge.known;
        process.looked = process.knowledge.known;
        if !process.ring.is_cut_off() {
            for (member, started) in process.ring.living_since() {
                process.knowledge.views.refresh_life(clock, member, started);
            }
        }
        let office = process.office();
        if let Some(cluster) = &cluster {
            if news {
                process.term = process.term.max(heard_term(&process.knowledge.views, cluster));
            }
            process.term = process.term.max(office);
            let lead = process.term.map(|term| term.owner).filter(|lead| *lead != own || office.is_some());
            let changed = process.lead != lead;
            process.lead = lead;
            process.fact.lead = lead;
            let voters = heard_electorate(&process.knowledge.views, cluster).filter(|_| news);
            let fresh = voters.as_ref().map(|(term, voters)| (*term, voters.version()));
            let heard = voters.filter(|_| fresh.is_some() && fresh != process.electorate);
            if process.elector.is_some() && fresh.is_some() {
                process.electorate = fresh;
            }
            if changed {
                self.publish_member(at);
                if let Some(lead) = lead {
                    self.feed_ledger(at, LedgerInput::LeadIs(lead))?;
                }
            }
            if let Some((term, electorate)) = heard {
                self.feed_elector(at, ElectorInput::Heard { term, electorate })?;
            }
        }
        self.reach(at);
        let Some(process) = &self.machines[at].process else { return Ok(()) };
        if process.is_home() {
            self.inform_home(at)?;
            self.look_at(at, self.now + HOME_LOOKS);
        }
        Ok(())
    }

    /// Tells a home what is known of clusters and of other members.
    pub(crate) fn inform_home(&mut self, at: usize) -> Result<(), Violation> {
        let clock = self.read_clock(at);
        let identity = self.machines[at].identity.clone();
        let Some(process) = &self.machines[at].process else { return Ok(()) };
        let reach = Reaching { links: &process.links, ring: &process.ring, now: self.now };
        let own = process.knowledge.own_view(clock);
        let clusters = clusters_of(&process.knowledge.views, &own, &reach, clock);
        let reached = process.links.values().map(|link| &link.identity);
        let keepers = keepers_of(&identity, reached, &reach);
        let others = others_of(&identity, &process.knowledge.views, Default::default(), &reach);
        self.feed_home(at, HomeInput::Clusters(clusters))?;
        self.feed_home(at, HomeInput::Keepers(keepers))?;
        self.feed_home(at, HomeInput::Others(others))
    }

    /// Dials those to whom a connection is to be kept: hubs, the lead, voters, and leads of other clusters.
    fn reach(&mut self, at: usize) {
        let now = self.now;
        let hubs = self.scenario.fleet.hubs;
        let own = self.machines[at].id();
        let Some(process) = &self.machines[at].process else { return };
        let mut wanted: Vec<usize> = Vec::new();
        if self.machines[at].node.is_some() {
            wanted.extend(0..hubs);
            wanted.extend(process.lead.map(machine_of));
            if let Some(elector) = &process.elector {
                wanted.extend(elector.peers().map(machine_of));
            }
            if process.lead == Some(own) || process.is_home() {
                let led = |member: &MemberId| {
                    let view = process.knowledge.views.get(*member);
                    process.links.contains_key(&machine_of(*member))
                        && view.and_then(|view| view.member()).is_some_and(|fact| fact.lead == Some(*member))
                };
                let foreign = process.knowledge.foreign.values().take(CLUSTERS_MAX);
                for members in foreign.filter(|members| !members.iter().any(led)) {
                    wanted.extend(members.iter().map(|member| machine_of(*member)));
                }
            }
        } else {
            wanted.extend((0..hubs).filter(|hub| *hub > at));
        }
        let mut next: Option<u64> = None;
        let mut dials = Vec::new();
        for peer in wanted {
            if peer == at || process.links.contains_key(&peer) {
                continue;
            }
            match process.dials.get(&peer) {
                Some(patience) if patience.dialling => {}
                Some(patience) if patience.next > now => {
                    next = Some(next.map_or(patience.next, |known| known.min(patience.next)));
                }
                _ => dials.push(peer),
            }
        }
        for peer in dials {
            self.dial(at, peer);
        }
        if let Some(next) = next {
            self.look_at(at, next);
        }
    }
}
