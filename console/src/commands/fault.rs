//! `codeco fault`.

use clap::Subcommand;
use codeco_hub::api::PanicRequest;

use crate::failure::Failure;
use crate::object::{Kind, name_of};
use crate::session::Session;

/// Subcommands of `fault`.
#[derive(Debug, Subcommand)]
pub(crate) enum FaultCommand {
    /// Make an actor panic. Only where the member allows faults.
    Panic {
        /// actor/NAME or actor NAME.
        #[arg(num_args = 1..=2, required = true, value_name = "actor/NAME")]
        object: Vec<String>,
        /// Member in whose process it lives.
        #[arg(long)]
        member: String,
        /// At how many messages in a row.
        #[arg(long, default_value_t = 1)]
        times: u32,
    },
}

impl FaultCommand {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let Self::Panic { object, member, times } = self;
        let actor = name_of(&object, Kind::Actor)?;
        let request = PanicRequest { member, actor, times };
        session.client()?.panic_actor(&request)?;
        writeln!(
            session.stdout,
            "actor/{} of {} panics {} time(s); see `codeco get events`",
            request.actor, request.member, request.times
        )?;
        Ok(())
    }
}
