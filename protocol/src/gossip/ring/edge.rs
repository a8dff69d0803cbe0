//! Connections, and wishes for them: those of few members, whatever their number.

use std::collections::BTreeMap;

use crate::units::{BootTime, Micros};

/// See [`Edge::deceived`].
const DECEIVED_MAX: u32 = 2;
/// Time in which an edge has not deceived, after which it is trusted a little more.
const TRUSTED_AFTER: Micros = Micros::from_secs(30);

/// One connection, or the wish for one.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    pub(super) connected: bool,
    /// In which life the other end has said over it that it is.
    pub(super) told: Option<u64>,
    /// Since when it may lead to an earlier life, by what others tell of the member.
    pub(super) outlived: Option<BootTime>,
    /// Last sign of life over it.
    pub(super) heard: BootTime,
    /// Since when an answer is missing.
    pub(super) awaiting: Option<BootTime>,
    pub(super) next_ping: BootTime,
    pub(super) next_dial: BootTime,
    pub(super) dials: u32,
    /// Since when the other's view differs from ours, or since they were exchanged last.
    pub(super) differs: Option<BootTime>,
    /// How often they were exchanged since they were equal.
    pub(super) swaps: u32,
    /// How often silence over it has proven nothing of late: it counts as silent after so many doublings of the window.
    deceived: u32,
    /// When that is forgotten by one.
    trusted: BootTime,
}

impl Edge {
    pub(super) fn new(now: BootTime) -> Self {
        Self {
            connected: false,
            told: None,
            outlived: None,
            heard: now,
            awaiting: None,
            next_ping: now,
            next_dial: now,
            dials: 0,
            differs: None,
            swaps: 0,
            deceived: 0,
            trusted: now,
        }
    }

    /// The same, as it is when a connection has just come up.
    pub(super) fn renewed(&self, now: BootTime) -> Self {
        let Self { swaps, deceived, trusted, .. } = *self;
        Self { connected: true, swaps, deceived, trusted, ..Self::new(now) }
    }

    /// Whether an answer has been missing for `window`, or longer where that has proven nothing before.
    pub(super) fn is_silent(&self, now: BootTime, window: Micros) -> bool {
        self.awaiting.is_some_and(|since| now.since(since).0 >= window.0 << self.deceived)
    }

    /// Its silence was none.
    pub(super) fn deceives(&mut self, now: BootTime) {
        self.deceived = (self.deceived + 1).min(DECEIVED_MAX);
        self.trusted = now + TRUSTED_AFTER;
    }

    pub(super) fn forgive(&mut self, now: BootTime) {
        if self.deceived > 0 && now >= self.trusted {
            self.deceived -= 1;
            self.trusted = now + TRUSTED_AFTER;
        }
    }

    /// Looks at it now instead of at its next turn.
    pub(super) fn check(&mut self, now: BootTime) {
        if self.connected && self.awaiting.is_none() {
            self.awaiting = Some(now);
            self.next_ping = now;
        }
    }

    /// Whether time alone changes nothing about it.
    fn rests(&self) -> bool {
        !self.connected && self.awaiting.is_none() && self.deceived == 0
    }

    /// Whether it is like one that has never been.
    fn is_blank(&self, now: BootTime) -> bool {
        self.rests() && self.dials == 0 && self.swaps == 0 && self.next_dial <= now
    }
}

/// Edges to members of our cluster, by their numbers. One that is not here is blank.
#[derive(Debug, Clone, Default)]
pub(super) struct Edges {
    /// Those that have to be looked at as time passes.
    active: BTreeMap<u32, Edge>,
    /// Those of which something is remembered.
    resting: BTreeMap<u32, Edge>,
    connected: usize,
}

impl Edges {
    /// How many are connected.
    pub(super) fn connected(&self) -> usize {
        self.connected
    }

    pub(super) fn get(&self, at: u32) -> Option<&Edge> {
        self.active.get(&at).or_else(|| self.resting.get(&at))
    }

    /// To change it. Whether it is connected is changed by [`Self::connect`] and [`Self::sever`] alone.
    pub(super) fn get_mut(&mut self, at: u32, now: BootTime) -> &mut Edge {
        let resting = &mut self.resting;
        let found = || resting.remove(&at).unwrap_or_else(|| Edge::new(now));
        self.active.entry(at).or_insert_with(found)
    }

    pub(super) fn is_connected(&self, at: u32) -> bool {
        self.active.get(&at).is_some_and(|edge| edge.connected)
    }

    /// Whether it is to be dialled, if it is wanted.
    pub(super) fn is_due(&self, at: u32, now: BootTime) -> bool {
        self.get(at).is_none_or(|edge| !edge.connected && edge.next_dial <= now)
    }

    pub(super) fn connect(&mut self, at: u32, now: BootTime) {
        let edge = self.get_mut(at, now);
        let is_new = !edge.connected;
        *edge = edge.renewed(now);
        self.connected += usize::from(is_new);
    }

    /// The connection is gone.
    pub(super) fn sever(&mut self, at: u32, now: BootTime) -> &mut Edge {
        self.connected -= usize::from(self.is_connected(at));
        let edge = self.get_mut(at, now);
        edge.connected = false;
        edge
    }

    pub(super) fn remove(&mut self, at: u32) {
        self.connected -= usize::from(self.is_connected(at));
        self.active.remove(&at);
        self.resting.remove(&at);
    }

    /// Those that have to be looked at.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Edge)> {
        self.active.iter().map(|(at, edge)| (*at, edge))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Edge)> {
        self.active.iter_mut().map(|(at, edge)| (*at, edge))
    }

    /// Time has passed: those that rest need no looks.
    pub(super) fn put_to_rest(&mut self, now: BootTime) {
        if self.active.len() == self.connected {
            return;
        }
        let resting = &mut self.resting;
        self.active.retain(|at, edge| {
            if edge.rests() && !edge.is_blank(now) {
                resting.insert(*at, edge.clone());
            }
            !edge.rests()
        });
    }
}
