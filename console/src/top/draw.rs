//! From the state to a screen.

use codeco_protocol::units::WallTime;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::rows::{self, Line};
use super::state::{State, View};
use crate::render::{Tone, clean};

/// What each key does.
const KEYS: &[(&str, &str)] = &[
    ("1 2 3 4, Tab", "fleet, actors, apps, decisions"),
    ("j k, arrows", "down, up"),
    ("PgDn PgUp g G", "ten down or up, first, last"),
    ("Enter", "everything about the row"),
    ("Esc", "back; with nothing to go back from, no filter"),
    ("/", "show only rows with a text"),
    ("p", "hold the picture still, or go on"),
    ("r", "look now"),
    ("q, Ctrl-C", "leave"),
];
/// Columns are at most so wide; the last takes what is left.
const COLUMN_MAX: usize = 40;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, now: WallTime) {
    let layout = Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)])
        .split(frame.area());
    let (Some(head), Some(body), Some(foot)) = (layout.first(), layout.get(1), layout.get(2)) else { return };
    frame.render_widget(Paragraph::new(header(state)), *head);
    match (&state.detail, state.data()) {
        (Some(detail), Some(data)) => {
            let lines = rows::detail(data, &detail.key, now);
            let shown = lines.iter().skip(detail.scroll).take(body.height.into());
            let text: Vec<Text<'_>> = shown.map(|line| Text::raw(clean(line))).collect();
            frame.render_widget(Paragraph::new(text), *body);
        }
        (_, None) => frame.render_widget(Paragraph::new("asking…"), *body),
        (None, Some(_)) => list(frame, state, *body, now),
    }
    frame.render_widget(Paragraph::new(footer(state)), *foot);
    if state.help {
        help(frame);
    }
}

fn header(state: &State) -> Text<'_> {
    let mut spans = vec![Span::raw("codeco top  ")];
    for (at, view) in View::ALL.into_iter().enumerate() {
        let style =
            if view == state.view() { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        spans.push(Span::styled(format!(" {} {} ", at + 1, view.title()), style));
    }
    spans.push(Span::raw(format!("  {}", state.server)));
    if state.paused {
        spans.push(Span::styled("  held still", Style::new().fg(Color::Yellow)));
    }
    Text::from(spans)
}

fn footer(state: &State) -> Text<'_> {
    if state.typing {
        return Text::raw(format!("/{}_   Enter: keep, Esc: forget", clean(&state.filter)));
    }
    if let Some(error) = &state.error {
        return Text::styled(format!("what is shown is old: {}", clean(error)), Style::new().fg(Color::Red));
    }
    if let Some(warning) = state.data().and_then(|data| data.warnings.first()) {
        return Text::styled(format!("warning: {}", clean(warning)), Style::new().fg(Color::Yellow));
    }
    if state.detail.is_some() {
        return Text::raw("Esc back   j k scroll   ? keys   q leave");
    }
    let filter =
        if state.filter.is_empty() { String::new() } else { format!("   only: {}", clean(&state.filter)) };
    Text::raw(format!("? keys   Enter everything   / filter   q leave{filter}"))
}

fn list(frame: &mut Frame<'_>, state: &State, area: Rect, now: WallTime) {
    let (titles, lines) = (rows::titles(state.view()), state.rows(now));
    if lines.is_empty() {
        let why = if state.filter.is_empty() { "there is nothing to show" } else { "no row has this text" };
        frame.render_widget(Paragraph::new(why), area);
        return;
    }
    let widths = widths(titles, &lines);
    let at = state.position(&lines);
    let height = usize::from(area.height.saturating_sub(1)).max(1);
    // The selected row is always in sight, in the middle where that can be.
    let first = at.saturating_sub(height / 2).min(lines.len().saturating_sub(height));
    let mut text = vec![Text::styled(padded(titles, &widths), Style::new().add_modifier(Modifier::DIM))];
    for (row, line) in lines.iter().enumerate().skip(first).take(height) {
        text.push(drawn(line, &widths, row == at));
    }
    frame.render_widget(Paragraph::new(text), area);
}

fn widths(titles: &[&str], lines: &[Line]) -> Vec<usize> {
    let widest = |column: usize, title: &str| {
        let cells = lines.iter().filter_map(|line| line.cells.get(column));
        cells.map(|cell| cell.text.chars().count()).chain([title.len()]).max().unwrap_or(0)
    };
    let last = titles.len().saturating_sub(1);
    let width = |(at, title): (usize, &&str)| {
        if at == last { widest(at, title) } else { widest(at, title).min(COLUMN_MAX) }
    };
    titles.iter().enumerate().map(width).collect()
}

fn padded(texts: &[&str], widths: &[usize]) -> String {
    let cells = texts.iter().zip(widths).map(|(text, width)| format!("{}  ", fitted(text, *width)));
    cells.collect::<String>().trim_end().to_owned()
}

/// `text` in exactly `width` characters.
fn fitted(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return format!("{text:<width$}");
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

fn drawn(line: &Line, widths: &[usize], selected: bool) -> Text<'static> {
    let mut spans = Vec::with_capacity(line.cells.len());
    for (cell, width) in line.cells.iter().zip(widths) {
        let colour = match cell.tone {
            Tone::Plain => None,
            Tone::Good => Some(Color::Green),
            Tone::Busy => Some(Color::Yellow),
            Tone::Bad => Some(Color::Red),
        };
        let style = colour.map_or(Style::new(), |colour| Style::new().fg(colour));
        spans.push(Span::styled(format!("{}  ", fitted(&cell.text, *width)), style));
    }
    let mut style = Style::new();
    if line.heads {
        style = style.add_modifier(Modifier::BOLD);
    }
    if selected {
        style = style.add_modifier(Modifier::REVERSED);
    }
    Text::from(spans).style(style)
}

fn help(frame: &mut Frame<'_>) {
    let width = KEYS.iter().map(|(keys, what)| 16 + what.len().max(keys.len()) + 4).max().unwrap_or(0);
    let size = |n: usize, most: u16| u16::try_from(n).unwrap_or(u16::MAX).min(most);
    let area = frame.area();
    let (width, height) = (size(width, area.width), size(KEYS.len() + 2, area.height));
    let over = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    let lines: Vec<Text<'_>> =
        KEYS.iter().map(|(keys, what)| Text::raw(format!(" {keys:<16} {what}"))).collect();
    frame.render_widget(Clear, over);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), over);
}
