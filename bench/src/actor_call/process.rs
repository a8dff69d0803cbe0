//! One process of a side: serves, or measures on request.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use codeco_actors::session::Sessions;
use hdrhistogram::Histogram;
use ractor::ActorRef;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::side::{EchoMessage, RawClient, Side, call_echo, echo, find_echo, start_tcp};
use super::{Error, quic, tls};

/// Longest a call may take before the measurement is given up.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Options of one process.
#[derive(Debug, clap::Args)]
pub(crate) struct ProcessOptions {
    side: Side,
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    payload: u32,
    #[arg(long)]
    workers: u32,
    /// Dial the server at this port and measure; without it, serve.
    #[arg(long)]
    dial: Option<u16>,
}

/// Runs it until its standard input ends.
pub(crate) fn run_process(options: &ProcessOptions) -> Result<(), Error> {
    stay_on_one_processor(options.dial.is_some())?;
    let runtime = match options.workers {
        0 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        workers => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers as usize)
            .enable_all()
            .build()?,
    };
    // In a task, as in an agent: what `block_on` itself polls is woken across threads.
    let options = std::sync::Arc::new(ProcessOptions { folder: options.folder.clone(), ..*options });
    let result = runtime.block_on(async move {
        let task = tokio::spawn(async move {
            let outcome = match options.dial {
                Some(port) => measure(&options, port).await,
                None => serve(&options).await,
            };
            outcome.map_err(|error| error.to_string())
        });
        task.await.map_err(|error| error.to_string())
    });
    result.flatten().map_err(Into::into)
}

/// Caller and called run on two processors, where there are two. Left to the scheduler they share one in some rounds and
/// not in others, and a call takes little more than a third of the time where they do: what is compared would be luck.
fn stay_on_one_processor(calls: bool) -> Result<(), Error> {
    let allowed = sched_getaffinity(None)?;
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    if let [first, second, ..] = allowed[..] {
        let mut own = CpuSet::new();
        own.set(if calls { second } else { first });
        sched_setaffinity(None, &own)?;
    }
    Ok(())
}

async fn serve(options: &ProcessOptions) -> Result<(), Error> {
    if options.side == Side::Tcp {
        println!("{}", start_tcp(None).await?);
        std::future::pending().await
    } else {
        let endpoint = tls::endpoint(&options.folder)?;
        println!("{}", endpoint.local_addr()?.port());
        let connection = endpoint.accept().await.ok_or("the endpoint closed")?.await?;
        let (send, recv) = connection.accept_bi().await?;
        if options.side == Side::Raw {
            echo(send, recv, options.payload as usize).await;
        } else {
            let _sessions = quic::attach(&connection, send, recv, true).await?;
            connection.closed().await;
        }
        Ok(())
    }
}

enum Client {
    Raw(RawClient),
    Tcp(ActorRef<EchoMessage>),
    Ours(Sessions, codeco_protocol::ids::Identity),
}

impl Client {
    async fn call(&mut self, payload: &[u8]) -> Result<(), Error> {
        match self {
            Self::Raw(client) => client.call(payload).await,
            Self::Tcp(actor) => call_echo(actor, payload, CALL_TIMEOUT).await,
            Self::Ours(sessions, peer) => {
                let answer = sessions.call(peer, payload, CALL_TIMEOUT).await?;
                if answer.len() == payload.len() { Ok(()) } else { Err("no echo".into()) }
            }
        }
    }
}

async fn measure(options: &ProcessOptions, port: u16) -> Result<(), Error> {
    let payload = vec![7; options.payload as usize];
    let mut held = None;
    let mut client = match options.side {
        Side::Tcp => {
            start_tcp(Some(port)).await?;
            Client::Tcp(find_echo().await)
        }
        Side::Raw | Side::Ours => {
            let endpoint = tls::endpoint(&options.folder)?;
            let address = (std::net::Ipv4Addr::LOCALHOST, port).into();
            let connection = endpoint.connect(address, tls::NAME)?.await?;
            let (mut send, recv) = connection.open_bi().await?;
            let client = if options.side == Side::Raw {
                send.write_all(&payload).await?;
                let mut client = RawClient { send, recv, answer: vec![0; payload.len()] };
                client.recv.read_exact(&mut client.answer).await?;
                Client::Raw(client)
            } else {
                Client::Ours(quic::attach(&connection, send, recv, false).await?, quic::identity(true))
            };
            held = Some((endpoint, connection));
            client
        }
    };
    println!("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let calls: u32 = line.trim().parse()?;
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
        for _ in 0..calls {
            let began = Instant::now();
            client.call(&payload).await?;
            histogram.record(u64::try_from(began.elapsed().as_nanos())?)?;
        }
        println!("{} {}", histogram.value_at_quantile(0.5), histogram.value_at_quantile(0.99));
    }
    drop(held);
    Ok(())
}
