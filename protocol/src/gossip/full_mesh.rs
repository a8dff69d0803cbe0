//! Membership for small clusters: every pair keeps a connection and probes it.
//!
//! A member silent for the window is suspect, and dead after a further grace. A member that hears nobody at all blames
//! itself: it says «I am cut off» and holds its verdicts back.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use super::{Liveness, Membership, MembershipInput, MembershipOutput, Probe};
use crate::ids::{Identity, MemberId};
use crate::units::{BootTime, Micros};

/// Times of the detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullMeshConfig {
    /// Between two probes of one member.
    pub period: Micros,
    /// Silence that makes suspect.
    pub window: Micros,
    /// Further silence that makes dead.
    pub grace: Micros,
}

impl Default for FullMeshConfig {
    /// Probes every half second; suspect after 1.2 s, dead after 2.4 s.
    fn default() -> Self {
        Self {
            period: Micros::from_millis(500),
            window: Micros::from_millis(1_200),
            grace: Micros::from_millis(1_200),
        }
    }
}

#[derive(Debug, Clone)]
struct Peer {
    identity: Identity,
    connected: bool,
    liveness: Liveness,
    heard: BootTime,
    next_probe: BootTime,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct FullMesh {
    config: FullMeshConfig,
    peers: BTreeMap<MemberId, Peer>,
    sequence: u32,
    cut_off: bool,
}

impl FullMesh {
    /// A member that knows nobody yet.
    #[must_use]
    pub fn new(config: FullMeshConfig) -> Self {
        Self { config, peers: BTreeMap::new(), sequence: 0, cut_off: false }
    }

    fn hear(&mut self, now: BootTime, member: MemberId, out: &mut Vec<MembershipOutput>) {
        let Some(peer) = self.peers.get_mut(&member) else { return };
        peer.heard = now;
        if peer.liveness != Liveness::Alive {
            peer.liveness = Liveness::Alive;
            let member = peer.identity.clone();
            out.push(MembershipOutput::Changed { member, liveness: Liveness::Alive });
        }
        if std::mem::take(&mut self.cut_off) {
            out.push(MembershipOutput::CutOff(false));
        }
    }

    fn tick(&mut self, now: BootTime, out: &mut Vec<MembershipOutput>) {
        self.probe_due(now, out);
        let window = self.config.window;
        let watched = |peer: &&Peer| !matches!(peer.liveness, Liveness::Left | Liveness::Dead);
        let watched_now = self.peers.values().filter(watched).count();
        let silent = |peer: &Peer| now.since(peer.heard) > window;
        let all_silent = watched_now >= 2 && self.peers.values().filter(watched).all(silent);
        if all_silent && !self.cut_off {
            self.cut_off = true;
            out.push(MembershipOutput::CutOff(true));
        }
        // Whoever hears nobody is more likely cut off than a witness of a massacre.
        if self.cut_off {
            return;
        }
        for peer in self.peers.values_mut() {
            let silence = now.since(peer.heard);
            let verdict = match peer.liveness {
                Liveness::Alive if silence > self.config.window => Liveness::Suspect,
                Liveness::Suspect if silence > self.config.window + self.config.grace => Liveness::Dead,
                _ => continue,
            };
            peer.liveness = verdict;
            out.push(MembershipOutput::Changed { member: peer.identity.clone(), liveness: verdict });
        }
    }

    fn probe_due(&mut self, now: BootTime, out: &mut Vec<MembershipOutput>) {
        for (member, peer) in &mut self.peers {
            if !peer.connected || peer.next_probe > now {
                continue;
            }
            peer.next_probe = now + self.config.period;
            self.sequence = self.sequence.wrapping_add(1);
            let heard_you = now.since(peer.heard) <= self.config.window;
            let probe = Probe::Ping { sequence: self.sequence, heard_you };
            out.push(MembershipOutput::Send { to: *member, probe });
        }
    }
}

impl Membership for FullMesh {
    fn handle(&mut self, now: BootTime, input: MembershipInput, out: &mut Vec<MembershipOutput>) {
        match input {
            MembershipInput::Connected(identity) => {
                let member = identity.id;
                let peer = self.peers.entry(member).or_insert_with(|| Peer {
                    identity,
                    connected: true,
                    liveness: Liveness::Dead,
                    heard: now,
                    next_probe: now,
                });
                peer.connected = true;
                peer.next_probe = now;
                self.hear(now, member, out);
            }
            MembershipInput::Disconnected { member, orderly } => {
                let Some(peer) = self.peers.get_mut(&member) else { return };
                peer.connected = false;
                if orderly && peer.liveness != Liveness::Left {
                    peer.liveness = Liveness::Left;
                    let member = peer.identity.clone();
                    out.push(MembershipOutput::Changed { member, liveness: Liveness::Left });
                }
            }
            MembershipInput::Probe { from, probe: Probe::Ping { sequence, heard_you } } => {
                out.push(MembershipOutput::Send { to: from, probe: Probe::Pong { sequence } });
                // A ping of one that does not hear us proves only half of a link.
                if heard_you {
                    self.hear(now, from, out);
                }
            }
            MembershipInput::Probe { from, probe: Probe::Pong { .. } } => self.hear(now, from, out),
            MembershipInput::Tick => self.tick(now, out),
        }
    }

    fn members(&self) -> Vec<(Identity, Liveness)> {
        self.peers.values().map(|peer| (peer.identity.clone(), peer.liveness)).collect()
    }

    fn is_cut_off(&self) -> bool {
        self.cut_off
    }

    fn next_tick(&self, now: BootTime) -> BootTime {
        now + Micros(self.config.period.0 / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Role;

    fn identity(id: u128) -> Identity {
        Identity { role: Role::Hub, id: MemberId(id) }
    }

    fn changes(out: &[MembershipOutput]) -> Vec<(u128, Liveness)> {
        out.iter()
            .filter_map(|o| match o {
                MembershipOutput::Changed { member, liveness } => Some((member.id.0, *liveness)),
                _ => None,
            })
            .collect()
    }

    /// Ticks every 100 ms for `millis`; the members in `answering` answer every probe.
    fn run(mesh: &mut FullMesh, from: u64, millis: u64, answering: &[u128]) -> Vec<MembershipOutput> {
        let mut all = vec![];
        for at in (from..from + millis).step_by(100) {
            let now = BootTime(at * 1_000);
            let mut out = vec![];
            mesh.handle(now, MembershipInput::Tick, &mut out);
            for o in out.clone() {
                if let MembershipOutput::Send { to, probe: Probe::Ping { sequence, .. } } = o
                    && answering.contains(&to.0)
                {
                    let probe = Probe::Pong { sequence };
                    mesh.handle(now, MembershipInput::Probe { from: to, probe }, &mut out);
                }
            }
            all.extend(out);
        }
        all
    }

    fn mesh_of(ids: &[u128]) -> FullMesh {
        let mut mesh = FullMesh::new(FullMeshConfig::default());
        for id in ids {
            mesh.handle(BootTime(0), MembershipInput::Connected(identity(*id)), &mut vec![]);
        }
        mesh
    }

    #[test]
    fn membership_of_a_silent_member_goes_from_suspect_to_dead_and_back_when_heard() {
        let mut mesh = mesh_of(&[1, 2]);
        let out = run(&mut mesh, 0, 5_000, &[1]);
        assert_eq!(changes(&out), [(2, Liveness::Suspect), (2, Liveness::Dead)]);
        let out = run(&mut mesh, 5_000, 1_000, &[1, 2]);
        assert_eq!(changes(&out), [(2, Liveness::Alive)]);
    }

    #[test]
    fn membership_that_hears_nobody_blames_itself() {
        let mut mesh = mesh_of(&[1, 2, 3]);
        let out = run(&mut mesh, 0, 10_000, &[]);
        assert!(mesh.is_cut_off());
        assert_eq!(changes(&out).iter().filter(|(_, l)| *l == Liveness::Dead).count(), 0, "{out:?}");
        let out = run(&mut mesh, 10_000, 1_000, &[1, 2, 3]);
        assert!(out.contains(&MembershipOutput::CutOff(false)));
    }

    #[test]
    fn membership_of_one_that_said_good_bye_is_left_not_dead() {
        let mut mesh = mesh_of(&[1, 2]);
        let mut out = vec![];
        let bye = MembershipInput::Disconnected { member: MemberId(2), orderly: true };
        mesh.handle(BootTime(0), bye, &mut out);
        out.extend(run(&mut mesh, 0, 10_000, &[1]));
        assert_eq!(changes(&out), [(2, Liveness::Left)]);
    }

    #[test]
    fn membership_ping_of_one_that_does_not_hear_us_is_no_sign_of_life() {
        let mut mesh = mesh_of(&[1, 2]);
        let mut all = vec![];
        for at in (0..5_000).step_by(100) {
            let now = BootTime(at * 1_000);
            let deaf = Probe::Ping { sequence: 1, heard_you: false };
            mesh.handle(now, MembershipInput::Probe { from: MemberId(2), probe: deaf }, &mut all);
            all.extend(run(&mut mesh, at, 100, &[1]));
        }
        assert!(changes(&all).contains(&(2, Liveness::Dead)), "{:?}", changes(&all));
    }
}
