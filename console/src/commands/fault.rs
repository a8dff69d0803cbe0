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
        /// actor/NAME, or just its NAME.
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
        // Only actors can be meant, so their bare name will do.
        let actor = match object.as_slice() {
            [word] if Kind::parse(word.split('/').next().unwrap_or(word)).is_err() => word.clone(),
            words => name_of(words, Kind::Actor)?,
        };
        let request = PanicRequest { member, actor, times };
        session.client()?.panic_actor(&request)?;
        writeln!(
            session.stdout,
            "actor/{} of {} panics {}; see `codeco get events`",
            request.actor,
            request.member,
            if request.times == 1 { "once".to_owned() } else { format!("{} times", request.times) }
        )?;
        Ok(())
    }
}
