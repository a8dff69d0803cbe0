//! A fleet at rest, something that happens to it, and the judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use codeco_tests::accounts::{audit, continued, resurrected, undecided_ends};
pub(crate) use codeco_tests::netlab::Plan;
use codeco_tests::netlab::{Fault, Field, Place, Process, missing};
use codeco_tests::{
    Books, FENCED, Fleet, Shape, Trouble, Watch, WorkloadProcess, app, is_alive, until, workloads,
};

const CODECO: &str = env!("CARGO_BIN_EXE_codeco-under-test");
const SHAPE: Shape = Shape { clusters: 2, nodes: 3, lease_ms: 5_000 };
/// Replicas of each kind.
const EACH: u32 = 6;

/// Whether labs can be had here, and nothing is `lacking` besides. Says what is missing; where nothing may be skipped,
/// fails.
pub(crate) fn can_run(lacking: Option<&str>) -> bool {
    let Some(missing) = missing().or_else(|| lacking.map(str::to_owned)) else { return true };
    let no_skip = std::env::var_os("CODECO_NO_SKIP").is_some_and(|value| value == "1");
    assert!(!no_skip, "cannot run: {missing}");
    println!("skipped: {missing}");
    false
}

pub(crate) fn plan() -> Plan {
    let seed = std::env::var("CODECO_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    Plan { seed, shape: SHAPE, behind_nat: Vec::new(), own_clock: Vec::new(), small_disk: Vec::new() }
}

/// A fleet with work on every machine.
pub(crate) struct Trial {
    pub(crate) field: Field,
    watch: Watch,
    /// The journals when they were last looked at.
    books: Books,
    /// Processes of the application that stays, by machine.
    work: BTreeMap<Place, Vec<WorkloadProcess>>,
    /// Machines that something has happened to.
    struck: BTreeSet<Place>,
    /// Applications, and the numbers of their replicas.
    wanted: BTreeMap<String, u32>,
    /// Applications that were deleted.
    deleted: Vec<String>,
    orders: u32,
}

fn is_fenced(process: &WorkloadProcess) -> bool {
    process.replica.contains(FENCED)
}

impl Trial {
    pub(crate) fn start(plan: &Plan) -> Self {
        let began = Instant::now();
        let field = Field::start(CODECO, plan).unwrap();
        let watch = Watch::start(field.fleet.state());
        let file = field.fleet.write_manifest("alpha", &app("alpha", EACH, EACH)).unwrap();
        field.fleet.codeco(&["apply", "-f", &file]).unwrap();
        let wanted = BTreeMap::from([("alpha".to_owned(), 2 * EACH)]);
        let books = field.fleet.settle(&[("alpha".to_owned(), 2 * EACH)]).unwrap();
        let mut work: BTreeMap<Place, Vec<WorkloadProcess>> = BTreeMap::new();
        for process in workloads(|mark| books.node_of(mark).is_some()) {
            let (node, _) = books.node_of(&process.guard).unwrap();
            let named = |at: &usize| {
                let agent = &field.fleet.local.agents()[*at];
                node == format!("{}-{}", agent.cluster, agent.name)
            };
            let at = (0..field.fleet.local.agents().len()).find(named).unwrap();
            // A script's naps are processes too, and end.
            if process.pid == process.group {
                work.entry(Place::Agent(at)).or_default().push(process);
            }
        }
        println!("ready with work after {:.1} s", began.elapsed().as_secs_f64());
        let (struck, deleted) = (BTreeSet::new(), Vec::new());
        Self { field, watch, books, work, struck, wanted, deleted, orders: 0 }
    }

    pub(crate) fn until<T>(&self, what: &str, look: impl FnMut(&Fleet) -> Result<T, String>) -> T {
        self.field.fleet.until(what, look).unwrap()
    }

    /// Waits until nothing of what needed a lease on the machine of that agent runs any more.
    pub(crate) fn fenced_have_ended(&self, at: usize) {
        let mine = self.work.get(&Place::Agent(at)).into_iter().flatten().filter(|process| is_fenced(process));
        let mine: Vec<_> = mine.collect();
        let look = || {
            let left: Vec<_> = mine.iter().filter(|process| is_alive(process)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        };
        until("what needs a lease has ended with it", look).unwrap();
    }

    /// How many of the processes that ran at the beginning are gone.
    pub(crate) fn moved(&self) -> usize {
        self.work.values().flatten().filter(|process| !is_alive(process)).count()
    }

    /// What needs no lease is, on these machines, the very process it was.
    fn free_run_on(&self, on: impl Fn(Place) -> bool, when: &str) {
        for (place, processes) in &self.work {
            for process in processes.iter().filter(|process| on(*place) && !is_fenced(process)) {
                assert!(
                    is_alive(process),
                    "{process:?} on {place:?} was ended {when}; events:\n{}",
                    self.field.fleet.codeco(&["get", "events"]).unwrap_or_default()
                );
            }
        }
    }

    /// Orders an application and the deletion of the one ordered before.
    fn order(&mut self) {
        let fleet = &self.field.fleet;
        if self.orders > 0 {
            let name = format!("order-{}", self.orders);
            let apps = fleet.apps().unwrap();
            let uid = apps.iter().find(|app| app.name.as_str() == name).unwrap().uid;
            fleet.codeco(&["delete", "app", &name]).unwrap();
            self.deleted.push(uid.to_string());
            self.wanted.remove(&name);
        }
        self.orders += 1;
        let name = format!("order-{}", self.orders);
        let file = fleet.write_manifest(&name, &app(&name, 2, 2)).unwrap();
        fleet.codeco(&["apply", "-f", &file]).unwrap();
        self.wanted.insert(name, 4);
    }

    /// Waits until all that was ordered is so, and judges the journals.
    fn settle(&mut self) {
        self.field.wait_ready().unwrap();
        let wanted: Vec<(String, u32)> = self.wanted.clone().into_iter().collect();
        let books = self.field.fleet.settle(&wanted).unwrap();
        Trouble::unless_empty(continued(&self.books, &books)).unwrap();
        Trouble::unless_empty(undecided_ends(&books)).unwrap();
        self.books = books;
    }

    /// One fault: orders are given while it lasts, or, where it strikes the hub that takes them, just before. It lasts for
    /// `hold` and until `during` has seen what it waits for.
    pub(crate) fn suffer(&mut self, name: &str, fault: Fault, hold: Duration, during: impl FnOnce(&Self)) {
        let strikes_hub = matches!(fault, Fault::Kill(Process::Hub) | Fault::Pause(Process::Hub));
        if self.orders == 0 {
            self.order();
            self.settle();
        }
        if strikes_hub {
            self.order();
        }
        self.struck.extend(fault.struck());
        let all_run_on = fault.leaves_work_alone();
        let (began, lasting) = (Instant::now(), fault.apply(&mut self.field).unwrap());
        if !strikes_hub {
            self.order();
        }
        let effect = until("the fault has an effect", || lasting.bites(&self.field)).unwrap();
        during(self);
        std::thread::sleep(hold.saturating_sub(began.elapsed()));
        assert_eq!(self.watch.so_far().doubles, BTreeSet::new(), "while {name} lasted");
        let struck = self.struck.clone();
        self.free_run_on(|place| all_run_on || !struck.contains(&place), "while the fault lasted");
        let lasted = began.elapsed();
        lasting.heal(&mut self.field).unwrap();
        let healed = Instant::now();
        self.settle();
        println!(
            "{name}: lasted {:.1} s, effect: {effect}; converged {:.1} s after it",
            lasted.as_secs_f64(),
            healed.elapsed().as_secs_f64()
        );
    }

    /// Gives up the processes whose fate is not followed.
    pub(crate) fn forget_work_on_struck(&mut self) {
        self.work.retain(|place, _| !self.struck.contains(place));
    }

    /// The fleet goes on as before: it takes another order. Then the last word on everything.
    pub(crate) fn end(mut self) {
        let at_rest = self.books.clone();
        let gone = self.deleted.clone();
        self.order();
        self.settle();
        for uid in gone {
            Trouble::unless_empty(resurrected(&at_rest, &self.books, &uid)).unwrap();
        }
        let struck = self.struck.clone();
        self.free_run_on(|place| !struck.contains(&place), "though nothing happened to its machine");
        let (_, found) = audit(self.field.fleet.state()).unwrap();
        Trouble::unless_empty(found).unwrap();
        let watched = self.watch.end();
        assert!(watched.seen > 0, "a watch that sees nothing proves nothing");
        assert_eq!(watched.doubles, BTreeSet::new());
        assert_eq!(self.field.fleet.stop().unwrap(), Vec::<String>::new(), "left over");
    }
}
