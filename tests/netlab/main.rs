//! Chaos on real machines' terms: a hub and two clusters of three, every member in a network namespace of its own, and
//! one thing after the other goes wrong. While it does, nothing that must run once runs twice, and what needs no lease
//! runs on; afterwards everything comes back to what was ordered, and the journals of all members agree.
//!
//! What it needs and what each test proves: `docs/netlab.md`.
#![allow(clippy::unwrap_used)]

mod all_at_once;
mod trial;

use std::time::Duration;

use codeco_protocol::api::{EventView, LinkStatus, LinkView};
use codeco_tests::netlab::{Fault, Manner, Place, Process, faketime};
use trial::{Trial, can_run, plan};

/// Agents of the first and of the second cluster. The first of each founds its electorate, and usually leads.
const FIRST: [usize; 3] = [0, 1, 2];
const SECOND: [usize; 3] = [3, 4, 5];
/// Longer than a lease, and than it takes a member to be believed dead.
const HOLD: Duration = Duration::from_secs(6);

fn agents(numbers: &[usize]) -> Vec<Place> {
    numbers.iter().map(|at| Place::Agent(*at)).collect()
}

fn all_but(numbers: &[usize]) -> Vec<Place> {
    let others = (0..6).filter(|at| !numbers.contains(at)).map(Place::Agent);
    std::iter::once(Place::Hub).chain(others).collect()
}

/// The whole story of one fault on a fleet without anything special.
fn plain(name: &str, fault: Fault) {
    if can_run(None) {
        let mut trial = Trial::start(&plan());
        trial.suffer(name, fault, HOLD, |_| {});
        trial.end();
    }
}

/// The same, where one agent is cut off from all others: what needs a lease ends there, and all that ran there runs
/// elsewhere while the fault still lasts.
fn isolating(name: &str, at: usize, fault: Fault) {
    isolating_for(HOLD, name, at, fault);
}

fn isolating_for(hold: Duration, name: &str, at: usize, fault: Fault) {
    if can_run(None) {
        let mut trial = Trial::start(&plan());
        trial.suffer(name, fault, hold, |trial| {
            trial.fenced_have_ended(at);
            trial.replaced(at);
        });
        trial.end();
    }
}

#[test]
fn cluster_that_loses_a_quarter_of_its_packets_converges() {
    plain("25 % loss", Fault::Loss { of: agents(&FIRST), with: all_but(&[]), percent: 25 });
}

#[test]
fn node_that_hears_and_is_not_heard_takes_part_again() {
    isolating("one-way cut", 2, Fault::OneWayCut { from: agents(&[2]), to: all_but(&[2]) });
}

#[test]
fn lead_that_is_cut_off_is_followed_by_another_and_takes_part_again() {
    isolating("cut of a lead", 0, Fault::Cut { of: agents(&[0]), with: all_but(&[0]) });
}

#[test]
fn cluster_that_is_cut_off_keeps_its_work_and_hears_of_what_was_ordered() {
    plain("cut of a cluster", Fault::Cut { of: agents(&SECOND), with: all_but(&SECOND) });
}

#[test]
fn node_without_udp_is_waited_out_and_takes_part_again() {
    isolating("UDP blocked", 4, Fault::NoUdp { of: agents(&[4]) });
}

#[test]
fn node_on_a_narrow_line_harms_nobody() {
    plain("16 kbit/s", Fault::Rate { of: agents(&[5]), kbit: 16 });
}

#[test]
fn node_whose_interface_is_down_takes_part_again() {
    isolating("interface down", 1, Fault::Down { of: Place::Agent(1) });
}

#[test]
fn cluster_on_slow_lines_that_reorder_and_repeat_converges() {
    let manner = Manner {
        delay: Duration::from_millis(60),
        jitter: Duration::from_millis(40),
        overtaking_percent: 10,
        doubled_percent: 10,
        lost_percent: 1,
    };
    plain("slow lines", Fault::Slow { of: agents(&FIRST), manner });
}

#[test]
fn lead_that_is_killed_leaves_its_work_running_and_takes_part_again() {
    plain("agent killed", Fault::Kill(Process::Agent(3)));
}

#[test]
fn hub_that_is_killed_is_not_missed_and_remembers_what_was_ordered() {
    plain("hub killed", Fault::Kill(Process::Hub));
}

#[test]
fn guard_that_is_killed_takes_its_work_along_and_it_is_started_again() {
    plain("guard killed", Fault::Kill(Process::Guard(4)));
}

#[test]
fn agent_paused_for_half_a_minute_ends_what_it_may_not_keep_and_takes_part_again() {
    isolating_for(Duration::from_secs(30), "agent paused", 2, Fault::Pause(Process::Agent(2)));
}

#[test]
fn node_with_a_full_disk_promises_nothing_that_it_cannot_write_and_takes_part_again() {
    if can_run(None) {
        let mut trial = Trial::start(&trial::Plan { small_disk: vec![5], ..plan() });
        trial.suffer("disk full", Fault::FullDisk { of: 5 }, HOLD, |trial| {
            trial.order_until("its ledger finds the disk full", |trial| {
                let log = trial.field.log_of(5);
                let refused = log.lines().find(|l| l.contains("ledger.journal") && l.contains("os error 28"));
                refused.map(drop).ok_or_else(|| log.clone())
            });
        });
        trial.end();
    }
}

#[test]
fn wall_clock_that_jumps_stops_nothing_and_is_told() {
    let lacking = faketime().is_none().then_some("libfaketime is missing: apt-get install faketime");
    if can_run(lacking) {
        let mut trial = Trial::start(&trial::Plan { own_clock: vec![1], ..plan() });
        let (day, hour) = (24 * 3_600, 3_600);
        trial.suffer("wall clock a day back", Fault::Clock { of: 1, by_seconds: -day }, HOLD, |trial| {
            trial.until("the member tells that the time is unknown", |fleet| {
                let events: Vec<EventView> = fleet.get("events").map_err(|e| e.to_string())?;
                let told = |event: &EventView| {
                    event.reason == "ClockUnknown" && event.member.ends_with("edge-1/node-2")
                };
                if events.iter().any(told) { Ok(()) } else { Err(format!("{} other events", events.len())) }
            });
        });
        let before = trial.moved();
        trial.suffer("wall clock an hour ahead", Fault::Clock { of: 1, by_seconds: hour }, HOLD, |_| {});
        assert_eq!(trial.moved(), before, "the wall clock decides about nothing that runs");
        trial.end();
    }
}

#[test]
fn members_behind_routers_are_relayed_and_survive_another_address() {
    if can_run(None) {
        let mut trial = Trial::start(&trial::Plan { behind_nat: vec![4, 5], ..plan() });
        trial.until("two members behind routers are linked through a relay", |fleet| {
            let links: Vec<LinkView> = fleet.get("links").map_err(|e| e.to_string())?;
            let of_both = |link: &&LinkView| link.from == "edge-2/node-2" && link.to == "edge-2/node-3";
            let via = links.iter().filter(|link| link.status == LinkStatus::Up).find(of_both);
            via.and_then(|link| link.via.clone()).ok_or_else(|| format!("{links:#?}"))
        });
        trial.suffer("router renumbered", Fault::Renumbered { of: 5 }, HOLD, |_| {});
        trial.end();
    }
}
