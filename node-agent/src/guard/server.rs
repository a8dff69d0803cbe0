//! The guard's loop: wait, take note, carry out what the supervisor says.

mod agent;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, PipeWriter};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant};

use codeco_protocol::units::{BootTime, Micros};
use rustix::process::{WaitOptions, set_child_subreaper, setsid, waitpid};
use uuid::Uuid;

use self::agent::Agents;
use super::container::{Container, Report};
use super::lock::{self, LockError};
use super::messages::{Answer, FromGuard};
use super::options::GuardOptions;
use super::sources::{Source, Sources};
use super::timer::Timer;
use super::{logs, procfs, socket, spawn};
use crate::runtime::boot_now;
use crate::runtime::supervisor::{Action, Slot, SpawnFailure, Supervisor};

/// How long a new guard kills what a former one has left before it gives up.
const SWEEP_TIME_MAX: Duration = Duration::from_secs(10);
/// Pause between two looks for dead processes that were adopted.
const ORPHAN_PAUSE: Micros = Micros::from_secs(5);
/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Micros = Micros::from_millis(100);

/// Why a guard does not start. Nothing was started or left behind.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(
        "{count} processes of a former guard survive SIGKILL; the node cannot promise anything until they end"
    )]
    Leftovers { count: usize },
    #[error("the guard cannot {what}: {source}")]
    System { what: &'static str, source: io::Error },
}

impl OpenError {
    pub(super) fn is_locked(&self) -> bool {
        matches!(self, Self::Lock(LockError::Locked { .. }))
    }
}

#[derive(Debug)]
pub(super) struct Server {
    options: GuardOptions,
    mark: Uuid,
    _lock: File,
    listener: UnixListener,
    timer: Timer,
    supervisor: Supervisor,
    containers: BTreeMap<Slot, Container>,
    /// Where each container's processes write; kept over restarts, so that one log thread serves them all.
    outputs: BTreeMap<Slot, PipeWriter>,
    agents: Agents,
    accept_at: BootTime,
    orphans_at: BootTime,
    idle_since: Option<BootTime>,
}

impl Server {
    /// Takes the state folder over: locks it, kills what a former guard has left, listens.
    pub(super) fn open(options: GuardOptions) -> Result<Self, OpenError> {
        let failed = |what| move |source| OpenError::System { what, source };
        // Fails where we lead a session already, which is as good.
        let _ = setsid();
        let lock = lock::lock(&options.state_folder)?;
        let mark = lock::mark(&options.state_folder)?;
        set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|error| failed("adopt orphans")(error.into()))?;
        sweep(mark)?;
        let listener = socket::listen(&options.state_folder).map_err(failed("listen on its socket"))?;
        Ok(Self {
            timer: Timer::new().map_err(failed("make a timer"))?,
            options,
            mark,
            _lock: lock,
            listener,
            supervisor: Supervisor::default(),
            containers: BTreeMap::new(),
            outputs: BTreeMap::new(),
            agents: Agents::new(),
            accept_at: BootTime::default(),
            orphans_at: BootTime::default(),
            idle_since: None,
        })
    }

    /// Serves until told to shut down or until nobody needs it.
    pub(super) fn run(&mut self) {
        loop {
            // Deadlines first, in every round: nothing else may delay the end of a lease.
            self.feed(Supervisor::handle_time);
            self.look_whether_gone();
            let now = boot_now();
            self.reap_orphans(now);
            if self.is_done(now) {
                break;
            }
            if let Err(error) = self.timer.set(self.deadline(now)) {
                say!("the alarm cannot be set: {error}");
            }
            for source in self.wait(now) {
                self.handle(source);
            }
        }
        if let Err(error) = socket::remove(&self.options.state_folder) {
            say!("its socket cannot be removed: {error}");
        }
    }

    fn wait(&self, now: BootTime) -> Vec<Source> {
        let mut sources = Sources::default();
        sources.add(Source::Timer, self.timer.as_fd(), false);
        if now >= self.accept_at {
            sources.add(Source::Listener, self.listener.as_fd(), false);
        }
        self.agents.add_to(&mut sources);
        for (slot, container) in &self.containers {
            if let Some(fd) = container.report_fd() {
                sources.add(Source::Report(slot.clone()), fd, false);
            }
            if let Some(fd) = container.end_fd() {
                sources.add(Source::End(slot.clone()), fd, false);
            }
        }
        sources.wait()
    }

    fn deadline(&self, now: BootTime) -> Option<BootTime> {
        let looks = self.containers.values().filter_map(Container::look_at).min();
        let orphans = (!self.containers.is_empty()).then_some(self.orphans_at);
        let accept = (self.accept_at > now).then_some(self.accept_at);
        let idle = self.idle_since.map(|since| since + self.options.idle_after.into());
        [self.supervisor.deadline(), looks, orphans, accept, idle].into_iter().flatten().min()
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Timer => {}
            Source::Listener => match self.listener.accept() {
                Ok((stream, _)) => self.agents.welcome(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    say!("a connection cannot be accepted: {error}");
                    self.accept_at = boot_now() + ACCEPT_PAUSE;
                }
            },
            Source::Newcomer => self.agents.hear_newcomer(),
            Source::Agent => self.hear_agent(),
            Source::Report(slot) => self.hear_report(&slot),
            Source::End(slot) => {
                // What the shim has to say comes before its end.
                self.hear_report(&slot);
                let exit = self.containers.get_mut(&slot).and_then(|container| container.reap(boot_now()));
                if let Some(exit) = exit {
                    self.feed(|supervisor, _, out| supervisor.handle_exited(&slot, exit, out));
                }
            }
        }
    }

    fn hear_report(&mut self, slot: &Slot) {
        match self.containers.get_mut(slot).map_or(Report::Pending, Container::read_report) {
            Report::Pending => {}
            Report::Running => self.feed(|supervisor, _, out| supervisor.handle_running(slot, out)),
            Report::NotRunnable(why) => {
                let name = self.container_name(slot);
                let message = format!("container {name:?}: {why}");
                self.feed(|supervisor, _, out| supervisor.handle_not_runnable(slot, message, out));
            }
        }
    }

    fn look_whether_gone(&mut self) {
        let now = boot_now();
        let due = |(slot, container): (&Slot, &Container)| {
            container.look_at().is_some_and(|at| now >= at).then(|| slot.clone())
        };
        let due: Vec<Slot> = self.containers.iter().filter_map(due).collect();
        for slot in due {
            if self.containers.get_mut(&slot).is_some_and(|container| container.is_gone(now)) {
                self.containers.remove(&slot);
                self.feed(|supervisor, now, out| supervisor.handle_gone(now, &slot, out));
            }
        }
    }

    /// Lets the supervisor take note of something and carries out what it says.
    fn feed(&mut self, note: impl FnOnce(&mut Supervisor, BootTime, &mut Vec<Action>)) {
        let mut out = Vec::new();
        note(&mut self.supervisor, boot_now(), &mut out);
        let mut todo = VecDeque::from(out);
        while let Some(action) = todo.pop_front() {
            match action {
                Action::Spawn(slot) => todo.extend(self.spawn(&slot)),
                Action::Signal(slot, signal) => {
                    if let Some(container) = self.containers.get(&slot) {
                        container.signal(signal);
                    }
                }
                Action::Event(event) => {
                    if event.kind.is_terminal() {
                        self.outputs.retain(|slot, _| slot.replica != event.replica);
                    }
                    self.agents.tell(&FromGuard::Event(event));
                }
                Action::StopProven(waiter) => self.agents.answer_waiter(waiter, Answer::Stopped(Ok(()))),
            }
        }
    }

    fn spawn(&mut self, slot: &Slot) -> Vec<Action> {
        let mut out = Vec::new();
        match self.make_container(slot) {
            Ok(container) => {
                let pid = container.pid();
                self.containers.insert(slot.clone(), container);
                self.supervisor.handle_spawned(boot_now(), slot, pid, &mut out);
            }
            Err(failure) => {
                let (SpawnFailure::Permanent(message) | SpawnFailure::Transient(message)) = &failure;
                say!("{}: {message}", slot.replica);
                self.supervisor.handle_spawn_failed(boot_now(), slot, failure, &mut out);
            }
        }
        out
    }

    fn make_container(&mut self, slot: &Slot) -> Result<Container, SpawnFailure> {
        let workload = self.supervisor.workload(slot);
        let spec = workload.and_then(|workload| workload.spec.containers.get(slot.container));
        let (Some(workload), Some(spec)) = (workload, spec) else {
            return Err(SpawnFailure::Permanent("its specification is gone".into()));
        };
        spawn::check(spec)?;
        let transient = |what: &'static str| {
            let name = &spec.name;
            move |error: io::Error| SpawnFailure::Transient(format!("container {name:?}: {what}: {error}"))
        };
        if !self.outputs.contains_key(slot) {
            let (reader, writer) = io::pipe().map_err(transient("no pipe for its output"))?;
            let running = self.outputs.keys().map(|slot| logs::folder_name(&slot.replica)).collect();
            let folder = &self.options.state_folder;
            logs::copy_in_background(folder, &slot.replica, &spec.name, reader, running)
                .map_err(transient("no log"))?;
            self.outputs.insert(slot.clone(), writer);
        }
        let Some(output) = self.outputs.get(slot) else {
            return Err(SpawnFailure::Transient("no pipe for its output".into()));
        };
        let spawned = spawn::spawn(&self.options, self.mark, workload, spec, output)?;
        let marks = spawn::container_marks(self.mark, &slot.replica, &spec.name);
        Container::new(spawned, marks).map_err(transient("its process cannot be watched"))
    }

    fn container_name(&self, slot: &Slot) -> &str {
        let workload = self.supervisor.workload(slot);
        workload.and_then(|workload| workload.spec.containers.get(slot.container)).map_or("", |c| &c.name)
    }

    /// Processes that left their group and whose parents died are our children now: reap them when they end.
    fn reap_orphans(&mut self, now: BootTime) {
        if now < self.orphans_at || self.containers.is_empty() {
            return;
        }
        self.orphans_at = now + ORPHAN_PAUSE;
        let mains: Vec<Option<u32>> = self.containers.values().map(Container::pid).collect();
        for pid in procfs::zombies() {
            if !mains.contains(&u32::try_from(pid.as_raw_nonzero().get()).ok()) {
                // Nobody else waits for it; if it is gone, so much the better.
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
        }
    }

    fn is_done(&mut self, now: BootTime) -> bool {
        if self.supervisor.is_active() {
            self.idle_since = None;
            return false;
        }
        if self.agents.finish_shutdown() {
            return true;
        }
        if self.agents.are_present() {
            self.idle_since = None;
            return false;
        }
        let since = *self.idle_since.get_or_insert(now);
        now >= since + self.options.idle_after.into()
    }
}

/// Kills what carries this folder's mark: the lock is ours, so whoever started it is dead.
fn sweep(mark: Uuid) -> Result<(), OpenError> {
    let begun = Instant::now();
    let mut clean_looks = 0;
    loop {
        let count = procfs::kill_marked(&[spawn::guard_mark(mark)]);
        clean_looks = if count == 0 { clean_looks + 1 } else { 0 };
        if clean_looks == procfs::CLEAN_LOOKS {
            return Ok(());
        }
        if begun.elapsed() > SWEEP_TIME_MAX {
            return Err(OpenError::Leftovers { count });
        }
        thread::sleep(Duration::from_millis(2));
    }
}
