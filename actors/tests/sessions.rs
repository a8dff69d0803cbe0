//! Actor sessions between real processes.
//!
//! ractor's registries are global, so each node is a process: this test binary starts itself anew as a peer
//! (`peer_process` below) and directs two of them by lines of text, like a play.
#![allow(clippy::unwrap_used)]

#[path = "sessions/peer.rs"]
mod peer;
#[path = "sessions/stage.rs"]
mod stage;

use stage::Stage;

/// Not a test of its own: what the processes of the others run.
#[test]
#[ignore = "started by the other tests, with an environment of theirs"]
fn peer_process() {
    if let Some(role) = peer::Role::from_environment() {
        tokio::runtime::Runtime::new().unwrap().block_on(peer::run(role));
    }
}

#[test]
fn call_crosses_processes_with_the_identity_of_the_certificate() {
    let (mut ann, mut bob) = Stage::new().pair();
    ann.dial(&mut bob);
    assert_eq!(ann.ask("call bob 5000 echo:hello"), "answer ann said echo:hello");
    assert_eq!(bob.ask("call ann 5000 echo:welcome"), "answer bob said echo:welcome");
    assert_eq!(ann.ask("call bob 5000 slowly:10"), "answer ann was patient");
    assert_eq!(ann.ask("cast bob 5000 note"), "sent");
    bob.expect("heard note from ann");
}

#[test]
fn peer_that_calls_itself_by_another_name_is_refused() {
    let stage = Stage::new();
    let (mut ann, mut bob) = (stage.peer_calling_itself("ann", "eve"), stage.peer("bob"));
    bob.tell("expect ann");
    ann.tell(&format!("dial {} bob", bob.port));
    bob.expect("attach-error ann WrongName");
    bob.expect("event Refused ann WrongName");
    ann.expect("attach-error bob");
    assert!(ann.ask("call bob 1000 echo:hello").starts_with("error NoSession"));
    assert!(bob.counters().contains("sessions_wrong_name: 1"));
}

#[test]
fn binding_of_another_connection_is_refused_and_counted() {
    let stage = Stage::new();
    let (mut ann, mut bob) = stage.pair();
    ann.dial(&mut bob);
    assert_eq!(ann.ask("forge bob 01 00000000000000000000000000000000 00001388 echo:me"), "raw 01");
    assert!(bob.counters().contains("refused_unknown_binding: 1"));
    assert!(bob.counters().contains("handled_in: 0"));
    // A live binding of bob's, but with somebody else: it speaks for cid, and cid alone knows it.
    let mut cid = stage.peer("cid");
    cid.dial(&mut bob);
    assert!(cid.ask("call bob 5000 echo:x").starts_with("answer cid said"));
    // Once the session is gone its binding is worth nothing.
    let binding = cid.ask("binding bob");
    cid.kill();
    bob.expect("event Down cid");
    assert_eq!(ann.ask(&format!("forge bob 01 {binding} 00001388 echo:me")), "raw 01");
    assert!(ann.ask("call bob 5000 echo:still here").starts_with("answer ann said"));
}

#[test]
fn peer_that_joins_the_group_of_another_gets_none_of_its_calls() {
    let stage = Stage::new();
    let (mut ann, mut bob, mut eve) = (stage.peer("ann"), stage.peer("bob"), stage.peer("eve"));
    eve.dial(&mut bob);
    assert_eq!(eve.ask("pose-as ann"), "posed");
    assert!(eve.ask("call bob 5000 echo:x").starts_with("answer"), "bob has heard of it by now");
    // Which member of a group comes first is chance: more than once.
    for round in 0..8 {
        ann.dial(&mut bob);
        let answer = bob.ask("call ann 5000 echo:x");
        assert_eq!(answer, "answer bob said echo:x", "round {round}");
    }
    assert!(eve.counters().contains("refused_unknown_binding: 0"));
}

#[test]
fn bytes_that_are_no_request_are_refused_and_disturb_nobody() {
    let (mut ann, mut bob) = Stage::new().pair();
    ann.dial(&mut bob);
    let binding = ann.ask("binding bob");
    assert_eq!(ann.ask("forge bob - - - "), "raw 02", "empty");
    assert_eq!(ann.ask(&format!("forge bob 07 {binding} 00001388 echo:x")), "raw 02", "version");
    assert_eq!(ann.ask(&format!("forge bob 01 {binding} 00000000 echo:x")), "raw 04", "no time left");
    assert_eq!(ann.ask(&format!("forge bob 01 {binding} 00001388 pad:66000")), "raw 03", "size");
    assert_eq!(ann.ask("call bob 5000 panic"), "error Refused HandlerFailed");
    assert_eq!(ann.ask("call bob 5000 panic-later"), "error Refused HandlerFailed");
    assert_eq!(ann.ask("call bob 5000 big:70000"), "error Refused AnswerTooLarge");
    assert_eq!(ann.ask("call bob 5000 echo:fine"), "answer ann said echo:fine");
    let counters = bob.counters();
    for expected in [
        "refused_malformed: 2",
        "refused_too_late: 1",
        "refused_too_large: 1",
        "handler_panics: 2",
        "answers_too_large: 1",
    ] {
        assert!(counters.contains(expected), "{expected} not in {counters}");
    }
}

#[test]
fn request_that_is_too_large_is_refused_before_it_is_sent() {
    let (mut ann, mut bob) = Stage::new().pair();
    ann.dial(&mut bob);
    assert!(ann.ask("call bob 5000 pad:65537").starts_with("error TooLarge"));
    assert!(ann.ask("call bob 5000 pad:65536").starts_with("answer"));
}

#[test]
fn frame_beyond_the_frame_limit_ends_the_session() {
    let (mut ann, mut bob) = Stage::new().pair();
    ann.dial(&mut bob);
    let binding = ann.ask("binding bob");
    assert_eq!(ann.ask(&format!("forge bob 01 {binding} 00001388 pad:200000")), "raw gone");
    bob.expect("event Down ann Lost");
    ann.expect("event Down bob Lost");
}

#[test]
fn call_without_answer_times_out_on_both_sides() {
    let (mut ann, mut bob) = Stage::new().pair();
    ann.dial(&mut bob);
    assert_eq!(ann.ask("call bob 30 hang"), "error Timeout");
    bob.ask_until("counters", "refused_too_late: 1");
    bob.ask_until("list", "calls_in: 0");
}

#[test]
fn calls_beyond_the_limit_are_refused_at_once_and_the_rest_goes_on() {
    let (mut ann, mut bob) = Stage::new().pair();
    ann.dial(&mut bob);
    for _ in 0..256 {
        ann.tell("call bob 60000 hang");
    }
    assert_eq!(ann.ask("call bob 60000 hang"), "error Busy");
    assert_eq!(bob.ask("call ann 5000 echo:other way"), "answer bob said echo:other way");
    assert_eq!(ann.ask("cast bob 60000 note"), "sent");
    bob.expect("heard note from ann");
}

#[test]
fn casts_faster_than_the_connection_are_refused_instead_of_queued() {
    let (mut ann, mut bob) = Stage::new().pair();
    ann.dial(&mut bob);
    assert_eq!(ann.ask("flood bob"), "Busy");
    ann.ask_until("call bob 60000 echo:x", "answer ann said echo:x");
}

#[test]
fn killed_peer_fails_calls_in_flight_and_is_reported_down() {
    let (mut ann, mut bob) = Stage::new().pair();
    ann.dial(&mut bob);
    let call = ann.tell("call bob 60000 hang");
    bob.ask_until("list", "calls_in: 1");
    bob.kill();
    assert_eq!(ann.outcome(call), "error PeerGone");
    ann.expect("event Down bob Lost");
    assert!(ann.ask("call bob 5000 echo:x").starts_with("error NoSession"));
}

#[test]
fn killed_peer_fails_short_calls_within_their_timeout() {
    let (mut ann, mut bob) = Stage::new().pair();
    ann.dial(&mut bob);
    bob.kill();
    // Shorter than the connection's idle timeout: nobody knows yet that bob is dead.
    assert_eq!(ann.ask("call bob 50 echo:x"), "error Timeout");
    ann.expect("event Down bob Lost");
}

#[test]
fn detached_session_ends_on_both_sides_and_a_new_one_takes_its_place() {
    let (mut ann, mut bob) = Stage::new().pair();
    ann.dial(&mut bob);
    assert_eq!(ann.ask("detach bob"), "detached");
    ann.expect("event Down bob Detached");
    bob.expect("event Down ann Lost");
    ann.dial(&mut bob);
    assert_eq!(bob.ask("call ann 5000 echo:again"), "answer bob said echo:again");
}

#[test]
fn newer_connection_replaces_the_older_one() {
    let (mut ann, mut bob) = Stage::new().pair();
    for round in 0..5 {
        ann.dial(&mut bob);
        if round > 0 {
            ann.expect("event Down bob Replaced");
            bob.expect("event Down ann");
        }
        assert!(ann.ask("call bob 5000 echo:x").starts_with("answer"));
    }
}

#[test]
fn stranger_on_the_loopback_listener_is_turned_away() {
    let (mut ann, _bob) = Stage::new().pair();
    let port = ann.ask("listener").parse().unwrap();
    let mut stranger = std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).unwrap();
    stranger.set_read_timeout(Some(stage::PATIENCE)).unwrap();
    assert_eq!(std::io::Read::read(&mut stranger, &mut [0; 1]).unwrap(), 0, "closed");
    assert!(ann.counters().contains("sessions_uninvited: 1"));
}
