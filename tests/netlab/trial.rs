//! A fleet at rest, something that happens to it, and the judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use codeco_protocol::api::{AppView, List, NodeStatus, NodeView, ReplicaView};
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
/// The same of the applications that come and go.
const EACH_ORDERED: u32 = 2;
/// Orders given to see an effect of a fault, and the pause between them.
const ORDERS_MAX: u32 = 40;
const BETWEEN_ORDERS: Duration = Duration::from_millis(1_500);

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
    /// What was ordered in the storm, by application.
    storm: BTreeMap<String, Known>,
}

/// What is known of the last order about an application.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// It was taken: replicas of each kind, or none of it.
    Yes(Option<u32>),
    /// Its answer was lost, or it was refused.
    No,
}

fn is_fenced(process: &WorkloadProcess) -> bool {
    process.replica.contains(FENCED)
}

impl Trial {
    pub(crate) fn start(plan: &Plan) -> Self {
        let began = Instant::now();
        let field = Field::start(CODECO, plan).unwrap();
        let watch = Watch::start(field.fleet.state());
        let first = "order-1".to_owned();
        for (name, each) in [("alpha", EACH), (&first, EACH_ORDERED)] {
            let file = field.fleet.write_manifest(name, &app(name, each, each)).unwrap();
            field.fleet.codeco(&["apply", "-f", &file]).unwrap();
        }
        let wanted = BTreeMap::from([("alpha".to_owned(), 2 * EACH), (first, 2 * EACH_ORDERED)]);
        let books = field.fleet.settle(&wanted.clone().into_iter().collect::<Vec<_>>()).unwrap();
        let alpha = field.fleet.apps().unwrap().into_iter().find(|app| app.name.as_str() == "alpha").unwrap();
        let of_alpha = format!("{}/", alpha.uid);
        let mut work: BTreeMap<Place, Vec<WorkloadProcess>> = BTreeMap::new();
        for process in workloads(|mark| books.node_of(mark).is_some()) {
            let (node, _) = books.node_of(&process.guard).unwrap();
            let named = |at: &usize| {
                let agent = &field.fleet.local.agents()[*at];
                node == format!("{}-{}", agent.cluster, agent.name)
            };
            let at = (0..field.fleet.local.agents().len()).find(named).unwrap();
            // A script's naps are processes too, and end.
            if process.pid == process.group && process.replica.starts_with(&of_alpha) {
                work.entry(Place::Agent(at)).or_default().push(process);
            }
        }
        println!("ready with work after {:.1} s", began.elapsed().as_secs_f64());
        let (struck, deleted) = (BTreeSet::new(), Vec::new());
        Self { field, watch, books, work, struck, wanted, deleted, orders: 1, storm: BTreeMap::new() }
    }

    pub(crate) fn until<T>(&self, what: &str, look: impl FnMut(&Fleet) -> Result<T, String>) -> T {
        self.field.fleet.until(what, look).unwrap()
    }

    /// Waits until nothing of what needed a lease on the machine of that agent runs any more.
    pub(crate) fn fenced_have_ended(&self, at: usize) {
        let mine =
            self.work.get(&Place::Agent(at)).into_iter().flatten().filter(|process| is_fenced(process));
        let mine: Vec<_> = mine.collect();
        let look = || {
            self.nothing_wrong();
            let left: Vec<_> = mine.iter().filter(|process| is_alive(process)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        };
        until("what needs a lease has ended with it", look).unwrap();
    }

    /// Waits until all of the application that stays is ready on other machines than that of this agent.
    pub(crate) fn replaced(&self, at: usize) {
        let agent = &self.field.fleet.local.agents()[at];
        let (cluster, node) = (agent.cluster.clone(), agent.name.clone());
        self.until("all that ran there is ready elsewhere", |fleet| {
            let rows = fleet.replicas().map_err(|e| e.to_string())?;
            let is_there = |row: &ReplicaView| {
                row.cluster.as_ref().is_some_and(|name| name.as_str() == cluster)
                    && row.node.as_ref().is_some_and(|name| name.as_str() == node)
            };
            let ready = rows.iter().filter(|row| row.app.as_str() == "alpha" && row.ready && !is_there(row));
            let ready: BTreeSet<String> = ready.map(|row| format!("{}-{}", row.service, row.index)).collect();
            if ready.len() == 2 * EACH as usize { Ok(()) } else { Err(format!("only {ready:?}")) }
        });
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
        let name = format!("order-{}", self.orders);
        let apps = fleet.apps().unwrap();
        let uid = apps.iter().find(|app| app.name.as_str() == name).unwrap().uid;
        fleet.codeco(&["delete", "app", &name]).unwrap();
        self.deleted.push(uid.to_string());
        self.wanted.remove(&name);
        self.orders += 1;
        let name = format!("order-{}", self.orders);
        let file = fleet.write_manifest(&name, &app(&name, EACH_ORDERED, EACH_ORDERED)).unwrap();
        fleet.codeco(&["apply", "-f", &file]).unwrap();
        self.wanted.insert(name, 2 * EACH_ORDERED);
    }

    /// Waits until all that was ordered is so, and judges the journals.
    fn settle(&mut self) {
        self.field.wait_ready().unwrap();
        let wanted: Vec<(String, u32)> = self.wanted.clone().into_iter().collect();
        self.until("every node is as good as any", |fleet| {
            let nodes: Vec<NodeView> = fleet.nodes().map_err(|e| e.to_string())?;
            let well = nodes.iter().filter(|node| node.ready && node.status == NodeStatus::Ready).count();
            if well == self.field.fleet.local.agents().len() { Ok(()) } else { Err(format!("{nodes:#?}")) }
        });
        let books = self.field.fleet.settle(&wanted).unwrap();
        Trouble::unless_empty(continued(&self.books, &books)).unwrap();
        Trouble::unless_empty(undecided_ends(&books)).unwrap();
        self.books = books;
    }

    /// Gives order after order until `look` sees what it waits for: some faults have an effect only on those who have
    /// something to write down or to say.
    pub(crate) fn order_until<T>(&mut self, what: &str, look: impl Fn(&Self) -> Result<T, String>) -> T {
        for _ in 0..ORDERS_MAX {
            let soon = Instant::now() + BETWEEN_ORDERS;
            while Instant::now() < soon {
                match look(self) {
                    Ok(found) => return found,
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            }
            self.order();
        }
        panic!("gave {ORDERS_MAX} orders in vain until {what}: {:?}", look(self).err());
    }

    /// One fault: orders are given while it lasts, or, where it strikes the hub that takes them, just before. It lasts for
    /// `hold` and until `during` has seen what it waits for.
    pub(crate) fn suffer(
        &mut self,
        name: &str,
        fault: Fault,
        hold: Duration,
        during: impl FnOnce(&mut Self),
    ) {
        let strikes_hub = matches!(fault, Fault::Kill(Process::Hub) | Fault::Pause(Process::Hub));
        if strikes_hub {
            self.order();
        }
        self.strike(&fault);
        let all_run_on = fault.leaves_work_alone();
        let (began, lasting) = (Instant::now(), fault.apply(&mut self.field).unwrap());
        if !strikes_hub {
            self.order();
        }
        // Of a hub that is killed or stopped no effect has to be waited for, and it takes no order.
        let effect = self.order_until("the fault has an effect", |trial| lasting.bites(&trial.field));
        during(self);
        std::thread::sleep(hold.saturating_sub(began.elapsed()));
        self.nothing_wrong();
        self.free_run_on(|_| all_run_on, &format!("by {name}"));
        self.nothing_lost();
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

    /// Orders, changes or deletes one of a few applications, if the hub is there to take it. What becomes of an order
    /// whose answer was lost is not known: it is settled by [`Self::settle_orders`].
    pub(crate) fn order_anything(&mut self, random: &mut fastrand::Rng) {
        let name = format!("storm-{}", random.u32(0..3));
        let each = if random.u8(0..3) == 0 { None } else { Some(random.u32(1..=3)) };
        let done = self.ask_hub(&name, each);
        self.storm.insert(name.clone(), if done { Known::Yes(each) } else { Known::No });
    }

    /// Gives the order to the hub alone, so that no other member becomes the home of it; whether it said yes.
    fn ask_hub(&mut self, name: &str, each: Option<u32>) -> bool {
        let fleet = &self.field.fleet;
        if let Some(each) = each {
            let file = fleet.write_manifest(name, &app(name, each, each)).unwrap();
            return fleet.codeco_at_hub(&["apply", "-f", &file]).is_ok();
        }
        let listed = fleet.codeco_at_hub(&["get", "apps", "-o", "json"]).unwrap_or_default();
        let apps = serde_json::from_str::<List<AppView>>(&listed).map(|list| list.items).unwrap_or_default();
        let uid = apps.iter().find(|app| app.name.as_str() == name).map(|app| app.uid.to_string());
        let done = fleet.codeco_at_hub(&["delete", "app", name]).is_ok();
        self.deleted.extend(uid.filter(|_| done));
        done
    }

    /// Gives those orders again of which nobody knows whether they were taken, and waits until all is as ordered.
    pub(crate) fn settle_orders(&mut self) {
        self.field.wait_ready().unwrap();
        for (name, known) in std::mem::take(&mut self.storm) {
            let each = match known {
                Known::Yes(each) => each,
                Known::No => {
                    let again = until("the hub takes an order", || {
                        if self.ask_hub(&name, Some(2)) { Ok(()) } else { Err(name.clone()) }
                    });
                    again.unwrap();
                    Some(2)
                }
            };
            if let Some(each) = each {
                self.wanted.insert(name, 2 * each);
            }
        }
        self.settle();
    }

    /// From here on this has happened to its machines.
    pub(crate) fn strike(&mut self, fault: &Fault) {
        self.struck.extend(fault.struck());
    }

    /// What must hold at any moment: nothing runs twice that must not, and on machines to which nothing has happened yet
    /// everything runs on that needs no lease.
    pub(crate) fn nothing_wrong(&self) {
        assert_eq!(self.watch.so_far().doubles, BTreeSet::new());
        self.free_run_on(|place| !self.struck.contains(&place), "though nothing has happened to its machine");
    }

    /// What the journals must say at any moment: all that runs was promised, and nothing is gone that was written.
    pub(crate) fn nothing_lost(&mut self) {
        let (books, found) = audit(self.field.fleet.state()).unwrap();
        Trouble::unless_empty(found).unwrap();
        Trouble::unless_empty(continued(&self.books, &books)).unwrap();
        self.books = books;
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
        self.nothing_wrong();
        self.nothing_lost();
        let watched = self.watch.end();
        assert!(watched.seen > 0, "a watch that sees nothing proves nothing");
        assert_eq!(watched.doubles, BTreeSet::new());
        assert_eq!(self.field.fleet.stop().unwrap(), Vec::<String>::new(), "left over");
    }
}
