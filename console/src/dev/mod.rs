//! `codeco dev`: a whole fleet on this machine, in one command.

mod screen;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use codeco_hub::fleet::Filter;
use codeco_protocol::api::{AppView, NodeView, ReplicaView, codes};

use crate::client::Client;
use crate::contexts::{self, Context};
use crate::failure::{ExitClass, Failure};
use crate::local::{Died, LocalError, LocalFleet, LocalOptions, RuntimeKind, describe};
use crate::session::Session;
use screen::Screen;

/// The example, in a form that runs on any Linux.
const PROCESS_EXAMPLE: &str = include_str!("../../../deploy/examples/media-streaming-process.yaml");
/// The example, with images.
const IMAGE_EXAMPLE: &str = include_str!("../../../deploy/examples/media-streaming.yaml");
/// How long the example may take to become ready.
const EXAMPLE_DEADLINE: Duration = Duration::from_secs(30);
/// Time between two looks at the fleet.
const LOOK: Duration = Duration::from_millis(1_000);

/// What starts replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Runtime {
    /// Nothing is started; replicas are played.
    Simulated,
    /// The containers' commands run as processes.
    Process,
}

/// Options of `codeco dev`.
#[derive(Debug, Args)]
pub(crate) struct DevCommand {
    /// Number of edge clusters.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    clusters: u32,
    /// Number of nodes in each.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    nodes: u32,
    /// What starts replicas.
    #[arg(long, value_enum, default_value = "process")]
    runtime: Runtime,
    /// Folder for everything; a second start with the same folder is the same fleet again
    /// [default: ~/.local/state/codeco/dev].
    #[arg(long, env = "CODECO_DEV_STATE")]
    state: Option<PathBuf>,
    /// Do not apply the example.
    #[arg(long)]
    no_example: bool,
    /// Seconds after which a process that died is started again; 0: never.
    #[arg(long, default_value_t = 10)]
    restart_after: u64,
    /// Stop as soon as the fleet and the example are ready.
    #[arg(long)]
    once: bool,
}

fn failed(error: &LocalError) -> Failure {
    Failure::new(ExitClass::Error, codes::DEV_FAILED, error.to_string())
        .next("correct the cause and start again; what was started has been stopped")
}

fn default_state() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local").join("state")));
    state.unwrap_or_else(|| PathBuf::from(".codeco-state")).join("codeco").join("dev")
}

impl DevCommand {
    pub(crate) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let stop = stop_flag()?;
        let state = self.state.clone().unwrap_or_else(default_state);
        let state = std::path::absolute(&state)?;
        let program = crate::own_command()?;
        let runtime = match self.runtime {
            Runtime::Simulated => RuntimeKind::Simulated,
            Runtime::Process => RuntimeKind::Process,
        };
        let options = LocalOptions {
            program,
            state: state.clone(),
            clusters: self.clusters,
            nodes: self.nodes,
            runtime,
            faults: true,
            agent_args: Vec::new(),
            hub_args: Vec::new(),
        };
        let mut fleet = LocalFleet::prepare(options).map_err(|e| failed(&e))?;
        writeln!(
            session.stdout,
            "starting a hub and {} clusters of {} nodes, state in {}",
            self.clusters,
            self.nodes,
            state.display()
        )?;
        let took = fleet.start().map_err(|e| failed(&e))?;
        writeln!(
            session.stdout,
            "fleet ready in {:.2} s: hub and {} agents joined, each a process of its own",
            took.as_secs_f64(),
            fleet.agents().len()
        )?;
        let access = fleet.access().map_err(|e| failed(&e))?;
        let context = Context {
            name: "dev".into(),
            server: access.server,
            ca: access.ca,
            token: access.token,
            members: fleet.apis(),
        };
        let client = Client::new(&context)?;
        contexts::save_and_use(&session.contexts, context)?;
        if !self.no_example {
            self.place_example(&client, &stop, session)?;
        }
        if !self.once && !stop.load(Ordering::Acquire) {
            hints(&fleet, session)?;
            self.watch(&mut fleet, &client, &stop, session)?;
        }
        writeln!(session.stdout, "stopping the fleet; its state stays in {}", state.display())?;
        let killed = fleet.stop();
        if !killed.is_empty() {
            writeln!(session.stdout, "killed because they did not stop in time: {}", killed.join(", "))?;
        }
        Ok(())
    }

    /// Applies the example to an empty fleet, and waits until it is ready. A fleet that has applications is left as it
    /// is.
    fn place_example(
        &self,
        client: &Client,
        stop: &AtomicBool,
        session: &mut Session<'_>,
    ) -> Result<(), Failure> {
        let known = client.list::<AppView>("apps", &Filter::default())?;
        let began = Instant::now();
        if known.items.is_empty() {
            let (name, text) = match self.runtime {
                Runtime::Process => ("deploy/examples/media-streaming-process.yaml", PROCESS_EXAMPLE),
                Runtime::Simulated => ("deploy/examples/media-streaming.yaml", IMAGE_EXAMPLE),
            };
            for applied in client.apply(name, text)? {
                writeln!(session.stdout, "app/{} {} from {name}", applied.name, applied.action)?;
            }
        }
        loop {
            let apps = client.list::<AppView>("apps", &Filter::default())?.items;
            let ready: u32 = apps.iter().map(|app| app.replicas_ready).sum();
            let wanted: u32 = apps.iter().map(|app| app.replicas_wanted).sum();
            if ready >= wanted {
                let took = began.elapsed().as_secs_f64();
                writeln!(session.stdout, "{ready} of {wanted} replicas ready in {took:.2} s")?;
                return Ok(());
            }
            if began.elapsed() > EXAMPLE_DEADLINE {
                writeln!(
                    session.stdout,
                    "{ready} of {wanted} replicas ready after {} s; `codeco get replicas` says what is missing",
                    EXAMPLE_DEADLINE.as_secs()
                )?;
                return Ok(());
            }
            if stop.load(Ordering::Acquire) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Shows the fleet until told to stop, and starts again what dies.
    fn watch(
        &self,
        fleet: &mut LocalFleet,
        client: &Client,
        stop: &AtomicBool,
        session: &mut Session<'_>,
    ) -> Result<(), Failure> {
        let mut screen = Screen::new(session.paint);
        let mut due: Vec<(Instant, Died)> = Vec::new();
        let mut next_look = Instant::now();
        while !stop.load(Ordering::Acquire) {
            for died in fleet.reap() {
                let again = match self.restart_after {
                    0 => "it stays down".to_owned(),
                    seconds => format!("it is started again in {seconds} s"),
                };
                screen.say(session, &format!("{} died by {}; {again}", died.name, describe(died.status)))?;
                if self.restart_after > 0 {
                    due.push((Instant::now() + Duration::from_secs(self.restart_after), died));
                }
            }
            let now = Instant::now();
            let (ripe, later): (Vec<_>, Vec<_>) = due.into_iter().partition(|(at, _)| *at <= now);
            due = later;
            for (_, died) in ripe {
                let started = match died.agent {
                    Some(at) => fleet.start_agent(at),
                    None => fleet.start_hub(),
                };
                let said = match started {
                    Ok(()) => format!("{} is started again", died.name),
                    Err(error) => {
                        due.push((now + Duration::from_secs(self.restart_after), died.clone()));
                        format!("{} could not be started again: {error}", died.name)
                    }
                };
                screen.say(session, &said)?;
            }
            if next_look <= now {
                next_look = now + LOOK;
                screen.show(session, look(client).as_ref())?;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// Nodes and replicas now; `None` while the hub does not answer.
fn look(client: &Client) -> Option<(Vec<NodeView>, Vec<ReplicaView>)> {
    let nodes = client.list::<NodeView>("nodes", &Filter::default()).ok()?.items;
    let replicas = client.list::<ReplicaView>("replicas", &Filter::default()).ok()?.items;
    Some((nodes, replicas))
}

fn hints(fleet: &LocalFleet, session: &mut Session<'_>) -> Result<(), Failure> {
    let command = crate::own_command()?;
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let codeco = words.join(" ");
    let victim = fleet.agents().last().and_then(|agent| Some((agent.full_name(), agent.pid()?)));
    writeln!(session.stdout, "\ntry, in another terminal:")?;
    writeln!(session.stdout, "  {codeco} get replicas -o wide          # what runs where")?;
    writeln!(session.stdout, "  {codeco} explain app/media-streaming   # why it runs there")?;
    if let Some((name, pid)) = victim {
        writeln!(session.stdout, "  kill -9 {pid}   # crash {name}, and see its work move")?;
    }
    writeln!(session.stdout, "Ctrl-C stops everything.\n")?;
    Ok(())
}

/// A flag that SIGINT and SIGTERM set.
fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (ready, armed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let signals =
                signal(SignalKind::interrupt()).and_then(|a| Ok((a, signal(SignalKind::terminate())?)));
            // The receiver waits below.
            let _ = ready.send(signals.as_ref().err().map(ToString::to_string));
            let Ok((mut interrupt, mut terminate)) = signals else { return };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                set.store(true, Ordering::Release);
            }
        });
    });
    match armed.recv() {
        Ok(None) => Ok(flag),
        Ok(Some(error)) => {
            Err(Failure::new(ExitClass::Error, codes::SIGNALS, format!("cannot handle signals: {error}")))
        }
        Err(_) => Err(Failure::new(
            ExitClass::Error,
            codes::SIGNALS,
            "cannot handle signals: the thread for it ended",
        )),
    }
}
