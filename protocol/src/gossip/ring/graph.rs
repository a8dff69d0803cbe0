//! Who observes whom: rings over the members, each in an order of its own.
//!
//! Both neighbours on a ring observe each other, so a member has about twice as many observers as there are rings, and
//! they are spread over the whole cluster: an expander, on which news reaches everybody in a few steps (Rapid, Suresh et
//! al. 2018).

use std::collections::BTreeSet;

use super::roster::{Bits, Roster};
use crate::ids::MemberId;

/// A search that has come so far from its start is met by others soon.
const BALL: usize = 256;

/// Neighbours of each member, by number.
#[derive(Debug)]
pub(super) struct Graph {
    rings: u64,
    mesh_max: usize,
    members: Bits,
    len: usize,
    /// Where the neighbours of each begin in `near`; one more at the end.
    starts: Vec<u32>,
    near: Vec<u32>,
}

/// How far one comes on a graph from some member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reach {
    /// Members that live, and that nothing leads to. Sorted.
    pub(super) unreached: Vec<u32>,
    /// How many are reached, with those that do not live but are neighbours of one that is.
    pub(super) reached: usize,
}

impl Graph {
    /// The graph over `members`: a full mesh up to `mesh_max` of them, `rings` rings beyond. Equal for equal members.
    pub(super) fn over(roster: &Roster, members: &Bits, rings: u64, mesh_max: usize) -> Self {
        let all: Vec<u32> = members.iter().collect();
        let mut next_to: Vec<Vec<u32>> = Vec::new();
        if all.len() > mesh_max {
            next_to = vec![Vec::new(); roster.len()];
            for ring in 0..rings {
                let mut order: Vec<(u64, u32)> =
                    all.iter().map(|at| (place(roster.id(*at), ring), *at)).collect();
                order.sort_unstable_by(|(a, x), (b, y)| {
                    a.cmp(b).then_with(|| roster.id(*x).cmp(&roster.id(*y)))
                });
                for (at, (_, member)) in order.iter().enumerate() {
                    let (_, next) = order[(at + 1) % order.len()];
                    next_to[*member as usize].push(next);
                    next_to[next as usize].push(*member);
                }
            }
        }
        let (mut starts, mut near) = (Vec::with_capacity(roster.len() + 1), Vec::new());
        let end = |near: &Vec<u32>| u32::try_from(near.len()).unwrap_or(u32::MAX);
        for at in (0..).take(roster.len()) {
            starts.push(end(&near));
            if let Some(neighbours) = next_to.get_mut(at as usize) {
                neighbours.sort_unstable();
                neighbours.dedup();
                near.extend(neighbours.iter().filter(|other| **other != at));
            } else if members.holds(at as usize) {
                near.extend(all.iter().filter(|other| **other != at));
            }
        }
        starts.push(end(&near));
        near.shrink_to_fit();
        Self { rings, mesh_max, members: members.clone(), len: all.len(), starts, near }
    }

    /// Whether this is the graph over these.
    pub(super) fn is_over(&self, members: &Bits, rings: u64, mesh_max: usize) -> bool {
        self.rings == rings && self.mesh_max == mesh_max && self.members == *members
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn holds(&self, at: u32) -> bool {
        self.members.holds(at as usize)
    }

    fn range(&self, at: u32) -> std::ops::Range<usize> {
        let bound = |at: usize| self.starts.get(at).map_or(self.near.len(), |bound| *bound as usize);
        bound(at as usize)..bound(at as usize + 1)
    }

    /// Its neighbours, sorted; none if the graph does not hold it.
    pub(super) fn near(&self, at: u32) -> &[u32] {
        &self.near[self.range(at)]
    }

    /// Where the edge from one to the other is in `near`.
    fn edge(&self, a: u32, b: u32) -> Option<usize> {
        self.near(a).binary_search(&b).ok().map(|at| self.range(a).start + at)
    }

    /// How far one comes from `start`, which lives, through others that do, over edges that are not `broken`. `absent`:
    /// members of the graph that do not live.
    ///
    /// Every ring goes through all members, so the whole graph is connected, and whatever is separate now has a broken edge
    /// or a neighbour that is absent. So it is enough to search from there, until that search meets the one from the start
    /// or ends: where little is broken, it looks at few.
    pub(super) fn reach(
        &self,
        start: u32,
        absent: &BTreeSet<u32>,
        broken: impl Iterator<Item = (u32, u32)>,
    ) -> Reach {
        let mut cut = Bits::with_room(self.near.len());
        let mut borders = Vec::new();
        for (a, b) in broken {
            for (from, to) in [(a, b), (b, a)] {
                if let Some(edge) = self.edge(from, to) {
                    cut.put(edge, true);
                    borders.push(from);
                }
            }
        }
        let mut search = Search { graph: self, cut, seen: vec![Seen::Not; self.starts.len() - 1] };
        for at in absent {
            search.seen[*at as usize] = Seen::Absent;
            borders.extend(self.near(*at));
        }
        let mut unreached = Vec::new();
        let (ball, end) = search.explore(start, BALL);
        search.mark(&ball, Seen::Reached);
        if end == End::Nothing {
            let rest = self.members.iter().filter(|at| search.seen[*at as usize] == Seen::Not);
            unreached.extend(rest);
            search.mark(&unreached, Seen::Unreached);
        }
        for border in borders {
            if search.seen[border as usize] == Seen::Not {
                let (part, end) = search.explore(border, usize::MAX);
                if end == End::Met {
                    search.mark(&part, Seen::Reached);
                } else {
                    search.mark(&part, Seen::Unreached);
                    unreached.extend(part);
                }
            }
        }
        let at_edge = absent.iter().filter(|at| search.touches(**at)).count();
        unreached.sort_unstable();
        let reached = self.len - absent.len() - unreached.len() + at_edge;
        Reach { unreached, reached }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Not,
    /// By the search that runs.
    Now,
    Reached,
    Unreached,
    Absent,
}

/// How a search ended: it met what is reached, there was nothing more, or it has found as many as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Met,
    Nothing,
    Enough,
}

struct Search<'a> {
    graph: &'a Graph,
    cut: Bits,
    seen: Vec<Seen>,
}

impl Search<'_> {
    fn explore(&mut self, from: u32, enough: usize) -> (Vec<u32>, End) {
        let mut found = vec![from];
        self.seen[from as usize] = Seen::Now;
        let mut looked_at = 0;
        while let Some(at) = found.get(looked_at).copied() {
            looked_at += 1;
            for edge in self.graph.range(at) {
                if self.cut.holds(edge) {
                    continue;
                }
                let next = self.graph.near[edge];
                match self.seen[next as usize] {
                    Seen::Reached => return (found, End::Met),
                    Seen::Not => {
                        self.seen[next as usize] = Seen::Now;
                        found.push(next);
                    }
                    Seen::Now | Seen::Unreached | Seen::Absent => {}
                }
            }
            if found.len() >= enough {
                return (found, End::Enough);
            }
        }
        (found, End::Nothing)
    }

    fn mark(&mut self, all: &[u32], seen: Seen) {
        for at in all {
            self.seen[*at as usize] = seen;
        }
    }

    /// Whether an unbroken edge leads from one that is reached to this one.
    fn touches(&self, at: u32) -> bool {
        let lives = |seen| !matches!(seen, Seen::Absent | Seen::Unreached);
        let mut edges = self.graph.range(at);
        edges.any(|edge| !self.cut.holds(edge) && lives(self.seen[self.graph.near[edge] as usize]))
    }
}

/// Where a member stands on a ring: a mix of both (SplitMix64), so that orders have nothing to do with each other.
fn place(member: MemberId, ring: u64) -> u64 {
    let [high, low] = halves(member);
    mix(mix(low ^ ring.wrapping_mul(0x9e37_79b9_7f4a_7c15)) ^ high)
}

#[allow(clippy::cast_possible_truncation)]
pub(super) fn halves(member: MemberId) -> [u64; 2] {
    [(member.0 >> 64) as u64, member.0 as u64]
}

pub(super) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u128) -> (Roster, Bits) {
        let roster = Roster::new((0..count).map(|at| MemberId(at * 7_919 + 1)).collect());
        let mut all = Bits::with_room(roster.len());
        (0..roster.len()).for_each(|at| all.put(at, true));
        (roster, all)
    }

    fn graph(count: u128) -> Graph {
        let (roster, all) = members(count);
        Graph::over(&roster, &all, 4, 16)
    }

    /// The same by the plain search over everything.
    fn plain(graph: &Graph, start: u32, absent: &BTreeSet<u32>, broken: &BTreeSet<(u32, u32)>) -> Reach {
        let (mut reached, mut queue) = (BTreeSet::from([start]), vec![start]);
        while let Some(at) = queue.pop() {
            if absent.contains(&at) {
                continue;
            }
            for next in graph.near(at) {
                let edge = (at.min(*next), at.max(*next));
                if !broken.contains(&edge) && reached.insert(*next) {
                    queue.push(*next);
                }
            }
        }
        let unreached = graph.members.iter().filter(|at| !absent.contains(at) && !reached.contains(at));
        Reach { unreached: unreached.collect(), reached: reached.len() }
    }

    #[test]
    fn small_clusters_are_full_meshes_and_large_ones_have_few_edges_each() {
        let small = graph(16);
        assert!((0..16).all(|at| small.near(at).len() == 15));
        let large = graph(500);
        assert!((0..500).all(|at| (4..=8).contains(&large.near(at).len())));
        let mean = (0..500).map(|at| large.near(at).len()).sum::<usize>() / large.len();
        assert!(mean >= 7, "{mean}");
    }

    #[test]
    fn everybody_is_reached_until_edges_break() {
        let large = graph(500);
        assert!(large.reach(0, &BTreeSet::new(), std::iter::empty()).unreached.is_empty());
        let victim = 499;
        let broken = large.near(victim).iter().map(|other| (*other, victim));
        let reach = large.reach(0, &BTreeSet::new(), broken);
        assert_eq!(reach, Reach { unreached: vec![victim], reached: 499 });
    }

    #[test]
    fn reach_is_that_of_a_search_over_everything_whatever_is_broken_or_absent() {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut separated = 0;
        for round in 0..600 {
            let count = [3, 12, 60, 700][round % 4];
            let graph = graph(count);
            let count = u32::try_from(count).unwrap();
            let start = rng.u32(..count);
            let share = [0.0, 0.02, 0.3, 0.6, 0.9][rng.usize(..5)];
            let gone = [0.0, 0.02, 0.3, 0.6, 0.9][rng.usize(..5)];
            let half = rng.bool();
            let absent: BTreeSet<u32> = (0..count).filter(|at| *at != start && rng.f64() < gone).collect();
            let mut broken = BTreeSet::new();
            for at in 0..count {
                for other in graph.near(at) {
                    let across = (at < count / 2) != (*other < count / 2);
                    if at < *other && ((half && across) || rng.f64() < share) {
                        broken.insert((at, *other));
                    }
                }
            }
            let reach = graph.reach(start, &absent, broken.iter().copied());
            assert_eq!(reach, plain(&graph, start, &absent, &broken), "round {round}");
            separated += usize::from(!reach.unreached.is_empty());
        }
        assert!((100..550).contains(&separated), "{separated}");
    }

    #[test]
    fn one_member_more_changes_few_neighbours() {
        let (roster, mut all) = members(201);
        let after = Graph::over(&roster, &all, 4, 16);
        all.put(100, false);
        let before = Graph::over(&roster, &all, 4, 16);
        let changed = (0..201).filter(|at| *at != 100 && before.near(*at) != after.near(*at)).count();
        assert!((1..=8).contains(&changed), "{changed}");
    }
}
