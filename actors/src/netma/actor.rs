//! The shell of [`Netma`]: shows it the connections and the views of this process, and spreads what it says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use codeco_protocol::api::LinkView;
use codeco_protocol::coordinate::Coordinate;
use codeco_protocol::ids::MemberId;
use codeco_protocol::units::Micros;
use futures::FutureExt as _;

use super::{LinkState, Netma, Seen};
use crate::clock::boot_now;
use crate::fabric::Commons;
use crate::process::{Pace, PeriodicMessage, following_child};
use crate::supervision::{ChildRef, ChildSpec, Policy};

/// Between two looks; sooner when a connection has come or gone.
const LOOK: Pace = Pace { least: Duration::from_millis(250), most: Duration::from_secs(1) };

/// What the rest of this process should hear; gossip is seen to here.
#[derive(Debug, Clone, PartialEq)]
pub enum NetworkWord {
    /// All round trips, since some have changed.
    RoundTrips(Vec<(MemberId, Micros)>),
    /// The own point, since it has moved.
    Coordinate(Coordinate),
}

/// What this process sees of the network. Outlives restarts of its actor.
pub struct NetworkEye {
    commons: Arc<Commons>,
    core: Mutex<Netma>,
}

impl std::fmt::Debug for NetworkEye {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NetworkEye({})", self.commons.own)
    }
}

impl NetworkEye {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(commons: Arc<Commons>) -> Arc<Self> {
        let seed = u64::try_from(commons.own.id.0 & u128::from(u64::MAX)).unwrap_or(0);
        Arc::new(Self { commons, core: Mutex::new(Netma::new(seed, boot_now())) })
    }

    fn core(&self) -> MutexGuard<'_, Netma> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks once, and spreads what is news. Returns what this process itself should hear.
    pub fn look(&self) -> Vec<NetworkWord> {
        let mut seen: BTreeMap<MemberId, Seen> = BTreeMap::new();
        let nothing = Seen { path: None, believed: None, point: None, echo: None };
        let mut echoes = self.commons.take_echoes(boot_now());
        for (identity, liveness) in self.commons.members() {
            seen.insert(identity.id, Seen { believed: Some(liveness), ..nothing });
        }
        for (member, linked) in self.commons.links().iter() {
            seen.entry(*member).or_insert(nothing).path = Some(linked.connection.path());
        }
        for (member, seen) in &mut seen {
            seen.point = self.commons.point(*member);
            seen.echo = echoes.remove(member);
        }
        let told = self.core().look(boot_now(), &seen);
        for member in told.probe {
            self.commons.send_echo(member, boot_now());
        }
        let mut words = Vec::new();
        words.extend(told.round_trips.map(NetworkWord::RoundTrips));
        if let Some(coordinate) = told.coordinate {
            self.commons.set_own_point(coordinate);
            words.push(NetworkWord::Coordinate(coordinate));
        }
        words
    }

    /// Where this member is.
    #[must_use]
    pub fn coordinate(&self) -> Coordinate {
        self.core().coordinate()
    }

    /// Whether an answer of this member is missing, or it is believed dead.
    #[must_use]
    pub fn is_silent(&self, member: MemberId) -> bool {
        let core = self.core();
        core.link(member).is_some_and(|link| matches!(link.state(), LinkState::Silent | LinkState::Down))
    }

    /// The links of this member, called `from`, for people.
    #[must_use]
    pub fn links(&self, from: &str) -> Vec<LinkView> {
        super::views::link_views(&self.commons, &self.core(), from, boot_now())
    }
}

/// The actor as a supervised child. Others hear of the own point at intervals of so many times `pace` as there are links
/// to tell it over, or more: the period of a probe is a good one. `hear` is given what this process itself should hear; what it cannot take is told
/// again with the next change.
pub fn netma_child(
    eye: &Arc<NetworkEye>,
    policy: Policy,
    pace: Micros,
    hear: impl Fn(NetworkWord) + Send + Sync + 'static,
) -> (ChildSpec, ChildRef<PeriodicMessage>) {
    eye.core().set_pace(pace);
    let follows = vec![eye.commons.follow_links()];
    let (eye, hear) = (Arc::clone(eye), Arc::new(hear));
    following_child("netma", policy, LOOK, follows, move || {
        let (eye, hear) = (Arc::clone(&eye), Arc::clone(&hear));
        async move {
            eye.look().into_iter().for_each(|word| hear(word));
            Ok(())
        }
        .boxed()
    })
}
