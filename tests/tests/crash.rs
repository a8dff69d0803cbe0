//! Agents are killed with SIGKILL at random moments, also while work is being placed. Nothing promised may be lost,
//! nothing may run twice, every process must be accounted for, and the work must run again.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use codeco_actors::swm::ledger::LedgerRecord;
use codeco_protocol::api::EventView;
use codeco_tests::accounts::{audit, continued, resurrected, undecided_ends};
use codeco_tests::{Books, FENCED, Fleet, Shape, Trouble, Watch, app, is_alive, mentioning, workloads};

const CODECO: &str = env!("CARGO_BIN_EXE_codeco-under-test");
const KILLS: u32 = 50;
/// Kills between two times when the fleet is left alone until it is at rest.
const KILLS_PER_ROUND: u32 = 10;
const APPS: [&str; 3] = ["alpha", "beta", "gamma"];

fn seed() -> u64 {
    std::env::var("CODECO_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// A fleet that is being treated badly.
struct Rough {
    fleet: Fleet,
    watch: Watch,
    random: fastrand::Rng,
    /// Applications that must be there at the end, with the numbers of their replicas.
    wanted: BTreeMap<&'static str, (u32, u32)>,
    /// Agents that are down, and when they are started again.
    down: BTreeMap<usize, Instant>,
    /// What was in the journals when they were last looked at.
    books: Option<Books>,
}

impl Rough {
    /// Asks for something and kills an agent before, while or after it is being done.
    fn kill_while_placing(&mut self) -> Result<(), Trouble> {
        let name = *self.random.choice(&APPS).unwrap();
        let order = match self.random.u32(0..6) {
            0 if self.wanted.contains_key(name) => Some((None, self.fleet.begin(&["delete", "app", name])?)),
            1..=4 => {
                let size = (self.random.u32(1..=4), self.random.u32(1..=3));
                let file = self.fleet.write_manifest(name, &app(name, size.0, size.1))?;
                Some((Some(size), self.fleet.begin(&["apply", "-f", &file])?))
            }
            _ => None,
        };
        std::thread::sleep(Duration::from_millis(self.random.u64(0..250)));
        let up: Vec<usize> =
            (0..self.fleet.local.agents().len()).filter(|at| !self.down.contains_key(at)).collect();
        let victim = *self.random.choice(&up).unwrap();
        self.fleet.local.kill(Some(victim));
        // Back before its lease has ended, or long after.
        let pause = if self.random.bool() { self.random.u64(0..500) } else { self.random.u64(2_600..4_000) };
        self.down.insert(victim, Instant::now() + Duration::from_millis(pause));
        if let Some((size, order)) = order {
            self.note(name, size, &order.wait_with_output().unwrap());
        }
        assert_eq!(self.watch.so_far().doubles, BTreeSet::new());
        let (books, found) = audit(self.fleet.state())?;
        Trouble::unless_empty(found)?;
        if let Some(earlier) = &self.books {
            Trouble::unless_empty(continued(earlier, &books))?;
        }
        self.books = Some(books);
        Ok(())
    }

    /// The hub was never touched: it takes every order, but for a new application in the place of one that is still
    /// being deleted.
    fn note(&mut self, name: &'static str, size: Option<(u32, u32)>, output: &Output) {
        let said = String::from_utf8_lossy(&output.stderr);
        match size {
            Some(size) if output.status.success() => self.wanted.insert(name, size),
            None if output.status.success() => self.wanted.remove(name),
            _ => {
                assert!(said.contains("[app-deleting]"), "{name}: {said}");
                None
            }
        };
    }

    /// Starts again what is due; at most half of the agents stay down.
    fn restart_due(&mut self, all: bool) -> Result<(), Trouble> {
        let half = self.fleet.local.agents().len() / 2;
        while let Some((at, due)) = self.down.iter().min_by_key(|(_, due)| **due).map(|(at, due)| (*at, *due))
        {
            if !all && self.down.len() <= half && due > Instant::now() {
                break;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.fleet.local.start_agent(at)?;
            self.down.remove(&at);
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Trouble> {
        self.restart_due(true)?;
        for at in 0..self.fleet.local.agents().len() {
            self.fleet.local.wait_agent(at)?;
        }
        let wanted = self.wanted.iter().map(|(name, (fenced, free))| ((*name).to_owned(), fenced + free));
        let books = self.fleet.settle(&wanted.collect::<Vec<_>>())?;
        if let Some(earlier) = &self.books {
            Trouble::unless_empty(continued(earlier, &books))?;
        }
        self.books = Some(books);
        Ok(())
    }
}

#[test]
fn agents_killed_fifty_times_while_placing_lose_and_double_no_promise() {
    let seed = seed();
    println!("seed {seed}; another one: CODECO_TEST_SEED=N");
    let fleet = Fleet::start(CODECO, Shape { clusters: 2, nodes: 3, lease_ms: 2_000 }).unwrap();
    let watch = Watch::start(fleet.state());
    let random = fastrand::Rng::with_seed(seed);
    let mut rough =
        Rough { fleet, watch, random, wanted: BTreeMap::new(), down: BTreeMap::new(), books: None };
    let began = Instant::now();
    for kill in 1..=KILLS {
        rough.kill_while_placing().unwrap();
        rough.restart_due(false).unwrap();
        if kill % KILLS_PER_ROUND == 0 {
            let (rest, since) = (Instant::now(), began.elapsed());
            rough.settle().unwrap();
            println!(
                "{kill} kills in {:.1} s; at rest after {:.1} s with {:?}",
                since.as_secs_f64(),
                rest.elapsed().as_secs_f64(),
                rough.wanted
            );
        }
    }
    let watched = rough.watch.so_far();
    println!("{} looks at the process table saw {} fenced processes", watched.looks, watched.seen);
    assert!(watched.seen > 0, "a watch that sees nothing proves nothing");
    assert_eq!(watched.doubles, BTreeSet::new());
    let books = rough.books.take().unwrap();
    let promises: usize = books.ledgers.values().map(|book| book.committed().len()).sum();
    println!("{promises} promises were made, {} are held", books.home.replicas.len());
    assert_eq!(rough.fleet.stop().unwrap(), Vec::<String>::new(), "left over after the fleet has stopped");
}

#[test]
fn agent_killed_for_good_has_its_work_run_again_elsewhere() {
    let mut fleet = Fleet::start(CODECO, Shape { clusters: 1, nodes: 3, lease_ms: 1_000 }).unwrap();
    let watch = Watch::start(fleet.state());
    let file = fleet.write_manifest("alpha", &app("alpha", 6, 3)).unwrap();
    fleet.codeco(&["apply", "-f", &file]).unwrap();
    fleet.settle(&[("alpha".to_owned(), 9)]).unwrap();
    let before = fleet.replicas().unwrap();
    let of_node = |at: usize, fleet: &Fleet| fleet.local.agents()[at].name.clone();
    let count =
        |name: &str| before.iter().filter(|r| r.node.as_ref().is_some_and(|n| n.as_str() == name)).count();
    // The lead is the first agent; its own death is another story.
    let victim = (1..3).max_by_key(|at| count(&of_node(*at, &fleet))).unwrap();
    let name = of_node(victim, &fleet);
    let moving = count(&name);
    assert!(moving > 0, "{before:?}");
    let (killed, killed_at) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
    fleet.local.kill(Some(victim));
    let again = fleet.until("all replicas are ready on other nodes", |fleet| {
        let replicas = fleet.replicas().map_err(|e| e.to_string())?;
        let well = replicas
            .iter()
            .filter(|r| r.ready && r.node.as_ref().is_some_and(|n| n.as_str() != name))
            .count();
        if well == 9 { Ok(killed.elapsed()) } else { Err(format!("{well} of 9 in {replicas:#?}")) }
    });
    let again = again.unwrap();
    let lost = fleet.until("the node is declared lost", |fleet| {
        let events: Vec<EventView> = fleet.get("events").map_err(|e| e.to_string())?;
        let lost =
            events.iter().find(|event| event.reason == "NodeLost" && event.object.name.ends_with(&name));
        lost.map(|event| Duration::from_millis(event.at.0)).ok_or(format!("{events:#?}"))
    });
    println!(
        "{moving} replicas of {name}: declared lost after {:.2} s, ready elsewhere after {:.2} s",
        lost.unwrap().saturating_sub(killed_at).as_secs_f64(),
        again.as_secs_f64()
    );
    // The old copies that need no lease still run under their guard. Once their agent is back they are told to go.
    fleet.local.start_agent(victim).unwrap();
    fleet.local.wait_agent(victim).unwrap();
    fleet.settle(&[("alpha".to_owned(), 9)]).unwrap();
    let watched = watch.end();
    assert!(watched.seen > 0);
    assert_eq!(watched.doubles, BTreeSet::new());
    assert_eq!(fleet.stop().unwrap(), Vec::<String>::new());
}

#[test]
fn fleet_stopped_while_an_agent_is_dead_leaves_nothing_behind() {
    let mut fleet = Fleet::start(CODECO, Shape { clusters: 1, nodes: 2, lease_ms: 2_000 }).unwrap();
    let file = fleet.write_manifest("alpha", &app("alpha", 2, 6)).unwrap();
    fleet.codeco(&["apply", "-f", &file]).unwrap();
    let books = fleet.settle(&[("alpha".to_owned(), 8)]).unwrap();
    let victim = fleet.local.agents().iter().position(|agent| {
        let name = format!("{}-{}", agent.cluster, agent.name);
        books.ledgers.get(&name).is_some_and(|book| book.held.keys().any(|replica| !replica.contains(FENCED)))
    });
    fleet.local.kill(victim);
    let guards = fleet.guards();
    assert_eq!(guards.len(), 2, "the guard outlives its agent, with what may run without one");
    assert_eq!(fleet.stop().unwrap(), Vec::<String>::new());
}

/// The checks above are worth something only if they see what is wrong.
#[test]
fn accounts_with_a_stray_process_or_a_forged_journal_do_not_balance() {
    let mut fleet = Fleet::start(CODECO, Shape { clusters: 1, nodes: 1, lease_ms: 2_000 }).unwrap();
    let file = fleet.write_manifest("alpha", &app("alpha", 1, 1)).unwrap();
    fleet.codeco(&["apply", "-f", &file]).unwrap();
    let books = fleet.settle(&[("alpha".to_owned(), 2)]).unwrap();
    let fenced = workloads(|mark| books.node_of(mark).is_some());
    let fenced = fenced.into_iter().find(|process| process.replica.contains(FENCED)).unwrap();

    let watch = Watch::start(fleet.state());
    let mut stray = Command::new("sleep")
        .arg("60")
        .env("CODECO_GUARD", &fenced.guard)
        .env("CODECO_REPLICA", &fenced.replica)
        .env("CODECO_FENCING_TOKEN", "9.9.9.9")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let (_, found) = audit(fleet.state()).unwrap();
    assert!(
        found.iter().any(|line| line.contains("9.9.9.9") && line.contains("never promised")),
        "{found:?}"
    );
    let processes = workloads(|mark| books.node_of(mark).is_some());
    let found = codeco_tests::accounts::balance(&books, &processes);
    assert!(found.iter().any(|line| line.contains("9.9.9.9")), "{found:?}");
    std::thread::sleep(Duration::from_millis(500));
    assert!(is_alive(&fenced), "the true one was not touched");
    let doubles = watch.end().doubles;
    assert!(doubles.iter().any(|line| line.contains("9.9.9.9")), "{doubles:?}");
    stray.kill().unwrap();
    stray.wait().unwrap();

    let processes = workloads(|mark| books.node_of(mark).is_some());
    let wrong = |change: &dyn Fn(&mut Books)| {
        let mut forged = books.clone();
        change(&mut forged);
        let mut found = codeco_tests::accounts::balance(&forged, &processes);
        found.extend(codeco_tests::accounts::histories(&forged));
        found.extend(codeco_tests::accounts::unpromised(&processes, &forged, &forged));
        found.extend(continued(&books, &forged));
        found.join("; ")
    };
    assert_eq!(wrong(&|_| ()), "");
    let ledger = |books: &mut Books, change: &dyn Fn(&mut codeco_tests::LedgerBook)| {
        books.ledgers.values_mut().for_each(change);
    };
    let lost = wrong(&|books| ledger(books, &|book| drop(book.records.pop())));
    assert!(lost.contains("has lost some of its"), "{lost}");
    let forgotten = wrong(&|books| ledger(books, &|book| book.held.clear()));
    assert!(forgotten.contains("belongs to nothing that is promised"), "{forgotten}");
    let doubled = wrong(&|books| {
        let copy = books.ledgers.values().next().unwrap().clone();
        books
            .ledgers
            .insert("edge-1-node-2".into(), codeco_tests::LedgerBook { mark: "other".into(), ..copy });
    });
    assert!(doubled.contains("both promised") && doubled.contains("expected by one node"), "{doubled}");
    let unknown = wrong(&|books| books.leads.clear());
    assert!(unknown.contains("does not know mandate"), "{unknown}");
    let unwanted = wrong(&|books| books.home.replicas.clear());
    assert!(unwanted.contains("the home does not want it"), "{unwanted}");

    let ended = |change: &dyn Fn(&mut codeco_tests::LedgerBook)| {
        let mut forged = books.clone();
        forged.ledgers.values_mut().for_each(change);
        undecided_ends(&forged).join("; ")
    };
    let close = |book: &mut codeco_tests::LedgerBook| {
        let closed = book.records.iter().filter_map(|record| match record {
            LedgerRecord::Committed { replica, token, .. } => {
                Some(LedgerRecord::Closed { replica: replica.clone(), token: *token })
            }
            _ => None,
        });
        let closed: Vec<_> = closed.collect();
        book.records.extend(closed);
    };
    assert_eq!(ended(&|_| ()), "");
    let undecided = ended(&|book| {
        close(book);
        book.held.clear();
    });
    assert!(undecided.contains("nothing newer is kept"), "{undecided}");
    let decided = ended(&|book| {
        close(book);
        book.held.values_mut().for_each(|(token, _)| token.attempt.0 += 1);
    });
    assert_eq!(decided, "", "what is kept under a newer token was decided anew");

    let uid = fenced.replica.split_once('/').unwrap().0;
    let nothing = Books { ledgers: BTreeMap::new(), leads: BTreeMap::new(), home: Default::default() };
    assert_eq!(resurrected(&books, &nothing, uid), Vec::<String>::new());
    let returned = resurrected(&nothing, &books, uid).join("; ");
    for whose in ["promised", "keeps", "the lead of edge-1 keeps", "the home wants"] {
        assert!(returned.contains(whose), "{returned}");
    }
    assert_eq!(resurrected(&nothing, &books, "another"), Vec::<String>::new());

    let folder = fleet.state().display().to_string();
    assert!(!mentioning(&folder).is_empty(), "hub, agent and guard run now");
    assert_eq!(fleet.stop().unwrap(), Vec::<String>::new());
}
