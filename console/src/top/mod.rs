//! `codeco top`: a fleet at a glance, kept up to date, by keyboard.
//!
//! | file | concept |
//! |---|---|
//! | `state` | what is shown, and what each key does: no terminal, no clock |
//! | `rows` | from what the API answers to rows |
//! | `draw` | from the state to a screen |
//! | `mod` | the terminal, and the thread that asks |
//!
//! The thread asks only for what the view in sight needs; the screen is drawn when something has changed, and at most
//! [`FRAMES_PER_SECOND`] times a second, so that it works over a slow line, too.

mod draw;
mod rows;
mod state;
#[cfg(test)]
mod tests;

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use codeco_hub::fleet::Filter;
use codeco_protocol::identity::TrustClock;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use crate::client::Client;
use crate::failure::Failure;
use crate::render::numbers::seconds;
use crate::session::Session;
use state::{Data, Outcome, State, View};

/// Most drawings of the screen in a second.
const FRAMES_PER_SECOND: u32 = 10;
/// Ages on the screen are drawn anew so often, if nothing else happens.
const AGES: Duration = Duration::from_secs(1);
/// Most decisions asked for.
const DECISIONS_MAX: u32 = 200;

/// Arguments of `top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Pause between two looks, such as 2s.
    #[arg(long, value_parser = seconds, value_name = "TIME", default_value = "2s")]
    every: u64,
    /// View to begin with.
    #[arg(long, value_enum, default_value_t)]
    view: View,
}

impl TopArgs {
    pub(crate) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let client = session.client()?;
        if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            return Err(Failure::usage("top needs a terminal")
                .next("elsewhere: codeco get nodes --watch, or codeco get actors -o json"));
        }
        let state = State::new(client.server().to_owned(), self.view);
        let mut terminal = ratatui::try_init()?;
        let result = watch(&mut terminal, client, state, Duration::from_secs(self.every));
        ratatui::restore();
        result
    }
}

/// What the thread that asks is told.
struct Wish {
    view: AtomicU8,
    ended: AtomicBool,
    /// Set to be asked at once.
    now: Mutex<bool>,
    woken: Condvar,
}

impl Wish {
    fn wake(&self) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.woken.notify_all();
    }

    /// Waits for the next look.
    fn wait(&self, pause: Duration) {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.woken.wait_timeout_while(now, pause, |now| !*now);
        let (mut now, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *now = false;
    }
}

fn watch(
    terminal: &mut DefaultTerminal,
    client: Client,
    mut state: State,
    every: Duration,
) -> Result<(), Failure> {
    let wish = Arc::new(Wish {
        view: AtomicU8::new(state.view() as u8),
        ended: AtomicBool::new(false),
        now: Mutex::new(false),
        woken: Condvar::new(),
    });
    let (sender, answers) = sync_channel(1);
    let asking = {
        let wish = Arc::clone(&wish);
        std::thread::spawn(move || ask_on(&client, &wish, &sender, every))
    };
    let result = interact(terminal, &mut state, &answers, &wish);
    wish.ended.store(true, Ordering::Relaxed);
    wish.wake();
    // It may be waiting for an answer for a while; nobody waits for it.
    drop((answers, asking));
    result
}

/// Draws, and does what keys say, until one says to end.
fn interact(
    terminal: &mut DefaultTerminal,
    state: &mut State,
    answers: &Receiver<Result<Data, Failure>>,
    wish: &Wish,
) -> Result<(), Failure> {
    let clock = TrustClock::system();
    let frame = Duration::from_secs(1) / FRAMES_PER_SECOND;
    let (mut dirty, mut drawn) = (true, Instant::now());
    loop {
        if dirty || drawn.elapsed() >= AGES {
            terminal.draw(|frame| draw::draw(frame, state, clock.now()))?;
            (dirty, drawn) = (false, Instant::now());
        }
        // What comes within one frame is drawn together.
        let end = Instant::now() + frame;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if !event::poll(left.min(frame))? {
                break;
            }
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match state.press(key) {
                    Outcome::End => return Ok(()),
                    Outcome::Look => {
                        wish.view.store(state.view() as u8, Ordering::Relaxed);
                        wish.wake();
                        dirty = true;
                    }
                    Outcome::Draw => dirty = true,
                    Outcome::Nothing => {}
                },
                Event::Resize(..) => dirty = true,
                _ => {}
            }
            if left.is_zero() {
                break;
            }
        }
        match answers.recv_timeout(Duration::ZERO) {
            Ok(answer) => {
                state.take(answer.map_err(|failure| failure.body.message));
                dirty = true;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn ask_on(client: &Client, wish: &Wish, answers: &SyncSender<Result<Data, Failure>>, every: Duration) {
    while !wish.ended.load(Ordering::Relaxed) {
        let view = View::of(wish.view.load(Ordering::Relaxed));
        if answers.send(ask(client, view)).is_err() {
            return;
        }
        wish.wait(every);
    }
}

/// What one view needs.
fn ask(client: &Client, view: View) -> Result<Data, Failure> {
    let all = Filter::default();
    let mut data = Data::of(view);
    match view {
        View::Fleet => {
            data.clusters = client.list("clusters", &all)?.items;
            data.nodes = client.list("nodes", &all)?.items;
            data.links = client.list("links", &all)?.items;
        }
        View::Actors => {
            let list = client.list("actors", &all)?;
            (data.actors, data.warnings) = (list.items, list.warnings);
        }
        View::Apps => {
            data.apps = client.list("apps", &all)?.items;
            data.replicas = client.list("replicas", &all)?.items;
        }
        View::Decisions => {
            let filter = Filter { limit: Some(DECISIONS_MAX), ..all };
            let list = client.list("decisions", &filter)?;
            (data.decisions, data.warnings) = (list.items, list.warnings);
        }
    }
    Ok(data)
}
