//! Where a member is in the network: a point whose distance to another one estimates the round trip between the two.
//!
//! Three dimensions and a height, as in Vivaldi (Dabek et al., SIGCOMM 2004, §5.4): the distance of the points stands for
//! the wide area, the heights for the access links at both ends. How members find their points is `codeco_actors::netma`.
//! On the wire everything is a whole number of bounded size: there is no such thing as an infinite coordinate.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use bincode::{Decode, Encode};

use crate::units::Micros;

/// Dimensions of the plane part.
pub const DIMENSIONS: usize = 3;
/// Largest amount of each dimension, and largest height: ten seconds.
pub const EXTENT_MAX_US: u32 = 10_000_000;
/// An error is a share of the distance, in thousandths; at most this.
pub const ERROR_MAX_PERMILLE: u16 = 2_000;
/// A point with a larger error says nothing: nothing is estimated from it.
pub const ERROR_USABLE_PERMILLE: u16 = 1_000;

/// A member's point, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Coordinate {
    /// Position, in microseconds along each axis.
    pub position: [i32; DIMENSIONS],
    /// Height above the plane, in microseconds: what every path to this member costs.
    pub height: u32,
    /// How far estimates from this point are off, as a share of the round trip, in thousandths.
    pub error_permille: u16,
}

/// A round trip that was not measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Estimate {
    /// Round trip.
    pub round_trip: Micros,
    /// How far it may be off, as a share of it, in thousandths.
    pub error_permille: u16,
}

impl Coordinate {
    /// Itself, unless a bound is exceeded: a point of somebody who does not keep to them is no point.
    #[must_use]
    pub fn checked(self) -> Option<Self> {
        let within = self.position.iter().all(|axis| axis.unsigned_abs() <= EXTENT_MAX_US)
            && self.height <= EXTENT_MAX_US
            && self.error_permille <= ERROR_MAX_PERMILLE;
        within.then_some(self)
    }

    /// The round trip between two points; `None` where one of them is out of bounds, or too unsure to say anything.
    #[must_use]
    pub fn estimate(&self, other: &Self) -> Option<Estimate> {
        let (here, there) = (self.checked()?, other.checked()?);
        let error_permille = here.error_permille.max(there.error_permille);
        if error_permille > ERROR_USABLE_PERMILLE {
            return None;
        }
        let plane = here
            .position
            .iter()
            .zip(there.position)
            .map(|(a, b)| (f64::from(*a) - f64::from(b)).powi(2))
            .sum::<f64>()
            .sqrt();
        let distance = plane + f64::from(here.height) + f64::from(there.height);
        // Bounded by the extents above: at most some ten seconds.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let round_trip = Micros(distance.round() as u64);
        Some(Estimate { round_trip, error_permille })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: Coordinate = Coordinate { position: [0, 0, 0], height: 100, error_permille: 50 };

    #[test]
    fn estimate_is_the_distance_in_the_plane_and_both_heights() {
        let there = Coordinate { position: [3_000, 4_000, 0], height: 900, error_permille: 200 };
        let estimate = HERE.estimate(&there).unwrap();
        assert_eq!(estimate, Estimate { round_trip: Micros(6_000), error_permille: 200 });
        assert_eq!(there.estimate(&HERE), Some(estimate), "it is the same both ways");
    }

    #[test]
    fn estimate_from_an_unsure_point_or_one_out_of_bounds_is_unknown() {
        let unsure = Coordinate { error_permille: ERROR_USABLE_PERMILLE + 1, ..HERE };
        let away = Coordinate { position: [i32::MIN, 0, 0], ..HERE };
        let high = Coordinate { height: EXTENT_MAX_US + 1, ..HERE };
        let boasting = Coordinate { error_permille: u16::MAX, ..HERE };
        for other in [unsure, away, high, boasting] {
            assert_eq!(HERE.estimate(&other), None, "{other:?}");
        }
        assert!(away.checked().is_none() && unsure.checked().is_some());
    }

    proptest! {
        #[test]
        fn estimate_of_any_two_points_on_the_wire_is_bounded_or_unknown(
            a in any::<([i32; DIMENSIONS], u32, u16)>(), b in any::<([i32; DIMENSIONS], u32, u16)>(),
        ) {
            let point = |(position, height, error_permille)| Coordinate { position, height, error_permille };
            if let Some(estimate) = point(a).estimate(&point(b)) {
                prop_assert!(estimate.round_trip.0 <= 6 * u64::from(EXTENT_MAX_US));
            }
        }
    }
}
