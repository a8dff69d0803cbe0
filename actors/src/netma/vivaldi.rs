//! How a member finds its point: it moves a little towards or away from each member it has measured, until distances
//! are like round trips (Vivaldi: Dabek, Cox, Kaashoek, Morris, «Vivaldi: a decentralized network coordinate system»,
//! SIGCOMM 2004, with the height of §5.4), and slowly towards the origin, so that the whole fleet does not drift
//! (Ledlie, Gardner, Seltzer, «Network coordinates in the wild», NSDI 2007).
//!
//! What others are told is the mean of where a member has lately been: around a place where nothing fits quite, a point
//! swings for ever.
//!
//! Whoever lies about its point can pull at those who measure it, and at nobody else. A point that fits much worse than
//! most is left out ([`Vivaldi::fitting`]); a step is bounded (`FORCE_MAX_US`), and so is the certainty that counts
//! (`ERROR_TRUSTED`); and each member is asked once a round, by the clock of the one who asks. So it takes half of
//! somebody's neighbours to mislead it.

use codeco_protocol::coordinate::{Coordinate, DIMENSIONS, ERROR_MAX_PERMILLE, EXTENT_MAX_US};
use codeco_protocol::units::Micros;

/// How far a step goes, as a share of the misfit (c_c of the paper).
const STEP: f64 = 0.25;
/// How fast the error follows (c_e of the paper).
const ERROR_STEP: f64 = 0.25;
/// The error of one that knows nothing yet.
const ERROR_FIRST: f64 = 1.5;
/// Nobody is believed to be surer than this.
const ERROR_TRUSTED: f64 = 0.05;
/// Smallest height: no path costs nothing.
const HEIGHT_MIN_US: f64 = 10.0;
/// Largest misfit that counts in one step.
const FORCE_MAX_US: f64 = 100_000.0;
/// Distance from the origin at which the pull back is one microsecond a step.
const GRAVITY_US: f64 = 1_500_000.0;
/// A round trip shorter than this is as this: below it there is only noise.
const ROUND_TRIP_MIN_US: f64 = 20.0;

/// Looks over which the mean is taken at most; in the beginning, over the later half of those there were, because what a
/// member believed before it had measured anything says nothing of where it is.
const MEAN_LOOKS: f64 = 32.0;
/// Members from which on it can be told who does not fit.
const JURY_MIN: usize = 4;
/// How much worse than the median one may fit.
const FIT_FACTOR: f64 = 8.0;
/// And by how much besides.
const FIT_SLACK_US: f64 = 5_000.0;

/// Where a member is, in the making.
#[derive(Debug, Clone, PartialEq)]
pub struct Vivaldi {
    position: [f64; DIMENSIONS],
    height: f64,
    error: f64,
    mean: Mean,
    rng: fastrand::Rng,
}

/// Where it has been of late: each axis, the height, the error.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mean {
    values: [f64; DIMENSIONS + 2],
    looks: f64,
}

impl Mean {
    fn take(&mut self, values: [f64; DIMENSIONS + 2]) {
        self.looks = (self.looks + 1.0).min(2.0 * MEAN_LOOKS);
        let over = (self.looks / 2.0).max(1.0);
        for (mean, value) in self.values.iter_mut().zip(values) {
            *mean += (value - *mean) / over;
        }
    }
}

impl Vivaldi {
    /// At the origin, knowing nothing. The seed decides where to go from where another one is, too.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            position: [0.0; DIMENSIONS],
            height: HEIGHT_MIN_US,
            error: ERROR_FIRST,
            mean: Mean { values: [0.0, 0.0, 0.0, HEIGHT_MIN_US, ERROR_FIRST], looks: 0.0 },
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// The point, as others are told. All of it is within the bounds of [`Coordinate::checked`].
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn coordinate(&self) -> Coordinate {
        let extent = f64::from(EXTENT_MAX_US);
        let [x, y, z, height, error] = self.mean.values;
        Coordinate {
            position: [x, y, z].map(|axis| axis.round().clamp(-extent, extent) as i32),
            height: height.round().clamp(0.0, extent) as u32,
            error_permille: (error * 1_000.0).round().clamp(0.0, f64::from(ERROR_MAX_PERMILLE)) as u16,
        }
    }

    /// Which of these members' points, with measured round trips, fit about as well as most do. Of few, all.
    #[must_use]
    pub fn fitting(&self, all: &[(Coordinate, Micros)]) -> Vec<bool> {
        let misfits: Vec<f64> = all
            .iter()
            .map(|(other, round_trip)| (self.distance(*other) - round_trip.as_f64()).abs())
            .collect();
        let mut sorted = misfits.clone();
        sorted.sort_by(f64::total_cmp);
        let most = match sorted.get(sorted.len().saturating_sub(1) / 2) {
            Some(median) if all.len() >= JURY_MIN => FIT_FACTOR * median + FIT_SLACK_US,
            _ => f64::INFINITY,
        };
        misfits.iter().map(|misfit| *misfit <= most).collect()
    }

    fn distance(&self, other: Coordinate) -> f64 {
        let mut apart = [0.0; DIMENSIONS];
        for ((apart, own), theirs) in apart.iter_mut().zip(self.position).zip(other.position) {
            *apart = own - f64::from(theirs);
        }
        norm(&apart) + self.height + f64::from(other.height)
    }

    /// A round of measurements is over: the mean follows.
    pub fn settle(&mut self) {
        let [x, y, z] = self.position;
        self.mean.take([x, y, z, self.height, self.error]);
    }

    /// Takes one measured round trip to a member that says that it is at `other`. Returns `false`, and does not move,
    /// if that is no point, or no round trip.
    pub fn observe(&mut self, other: Coordinate, round_trip: Micros) -> bool {
        let Some(other) = other.checked() else { return false };
        if round_trip.0 == 0 || round_trip.0 > u64::from(EXTENT_MAX_US) {
            return false;
        }
        let measured = round_trip.as_f64().max(ROUND_TRIP_MIN_US);
        let their_error = (f64::from(other.error_permille) / 1_000.0).max(ERROR_TRUSTED);
        let their_height = f64::from(other.height).max(HEIGHT_MIN_US);
        let mut apart = [0.0; DIMENSIONS];
        for ((apart, own), theirs) in apart.iter_mut().zip(self.position).zip(other.position) {
            *apart = own - f64::from(theirs);
        }
        let mut plane = norm(&apart);
        let distance = plane + self.height + their_height;
        if plane < 1.0 {
            // At one place, any direction is as good.
            for axis in &mut apart {
                *axis = self.rng.f64() - 0.5;
            }
            plane = norm(&apart).max(f64::MIN_POSITIVE);
        }
        let weight = self.error / (self.error + their_error);
        let misfit = (distance - measured).abs() / measured;
        let share = ERROR_STEP * weight;
        self.error = (misfit * share + self.error * (1.0 - share)).clamp(0.001, ERROR_FIRST);
        let force = STEP * weight * (measured - distance).clamp(-FORCE_MAX_US, FORCE_MAX_US);
        for (axis, apart) in self.position.iter_mut().zip(apart) {
            *axis += force * apart / plane;
        }
        self.height = (self.height + force * (self.height + their_height) / distance).max(HEIGHT_MIN_US);
        self.fall_back();
        true
    }

    /// A little towards the origin, and never out of bounds.
    fn fall_back(&mut self) {
        let out = norm(&self.position);
        let pull = (out / GRAVITY_US).powi(2).min(out);
        let extent = f64::from(EXTENT_MAX_US);
        for axis in &mut self.position {
            if out > 0.0 {
                *axis -= pull * *axis / out;
            }
            *axis = axis.clamp(-extent, extent);
        }
        self.height = self.height.min(extent);
    }
}

fn norm(vector: &[f64; DIMENSIONS]) -> f64 {
    vector.iter().map(|axis| axis * axis).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Members in a plane of 80 × 80 ms with access links of 1 to 10 ms, each of which measures eight others.
    struct World {
        places: Vec<(f64, f64, f64)>,
        points: Vec<Vivaldi>,
        neighbours: Vec<Vec<usize>>,
    }

    impl World {
        fn new(members: usize, seed: u64) -> Self {
            let mut rng = fastrand::Rng::with_seed(seed);
            let places = (0..members)
                .map(|_| (rng.f64() * 80_000.0, rng.f64() * 80_000.0, 500.0 + rng.f64() * 4_500.0))
                .collect();
            let points = (0..members).map(|at| Vivaldi::new(seed ^ at as u64)).collect();
            let neighbours = (0..members)
                .map(|at| {
                    let others = std::iter::repeat_with(|| rng.usize(..members)).filter(|other| *other != at);
                    others.take(8).collect()
                })
                .collect();
            Self { places, points, neighbours }
        }

        fn truth(&self, a: usize, b: usize) -> f64 {
            let (a, b) = (self.places[a], self.places[b]);
            ((a.0 - b.0).powi(2) + (a.1 - b.1).powi(2)).sqrt() + a.2 + b.2
        }

        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        fn round(&mut self, told: &dyn Fn(usize, &Vivaldi) -> Coordinate) {
            for at in 0..self.points.len() {
                let samples: Vec<(Coordinate, Micros)> = self.neighbours[at]
                    .iter()
                    .map(|other| {
                        let round_trip = Micros(self.truth(at, *other).round() as u64);
                        (told(*other, &self.points[*other]), round_trip)
                    })
                    .collect();
                let fitting = self.points[at].fitting(&samples);
                for ((point, round_trip), _) in samples.into_iter().zip(fitting).filter(|(_, fits)| *fits) {
                    self.points[at].observe(point, round_trip);
                }
                self.points[at].settle();
            }
        }

        /// Relative errors of all pairs among `members` that were never measured, sorted.
        fn errors(&self, members: std::ops::Range<usize>) -> Vec<f64> {
            let mut errors = Vec::new();
            for a in members.clone() {
                for b in members.clone().filter(|b| a < *b) {
                    if self.neighbours[a].contains(&b) || self.neighbours[b].contains(&a) {
                        continue;
                    }
                    let estimate = self.points[a].coordinate().estimate(&self.points[b].coordinate());
                    let estimate = estimate.map_or(0.0, |estimate| estimate.round_trip.as_f64());
                    errors.push((estimate - self.truth(a, b)).abs() / self.truth(a, b));
                }
            }
            errors.sort_by(f64::total_cmp);
            errors
        }
    }

    #[test]
    fn points_of_a_fleet_come_to_estimate_pairs_that_were_never_measured() {
        for seed in 0..5 {
            let mut world = World::new(40, seed);
            for _ in 0..300 {
                world.round(&|_, point| point.coordinate());
            }
            let errors = world.errors(0..40);
            let (median, worst_tenth) = (errors[errors.len() / 2], errors[errors.len() * 9 / 10]);
            assert!(median < 0.10 && worst_tenth < 0.35, "seed {seed}: median {median}, p90 {worst_tenth}");
        }
    }

    #[test]
    fn points_of_the_honest_stay_of_use_when_some_lie_about_theirs() {
        for seed in 0..5 {
            let mut world = World::new(40, seed);
            // Four of forty claim, quite sure, to be far away, elsewhere in each round.
            let far = |other: usize, point: &Vivaldi| {
                if other < 36 {
                    return point.coordinate();
                }
                Coordinate { position: [9_000_000, -9_000_000, 0], height: 0, error_permille: 1 }
            };
            for _ in 0..300 {
                world.round(&far);
            }
            let errors = world.errors(0..36);
            let median = errors[errors.len() / 2];
            assert!(median < 0.25, "seed {seed}: median {median}");
        }
    }

    #[test]
    fn step_towards_a_far_claim_is_bounded() {
        let mut point = Vivaldi::new(1);
        let far = Coordinate { position: [9_999_999, 0, 0], height: 0, error_permille: 0 };
        assert!(point.observe(far, Micros(1_000)));
        assert!(norm(&point.position) <= STEP * FORCE_MAX_US + 1.0, "{point:?}");
        assert!(!point.observe(far, Micros(0)), "a failed probe is no round trip of nothing");
        let nowhere = Coordinate { height: u32::MAX, ..far };
        let before = point.clone();
        assert!(!point.observe(nowhere, Micros(1_000)));
        assert_eq!(point, before);
    }

    proptest! {
        #[test]
        fn point_stays_within_its_bounds_whatever_is_said(
            said in proptest::collection::vec(any::<([i32; DIMENSIONS], u32, u16, u64)>(), 0..200),
        ) {
            let mut point = Vivaldi::new(3);
            for (position, height, error_permille, round_trip) in said {
                point.observe(Coordinate { position, height, error_permille }, Micros(round_trip));
                point.settle();
                let told = point.coordinate();
                prop_assert!(told.checked().is_some());
                prop_assert!(point.position.iter().all(|axis| axis.is_finite()) && point.error.is_finite());
            }
        }
    }
}
