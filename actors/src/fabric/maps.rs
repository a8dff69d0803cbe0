//! Which maps of members of one cluster somebody lacks.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use codeco_protocol::gossip::{Delta, LIST_MAX, Mark, SealedDelta, View, Views};
use codeco_protocol::ids::{ClusterName, MemberId};

/// Whether a map known as far as `known` lacks something of one that is as far as `have`.
#[must_use]
pub fn is_behind(known: Mark, have: Mark) -> bool {
    known.incarnation < have.incarnation
        || (known.incarnation == have.incarnation && known.version < have.version)
}

fn of_cluster<'a>(views: &'a Views, cluster: Option<&'a ClusterName>) -> impl Iterator<Item = &'a View> {
    views.iter().filter(move |view| view.identity.cluster() == cluster)
}

/// How far the maps of a cluster are known, that of this member itself included.
#[must_use]
pub fn marks(own: (MemberId, Mark), cluster: Option<&ClusterName>, views: &Views) -> Vec<(MemberId, Mark)> {
    let others = of_cluster(views, cluster).map(|view| (view.identity.id, view.mark()));
    std::iter::once(own).chain(others).take(LIST_MAX).collect()
}

/// Maps of a cluster that a peer, which knows them as far as `known`, lacks, and how far they are known here.
#[must_use]
pub fn ahead(
    cluster: Option<&ClusterName>,
    views: &Views,
    peer: MemberId,
    known: &BTreeMap<MemberId, Mark>,
) -> Vec<(MemberId, Mark)> {
    of_cluster(views, cluster)
        .map(|view| (view.identity.id, view.mark()))
        .filter(|(owner, have)| {
            *owner != peer && is_behind(known.get(owner).copied().unwrap_or_default(), *have)
        })
        .take(LIST_MAX)
        .collect()
}

/// What a peer that knows maps as far as `known` lacks of those it `wants`, one piece of each.
#[must_use]
pub fn lacking(
    cluster: Option<&ClusterName>,
    views: &Views,
    wants: &BTreeSet<MemberId>,
    known: &BTreeMap<MemberId, Mark>,
) -> Vec<SealedDelta> {
    let wanted = wants.iter().filter_map(|owner| views.get(*owner));
    let ours = wanted.filter(|view| view.identity.cluster() == cluster);
    ours.filter_map(|view| {
        let (have, known) = (view.mark(), known.get(&view.identity.id).copied().unwrap_or_default());
        let from = if known.incarnation == have.incarnation { known.version } else { 0 };
        // What came unsigned from its owner is nothing to be passed on.
        let sealed = is_behind(known, have).then(|| view.sealed(from)).flatten();
        sealed.filter(|sealed| !sealed.delta.facts.is_empty())
    })
    .collect()
}

/// Facts that concern nobody but the member that tells them. All others are about clusters as wholes.
const OF_ONE: [&str; 7] = ["api", "certificate", "dialable", "gate", "host", "load", "member"];

/// Whether a delta concerns others than its owner.
#[must_use]
pub fn concerns_all(delta: &Delta) -> bool {
    let of_all = |key: &str| !OF_ONE.contains(&key) && !key.starts_with("replica/");
    // The first of a life replaces whatever was known.
    delta.from == 0 || delta.facts.iter().any(|(key, ..)| of_all(key))
}
