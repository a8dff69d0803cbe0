//! The screen as it looks, key by key, on a terminal that is a text.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::draw::draw;
use super::state::{Data, Outcome, State, View};
use crate::tests::fleet::{self, NOW};

fn data(view: View) -> Data {
    Data {
        clusters: vec![fleet::cluster()],
        nodes: fleet::nodes(),
        links: fleet::links(),
        actors: fleet::tree(),
        apps: vec![fleet::app()],
        replicas: fleet::replicas(),
        decisions: vec![fleet::node_decision(), fleet::cluster_decision()],
        ..Data::of(view)
    }
}

fn showing(view: View) -> State {
    let mut state = State::new("https://hub:7443".into(), view);
    state.take(Ok(data(view)));
    state
}

fn press(state: &mut State, code: KeyCode) -> Outcome {
    state.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn keys(state: &mut State, keys: &str) {
    for key in keys.chars() {
        press(state, KeyCode::Char(key));
    }
}

/// The screen as text, without colours.
fn screen(state: &State, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, NOW)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        line.trim_end().to_owned()
    };
    (0..height).map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn fleet_is_shown_by_cluster_with_what_each_node_has_and_how_its_links_are() {
    insta::assert_snapshot!(screen(&showing(View::Fleet), 110, 8));
}

#[test]
fn actors_are_shown_as_the_tree_they_are_supervised_in() {
    insta::assert_snapshot!(screen(&showing(View::Actors), 110, 10));
}

#[test]
fn applications_are_shown_with_their_replicas() {
    insta::assert_snapshot!(screen(&showing(View::Apps), 100, 7));
}

#[test]
fn decision_is_explained_on_enter_and_scrolled() {
    let mut state = showing(View::Decisions);
    insta::assert_snapshot!("decisions", screen(&state, 110, 6));
    press(&mut state, KeyCode::Enter);
    insta::assert_snapshot!("decision", screen(&state, 110, 24));
    let top = screen(&state, 110, 10);
    keys(&mut state, "jj");
    assert_ne!(screen(&state, 110, 10), top);
    assert!(!screen(&state, 110, 10).contains("which node, decided"));
    press(&mut state, KeyCode::Esc);
    assert!(screen(&state, 110, 10).contains("RUNNER-UP"), "back in the list");
}

#[test]
fn help_lists_every_key_and_any_key_closes_it() {
    let mut state = showing(View::Fleet);
    keys(&mut state, "?");
    insta::assert_snapshot!(screen(&state, 80, 14));
    assert_eq!(press(&mut state, KeyCode::Char('q')), Outcome::Draw, "it closes the help, and nothing else");
    assert!(!state.help);
    assert_eq!(press(&mut state, KeyCode::Char('q')), Outcome::End);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    keys(&mut state, "/");
    assert_eq!(state.press(interrupt), Outcome::End, "also while something is typed");
}

#[test]
fn selection_stays_with_its_row_when_rows_come_and_go() {
    let mut state = showing(View::Fleet);
    keys(&mut state, "jj");
    let at = |state: &State| {
        let rows = state.rows(NOW);
        rows[state.position(&rows)].key.clone()
    };
    assert_eq!(at(&state), "node/edge-1/edge-1-b");
    let mut fewer = data(View::Fleet);
    fewer.nodes.remove(0);
    state.take(Ok(fewer.clone()));
    assert_eq!(at(&state), "node/edge-1/edge-1-b");
    fewer.nodes.clear();
    state.take(Ok(fewer));
    assert_eq!(at(&state), "cluster/edge-1", "it has gone: the first");
    keys(&mut state, "kkkG");
    assert_eq!(at(&state), "cluster/edge-1", "nothing before the first nor after the last");
}

#[test]
fn filter_shows_only_rows_with_its_text_until_it_is_forgotten() {
    let mut state = showing(View::Actors);
    keys(&mut state, "/LEDGER");
    assert!(screen(&state, 110, 10).contains("/LEDGER_"));
    press(&mut state, KeyCode::Enter);
    assert_eq!(state.rows(NOW).len(), 1);
    assert!(screen(&state, 110, 10).contains("only: LEDGER"));
    keys(&mut state, "/q");
    assert_eq!(state.rows(NOW).len(), 0, "q is a letter here");
    assert!(screen(&state, 110, 10).contains("no row has this text"));
    press(&mut state, KeyCode::Esc);
    assert!(state.rows(NOW).len() > 1);
}

#[test]
fn view_changes_by_digit_and_tab_and_asks_for_its_own_data_only() {
    let mut state = showing(View::Fleet);
    assert_eq!(press(&mut state, KeyCode::Char('1')), Outcome::Nothing, "it is in sight already");
    assert_eq!(press(&mut state, KeyCode::BackTab), Outcome::Look);
    assert_eq!(state.view(), View::Decisions);
    assert!(screen(&state, 80, 5).contains("asking…"));
    state.take(Ok(data(View::Fleet)));
    assert!(screen(&state, 80, 5).contains("asking…"), "an answer that comes too late is of another view");
    state.take(Ok(data(View::Decisions)));
    assert!(screen(&state, 80, 5).contains("media/origin-0"));
    press(&mut state, KeyCode::Tab);
    assert_eq!(state.view(), View::Fleet);
}

#[test]
fn picture_held_still_stays_and_errors_say_that_it_is_old() {
    let mut state = showing(View::Fleet);
    keys(&mut state, "p");
    state.take(Ok(Data::of(View::Fleet)));
    let held = screen(&state, 110, 8);
    assert!(held.contains("edge-1-b") && held.contains("held still"), "{held}");
    state.take(Err("cannot reach the hub\u{1b}[2J".into()));
    let old = screen(&state, 110, 8);
    assert!(old.contains("what is shown is old: cannot reach the hub [2J"), "{old}");
    assert_eq!(press(&mut state, KeyCode::Char('p')), Outcome::Look);
    state.take(Ok(Data::of(View::Fleet)));
    assert!(screen(&state, 110, 8).contains("there is nothing to show"));
}

#[test]
fn screen_of_any_size_is_drawn() {
    for view in View::ALL {
        for (width, height) in [(1, 1), (3, 2), (20, 3), (300, 100)] {
            let mut state = showing(view);
            screen(&state, width, height);
            keys(&mut state, "?");
            screen(&state, width, height);
            keys(&mut state, "?");
            press(&mut state, KeyCode::Enter);
            screen(&state, width, height);
        }
    }
}
