//! When to restart which child: the pure core of a supervisor.
//!
//! The three strategies are those of Erlang's supervisors. The shell feeds [`Input`]s and carries out the
//! [`Action`]s in order; each [`Action::Start`] must be answered with [`Input::Started`] or [`Input::Failed`]
//! before the next one is issued, so that children always start one at a time and in the order they are listed.
//!
//! A child that fails more than [`Intensity::restarts_max`] times within [`Intensity::window`] is given up. Under
//! [`Strategy::OneForAll`] and [`Strategy::RestForOne`] the children that would have restarted with it are given
//! up too, because they cannot run without it; all others stay up.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::VecDeque;

use codeco_protocol::units::{BootTime, Micros};

/// Which children restart when one fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Only the one that failed.
    OneForOne,
    /// All of them.
    OneForAll,
    /// The one that failed and those listed after it.
    RestForOne,
}

/// Whether a child that ends without failing is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartOn {
    /// Any end is a failure: the child is meant to run as long as its supervisor.
    AnyExit,
    /// Only a panic or an error; a child that returns has done its work.
    Failure,
}

/// How many failures are borne before a child is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts allowed within the window.
    pub restarts_max: u32,
    /// Length of the sliding window.
    pub window: Micros,
}

/// How long to wait before a restart: `first`, doubled per failure within the intensity window, at most `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Wait before the first restart.
    pub first: Micros,
    /// Longest wait, before jitter.
    pub max: Micros,
    /// Up to this share of the wait is added at random, in percent, so that many children do not return at once.
    pub jitter_percent: u32,
}

/// Rules for one child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What counts as a failure.
    pub restart_on: RestartOn,
    /// When to give up.
    pub intensity: Intensity,
    /// How long to wait.
    pub backoff: Backoff,
}

impl Default for Policy {
    /// Five restarts in a minute, 50 ms to 5 s apart, a quarter of jitter, whatever way the child ended.
    fn default() -> Self {
        Self {
            restart_on: RestartOn::AnyExit,
            intensity: Intensity { restarts_max: 5, window: Micros::from_secs(60) },
            backoff: Backoff {
                first: Micros::from_millis(50),
                max: Micros::from_secs(5),
                jitter_percent: 25,
            },
        }
    }
}

/// A child by its place in the supervisor's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildIndex(pub usize);

/// Names one planned restart; a timer that fires with an outdated ticket does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The supervisor began: start every child.
    Begin,
    /// The child asked for by [`Action::Start`] runs.
    Started(ChildIndex),
    /// A child panicked, returned an error or could not be started.
    Failed(ChildIndex),
    /// A child ended without an error, unasked.
    Finished(ChildIndex),
    /// The wait of [`Action::RestartAfter`] is over.
    RestartDue(Ticket),
}

/// What the shell has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start this child and report [`Input::Started`] or [`Input::Failed`].
    Start(ChildIndex),
    /// Stop this running child; its end is not to be reported.
    Stop(ChildIndex),
    /// Report [`Input::RestartDue`] after the wait. The children will then be started in this order.
    RestartAfter {
        /// To be handed back.
        ticket: Ticket,
        /// Who will be restarted.
        children: Vec<ChildIndex>,
        /// The wait.
        after: Micros,
    },
    /// Never start these again; the first one is the one that failed.
    GiveUp {
        /// The child that failed and those that cannot run without it.
        children: Vec<ChildIndex>,
        /// Failures seen within the window.
        failures: u32,
    },
    /// The child has done its work and stays down.
    Rest(ChildIndex),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChildState {
    Waiting(Ticket),
    Queued,
    Starting,
    Running,
    Resting,
    GivenUp,
}

#[derive(Debug)]
struct Child {
    policy: Policy,
    state: ChildState,
    /// Times of the failures within the window, oldest first; never longer than `restarts_max + 1`.
    failures: VecDeque<BootTime>,
}

/// The state machine. See the module for the contract.
#[derive(Debug)]
pub struct RestartCore {
    strategy: Strategy,
    children: Vec<Child>,
    next_ticket: u64,
    rng: fastrand::Rng,
}

impl RestartCore {
    /// A core for children with these policies; nothing runs before [`Input::Begin`].
    #[must_use]
    pub fn new(strategy: Strategy, policies: &[Policy], seed: u64) -> Self {
        let child = |policy: &Policy| Child {
            policy: *policy,
            state: ChildState::Waiting(Ticket(0)),
            failures: VecDeque::new(),
        };
        Self {
            strategy,
            children: policies.iter().map(child).collect(),
            next_ticket: 1,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Whether the child is given up.
    #[must_use]
    pub fn is_given_up(&self, child: ChildIndex) -> bool {
        self.children.get(child.0).is_some_and(|c| c.state == ChildState::GivenUp)
    }

    /// Takes one input and says what to do. Inputs that no longer apply (an outdated ticket, the end of a child
    /// that is not up) yield nothing.
    #[must_use]
    pub fn handle(&mut self, now: BootTime, input: Input) -> Vec<Action> {
        match input {
            Input::Begin => self.queue_waiting(Ticket(0)),
            Input::RestartDue(ticket) => self.queue_waiting(ticket),
            Input::Started(child) => self.handle_started(child),
            Input::Failed(child) => self.handle_failed(now, child),
            Input::Finished(child) => self.handle_finished(now, child),
        }
    }

    fn queue_waiting(&mut self, ticket: Ticket) -> Vec<Action> {
        for child in &mut self.children {
            if child.state == ChildState::Waiting(ticket) {
                child.state = ChildState::Queued;
            }
        }
        self.start_next().into_iter().collect()
    }

    fn handle_started(&mut self, index: ChildIndex) -> Vec<Action> {
        match self.children.get_mut(index.0) {
            Some(child) if child.state == ChildState::Starting => child.state = ChildState::Running,
            _ => return Vec::new(),
        }
        self.start_next().into_iter().collect()
    }

    fn handle_finished(&mut self, now: BootTime, index: ChildIndex) -> Vec<Action> {
        match self.children.get_mut(index.0) {
            Some(child) if child.policy.restart_on == RestartOn::Failure && is_up(child.state) => {
                child.state = ChildState::Resting;
                let mut actions = vec![Action::Rest(index)];
                actions.extend(self.start_next());
                actions
            }
            _ => self.handle_failed(now, index),
        }
    }

    fn handle_failed(&mut self, now: BootTime, index: ChildIndex) -> Vec<Action> {
        let Some(child) = self.children.get_mut(index.0) else { return Vec::new() };
        if !is_up(child.state) {
            return Vec::new();
        }
        let failures = child.note_failure(now);
        let policy = child.policy;
        let mut group = self.group_of(index);
        let mut actions = self.stop_others(&group, index);
        if failures > policy.intensity.restarts_max {
            self.set_all(&group, ChildState::GivenUp);
            group.retain(|member| *member != index);
            group.insert(0, index);
            actions.push(Action::GiveUp { children: group, failures });
        } else {
            let ticket = Ticket(self.next_ticket);
            self.next_ticket += 1;
            self.set_all(&group, ChildState::Waiting(ticket));
            let after = self.wait(policy.backoff, failures);
            actions.push(Action::RestartAfter { ticket, children: group, after });
        }
        actions.extend(self.start_next());
        actions
    }

    /// The children that restart with this one, in order, without those that are down for good.
    fn group_of(&self, index: ChildIndex) -> Vec<ChildIndex> {
        let range = match self.strategy {
            Strategy::OneForOne => index.0..index.0 + 1,
            Strategy::OneForAll => 0..self.children.len(),
            Strategy::RestForOne => index.0..self.children.len(),
        };
        let for_good = |state| matches!(state, ChildState::GivenUp | ChildState::Resting);
        range.filter(|i| !for_good(self.children[*i].state)).map(ChildIndex).collect()
    }

    fn stop_others(&self, group: &[ChildIndex], failed: ChildIndex) -> Vec<Action> {
        let running = |i: &&ChildIndex| **i != failed && self.children[i.0].state == ChildState::Running;
        group.iter().rev().filter(running).map(|i| Action::Stop(*i)).collect()
    }

    fn set_all(&mut self, group: &[ChildIndex], state: ChildState) {
        for index in group {
            self.children[index.0].state = state;
        }
    }

    fn start_next(&mut self) -> Option<Action> {
        if self.children.iter().any(|c| c.state == ChildState::Starting) {
            return None;
        }
        let index = self.children.iter().position(|c| c.state == ChildState::Queued)?;
        self.children[index].state = ChildState::Starting;
        Some(Action::Start(ChildIndex(index)))
    }

    fn wait(&mut self, backoff: Backoff, failures: u32) -> Micros {
        let doublings = failures.saturating_sub(1).min(32);
        let base = backoff.first.0.saturating_mul(1 << doublings).min(backoff.max.0);
        let jitter_max = base.saturating_mul(u64::from(backoff.jitter_percent)) / 100;
        Micros(base.saturating_add(self.rng.u64(0..=jitter_max)))
    }
}

fn is_up(state: ChildState) -> bool {
    matches!(state, ChildState::Starting | ChildState::Running)
}

impl Child {
    /// Remembers a failure and returns how many lie within the window.
    fn note_failure(&mut self, now: BootTime) -> u32 {
        let window = self.policy.intensity.window;
        while self.failures.front().is_some_and(|first| now.since(*first) > window) {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        u32::try_from(self.failures.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
