//! What strangers and broken clients send must disturb nobody else.

use std::io::{Read, Write};
use std::time::Duration;

use codeco_hub::api::{ApiRole, Limits, RefusalReason};
use codeco_protocol::ids::Role;

use super::fixture::Fixture;
use crate::failure::ExitClass;

/// Too long, in a test of something that is too slow.
const MOMENT: Duration = Duration::from_millis(200);

fn is_well(fixture: &Fixture) {
    let ran = fixture.run(&["get", "nodes"]);
    assert_eq!(ran.class, ExitClass::Done, "{}", ran.stderr);
}

fn short(change: impl FnOnce(&mut Limits)) -> Fixture {
    let mut limits = Limits::default();
    change(&mut limits);
    Fixture::with(limits, Role::Hub)
}

#[test]
fn garbage_on_the_port_is_refused_counted_and_reported_once() {
    let mut fixture = Fixture::new();
    for garbage in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0; 4096], b"\x16\x03\x01\xff\xff", b"x"] {
        let mut stream = fixture.tcp();
        let _ = stream.write_all(garbage);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "nothing is told without TLS");
    }
    let report = fixture.report();
    assert_eq!(report.reason, RefusalReason::Handshake);
    assert!(report.peer.is_loopback() && !report.route.is_empty(), "{report:?}");
    is_well(&fixture);
    assert!(fixture.reports.try_recv().is_err(), "reported once");
}

#[test]
fn garbage_inside_tls_is_refused_and_counted() {
    let mut fixture = Fixture::new();
    fixture.raw(b"\x00\x01\x02 garbage\r\n\r\n");
    assert_eq!(fixture.report().reason, RefusalReason::BadHttp);
    is_well(&fixture);
}

#[test]
fn headers_too_many_or_too_large_are_refused() {
    let fixture = Fixture::new();
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let large = format!("x-large: {}\r\n", "a".repeat(64 << 10));
    for headers in [many, large] {
        let answer = fixture.raw(format!("GET /api/v1/apps HTTP/1.1\r\nhost: h\r\n{headers}\r\n").as_bytes());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    is_well(&fixture);
}

#[test]
fn body_too_large_is_refused_before_or_while_it_is_read() {
    let fixture = short(|limits| limits.body_bytes_max = 4 << 10);
    let head = |more: &str| {
        let token = fixture.token_of(ApiRole::Operator);
        format!("POST /api/v1/apps HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\n{more}\r\n\r\n")
    };
    let announced = fixture.raw(head("content-length: 1000000000\r\nconnection: close").as_bytes());
    let body = format!("2000\r\n{}\r\n0\r\n\r\n", "a".repeat(0x2000));
    let chunked = fixture.raw((head("transfer-encoding: chunked\r\nconnection: close") + &body).as_bytes());
    for answer in [announced, chunked] {
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("too-large"), "{answer}");
    }
    assert_eq!(fixture.count(RefusalReason::BodyTooLarge), 2);
    assert!(fixture.fleet.calls().is_empty());
    is_well(&fixture);
}

#[test]
fn handshakes_that_never_start_do_not_keep_others_waiting() {
    let fixture = Fixture::new();
    let silent: Vec<_> = (0..40).map(|_| fixture.tcp()).collect();
    is_well(&fixture);
    drop(silent);
}

#[test]
fn headers_that_take_too_long_end_the_connection() {
    let fixture = short(|limits| limits.headers = MOMENT);
    let answer = fixture.raw(b"GET /api/v1/apps HT");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[test]
fn body_that_takes_too_long_is_refused() {
    let mut fixture = short(|limits| limits.body = MOMENT);
    let token = fixture.token_of(ApiRole::Operator);
    let head = "POST /api/v1/apps HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\nconnection: close";
    let answer = fixture.raw(format!("{head}\r\nauthorization: Bearer {token}\r\n\r\nabc").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body-timeout"), "{answer}");
    assert_eq!(fixture.report().reason, RefusalReason::BodyTooSlow);
}

#[test]
fn handshake_that_takes_too_long_is_cut_off() {
    let mut fixture = short(|limits| limits.handshake = MOMENT);
    let mut silent = fixture.tcp();
    assert_eq!(silent.read(&mut [0; 10]).unwrap_or(0), 0, "closed by the server");
    assert_eq!(fixture.report().reason, RefusalReason::HandshakeTooSlow);
}

#[test]
fn connection_beyond_the_limit_of_its_address_is_closed_at_once() {
    let mut fixture = short(|limits| limits.connections_per_peer_max = 2);
    let (first, second) = (fixture.tcp(), fixture.tcp());
    let mut third = fixture.tcp();
    assert_eq!(third.read(&mut [0; 10]).unwrap_or(0), 0);
    assert_eq!(fixture.report().reason, RefusalReason::TooManyConnections);
    drop((first, second));
}
