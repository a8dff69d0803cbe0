//! What a long-running program does before and after its work: logs, threads, signals.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Options every long-running program has.
#[derive(Debug, Clone, Args)]
pub struct DaemonOptions {
    /// What is logged, such as info or codeco_actors=debug.
    #[arg(long, env = "CODECO_LOG", default_value = "info")]
    pub log: String,
    /// How log lines look; they go to standard error.
    #[arg(long, env = "CODECO_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Stop in order when standard input ends: the parent that holds its other end has gone.
    #[arg(long, env = "CODECO_EXIT_WITH_STDIN", hide = true)]
    pub exit_with_stdin: bool,
}

/// Runs `work` on a small multi-threaded runtime, with logs as asked for. The future handed to `work` resolves when
/// the process is told to stop.
///
/// # Errors
/// What `work` says, or why there is no runtime.
pub fn run_daemon<F, Fut>(options: &DaemonOptions, work: F) -> Result<(), String>
where
    F: FnOnce(futures::future::BoxFuture<'static, ()>) -> Fut,
    Fut: Future<Output = Result<(), String>>,
{
    let filter = EnvFilter::try_new(&options.log).map_err(|e| format!("--log {:?}: {e}", options.log))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .map_err(|e| format!("no threads to run on: {e}"))?;
    let with_stdin = options.exit_with_stdin;
    let result = runtime.block_on(async { work(Box::pin(told_to_stop(with_stdin))).await });
    // A blocked read of standard input must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    result
}

/// Resolves on SIGTERM, on SIGINT, or at the end of standard input where that counts.
async fn told_to_stop(with_stdin: bool) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals cannot be handled: stop this process with SIGKILL");
        return std::future::pending().await;
    };
    let stdin_ends = async {
        if !with_stdin {
            return std::future::pending().await;
        }
        let mut stdin = tokio::io::stdin();
        let mut buffer = [0_u8; 64];
        while stdin.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = stdin_ends => {}
    }
}
