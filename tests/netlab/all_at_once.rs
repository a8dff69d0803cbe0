//! All at once: faults of every kind begin and end at random, some at the same time, while applications are ordered,
//! changed and deleted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use codeco_tests::netlab::{Active, Fault, Manner, Place, Process, faketime};

use crate::trial::{self, Trial, can_run, plan};
use crate::{agents, all_but};

/// How long the storm lasts.
const LENGTH: Duration = Duration::from_secs(60);
/// Most faults at once.
const AT_ONCE: usize = 3;
/// Agents that are special in some way.
const WITH_CLOCK: usize = 1;
const WITH_SMALL_DISK: usize = 2;
const BEHIND_NAT: usize = 5;
/// What can go wrong.
const KINDS: u32 = 17;

/// One fault that the random numbers choose, for some seconds.
fn choose(random: &mut fastrand::Rng, kind: u32) -> Fault {
    let one = random.usize(0..6);
    // What is behind a router has no line of its own to be slowed.
    let on_bridge = random.usize(0..5);
    match kind {
        0 => Fault::Loss { of: agents(&[one]), with: all_but(&[]), percent: random.u8(10..50) },
        1 => Fault::OneWayCut { from: agents(&[one]), to: all_but(&[one]) },
        2 => Fault::OneWayCut { from: all_but(&[one]), to: agents(&[one]) },
        3 => Fault::Cut { of: agents(&[one]), with: all_but(&[one]) },
        4 => Fault::Cut { of: agents(&[3, 4, 5]), with: all_but(&[3, 4, 5]) },
        5 => Fault::NoUdp { of: agents(&[one]) },
        6 => Fault::Rate { of: agents(&[one]), kbit: random.u32(16..128) },
        7 => Fault::Down { of: Place::Agent(on_bridge) },
        8 => Fault::Slow { of: agents(&[on_bridge]), manner: rough(random) },
        9 => Fault::Renumbered { of: BEHIND_NAT },
        10 => Fault::FullDisk { of: WITH_SMALL_DISK },
        11 => Fault::Clock { of: WITH_CLOCK, by_seconds: random.i64(-100_000..7_200) },
        12 => Fault::Kill(Process::Hub),
        13 => Fault::Kill(Process::Agent(one)),
        14 => Fault::Kill(Process::Guard(one)),
        15 => Fault::Pause(Process::Hub),
        _ => Fault::Pause(Process::Agent(one)),
    }
}

fn rough(random: &mut fastrand::Rng) -> Manner {
    Manner {
        delay: Duration::from_millis(random.u64(5..150)),
        jitter: Duration::from_millis(random.u64(0..100)),
        overtaking_percent: random.u8(0..20),
        doubled_percent: random.u8(0..20),
        lost_percent: random.u8(0..5),
    }
}

/// What two faults at once would both change: a process, a disk, a clock, an interface, a queue.
fn thing(fault: &Fault) -> String {
    match fault {
        Fault::Kill(process) | Fault::Pause(process) => match process {
            Process::Hub => "hub".into(),
            Process::Agent(at) | Process::Guard(at) => format!("node {at}"),
        },
        Fault::Slow { of, .. } => format!("routes of {of:?}"),
        Fault::Down { of } => format!("routes of {:?}", [of]),
        Fault::Rate { of, .. } => format!("queue of {of:?}"),
        Fault::Renumbered { .. } => "addresses".into(),
        Fault::FullDisk { of } => format!("node {of}"),
        Fault::Clock { .. } => "clock".into(),
        // Each has rules of its own, and packets are lost by any of them.
        Fault::Loss { .. } | Fault::OneWayCut { .. } | Fault::Cut { .. } | Fault::NoUdp { .. } => {
            format!("{fault:?}")
        }
    }
}

/// Faults that last, when each ends, and what they have changed.
type Lasting = BTreeMap<String, (Instant, Active)>;

#[test]
fn storm_of_all_faults_doubles_nothing_and_leaves_what_was_ordered() {
    let lacking = faketime().is_none().then_some("libfaketime is missing: apt-get install faketime");
    if !can_run(lacking) {
        return;
    }
    let plan = trial::Plan {
        behind_nat: vec![BEHIND_NAT],
        own_clock: vec![WITH_CLOCK],
        small_disk: vec![WITH_SMALL_DISK],
        ..plan()
    };
    println!("seed {}; another one: CODECO_TEST_SEED=N", plan.seed);
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut trial = Trial::start(&plan);
    let (began, mut lasting) = (Instant::now(), Lasting::new());
    let mut kinds: Vec<u32> = Vec::new();
    while began.elapsed() < LENGTH {
        if lasting.len() < AT_ONCE {
            if kinds.is_empty() {
                // Each kind comes before any comes again.
                kinds = (0..KINDS).collect();
                random.shuffle(&mut kinds);
            }
            let length = Duration::from_millis(random.u64(2_000..10_000));
            if let Some(kind) = kinds.pop() {
                let fault = choose(&mut random, kind);
                if lasting.contains_key(&thing(&fault)) {
                    kinds.insert(0, kind);
                } else {
                    begin(&mut trial, &mut lasting, began, &fault, length);
                }
            }
        }
        // A hub that is stopped or dead answers nobody, and would only hold us up.
        if !lasting.contains_key("hub") {
            trial.order_anything(&mut random);
        }
        std::thread::sleep(Duration::from_millis(random.u64(200..800)));
        let due: Vec<String> = lasting
            .iter()
            .filter(|(_, (end, _))| *end <= Instant::now())
            .map(|(what, _)| what.clone())
            .collect();
        for what in &due {
            let (_, fault) = lasting.remove(what).unwrap();
            fault.heal(&mut trial.field).unwrap();
        }
        trial.nothing_wrong();
        if !due.is_empty() {
            trial.nothing_lost();
        }
    }
    for (_, (_, fault)) in lasting {
        fault.heal(&mut trial.field).unwrap();
    }
    let healed = Instant::now();
    trial.settle_orders();
    println!("storm: converged {:.1} s after its end", healed.elapsed().as_secs_f64());
    trial.end();
}

fn begin(trial: &mut Trial, lasting: &mut Lasting, began: Instant, fault: &Fault, length: Duration) {
    let what = thing(fault);
    let at = began.elapsed().as_secs_f64();
    trial.strike(fault);
    match fault.clone().apply(&mut trial.field) {
        Ok(active) => {
            println!("{at:5.1} s: {fault:?} for {:.1} s", length.as_secs_f64());
            lasting.insert(what, (Instant::now() + length, active));
        }
        // A guard that is just being started again cannot be killed.
        Err(trouble) if matches!(fault, Fault::Kill(Process::Guard(_))) => println!("{at:5.1} s: {trouble}"),
        Err(trouble) => panic!("{fault:?}: {trouble:?}"),
    }
}
