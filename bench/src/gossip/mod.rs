//! `gossip`: membership of real agents beside Debian's `serf`, in one run, in a network namespace of its own.
//!
//! Both sides run as many processes as members on this machine. What each member knows is read from what it writes:
//! serf's lines are dated when they are read (its own clock shows whole seconds), ours by their own time. Ours carry
//! the whole agent: leases, facts, readiness, a connection to a hub; serf carries membership only.

mod net;
mod ours;
mod serf;
mod simulated;

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use crate::bars::Bars;
use crate::report::{Report, Samples};
use net::Broken;
use ours::Ours;
use serf::Serf;

type Error = Box<dyn std::error::Error>;

/// How long a change may take to reach all before it counts as never.
const DEADLINE: Duration = Duration::from_secs(120);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Quiet time after joining, so that what follows starts from rest.
const SETTLE: Duration = Duration::from_secs(8);

/// Options of `gossip`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Sizes at which joining, detection and idle cost are measured.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 50, 100])]
    nodes: Vec<usize>,
    /// Members killed at each size, one after the other.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// Seconds over which idle cost is measured.
    #[arg(long, default_value_t = 20)]
    idle_seconds: u64,
    /// Seconds under loss, and again under overload, in which nobody may be called dead.
    #[arg(long, default_value_t = 60)]
    stress_seconds: u64,
    /// Members in each half of the partition; 0 leaves it out.
    #[arg(long, default_value_t = 20)]
    half: usize,
    /// Our profile: `lan` or `metered`.
    #[arg(long, default_value = "lan")]
    profile: String,
    /// Leaves serf out, which takes most of the time.
    #[arg(long)]
    alone: bool,
    /// Plays the membership core alone in virtual time instead, which also takes thousands of `--nodes`.
    #[arg(long)]
    simulated: bool,
}

/// What a member says of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Alive,
    Dead,
}

/// A change in what a member knows.
#[derive(Debug, Clone, Copy)]
struct Event {
    at: SystemTime,
    observer: usize,
    about: usize,
    what: What,
}

/// One side of the comparison: members 0 to n − 1.
trait Side {
    fn name(&self) -> &'static str;
    fn start(&mut self, at: usize) -> Result<(), Error>;
    fn kill(&mut self, at: usize) -> Result<(), Error>;
    fn pids(&self) -> Vec<u32>;
    /// Waits until all that a start brings with it is done.
    fn await_rest(&mut self) -> Result<(), Error>;
    /// What has changed since the last call.
    fn events(&mut self) -> Result<Vec<Event>, Error>;
    /// Firewall rules that part the first half from the second.
    fn cut_in_half(&self) -> Vec<String>;
}

/// Figures of one side at one size, in the units of their rows.
#[derive(Debug, Default)]
struct Figures {
    join: f64,
    ready: f64,
    detection: Vec<f64>,
    bytes: f64,
    processor: f64,
    memory: Vec<f64>,
    false_deaths: f64,
    under_loss: f64,
    under_load: f64,
}

/// Measures. The process that only starts the one inside the namespace does not return.
pub(crate) fn run(options: &Options, seed: u64, bars: Bars) -> Result<Report, Error> {
    if options.simulated {
        return simulated::run(options, seed, bars);
    }
    net::require(options.alone)?;
    if let Some(status) = net::enter()? {
        std::process::exit(status.code().unwrap_or(1));
    }
    let setting = format!("{} kills, our profile {}", options.kills, options.profile);
    let mut report = Report::new("gossip", seed, 1, &setting, bars);
    for &nodes in &options.nodes {
        let stressed = Some(nodes) == options.nodes.iter().copied().max();
        let measured = |side: &mut dyn Side| {
            measure(side, nodes, options, stressed, &mut fastrand::Rng::with_seed(seed))
        };
        let theirs = (!options.alone).then(|| measured(&mut Serf::new(nodes))).transpose()?;
        let ours = measured(&mut Ours::new(nodes, &options.profile)?)?;
        add(&mut report, nodes, stressed, &ours, theirs.as_ref());
    }
    if options.half > 0 {
        let nodes = 2 * options.half;
        let theirs = (!options.alone).then(|| partition(&mut Serf::new(nodes), nodes)).transpose()?;
        let ours = partition(&mut Ours::new(nodes, &options.profile)?, nodes)?;
        add_partition(&mut report, options.half, ours, theirs);
    }
    Ok(report)
}

fn measure(
    side: &mut dyn Side,
    nodes: usize,
    options: &Options,
    stressed: bool,
    random: &mut fastrand::Rng,
) -> Result<Figures, Error> {
    let began = Instant::now();
    let mut figures = Figures { join: join(side, nodes)?, ..Figures::default() };
    progress(side, nodes, &format!("all see all after {:.2} s", figures.join));
    side.await_rest()?;
    figures.ready = began.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    figures.false_deaths += deaths(side)?;
    idle(side, nodes, options, &mut figures)?;
    progress(side, nodes, &format!("{:.0} B/s each", figures.bytes));
    for _ in 0..options.kills {
        // The first member is where the others join.
        let victim = random.usize(1..nodes);
        figures.detection.push(detection(side, nodes, victim, &mut figures.false_deaths)?);
    }
    progress(side, nodes, &format!("{} kills noticed", options.kills));
    if stressed {
        figures.under_loss = {
            let _loss = Broken::by(&["numgen random mod 10 == 0".to_owned()])?;
            quiet(side, options.stress_seconds)?
        };
        std::thread::sleep(SETTLE);
        deaths(side)?;
        figures.under_load = {
            let _load = Load::twice();
            quiet(side, options.stress_seconds)?
        };
        progress(side, nodes, "loss and overload over");
    }
    Ok(figures)
}

fn progress(side: &dyn Side, nodes: usize, what: &str) {
    eprintln!("{} × {nodes}: {what}", side.name());
}

/// Starts all members; seconds from the last start until every member knows every other.
fn join(side: &mut dyn Side, nodes: usize) -> Result<f64, Error> {
    for at in 0..nodes {
        side.start(at)?;
    }
    let began = SystemTime::now();
    let wanted = (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b))).filter(|(a, b)| a != b).collect();
    Ok(await_all(side, What::Alive, wanted, began, &mut 0.0)?.last)
}

/// Kills a member and starts it again; seconds until every other one had called it dead.
fn detection(side: &mut dyn Side, nodes: usize, victim: usize, wrong: &mut f64) -> Result<f64, Error> {
    *wrong += deaths(side)?;
    let began = SystemTime::now();
    side.kill(victim)?;
    let others = || (0..nodes).filter(|at| *at != victim);
    let told = await_all(side, What::Dead, others().map(|at| (at, victim)).collect(), began, wrong)?;
    let Told { first, half, last, by } = told;
    progress(side, nodes, &format!("{victim} is dead after {first:.2} s, {half:.2} s, {last:.2} s by {by}"));
    side.start(victim)?;
    let both = others().flat_map(|at| [(at, victim), (victim, at)]).collect();
    await_all(side, What::Alive, both, SystemTime::now(), wrong)?;
    Ok(last)
}

/// When something was told: seconds to the first of its observers, to half of them, and to the last, and who that was.
#[derive(Debug, Default)]
struct Told {
    first: f64,
    half: f64,
    last: f64,
    by: usize,
}

/// Waits until each pair (observer, about) has told of `what`, and says how long that took from `began` on. Deaths of
/// members that nobody waits for are counted as wrong.
fn await_all(
    side: &mut dyn Side,
    what: What,
    mut wanted: BTreeSet<(usize, usize)>,
    began: SystemTime,
    wrong: &mut f64,
) -> Result<Told, Error> {
    let deadline = Instant::now() + DEADLINE;
    let expected: BTreeSet<usize> = wanted.iter().map(|(_, about)| *about).collect();
    let mut told = Vec::new();
    while !wanted.is_empty() {
        for event in side.events()? {
            if event.what == what && wanted.remove(&(event.observer, event.about)) {
                told.push((event.at.duration_since(began).unwrap_or_default().as_secs_f64(), event.observer));
            }
            if event.what == What::Dead && !expected.contains(&event.about) {
                let (who, whom) = (event.observer, event.about);
                eprintln!("{}: member {who} wrongly calls {whom} dead", side.name());
                *wrong += 1.0;
            }
        }
        if Instant::now() > deadline {
            let (name, missing) = (side.name(), wanted.len());
            let example = wanted.first();
            return Err(
                format!("{name}: {missing} members did not say {what:?} in time, as {example:?}").into()
            );
        }
        std::thread::sleep(PAUSE);
    }
    told.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (Some(first), Some(last)) = (told.first(), told.last()) else { return Ok(Told::default()) };
    Ok(Told { first: first.0, half: told[told.len() / 2].0, last: last.0, by: last.1 })
}

/// Deaths told since the last look.
fn deaths(side: &mut dyn Side) -> Result<f64, Error> {
    let events = side.events()?;
    let dead = events.iter().filter(|event| event.what == What::Dead);
    for Event { observer, about, .. } in dead.clone() {
        eprintln!("{}: member {observer} calls {about} dead while nobody is", side.name());
    }
    Ok(dead.count() as f64)
}

/// Deaths told while nobody dies.
fn quiet(side: &mut dyn Side, seconds: u64) -> Result<f64, Error> {
    deaths(side)?;
    std::thread::sleep(Duration::from_secs(seconds));
    deaths(side)
}

/// What members cost while nothing happens.
fn idle(side: &mut dyn Side, nodes: usize, options: &Options, figures: &mut Figures) -> Result<(), Error> {
    let pids = side.pids();
    let processor = |pids: &[u32]| -> Result<f64, Error> {
        pids.iter().map(|pid| net::usage(*pid).map(|(seconds, _)| seconds)).sum()
    };
    let (bytes, used, began) = (net::bytes_sent()?, processor(&pids)?, Instant::now());
    std::thread::sleep(Duration::from_secs(options.idle_seconds));
    let (seconds, each) = (began.elapsed().as_secs_f64(), nodes as f64);
    figures.bytes = (net::bytes_sent()? - bytes) as f64 / seconds / each;
    figures.processor = (processor(&pids)? - used) / seconds / each * 100.0;
    for pid in pids {
        figures.memory.push(net::usage(pid)?.1);
    }
    Ok(())
}

/// Busy threads until dropped: twice as many as there are processors.
struct Load {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Load {
    fn twice() -> Self {
        let stop = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..2 * processors {
            let stop = std::sync::Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self { stop }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Seconds until both halves have given each other up, and from the heal until all know all again.
fn partition(side: &mut dyn Side, nodes: usize) -> Result<(f64, f64), Error> {
    join(side, nodes)?;
    std::thread::sleep(SETTLE);
    deaths(side)?;
    let across: BTreeSet<(usize, usize)> = (0..nodes)
        .flat_map(|a| (0..nodes).map(move |b| (a, b)))
        .filter(|(a, b)| (*a < nodes / 2) != (*b < nodes / 2))
        .collect();
    let cut = Broken::by(&side.cut_in_half())?;
    let known = await_all(side, What::Dead, across.clone(), SystemTime::now(), &mut 0.0)?.last;
    progress(side, nodes, &format!("both halves know after {known:.1} s"));
    drop(cut);
    let healed = await_all(side, What::Alive, across, SystemTime::now(), &mut 0.0)?.last;
    progress(side, nodes, &format!("healed after {healed:.1} s"));
    Ok((known, healed))
}

fn add(report: &mut Report, nodes: usize, stressed: bool, ours: &Figures, theirs: Option<&Figures>) {
    let samples =
        |who: &str, metric, unit, values| Samples { case: format!("{who} × {nodes}"), metric, unit, values };
    let mut pair = |metric, unit, of: fn(&Figures) -> Vec<f64>, allowed: f64| {
        let ours = of(ours);
        let samples_of_ours = samples("codeco", metric, unit, ours.clone());
        match theirs {
            Some(theirs) => report.compare(&samples_of_ours, &samples("serf", metric, unit, of(theirs))),
            None => report.add(&samples_of_ours),
        }
        // The worst of ours is held to what is promised.
        let worst = ours.into_iter().fold(0.0, f64::max);
        report.against(
            &samples("codeco", metric, unit, vec![worst]),
            &format!("allowed: {allowed} {unit}"),
            allowed,
        );
    };
    pair("join, all see all", "s", |figures| vec![figures.join], 1.0);
    pair("kill, all know", "s", |figures| figures.detection.clone(), 3.0);
    pair("idle traffic", "B/s", |figures| vec![figures.bytes], 1_100.0);
    pair("idle processor", "% of a core", |figures| vec![figures.processor], 0.1);
    pair("resident memory", "MiB", |figures| figures.memory.clone(), 12.0);
    // Nothing of serf's compares: each has a lead, and its lease.
    report.add(&samples("codeco", "start, all ready", "s", vec![ours.ready]));
    let mut count = |metric, of: fn(&Figures) -> f64| {
        if let Some(theirs) = theirs {
            report.add(&samples("serf", metric, "events", vec![of(theirs)]));
        }
        report.against(&samples("codeco", metric, "events", vec![of(ours)]), "allowed: none", 1.0);
    };
    count("false deaths", |figures| figures.false_deaths);
    if stressed {
        count("false deaths, 10 % loss", |figures| figures.under_loss);
        count("false deaths, 2x overload", |figures| figures.under_load);
    }
}

fn add_partition(report: &mut Report, half: usize, ours: (f64, f64), theirs: Option<(f64, f64)>) {
    let rows = [
        ("partition, both sides know", ours.0, theirs.map(|both| both.0), 6.0),
        ("heal, all know all", ours.1, theirs.map(|both| both.1), 2.0),
    ];
    for (metric, ours, theirs, allowed) in rows {
        let samples = |who: &str, value| Samples {
            case: format!("{who} × {half}+{half}"),
            metric,
            unit: "s",
            values: vec![value],
        };
        match theirs {
            Some(theirs) => report.compare(&samples("codeco", ours), &samples("serf", theirs)),
            None => report.add(&samples("codeco", ours)),
        }
        report.against(&samples("codeco", ours), &format!("allowed: {allowed} s"), allowed);
    }
}
