//! Probes over one connection, and what their silence means.

use super::{Edge, Ring, counts_as_living};
use crate::gossip::{Liveness, MembershipOutput, Probe};
use crate::ids::MemberId;
use crate::units::{BootTime, Micros};

/// Edges at which the period is the configured one; with more, each is probed less often, so that the bytes of a member
/// do not grow with their number.
const EDGES_REFERENCE: u64 = 8;

impl Ring {
    /// The period of each edge at the present number of them.
    pub(super) fn period(&self) -> Micros {
        let connected = self.edges.connected() as u64;
        Micros(self.config.period.0 * connected.max(EDGES_REFERENCE) / EDGES_REFERENCE)
    }

    /// Sends what is due. One ping a period serves both ends: the member with the lower id sends it, the other only if
    /// none came.
    pub(super) fn probe(&mut self, now: BootTime, out: &mut Vec<MembershipOutput>) {
        let (own, config, period, view) = (self.own.id, self.config, self.period(), self.view_digest());
        let retry = self.health.stretched(config.retry);
        let mut sequence = self.sequence;
        // Ids are far away in memory, so only those of edges that are due are looked up.
        let mut due = |id: &dyn Fn() -> MemberId, edge: &mut Edge| {
            if !edge.connected || edge.next_ping > now {
                return;
            }
            let member = id();
            let behind = now.since(edge.heard) > Micros(period.0 + period.0 / 10);
            if edge.awaiting.is_none() && own > member && !behind {
                // The other end pings. Looked at again when it is late.
                edge.next_ping = edge.heard + Micros(period.0 + period.0 / 10 + 1);
                return;
            }
            edge.awaiting.get_or_insert(now);
            edge.next_ping = now + retry;
            sequence = sequence.wrapping_add(1);
            let heard_you = now.since(edge.heard) <= Micros(period.0 + config.window.0);
            out.push(MembershipOutput::Send { to: member, probe: Probe::Ping { sequence, heard_you, view } });
        };
        for (at, edge) in self.edges.iter_mut() {
            due(&|| self.members.id(at), edge);
        }
        for (member, outsider) in &mut self.outsiders {
            due(&|| *member, &mut outsider.edge);
        }
        self.sequence = sequence;
    }

    pub(super) fn probed(
        &mut self,
        now: BootTime,
        from: MemberId,
        probe: Probe,
        out: &mut Vec<MembershipOutput>,
    ) {
        let digest = self.view_digest();
        let ours = self.peer(from).is_some();
        let (alive, theirs) = match probe {
            Probe::Ping { sequence, heard_you, view } => {
                out.push(MembershipOutput::Send { to: from, probe: Probe::Pong { sequence, view: digest } });
                // A ping of one that does not hear us proves only half of a link.
                (heard_you, view)
            }
            Probe::Pong { view, .. } => (true, view),
            // They measure a way, and carry no view.
            Probe::Echo { .. } | Probe::Echoed { .. } => return,
        };
        if alive {
            self.heard(now, from, out);
        }
        let Some(edge) = self.edge_mut(from, now) else { return };
        if !ours || theirs == digest {
            (edge.differs, edge.swaps) = (None, 0);
        } else {
            edge.differs.get_or_insert(now);
        }
    }

    /// A sign of life over a connection.
    pub(super) fn heard(&mut self, now: BootTime, from: MemberId, out: &mut Vec<MembershipOutput>) {
        // Spread out, or edges made at one time would be looked at at one time for ever.
        let (period, retry) = (self.period().0, self.config.retry);
        let period = Micros(self.rng.u64(period * 4 / 5..=period));
        let Some(edge) = self.edge_mut(from, now) else { return };
        let answered = edge.awaiting.take().is_some();
        edge.outlived = None;
        edge.heard = now;
        if answered || edge.next_ping <= now + retry {
            edge.next_ping = now + period;
        }
        if let Some(outsider) = self.outsiders.get_mut(&from)
            && outsider.liveness != Liveness::Alive
        {
            outsider.liveness = Liveness::Alive;
            let member = outsider.identity.clone();
            out.push(MembershipOutput::Changed { member, liveness: Liveness::Alive });
        }
        if self.cut_off.take().is_some() {
            out.push(MembershipOutput::CutOff(false));
        }
    }

    /// Whoever hears nobody is more likely cut off than a witness of a massacre.
    pub(super) fn judge_isolation(&mut self, now: BootTime, out: &mut Vec<MembershipOutput>) {
        if self.cut_off.is_some() {
            return;
        }
        let window = self.window();
        let all_edges = || {
            let peers = self.edges.iter().map(|(at, edge)| (Some(at), edge));
            let outsiders = self.outsiders.values().filter(|outsider| counts_as_living(outsider.liveness));
            let all = peers.chain(outsiders.map(|outsider| (None, &outsider.edge)));
            all.filter(|(_, edge)| edge.connected || edge.awaiting.is_some())
        };
        // Mostly none is, and nothing else has to be looked at.
        if !all_edges().any(|(_, edge)| edge.is_silent(now, window)) {
            return;
        }
        let (mut edges, mut silent) = (0, 0);
        for (_, edge) in all_edges().filter(|(at, _)| at.is_none_or(|at| self.members.lives(at))) {
            edges += 1;
            silent += u32::from(edge.is_silent(now, window));
        }
        // With one edge alone it cannot be told who is cut off; the other is believed dead then.
        if edges >= 2 && silent == edges {
            self.cut_off = Some(now);
            out.push(MembershipOutput::CutOff(true));
        }
    }

    /// Outsiders have no other observers here: what this member sees is what it believes.
    pub(super) fn judge_outsiders(&mut self, now: BootTime, out: &mut Vec<MembershipOutput>) {
        if self.cut_off.is_some() {
            return;
        }
        let window = self.window();
        let dead = Micros(window.0 + self.config.grace.0);
        for outsider in self.outsiders.values_mut() {
            let verdict = match outsider.liveness {
                Liveness::Alive if outsider.edge.is_silent(now, window) => Liveness::Suspect,
                Liveness::Suspect if outsider.edge.is_silent(now, dead) => Liveness::Dead,
                _ => continue,
            };
            outsider.liveness = verdict;
            let member = outsider.identity.clone();
            out.push(MembershipOutput::Changed { member, liveness: verdict });
        }
    }
}
