//! What is shown, and what each key does. No terminal, no clock, no network.

use clap::ValueEnum;
use codeco_protocol::api::{ActorView, AppView, ClusterView, DecisionView, LinkView, NodeView, ReplicaView};
use codeco_protocol::units::WallTime;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::rows::{self, Line};

/// Rows a page key moves by.
const PAGE: usize = 10;
/// Longest filter.
const FILTER_MAX: usize = 64;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum View {
    /// Clusters and nodes.
    #[default]
    Fleet,
    /// The supervision tree of every member.
    Actors,
    /// Applications and their replicas.
    Apps,
    /// Decisions, newest first.
    Decisions,
}

impl View {
    /// All, in the order of their keys.
    pub(super) const ALL: [Self; 4] = [Self::Fleet, Self::Actors, Self::Apps, Self::Decisions];

    pub(super) fn of(number: u8) -> Self {
        Self::ALL.into_iter().find(|view| *view as u8 == number).unwrap_or_default()
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Actors => "actors",
            Self::Apps => "apps",
            Self::Decisions => "decisions",
        }
    }

    fn next(self, by: usize) -> Self {
        Self::ALL[(self as usize + by) % Self::ALL.len()]
    }
}

/// What the API has answered for one view.
#[derive(Debug, Clone, Default)]
pub(super) struct Data {
    pub(super) view: View,
    pub(super) clusters: Vec<ClusterView>,
    pub(super) nodes: Vec<NodeView>,
    pub(super) links: Vec<LinkView>,
    pub(super) actors: Vec<ActorView>,
    pub(super) apps: Vec<AppView>,
    pub(super) replicas: Vec<ReplicaView>,
    pub(super) decisions: Vec<DecisionView>,
    pub(super) warnings: Vec<String>,
}

impl Data {
    pub(super) fn of(view: View) -> Self {
        Self { view, ..Self::default() }
    }
}

/// What is to be done after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing.
    Nothing,
    /// The screen has changed.
    Draw,
    /// The screen has changed, and other data is wanted.
    Look,
    /// The user has had enough.
    End,
}

/// Everything about one object, over the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Detail {
    pub(super) key: String,
    pub(super) scroll: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    pub(super) server: String,
    view: View,
    data: Option<Data>,
    /// Why there is nothing newer.
    pub(super) error: Option<String>,
    /// What the selected row is about: it stays selected while rows come and go.
    selected: Option<String>,
    pub(super) detail: Option<Detail>,
    pub(super) filter: String,
    pub(super) typing: bool,
    pub(super) paused: bool,
    pub(super) help: bool,
}

impl State {
    pub(super) fn new(server: String, view: View) -> Self {
        Self {
            server,
            view,
            data: None,
            error: None,
            selected: None,
            detail: None,
            filter: String::new(),
            typing: false,
            paused: false,
            help: false,
        }
    }

    pub(super) fn view(&self) -> View {
        self.view
    }

    /// What was last answered for the view in sight.
    pub(super) fn data(&self) -> Option<&Data> {
        self.data.as_ref().filter(|data| data.view == self.view)
    }

    /// Takes an answer. One for a view that is out of sight by now is of no use.
    pub(super) fn take(&mut self, answer: Result<Data, String>) {
        match answer {
            Ok(data) if data.view == self.view => {
                if !self.paused {
                    self.data = Some(data);
                }
                self.error = None;
            }
            Ok(_) => {}
            Err(error) => self.error = Some(error),
        }
    }

    /// The rows that pass the filter.
    pub(super) fn rows(&self, now: WallTime) -> Vec<Line> {
        let Some(data) = self.data() else { return Vec::new() };
        let mut lines = rows::lines(data, now);
        let wanted = self.filter.to_lowercase();
        lines.retain(|line| {
            let text = line.cells.iter().any(|cell| cell.text.to_lowercase().contains(&wanted));
            wanted.is_empty() || text
        });
        lines
    }

    /// Which of these rows is selected; the first, if none is or it has gone.
    pub(super) fn position(&self, rows: &[Line]) -> usize {
        let found = self.selected.as_ref().and_then(|key| rows.iter().position(|line| line.key == *key));
        found.unwrap_or(0)
    }

    /// Does what a key says.
    pub(super) fn press(&mut self, key: KeyEvent) -> Outcome {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Outcome::End;
        }
        if self.typing {
            return self.type_filter(key.code);
        }
        if self.help {
            self.help = false;
            return Outcome::Draw;
        }
        match key.code {
            KeyCode::Char('q') => Outcome::End,
            KeyCode::Char('?') => {
                self.help = true;
                Outcome::Draw
            }
            KeyCode::Char(digit @ '1'..='4') => self.show(View::of(digit as u8 - b'1')),
            KeyCode::Tab => self.show(self.view.next(1)),
            KeyCode::BackTab => self.show(self.view.next(View::ALL.len() - 1)),
            KeyCode::Char('/') => {
                self.typing = true;
                self.detail = None;
                Outcome::Draw
            }
            KeyCode::Char('p') => {
                self.paused = !self.paused;
                if self.paused { Outcome::Draw } else { Outcome::Look }
            }
            KeyCode::Char('r') => Outcome::Look,
            KeyCode::Enter => self.open(),
            KeyCode::Esc | KeyCode::Backspace => {
                let closed = self.detail.take().is_some();
                if !closed {
                    self.filter.clear();
                }
                Outcome::Draw
            }
            code => self.travel(code),
        }
    }

    fn type_filter(&mut self, code: KeyCode) -> Outcome {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) if self.filter.chars().count() < FILTER_MAX => self.filter.push(c),
            _ => return Outcome::Nothing,
        }
        Outcome::Draw
    }

    fn show(&mut self, view: View) -> Outcome {
        if view == self.view {
            return Outcome::Nothing;
        }
        self.view = view;
        (self.selected, self.detail, self.data) = (None, None, None);
        self.filter.clear();
        // Nothing can be paused that has not been seen.
        self.paused = false;
        Outcome::Look
    }

    fn open(&mut self) -> Outcome {
        // What a row is about does not depend on the time.
        let rows = self.rows(WallTime(0));
        match rows.get(self.position(&rows)) {
            Some(line) if self.detail.is_none() => {
                self.detail = Some(Detail { key: line.key.clone(), scroll: 0 });
                Outcome::Draw
            }
            _ => Outcome::Nothing,
        }
    }

    fn travel(&mut self, code: KeyCode) -> Outcome {
        let to = |at: usize, last: usize| match code {
            KeyCode::Char('j') | KeyCode::Down => Some(at.saturating_add(1).min(last)),
            KeyCode::Char('k') | KeyCode::Up => Some(at.saturating_sub(1)),
            KeyCode::PageDown | KeyCode::Char(' ') => Some(at.saturating_add(PAGE).min(last)),
            KeyCode::PageUp => Some(at.saturating_sub(PAGE)),
            KeyCode::Home | KeyCode::Char('g') => Some(0),
            KeyCode::End | KeyCode::Char('G') => Some(last),
            _ => None,
        };
        if let Some(detail) = &mut self.detail {
            let lines = self.data.as_ref().map(|data| rows::detail(data, &detail.key, WallTime(0)).len());
            let Some(scroll) = to(detail.scroll, lines.unwrap_or(0).saturating_sub(1)) else {
                return Outcome::Nothing;
            };
            detail.scroll = scroll;
            return Outcome::Draw;
        }
        let rows = self.rows(WallTime(0));
        let Some(at) = to(self.position(&rows), rows.len().saturating_sub(1)) else {
            return Outcome::Nothing;
        };
        self.selected = rows.get(at).map(|line| line.key.clone());
        Outcome::Draw
    }
}
