//! Whether UDP reaches a QUIC port and comes back, asked without a certificate: a packet of a version that nobody speaks
//! must be answered with the versions that are spoken (RFC 9000 §6; the form of both is fixed for all versions, RFC 8999).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// A version reserved for this very purpose (RFC 9000 §15).
pub(super) const VERSION_OF_NOBODY: u32 = 0x1a2a_3a4a;
/// Smallest datagram that must be answered.
const DATAGRAM_LEN: usize = 1_200;
/// Length of the connection ids made up.
const CID_LEN: usize = 8;
/// Datagrams sent before it is given up.
const TRIES: u32 = 3;

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The machine at that address has no such port, and says so.
    #[error("nobody listens there: the port is closed")]
    Closed,
    /// Nothing came back.
    #[error("{sent} datagrams were sent and none was answered within {} ms", within.as_millis())]
    Unanswered {
        /// How many.
        sent: u32,
        /// In what time.
        within: Duration,
    },
    /// Nothing could be sent.
    #[error("nothing could be sent: {0}")]
    Local(#[from] io::Error),
}

/// Asks whoever is at `address` for a sign of life, within about `within`. Returns the round trip.
///
/// # Errors
/// [`ReachError`].
pub async fn reach(address: SocketAddr, within: Duration) -> Result<Duration, ReachError> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    let mut ids = [0_u8; 2 * CID_LEN];
    getrandom::fill(&mut ids).map_err(|e| io::Error::other(e.to_string()))?;
    let question = question(&ids);
    let mut answer = [0_u8; 1_500];
    for _ in 0..TRIES {
        let asked = Instant::now();
        match socket.send(&question).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(ReachError::Closed),
            other => other?,
        };
        let pause = within / TRIES;
        while let Ok(received) =
            timeout(pause.saturating_sub(asked.elapsed()), socket.recv(&mut answer)).await
        {
            match received {
                Ok(len) if is_answer(&answer[..len], &ids) => return Ok(asked.elapsed()),
                // Something else that came from there.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Err(ReachError::Closed);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Err(ReachError::Unanswered { sent: TRIES, within })
}

/// A long header of that version with both ids, and nothing else.
fn question(ids: &[u8; 2 * CID_LEN]) -> Vec<u8> {
    let mut datagram = vec![0xc0];
    datagram.extend(VERSION_OF_NOBODY.to_be_bytes());
    for id in ids.chunks(CID_LEN) {
        datagram.push(8);
        datagram.extend(id);
    }
    datagram.resize(DATAGRAM_LEN, 0);
    datagram
}

/// A version negotiation packet repeats both ids, the other way round (RFC 8999 §6).
fn is_answer(datagram: &[u8], ids: &[u8; 2 * CID_LEN]) -> bool {
    let (ours, theirs) = ids.split_at(CID_LEN);
    let mut expected = vec![0, 0, 0, 0, 8];
    expected.extend(theirs);
    expected.push(8);
    expected.extend(ours);
    datagram.first().is_some_and(|first| first & 0x80 != 0) && datagram[1..].starts_with(&expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reach_of_a_closed_or_a_silent_port_says_which() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let error = reach(address, Duration::from_millis(150)).await.unwrap_err();
        assert!(matches!(error, ReachError::Unanswered { sent: 3, .. }), "{error}");
        drop(silent);
        let error = reach(address, Duration::from_millis(150)).await.unwrap_err();
        assert!(matches!(error, ReachError::Closed), "{error}");
    }

    #[tokio::test]
    async fn reach_takes_only_an_answer_to_its_own_question() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let asking = tokio::spawn(reach(address, Duration::from_secs(20)));
        let mut buffer = [0; 1_500];
        let (len, from) = server.recv_from(&mut buffer).await.unwrap();
        assert_eq!((len, &buffer[1..5]), (DATAGRAM_LEN, &VERSION_OF_NOBODY.to_be_bytes()[..]));
        server.send_to(&buffer[..len], from).await.unwrap();
        server.send_to(&[], from).await.unwrap();
        assert!(!asking.is_finished());
        let answer =
            [&[0x80, 0, 0, 0, 0, 8][..], &buffer[15..23], &[8], &buffer[6..14], &[0, 0, 0, 1]].concat();
        server.send_to(&answer, from).await.unwrap();
        asking.await.unwrap().unwrap();
    }
}
