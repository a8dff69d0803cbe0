//! The delay from one place to another: measured, else estimated by where both are, else unknown.

use codeco_protocol::coordinate::Coordinate;
use codeco_protocol::ids::MemberId;
use codeco_protocol::messages::NodeFacts;
use codeco_protocol::units::Micros;

/// A delay one way: half a round trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// How long.
    pub one_way: Micros,
    /// Whether nobody has measured it.
    pub estimated: bool,
}

impl Delay {
    /// Of a replica to one beside it.
    pub const NONE: Self = Self { one_way: Micros(0), estimated: false };

    fn of(round_trip: Micros, estimated: bool) -> Self {
        Self { one_way: Micros(round_trip.0 / 2), estimated }
    }

    /// Between two nodes, by what each says of itself: a measurement of either counts before an estimate.
    #[must_use]
    pub fn between_nodes(
        (here, facts): (MemberId, Option<&NodeFacts>),
        (there, others): (MemberId, Option<&NodeFacts>),
    ) -> Option<Self> {
        if here == there {
            return Some(Self::NONE);
        }
        let measured = |facts: Option<&NodeFacts>, to: MemberId| {
            facts?.round_trips.iter().find(|(member, _)| *member == to).map(|(_, round_trip)| *round_trip)
        };
        let measured = measured(facts, there).or_else(|| measured(others, here));
        measured
            .map(|round_trip| Self::of(round_trip, false))
            .or_else(|| Self::estimated(facts.and_then(|f| f.coordinate), others.and_then(|f| f.coordinate)))
    }

    /// By where both ends are.
    #[must_use]
    pub fn estimated(here: Option<Coordinate>, there: Option<Coordinate>) -> Option<Self> {
        let estimate = here?.estimate(&there?)?;
        Some(Self::of(estimate.round_trip, true))
    }

    /// By the way through a third that has measured both: packets may find a shorter one.
    #[must_use]
    pub fn through(here: Option<Micros>, there: Option<Micros>) -> Option<Self> {
        Some(Self { one_way: Micros(here?.0.midpoint(there?.0)), estimated: true })
    }
}

#[cfg(test)]
mod tests {
    use codeco_protocol::ids::{Incarnation, NodeName};
    use codeco_protocol::resources::Resources;

    use super::*;

    const A: MemberId = MemberId(1);
    const B: MemberId = MemberId(2);

    fn facts(round_trips: Vec<(MemberId, Micros)>, height: Option<u32>) -> NodeFacts {
        NodeFacts {
            name: NodeName::new("n").unwrap(),
            incarnation: Incarnation(1),
            capacity: Resources::default(),
            free: Resources::default(),
            labels: vec![],
            power: None,
            cordoned: false,
            round_trips,
            draining: false,
            coordinate: height.map(|height| Coordinate { position: [0; 3], height, error_permille: 100 }),
            traits: Default::default(),
        }
    }

    fn between(a: &NodeFacts, b: &NodeFacts) -> Option<Delay> {
        Delay::between_nodes((A, Some(a)), (B, Some(b)))
    }

    #[test]
    fn delay_is_measured_by_either_end_else_estimated_else_unknown() {
        let (measured, plain) = (facts(vec![(B, Micros(9_000))], Some(1_000)), facts(vec![], Some(3_000)));
        let half = Some(Delay { one_way: Micros(4_500), estimated: false });
        assert_eq!(between(&measured, &plain), half);
        assert_eq!(Delay::between_nodes((B, Some(&plain)), (A, Some(&measured))), half, "of either end");
        let near = facts(vec![], Some(1_000));
        assert_eq!(between(&near, &plain), Some(Delay { one_way: Micros(2_000), estimated: true }));
        assert_eq!(between(&near, &facts(vec![], None)), None, "unknown, not near");
        assert_eq!(Delay::between_nodes((A, Some(&near)), (B, None)), None);
        assert_eq!(Delay::between_nodes((A, None), (A, None)), Some(Delay::NONE));
    }
}
