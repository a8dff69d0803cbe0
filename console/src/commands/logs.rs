//! `codeco logs`.

use clap::Args;
use codeco_hub::fleet::LogQuery;
use codeco_protocol::api::AppView;
use codeco_protocol::ids::ServiceName;

use super::NamespaceArg;
use crate::failure::Failure;
use crate::object::{Kind, checked, name_of};
use crate::session::Session;

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// APP/SERVICE-INDEX as `codeco get replicas` shows it, or app/NAME SERVICE; without -INDEX copy 0 is meant.
    #[arg(num_args = 1..=3, required = true, value_name = "REPLICA")]
    object: Vec<String>,
    /// Which container; the first if absent.
    #[arg(short, long)]
    container: Option<String>,
    /// At most so many bytes from the end.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10)]
    tail: u32,
    #[command(flatten)]
    namespace: NamespaceArg,
}

impl LogsArgs {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let (name, copy) = replica_of(&self.object)?;
        let filter = self.namespace.filter(Some(&name))?;
        let client = session.client()?;
        let apps = client.list::<AppView>("apps", &filter)?.items;
        let app = apps.into_iter().find(|app| app.name.as_str() == name);
        let app = app.ok_or_else(|| Failure::not_found(format!("app/{name}")).next("codeco get apps"))?;
        let services: Vec<&ServiceName> = app.services.iter().map(|service| &service.name).collect();
        let (service, index) = copy_of(&copy, &services).ok_or_else(|| {
            let known: Vec<&str> = services.iter().map(|service| service.as_str()).collect();
            Failure::not_found(format!("service {copy} of app/{name}"))
                .next(format!("its services: {}", known.join(", ")))
        })?;
        let namespace = checked(&self.namespace.namespace)?;
        let (container, tail_bytes) = (self.container, self.tail);
        let query = LogQuery { namespace, app: app.name, service, index, container, tail_bytes };
        let bytes = client.logs(&query)?;
        session.stdout.write_all(&bytes)?;
        Ok(session.stdout.flush()?)
    }
}

/// Application and copy in any spelling: `web/edge-2`, `replica/web/edge-2`, `app/web edge-2`, `app web edge-2`.
fn replica_of(words: &[String]) -> Result<(String, String), Failure> {
    let in_one = match words {
        [word] => Some(word.as_str()),
        [kind, word] if Kind::parse(kind) == Ok(Kind::Replica) => Some(word.as_str()),
        _ => None,
    };
    if let Some(word) = in_one {
        let parts: Vec<&str> = word.split('/').collect();
        return match parts.as_slice() {
            [kind, app, copy] if Kind::parse(kind) == Ok(Kind::Replica) => {
                Ok(((*app).into(), (*copy).into()))
            }
            [kind, _] if Kind::parse(kind) == Ok(Kind::App) => {
                Err(Failure::usage(format!("logs of which service of {word}?"))
                    .next(format!("codeco logs {word} SERVICE")))
            }
            [app, copy] if Kind::parse(app).is_err() => Ok(((*app).into(), (*copy).into())),
            _ => Err(Failure::usage(format!("{word:?} is no replica"))
                .next("write APP/SERVICE-INDEX, as `codeco get replicas` shows it")),
        };
    }
    match words.split_last() {
        Some((copy, app)) => Ok((name_of(app, Kind::App)?, copy.clone())),
        None => Err(Failure::usage("logs of which replica?")),
    }
}

/// `edge-2` is the service of that name if there is one, and otherwise copy 2 of `edge`.
fn copy_of(word: &str, services: &[&ServiceName]) -> Option<(ServiceName, u32)> {
    let known = |name: &str| services.iter().find(|service| service.as_str() == name).map(|s| (*s).clone());
    if let Some(service) = known(word) {
        return Some((service, 0));
    }
    let (service, index) = word.rsplit_once('-')?;
    Some((known(service)?, index.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_in_every_spelling_is_understood() {
        for text in
            ["web/edge-2", "replica/web/edge-2", "replica web/edge-2", "app/web edge-2", "app web edge-2"]
        {
            let words: Vec<String> = text.split(' ').map(ToOwned::to_owned).collect();
            assert_eq!(replica_of(&words).unwrap(), ("web".to_owned(), "edge-2".to_owned()), "{text}");
        }
        for wrong in ["web", "app/web", "replica/web", "node/web edge-2", "a/b/c"] {
            let words: Vec<String> = wrong.split(' ').map(ToOwned::to_owned).collect();
            assert!(replica_of(&words).is_err(), "{wrong}");
        }
    }

    #[test]
    fn copy_is_read_from_the_end_of_the_word_unless_a_service_is_called_so() {
        let (edge, edge_2) = (ServiceName::new("edge").unwrap(), ServiceName::new("edge-2").unwrap());
        assert_eq!(copy_of("edge-2", &[&edge]), Some((edge.clone(), 2)));
        assert_eq!(copy_of("edge-2", &[&edge, &edge_2]), Some((edge_2.clone(), 0)));
        assert_eq!(copy_of("edge-2-1", &[&edge, &edge_2]), Some((edge_2, 1)));
        assert_eq!(copy_of("edge", &[&edge]), Some((edge.clone(), 0)));
        for wrong in ["core", "edge-x", "edge-", "-1"] {
            assert_eq!(copy_of(wrong, &[&edge]), None, "{wrong}");
        }
    }
}
