use proptest::prelude::{Just, any};
use proptest::{prop_assert, prop_oneof, proptest};

use super::*;

const A: ChildIndex = ChildIndex(0);
const B: ChildIndex = ChildIndex(1);
const C: ChildIndex = ChildIndex(2);

fn policy() -> Policy {
    Policy {
        restart_on: RestartOn::AnyExit,
        intensity: Intensity { restarts_max: 2, window: Micros::from_secs(10) },
        backoff: Backoff { first: Micros(100), max: Micros(250), jitter_percent: 0 },
    }
}

/// A core with three children, all up.
fn started(strategy: Strategy) -> RestartCore {
    let mut core = RestartCore::new(strategy, &[policy(); 3], 7);
    assert_eq!(core.handle(BootTime(0), Input::Begin), [Action::Start(A)]);
    assert_eq!(core.handle(BootTime(0), Input::Started(A)), [Action::Start(B)]);
    assert_eq!(core.handle(BootTime(0), Input::Started(B)), [Action::Start(C)]);
    assert_eq!(core.handle(BootTime(0), Input::Started(C)), []);
    core
}

fn restart(ticket: u64, children: &[ChildIndex], after: u64) -> Action {
    Action::RestartAfter { ticket: Ticket(ticket), children: children.to_vec(), after: Micros(after) }
}

#[test]
fn one_for_one_failure_restarts_only_the_failed_child() {
    let mut core = started(Strategy::OneForOne);
    assert_eq!(core.handle(BootTime(5), Input::Failed(B)), [restart(1, &[B], 100)]);
    assert_eq!(core.handle(BootTime(105), Input::RestartDue(Ticket(1))), [Action::Start(B)]);
    assert_eq!(core.handle(BootTime(106), Input::Started(B)), []);
}

#[test]
fn one_for_all_failure_stops_the_rest_backwards_and_starts_all_forwards() {
    let mut core = started(Strategy::OneForAll);
    assert_eq!(
        core.handle(BootTime(5), Input::Failed(B)),
        [Action::Stop(C), Action::Stop(A), restart(1, &[A, B, C], 100)]
    );
    assert_eq!(core.handle(BootTime(105), Input::RestartDue(Ticket(1))), [Action::Start(A)]);
    assert_eq!(core.handle(BootTime(105), Input::Started(A)), [Action::Start(B)]);
}

#[test]
fn rest_for_one_failure_leaves_earlier_children_alone() {
    let mut core = started(Strategy::RestForOne);
    assert_eq!(core.handle(BootTime(5), Input::Failed(B)), [Action::Stop(C), restart(1, &[B, C], 100)]);
}

#[test]
fn one_for_all_start_failure_stops_those_already_started_again() {
    let mut core = started(Strategy::OneForAll);
    let _ = core.handle(BootTime(5), Input::Failed(C));
    assert_eq!(core.handle(BootTime(105), Input::RestartDue(Ticket(1))), [Action::Start(A)]);
    assert_eq!(core.handle(BootTime(105), Input::Started(A)), [Action::Start(B)]);
    assert_eq!(core.handle(BootTime(106), Input::Failed(B)), [Action::Stop(A), restart(2, &[A, B, C], 100)]);
}

#[test]
fn start_failure_does_not_hold_up_the_children_after_it() {
    let mut core = RestartCore::new(Strategy::OneForOne, &[policy(); 2], 7);
    assert_eq!(core.handle(BootTime(0), Input::Begin), [Action::Start(A)]);
    assert_eq!(core.handle(BootTime(0), Input::Failed(A)), [restart(1, &[A], 100), Action::Start(B)]);
}

#[test]
fn backoff_doubles_up_to_its_maximum() {
    let mut core = RestartCore::new(Strategy::OneForOne, &[policy_with_restarts(4)], 7);
    assert_eq!(core.handle(BootTime(0), Input::Begin), [Action::Start(A)]);
    for (round, wait) in [(1, 100), (2, 200), (3, 250), (4, 250)] {
        assert_eq!(core.handle(BootTime(round), Input::Failed(A)), [restart(round, &[A], wait)]);
        assert_eq!(core.handle(BootTime(round), Input::RestartDue(Ticket(round))), [Action::Start(A)]);
    }
}

fn policy_with_restarts(restarts_max: u32) -> Policy {
    Policy { intensity: Intensity { restarts_max, ..policy().intensity }, ..policy() }
}

#[test]
fn failures_beyond_intensity_give_the_child_up_for_good() {
    let mut core = started(Strategy::OneForOne);
    for round in 1..=2 {
        let _ = core.handle(BootTime(round), Input::Failed(B));
        assert_eq!(core.handle(BootTime(round), Input::RestartDue(Ticket(round))), [Action::Start(B)]);
    }
    assert_eq!(
        core.handle(BootTime(3), Input::Failed(B)),
        [Action::GiveUp { children: vec![B], failures: 3 }]
    );
    assert!(core.is_given_up(B) && !core.is_given_up(A) && !core.is_given_up(C));
    assert_eq!(core.handle(BootTime(9), Input::RestartDue(Ticket(2))), []);
}

#[test]
fn rest_for_one_beyond_intensity_gives_up_those_that_need_the_failed_child() {
    let mut core = RestartCore::new(Strategy::RestForOne, &[policy_with_restarts(0); 3], 7);
    let _ = core.handle(BootTime(0), Input::Begin);
    for child in [A, B, C] {
        let _ = core.handle(BootTime(0), Input::Started(child));
    }
    assert_eq!(
        core.handle(BootTime(1), Input::Failed(B)),
        [Action::Stop(C), Action::GiveUp { children: vec![B, C], failures: 1 }]
    );
    assert!(!core.is_given_up(A));
}

#[test]
fn failures_older_than_the_window_are_forgotten() {
    let mut core = started(Strategy::OneForOne);
    let mut now = BootTime(0);
    for round in 1..=20 {
        now = now + Micros::from_secs(11);
        assert_eq!(core.handle(now, Input::Failed(A)), [restart(round, &[A], 100)]);
        assert_eq!(core.handle(now, Input::RestartDue(Ticket(round))), [Action::Start(A)]);
        assert_eq!(core.handle(now, Input::Started(A)), []);
    }
}

#[test]
fn finished_child_rests_unless_it_is_meant_to_run_for_ever() {
    let once = Policy { restart_on: RestartOn::Failure, ..policy() };
    let mut core = RestartCore::new(Strategy::OneForOne, &[once, policy()], 7);
    let _ = core.handle(BootTime(0), Input::Begin);
    let _ = core.handle(BootTime(0), Input::Started(A));
    let _ = core.handle(BootTime(0), Input::Started(B));
    assert_eq!(core.handle(BootTime(1), Input::Finished(A)), [Action::Rest(A)]);
    assert_eq!(core.handle(BootTime(1), Input::Finished(B)), [restart(1, &[B], 100)]);
}

#[test]
fn outdated_ticket_starts_nothing() {
    let mut core = started(Strategy::RestForOne);
    assert_eq!(core.handle(BootTime(1), Input::Failed(B)), [Action::Stop(C), restart(1, &[B, C], 100)]);
    assert_eq!(core.handle(BootTime(2), Input::Failed(A)), [restart(2, &[A, B, C], 100)]);
    assert_eq!(core.handle(BootTime(101), Input::RestartDue(Ticket(1))), []);
    assert_eq!(core.handle(BootTime(102), Input::RestartDue(Ticket(2))), [Action::Start(A)]);
}

/// A shell that keeps to the contract and checks it.
struct Shell {
    core: RestartCore,
    up: Vec<bool>,
    given_up: Vec<bool>,
    timers: Vec<(BootTime, Ticket)>,
    restarts: Vec<Vec<BootTime>>,
    strategy: Strategy,
}

impl Shell {
    fn new(strategy: Strategy, children: usize, seed: u64) -> Self {
        let core = RestartCore::new(strategy, &vec![jittery(); children], seed);
        let mut shell = Self {
            core,
            up: vec![false; children],
            given_up: vec![false; children],
            timers: Vec::new(),
            restarts: vec![Vec::new(); children],
            strategy,
        };
        shell.feed(BootTime(0), Input::Begin, &mut |_| true);
        shell
    }

    fn feed(&mut self, now: BootTime, input: Input, starts_well: &mut dyn FnMut(ChildIndex) -> bool) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut last_stopped = usize::MAX;
            for action in self.core.handle(now, input) {
                match action {
                    Action::Start(child) => {
                        assert!(!self.up[child.0], "started twice");
                        assert!(!self.given_up[child.0], "started after giving up");
                        self.up[child.0] = starts_well(child);
                        inputs.push_back(if self.up[child.0] {
                            Input::Started(child)
                        } else {
                            Input::Failed(child)
                        });
                    }
                    Action::Stop(child) => {
                        assert!(
                            self.up[child.0] && child.0 < last_stopped,
                            "stops only what runs, backwards"
                        );
                        assert_ne!(self.strategy, Strategy::OneForOne, "siblings are left alone");
                        last_stopped = child.0;
                        self.up[child.0] = false;
                    }
                    Action::RestartAfter { ticket, children, after } => {
                        assert!(after.0 >= 100 && after.0 <= 375, "{after:?}");
                        assert!(children.is_sorted());
                        if let Input::Failed(failed) = input {
                            self.restarts[failed.0].push(now);
                        }
                        self.timers.push((now + after, ticket));
                    }
                    Action::GiveUp { children, .. } => {
                        for child in children {
                            self.given_up[child.0] = true;
                        }
                    }
                    Action::Rest(_) => unreachable!("no child may rest here"),
                }
            }
        }
    }
}

fn jittery() -> Policy {
    Policy { backoff: Backoff { jitter_percent: 50, ..policy().backoff }, ..policy() }
}

proptest! {
    #[test]
    fn any_schedule_of_failures_keeps_the_contract(
        strategy in prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)],
        children in 1_usize..6,
        seed: u64,
        steps in proptest::collection::vec((0_usize..6, 0_u64..4_000_000, any::<bool>()), 1..60),
    ) {
        let mut shell = Shell::new(strategy, children, seed);
        let mut now = BootTime(0);
        for (who, later, starts_well) in steps {
            now = now + Micros(later);
            let due: Vec<Ticket> = shell.timers.extract_if(.., |(at, _)| *at <= now).map(|(_, t)| t).collect();
            for ticket in due {
                let mut first = true;
                shell.feed(now, Input::RestartDue(ticket), &mut |_| !std::mem::take(&mut first) || starts_well);
            }
            if who < children && shell.up[who] {
                shell.up[who] = false;
                shell.feed(now, Input::Failed(ChildIndex(who)), &mut |_| true);
            }
        }
        let Intensity { restarts_max, window } = policy().intensity;
        for times in &shell.restarts {
            for run in times.windows(restarts_max as usize + 1) {
                prop_assert!(run[run.len() - 1].since(run[0]) > window, "too many restarts within the window");
            }
        }
        // Once everything settles, whoever is not given up runs.
        for _ in 0..1_000 {
            let Some((_, ticket)) = shell.timers.pop() else { break };
            shell.feed(now, Input::RestartDue(ticket), &mut |_| true);
        }
        for child in 0..children {
            prop_assert!(shell.up[child] != shell.given_up[child], "child {child} is neither up nor given up");
        }
    }
}
