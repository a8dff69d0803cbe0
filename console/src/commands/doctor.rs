//! `codeco doctor`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use codeco_actors::process::udp;
use codeco_hub::fleet::Filter;
use codeco_protocol::api::{CheckView, DoctorView, Verdict, codes};

use super::now;
use crate::failure::{ExitClass, Failure};
use crate::object::checked;
use crate::render::{self, Width, clean};
use crate::session::{Output, Session};

/// Who checks on the machine of the command.
const HERE: &str = "here";
/// How long a hub has to answer a datagram.
const UDP_WITHIN: Duration = Duration::from_millis(1_500);
/// A clock that is off by more than this is a warning.
const SKEW_MS: u64 = 1_000;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Only members of this cluster.
    #[arg(long)]
    cluster: Option<String>,
    /// Only this node.
    #[arg(long)]
    node: Option<String>,
    /// UDP addresses of hubs to reach from here, besides those that the fleet names; with these, no context is needed.
    #[arg(long = "hub", value_name = "ADDRESS")]
    hubs: Vec<SocketAddr>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl DoctorArgs {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let (cluster, node) = (self.cluster.as_deref(), self.node.as_deref());
        let filter = Filter {
            cluster: cluster.map(checked).transpose()?,
            node: node.map(checked).transpose()?,
            ..Filter::default()
        };
        let mut view = self.ask(session, &filter)?;
        let mut hubs = self.hubs.clone();
        hubs.extend(view.hubs.iter().filter_map(|hub| hub.parse::<SocketAddr>().ok()));
        hubs.retain(|hub| !hub.ip().is_unspecified());
        hubs.sort_unstable();
        hubs.dedup();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        for hub in hubs {
            let mut check = runtime.block_on(udp(&format!("hub {hub}"), hub, UDP_WITHIN));
            check.member = HERE.to_owned();
            view.checks.push(check);
        }
        // Who does not answer ails, too.
        let silent = view.warnings.iter().map(|warning| {
            let mut check =
                CheckView::new("answer", Verdict::Failed, "asked it to look after itself", warning.clone())
                    .next("`codeco get nodes` shows since when; see its own log");
            check.member = warning.split([' ', ':']).nth(1).unwrap_or_default().to_owned();
            check
        });
        let silent: Vec<CheckView> = silent.collect();
        view.checks.extend(silent);
        view.checks.sort_by(|a, b| (b.verdict, &a.member, &a.check).cmp(&(a.verdict, &b.member, &b.check)));
        self.print(session, &view)?;
        if view.checks.iter().any(|check| check.verdict == Verdict::Failed) {
            return Err(Failure::new(ExitClass::Ailing, codes::CLOSED, "something does not work"));
        }
        Ok(())
    }

    /// What the fleet says of itself; where nobody answers, that is a finding.
    fn ask(&self, session: &Session<'_>, filter: &Filter) -> Result<DoctorView, Failure> {
        let nobody = |checks| DoctorView { now: now(), hubs: Vec::new(), checks, warnings: Vec::new() };
        let client = match session.client() {
            Ok(client) => client,
            // There is something to check without.
            Err(_) if !self.hubs.is_empty() => return Ok(nobody(Vec::new())),
            Err(failure) => return Err(failure),
        };
        let did = format!("asked {} for what the fleet finds", client.server());
        let (asked, before) = (Instant::now(), now());
        match client.doctor(filter) {
            Ok(mut view) => {
                let found = format!("answered after {} ms", asked.elapsed().as_millis());
                let mut api = CheckView::new("api", Verdict::Ok, did, found);
                let mut clock = clock(view.now.0, before.0, now().0);
                for check in [&mut api, &mut clock] {
                    check.member = HERE.to_owned();
                }
                view.checks.extend([api, clock]);
                Ok(view)
            }
            Err(failure) if matches!(failure.class, ExitClass::Unreachable | ExitClass::Timeout) => {
                let next = failure.body.next.clone().unwrap_or_default();
                let mut check =
                    CheckView::new("api", Verdict::Failed, did, failure.body.message.clone()).next(next);
                check.member = HERE.to_owned();
                Ok(nobody(vec![check]))
            }
            Err(failure) => Err(failure),
        }
    }

    fn print(&self, session: &mut Session<'_>, view: &DoctorView) -> Result<(), Failure> {
        if let Some(yaml) = self.output.yaml() {
            return session.write_value(view, yaml);
        }
        let width = Width { wide: self.output == Output::Wide, all_namespaces: false, paint: session.paint };
        let table = render::table(&view.checks, now());
        session.stdout.write_all(table.render(width).as_bytes())?;
        let count = |verdict| view.checks.iter().filter(|check| check.verdict == verdict).count();
        for check in &view.checks {
            if let Some(next) = &check.next {
                let line = format!("{} {}: {next}", check.member, check.check);
                writeln!(session.stdout, "next: {}", clean(&line))?;
            }
        }
        let (failed, warnings) = (count(Verdict::Failed), count(Verdict::Warning));
        Ok(writeln!(session.stdout, "{} checks: {failed} failed, {warnings} warnings", view.checks.len())?)
    }
}

/// The clock of this machine against that of whom it has asked, who answered in between.
fn clock(theirs: u64, before: u64, after: u64) -> CheckView {
    let off = theirs.saturating_sub(after).max(before.saturating_sub(theirs));
    let verdict = if off > SKEW_MS { Verdict::Warning } else { Verdict::Ok };
    let found = if off == 0 { "agrees".to_owned() } else { format!("at least {off} ms apart") };
    CheckView::new(
        "clock",
        verdict,
        "compared this machine's clock with that of whoever answers the API",
        found,
    )
    .next("set it: ages in tables are told by it")
}
