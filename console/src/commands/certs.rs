//! `codeco certs`, `codeco cert` and `codeco ca`.

use clap::{Args, Subcommand};
use codeco_hub::api::RevokeRequest;
use codeco_protocol::api::CaView;

use super::get::GetArgs;
use crate::failure::Failure;
use crate::session::{Output, Session};

/// Arguments of `certs`.
#[derive(Debug, Args)]
pub(crate) struct CertsArgs {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl CertsArgs {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        GetArgs::certs(self.output).run(session)
    }
}

/// Subcommands of `cert`.
#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Revoke a member, with all it has certified, or one certificate. Its connections end, nothing of it is renewed,
    /// and the authority says so to every member. There is no way back: a node comes back with a new join token.
    Revoke(RevokeArgs),
}

/// Arguments of `cert revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// A node as CLUSTER/NODE, a member's id, or a serial number.
    #[arg(value_name = "NODE|SERIAL")]
    target: String,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl CertCommand {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let Self::Revoke(args) = self;
        let target = args.target.strip_prefix("node/").unwrap_or(&args.target).to_owned();
        let revoked = session.client()?.revoke(&RevokeRequest { target })?;
        if let Some(yaml) = args.output.yaml() {
            return session.write_value(&revoked, yaml);
        }
        let word = if revoked.before { "was revoked before" } else { "revoked" };
        writeln!(session.stdout, "{} {word}", revoked.what)?;
        writeln!(
            session.stderr,
            "Every member has heard of it once `codeco get certs -o wide` shows TRUST {}",
            revoked.trust
        )?;
        Ok(())
    }
}

/// Subcommands of `ca`.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// The authority, and how far a hand-over to another one has come.
    Status(CaArgs),
    /// Hand over to a new authority: it is made known to all, then all get new certificates, then the old one is
    /// dropped. Each step waits for every member; no connection ends.
    Rotate(CaArgs),
}

/// Arguments of both.
#[derive(Debug, Args)]
pub(crate) struct CaArgs {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl CaCommand {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let (args, ca) = match self {
            Self::Status(args) => (args, session.client()?.ca()?),
            Self::Rotate(args) => {
                let ca = session.client()?.rotate_ca()?;
                // This context goes on to believe the hub once its certificate is the successor's.
                session.trust(&ca.certificates)?;
                (args, ca)
            }
        };
        if let Some(yaml) = args.output.yaml() {
            return session.write_value(&ca, yaml);
        }
        Ok(write!(session.stdout, "{}", told(&ca))?)
    }
}

fn told(ca: &CaView) -> String {
    let step = match ca.handover.as_str() {
        "none" => "no hand-over is under way",
        "madeKnown" => "its successor is being made known to all members",
        _ => "all members get new certificates",
    };
    let mut text = format!("authority   {}\nhand-over   {step}\n", ca.authority);
    for other in ca.trusted.iter().filter(|other| **other != ca.authority) {
        text.push_str(&format!("also        {other} is trusted\n"));
    }
    text.push_str(&format!("revoked     {} (list of version {})\n", ca.revocations, ca.trust));
    if !ca.awaited.is_empty() {
        let waits = "waits for members that have not followed; revoke those that will not come back";
        text.push_str(&format!("{waits}:\n"));
        for member in &ca.awaited {
            text.push_str(&format!("  {}\n", crate::render::clean(member)));
        }
    }
    text
}
