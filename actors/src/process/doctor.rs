//! What a member finds when it looks after itself: each check says what it did, what it found, and what to do.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codeco_protocol::api::{CheckUp, CheckView, LinkStatus, Verdict};
use codeco_protocol::transport::{ReachError, reach};
use codeco_protocol::units::{Bytes, WallTime};
use futures::future::join_all;

use super::Member;
use crate::clock::wall_now;

/// How long to wait for a UDP answer; with all else it stays below what an asker waits.
const REACH: Duration = Duration::from_millis(900);
/// Syncs measured, and how long that may take in all.
const SYNCS: usize = 8;
/// See [`SYNCS`].
const SYNCS_WITHIN: Duration = Duration::from_millis(900);
/// Bytes of one measured write: more than most records of a journal.
const SYNC_LEN: usize = 1_024;
/// A sync that takes longer is a warning.
const SYNC_SLOW: Duration = Duration::from_millis(20);
/// A sync that takes longer keeps promises waiting for so long that leases end.
const SYNC_FAILED: Duration = Duration::from_millis(250);
/// QUIC needs paths that carry this (RFC 9000 §14).
const MTU_MIN: u16 = 1_200;
/// Free space below which journals are soon in danger, and below which they are.
const DISK_LOW: (u64, u64) = (1 << 30, 64 << 20);
/// Life left of a certificate below which its renewal should have happened.
const CERTIFICATE_LOW_MS: u64 = 4 * 3_600_000;

/// All checks of this process.
pub async fn check_up(member: &Arc<Member>) -> CheckUp {
    let hubs = member.hubs.get().cloned().unwrap_or_default();
    let udp = join_all(hubs.into_iter().map(|hub| hub_by_udp(member, hub)));
    let state = member.state.clone();
    let disk = tokio::task::spawn_blocking(move || vec![journal_sync(&state), disk_free(&state)]);
    let (udp, own_port, disk) = tokio::join!(udp, own_port(member), disk);
    let mut checks = udp;
    checks.extend(own_port);
    checks.extend(links(member));
    checks.extend(super::Reach::of(member).check());
    checks.push(certificate(member.fact().certificate_expires, wall_now()));
    // A task that was cancelled has ended with the process.
    checks.extend(disk.unwrap_or_default());
    CheckUp { now: wall_now(), checks }
}

/// Whether a hub can be reached: by the connection there is, or else by a datagram of any kind.
async fn hub_by_udp(member: &Member, hub: SocketAddr) -> CheckView {
    let links = member.commons.links();
    let linked = links
        .values()
        .find(|linked| linked.connection.identity().is_hub() && linked.connection.remote_addr() == hub);
    if let Some(linked) = linked {
        let silent = member.network.is_silent(linked.connection.identity().id);
        if !silent {
            let found = format!("connected, round trip {:?}", linked.connection.rtt());
            return CheckView::new(
                format!("hub {hub}"),
                Verdict::Ok,
                "looked at the connection to it",
                found,
            );
        }
    }
    fine_but(
        udp(&format!("hub {hub}"), hub, REACH).await,
        "UDP gets there, but there is no connection: the log and `codeco get events` say whose certificate was refused",
    )
}

/// A way that is fine does not help whoever has no connection.
fn fine_but(mut check: CheckView, next: &str) -> CheckView {
    if check.verdict == Verdict::Ok {
        check.verdict = Verdict::Warning;
        check.next = Some(next.to_owned());
    }
    check
}

/// Whether UDP gets to `address` and back.
pub async fn udp(check: &str, address: SocketAddr, within: Duration) -> CheckView {
    let did = format!("sent UDP datagrams of 1200 bytes to {address} that any QUIC server answers");
    match reach(address, within).await {
        Ok(round_trip) => CheckView::new(check, Verdict::Ok, did, format!("answered after {round_trip:?}")),
        Err(error) => {
            let next = match error {
                ReachError::Closed => {
                    format!("start what should listen at {address}, or correct the address")
                }
                ReachError::Unanswered { .. } => format!(
                    "allow UDP to {address} and its answers back in every firewall between; TCP alone is not enough"
                ),
                ReachError::Local(_) => "check this machine's network interfaces and routes".to_owned(),
            };
            CheckView::new(check, Verdict::Failed, did, error.to_string()).next(next)
        }
    }
}

async fn own_port(member: &Member) -> Option<CheckView> {
    let listens = member.commons.address()?;
    let here = match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, listens.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, listens.port())),
        _ => listens,
    };
    Some(udp(&format!("port {listens}/udp"), here, REACH).await)
}

/// What NetMA sees: who does not answer, and how large packets may be.
fn links(member: &Member) -> Vec<CheckView> {
    let links = member.network.links(&member.name);
    let count = |status| links.iter().filter(|link| link.status == status).count();
    let named = |status| {
        let names: Vec<&str> =
            links.iter().filter(|link| link.status == status).map(|link| &*link.to).take(8).collect();
        names.join(", ")
    };
    let (up, silent, down) = (count(LinkStatus::Up), count(LinkStatus::Silent), count(LinkStatus::Down));
    let did = "looked at the links that NetMA measures";
    let verdict = match (up, silent + down) {
        (0, 1..) => Verdict::Failed,
        (_, 0) => Verdict::Ok,
        _ => Verdict::Warning,
    };
    let found = match verdict {
        Verdict::Ok => format!("{up} up"),
        _ => format!(
            "{up} up; silent: {}; down: {}",
            or_none(&named(LinkStatus::Silent)),
            or_none(&named(LinkStatus::Down))
        ),
    };
    let mut checks = vec![
        CheckView::new("links", verdict, did, found)
            .next("look at those members: `codeco get nodes`; if nobody answers, at this one's own network"),
    ];
    if let Some(mtu) = links.iter().filter_map(|link| link.mtu).min() {
        let (verdict, found) = if mtu <= MTU_MIN {
            (Verdict::Warning, format!("some path is known to carry {mtu} bytes only"))
        } else {
            (Verdict::Ok, format!("every path carries at least {mtu} bytes"))
        };
        checks.push(
            CheckView::new("mtu", verdict, "read what QUIC has found of each path (RFC 8899)", found)
                .next("small packets work and cost more; look for a tunnel that drops larger ones"),
        );
    }
    checks
}

fn or_none(names: &str) -> &str {
    if names.is_empty() { "none" } else { names }
}

fn certificate(expires: WallTime, now: WallTime) -> CheckView {
    let did = "compared the certificate's end with the clock";
    match expires.0.checked_sub(now.0) {
        None | Some(0) => CheckView::new("certificate", Verdict::Failed, did, "has expired".into())
            .next("reach a hub, where an expired certificate may still renew itself; or join again with a new token"),
        Some(left) => {
            let verdict = if left < CERTIFICATE_LOW_MS { Verdict::Warning } else { Verdict::Ok };
            CheckView::new("certificate", verdict, did, format!("valid for {} more minutes", left / 60_000))
                .next("it renews itself at two thirds of its life, at a hub: see the checks of hubs above")
        }
    }
}

/// How long a journal waits for the disk.
fn journal_sync(state: &Path) -> CheckView {
    let path = state.join("doctor.tmp");
    let did = format!("wrote and synced {SYNC_LEN} bytes up to {SYNCS} times in {}", state.display());
    let measured = measure_syncs(&path);
    // Only of use for this; if it cannot be removed, the next check says why.
    let _ = std::fs::remove_file(&path);
    match measured {
        Err(error) => CheckView::new("journal sync", Verdict::Failed, did, format!("failed: {error}"))
            .next("nothing can be promised while the disk refuses: make room, or repair it"),
        Ok(mut times) => {
            times.sort_unstable();
            let median = times.get(times.len() / 2).copied().unwrap_or_default();
            let worst = times.last().copied().unwrap_or_default();
            let verdict = match median {
                median if median >= SYNC_FAILED => Verdict::Failed,
                median if median >= SYNC_SLOW => Verdict::Warning,
                _ => Verdict::Ok,
            };
            CheckView::new("journal sync", verdict, did, format!("median {median:?}, worst {worst:?}"))
                .next("every promise waits for this: put the state folder on a faster disk")
        }
    }
}

fn measure_syncs(path: &PathBuf) -> std::io::Result<Vec<Duration>> {
    let began = Instant::now();
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    let mut times = Vec::with_capacity(SYNCS);
    while times.len() < SYNCS && (times.is_empty() || began.elapsed() < SYNCS_WITHIN) {
        let before = Instant::now();
        file.write_all(&[0; SYNC_LEN])?;
        file.sync_data()?;
        times.push(before.elapsed());
    }
    Ok(times)
}

fn disk_free(state: &Path) -> CheckView {
    let did = format!("asked the file system of {}", state.display());
    match rustix::fs::statvfs(state) {
        Err(error) => CheckView::new("disk", Verdict::Failed, did, format!("failed: {error}"))
            .next("repair the file system"),
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let all = stat.f_blocks.saturating_mul(stat.f_frsize);
            let verdict = match free {
                free if free < DISK_LOW.1 => Verdict::Failed,
                free if free < DISK_LOW.0 => Verdict::Warning,
                _ => Verdict::Ok,
            };
            CheckView::new("disk", verdict, did, format!("{} of {} free", Bytes(free), Bytes(all)))
                .next("make room: a journal that cannot grow makes no promises")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_near_its_end_is_a_warning_and_past_it_a_failure() {
        let at = |left: u64| certificate(WallTime(1_000_000 + left), WallTime(1_000_000));
        assert_eq!(at(24 * 3_600_000).verdict, Verdict::Ok);
        assert_eq!(at(24 * 3_600_000).next, None, "nothing is to be done");
        assert_eq!(at(60_000).verdict, Verdict::Warning);
        let expired = certificate(WallTime(1), WallTime(2));
        assert_eq!(expired.verdict, Verdict::Failed);
        assert!(expired.next.unwrap().contains("renew"));
    }

    #[test]
    fn journal_sync_is_measured_where_it_can_be_and_fails_where_it_cannot() {
        let folder = tempfile::tempdir().unwrap();
        let check = journal_sync(folder.path());
        assert!(check.found.starts_with("median "), "{check:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
        let check = journal_sync(&folder.path().join("nowhere"));
        assert_eq!(check.verdict, Verdict::Failed, "{check:?}");
        assert_eq!(disk_free(&folder.path().join("nowhere")).verdict, Verdict::Failed);
    }
}
