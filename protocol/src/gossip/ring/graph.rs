//! Who observes whom: rings over the members, each in an order of its own.
//!
//! Both neighbours on a ring observe each other, so a member has about twice as many observers as there are rings, and
//! they are spread over the whole cluster: an expander, on which news reaches everybody in a few steps (Rapid, Suresh et
//! al. 2018).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ids::MemberId;

/// Neighbours of each member.
pub(super) type Graph = BTreeMap<MemberId, BTreeSet<MemberId>>;

/// The graph over `members`: a full mesh up to `mesh_max` of them, `rings` rings beyond. Equal for equal members.
pub(super) fn graph(members: &BTreeSet<MemberId>, rings: u64, mesh_max: usize) -> Graph {
    let mut graph: Graph = members.iter().map(|member| (*member, BTreeSet::new())).collect();
    let mut join = |a: MemberId, b: MemberId| {
        if a != b {
            graph.entry(a).or_default().insert(b);
            graph.entry(b).or_default().insert(a);
        }
    };
    if members.len() <= mesh_max {
        for a in members {
            for b in members.range((std::ops::Bound::Excluded(a), std::ops::Bound::Unbounded)) {
                join(*a, *b);
            }
        }
        return graph;
    }
    for ring in 0..rings {
        let mut order: Vec<MemberId> = members.iter().copied().collect();
        order.sort_by_key(|member| (place(*member, ring), *member));
        for (at, member) in order.iter().enumerate() {
            join(*member, order[(at + 1) % order.len()]);
        }
    }
    graph
}

/// Where a member stands on a ring: a mix of both (SplitMix64), so that orders have nothing to do with each other.
fn place(member: MemberId, ring: u64) -> u64 {
    let [high, low] = halves(member);
    mix(mix(low ^ ring.wrapping_mul(0x9e37_79b9_7f4a_7c15)) ^ high)
}

pub(super) fn halves(member: MemberId) -> [u64; 2] {
    let bytes = member.0.to_be_bytes();
    let (high, low) = bytes.split_at(8);
    [high, low].map(|half| half.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
}

pub(super) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Members that can be reached from `start` through others that are `living`, over edges that are not `broken`.
pub(super) fn reachable(
    graph: &Graph,
    start: MemberId,
    living: &BTreeSet<MemberId>,
    broken: &BTreeSet<(MemberId, MemberId)>,
) -> BTreeSet<MemberId> {
    let mut reached = BTreeSet::from([start]);
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        if !living.contains(&at) {
            continue;
        }
        for next in graph.get(&at).into_iter().flatten() {
            let edge = if at < *next { (at, *next) } else { (*next, at) };
            if !broken.contains(&edge) && reached.insert(*next) {
                queue.push_back(*next);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u128) -> BTreeSet<MemberId> {
        (0..count).map(|at| MemberId(at * 7_919 + 1)).collect()
    }

    #[test]
    fn small_clusters_are_full_meshes_and_large_ones_have_few_edges_each() {
        let small = graph(&members(16), 4, 16);
        assert!(small.values().all(|n| n.len() == 15));
        let large = graph(&members(500), 4, 16);
        assert!(large.values().all(|n| (4..=8).contains(&n.len())));
        let mean = large.values().map(BTreeSet::len).sum::<usize>() / large.len();
        assert!(mean >= 7, "{mean}");
    }

    #[test]
    fn everybody_is_reached_until_edges_break() {
        let all = members(500);
        let large = graph(&all, 4, 16);
        let start = *all.first().unwrap();
        assert_eq!(reachable(&large, start, &all, &BTreeSet::new()), all);
        let victim = *all.last().unwrap();
        let broken: BTreeSet<_> =
            large[&victim].iter().map(|n| if *n < victim { (*n, victim) } else { (victim, *n) }).collect();
        let reached = reachable(&large, start, &all, &broken);
        assert_eq!(reached.len(), 499);
        assert!(!reached.contains(&victim));
    }

    #[test]
    fn one_member_more_changes_few_neighbours() {
        let (before, mut all) = (graph(&members(200), 4, 16), members(200));
        all.insert(MemberId(3));
        let after = graph(&all, 4, 16);
        let changed = before.iter().filter(|(member, neighbours)| after[member] != **neighbours).count();
        assert!(changed <= 8, "{changed}");
    }
}
