//! What must always hold, one file for each promise, with the sentence it protects. Each is told what happens as it
//! happens, and keeps of it what it needs to judge the next step.

mod brakes;
mod i1_promises;
mod i2_single;
mod i3_replay;
mod i4_reservations;
mod i5_unknown;
mod i6_stops;
mod i7_links;
mod i8_converges;
mod queues;
mod tombstones;
mod views;

pub(crate) use brakes::Said;
pub(crate) use i1_promises::check_promises;
pub(crate) use i4_reservations::check_reservations;
pub(crate) use i7_links::check_links;

/// The observers of one run.
#[derive(Debug, Default)]
pub(crate) struct Oracles {
    pub(crate) single: i2_single::Single,
    pub(crate) known: i5_unknown::Known,
    pub(crate) stops: i6_stops::Stops,
    pub(crate) deleted: tombstones::Deleted,
    pub(crate) places: i6_stops::Places,
    pub(crate) brakes: brakes::Brakes,
    pub(crate) views: views::ViewsWatch,
}
