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

/// The observers of one run.
#[derive(Debug, Default)]
pub(crate) struct Oracles {
    pub(crate) promises: i1_promises::Promises,
    pub(crate) single: i2_single::Single,
    pub(crate) reservations: i4_reservations::Reservations,
    pub(crate) known: i5_unknown::Known,
    pub(crate) stops: i6_stops::Stops,
    pub(crate) deleted: tombstones::Deleted,
    pub(crate) links: i7_links::Links,
    pub(crate) places: i6_stops::Places,
    pub(crate) brakes: brakes::Brakes,
    pub(crate) views: views::ViewsWatch,
}
