//! The client of the API: one typed call for each route, every answer bounded in size and time.

pub(crate) mod tls;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use codeco_hub::api::{
    ApiTokenRequest, BrakeView, ElectorateRequest, FILE_NAME_HEADER, FaultRequest, ForgetRequest, Forgotten,
    LostView, NewApiToken, PanicRequest, RevokeRequest, TailQuery, TokenRequest, UpkeepRequest, VersionView,
};
use codeco_hub::fleet::{Applied, Filter, LogQuery, NewToken};
use codeco_protocol::api::{CaView, DoctorView, ErrorBody, List, PlanView, RevokedView, codes};
use codeco_protocol::identity::Expected;
use codeco_protocol::ids::{AppName, ClusterName, Namespace, NodeName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{HeaderValue, Method, Request, Response};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};

use crate::contexts::Context;
use crate::failure::{ExitClass, Failure};

/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest call: a little more than the hub gives itself.
const CALL_MAX: Duration = Duration::from_secs(40);
/// Largest answer read, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Largest manifest sent, in bytes: more the hub refuses.
pub(crate) const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// Talks to the hub of one context.
pub(crate) struct Client {
    /// The hub, then the other members of the context.
    places: Vec<Place>,
    /// The one that answered last: asked first, so that one call does not wait for what the one before has waited for.
    last: AtomicUsize,
    context: String,
    authorization: HeaderValue,
}

/// Where a member answers.
struct Place {
    agent: Agent,
    server: String,
}

impl Client {
    /// A client for `context`. Connects when it is asked something.
    pub(crate) fn new(context: &Context) -> Result<Self, Failure> {
        Self::with_call_max(context, CALL_MAX)
    }

    pub(crate) fn with_call_max(context: &Context, call_max: Duration) -> Result<Self, Failure> {
        let broken = |what: String| {
            Failure::new(ExitClass::Error, codes::CONTEXTS, what)
                .about(format!("context/{}", context.name))
                .next("write the context again: `codeco dev` does for its own")
        };
        let tls = |expected| {
            tls::client_config(&context.ca, expected)
                .map_err(|e| broken(format!("its ca is not usable: {e}")))
        };
        let (hub, member) = (tls(Expected::Hub)?, tls(Expected::Any)?);
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", context.token))
            .map_err(|_| broken("its token has characters that no token has".to_owned()))?;
        authorization.set_sensitive(true);
        let mut places = Vec::new();
        let of_members = context.members.iter().map(|server| (server, &member));
        for (server, tls) in std::iter::once((&context.server, &hub)).chain(of_members) {
            if !server.starts_with("https://") {
                return Err(broken(format!("its server is {server:?}, expected https://HOST:PORT")));
            }
            let config = Agent::config_builder()
                .http_status_as_error(false)
                .proxy(None)
                .max_redirects(0)
                .https_only(true)
                .timeout_connect(Some(CONNECT_MAX))
                .timeout_global(Some(call_max))
                .build();
            let connector = ().chain(TcpConnector::default()).chain(tls::HubTls(tls.clone()));
            let agent = Agent::with_parts(config, connector, DefaultResolver::default());
            places.push(Place { agent, server: server.trim_end_matches('/').to_owned() });
        }
        Ok(Self { places, last: AtomicUsize::new(0), context: context.name.clone(), authorization })
    }

    /// A list: `path` is `apps`, `nodes`, …
    pub(crate) fn list<T: DeserializeOwned>(&self, path: &str, filter: &Filter) -> Result<List<T>, Failure> {
        self.json(&Method::GET, &format!("{path}{}", query(filter)), &[], None)
    }

    /// Applies the text of a file.
    pub(crate) fn apply(&self, file_name: &str, text: &str) -> Result<Vec<Applied>, Failure> {
        self.json(&Method::POST, "apps", text.as_bytes(), Some(file_name))
    }

    /// What applying the text of a file would do.
    pub(crate) fn plan(&self, file_name: &str, text: &str) -> Result<Vec<PlanView>, Failure> {
        self.json(&Method::POST, "plan", text.as_bytes(), Some(file_name))
    }

    /// Says that nothing runs in a cluster any more.
    pub(crate) fn cluster_lost(&self, cluster: &ClusterName) -> Result<LostView, Failure> {
        self.json(&Method::POST, &format!("clusters/{cluster}/lost"), &[], None)
    }

    /// Says that what a cluster's lead misses, or a cluster that the home asked misses, is gone.
    pub(crate) fn release_brake(&self, cluster: &ClusterName) -> Result<BrakeView, Failure> {
        self.json(&Method::POST, &format!("clusters/{cluster}/brake/release"), &[], None)
    }

    /// Cordons, drains or opens what `path` names.
    pub(crate) fn upkeep(&self, path: &str, request: UpkeepRequest) -> Result<(), Failure> {
        self.call(&Method::POST, path, &to_json(&request), None).map(drop)
    }

    /// Has a node vote alone in its cluster.
    pub(crate) fn replace_electorate(
        &self,
        cluster: &ClusterName,
        request: &ElectorateRequest,
    ) -> Result<(), Failure> {
        let path = format!("clusters/{cluster}/electorate");
        self.call(&Method::POST, &path, &to_json(request), None).map(drop)
    }

    /// Asks for the end of an application.
    pub(crate) fn delete(&self, namespace: &Namespace, name: &AppName) -> Result<(), Failure> {
        self.call(&Method::DELETE, &format!("apps/{namespace}/{name}"), &[], None).map(drop)
    }

    /// A log.
    pub(crate) fn logs(&self, q: &LogQuery) -> Result<Vec<u8>, Failure> {
        let tail = query(&TailQuery { container: q.container.clone(), tail_bytes: Some(q.tail_bytes) });
        let path = format!("logs/{}/{}/{}/{}{tail}", q.namespace, q.app, q.service, q.index);
        self.call(&Method::GET, &path, &[], None)
    }

    /// A new join token.
    pub(crate) fn create_token(&self, request: &TokenRequest) -> Result<NewToken, Failure> {
        self.json(&Method::POST, "tokens", &to_json(request), None)
    }

    /// A new API token.
    pub(crate) fn create_api_token(&self, request: &ApiTokenRequest) -> Result<NewApiToken, Failure> {
        self.json(&Method::POST, "api-tokens", &to_json(request), None)
    }

    /// Has members look after themselves.
    pub(crate) fn doctor(&self, filter: &Filter) -> Result<DoctorView, Failure> {
        self.json(&Method::GET, &format!("doctor{}", query(filter)), &[], None)
    }

    /// Injects a fault.
    pub(crate) fn fault(&self, request: &FaultRequest) -> Result<(), Failure> {
        self.call(&Method::POST, "faults", &to_json(request), None).map(drop)
    }

    /// Has a node stop for good.
    pub(crate) fn leave(&self, cluster: &ClusterName, node: &NodeName) -> Result<(), Failure> {
        self.call(&Method::POST, &format!("nodes/{cluster}/{node}/leave"), &[], None).map(drop)
    }

    /// Removes a node for good.
    pub(crate) fn forget(
        &self,
        cluster: &ClusterName,
        node: &NodeName,
        force: bool,
    ) -> Result<Forgotten, Failure> {
        let body = to_json(&ForgetRequest { force });
        self.json(&Method::POST, &format!("nodes/{cluster}/{node}/forget"), &body, None)
    }

    /// Where it talks to.
    pub(crate) fn server(&self) -> &str {
        &self.place().server
    }

    /// Makes an actor panic.
    pub(crate) fn panic_actor(&self, request: &PanicRequest) -> Result<(), Failure> {
        self.call(&Method::POST, "faults/panic", &to_json(request), None).map(drop)
    }

    /// Revokes a member or a certificate.
    pub(crate) fn revoke(&self, request: &RevokeRequest) -> Result<RevokedView, Failure> {
        self.json(&Method::POST, "certs/revoke", &to_json(request), None)
    }

    /// The authority.
    pub(crate) fn ca(&self) -> Result<CaView, Failure> {
        self.json(&Method::GET, "ca", &[], None)
    }

    /// Begins a hand-over to another authority.
    pub(crate) fn rotate_ca(&self) -> Result<CaView, Failure> {
        self.json(&Method::POST, "ca/rotate", b"{}", None)
    }

    /// Versions of the hub.
    pub(crate) fn version(&self) -> Result<VersionView, Failure> {
        self.json(&Method::GET, "version", &[], None)
    }

    fn json<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: &[u8],
        file: Option<&str>,
    ) -> Result<T, Failure> {
        let answer = self.call(method, path, body, file)?;
        serde_json::from_slice(&answer)
            .map_err(|e| self.strange(self.place(), &format!("its answer to {path} is wrong: {e}")))
    }

    pub(crate) fn call(
        &self,
        method: &Method,
        path: &str,
        body: &[u8],
        file: Option<&str>,
    ) -> Result<Vec<u8>, Failure> {
        let first = self.last.load(Ordering::Relaxed);
        let mut failure = None;
        for at in (0..self.places.len()).map(|step| (first + step) % self.places.len()) {
            match self.call_at(&self.places[at], method, path, body, file) {
                // Nobody was there to be asked: another member may be.
                Err(error) if error.body.code == codes::UNREACHABLE.word() => {
                    failure.get_or_insert(error);
                }
                answer => {
                    if self.last.swap(at, Ordering::Relaxed) != at {
                        eprintln!(
                            "the hub of context {:?} cannot be reached: {} answers",
                            self.context, self.places[at].server
                        );
                    }
                    return answer;
                }
            }
        }
        Err(failure.unwrap_or_else(|| self.strange(&self.places[0], "the context names no member")))
    }

    fn call_at(
        &self,
        place: &Place,
        method: &Method,
        path: &str,
        body: &[u8],
        file: Option<&str>,
    ) -> Result<Vec<u8>, Failure> {
        let uri = format!("{}/api/v1/{path}", place.server);
        let mut request = Request::builder().method(method).uri(uri);
        request = request.header("authorization", self.authorization.clone());
        if let Some(file) = file.and_then(|name| HeaderValue::from_bytes(name.as_bytes()).ok()) {
            request = request.header(FILE_NAME_HEADER, file);
        }
        let bad = |e: ureq::http::Error| self.strange(place, &format!("{path} is no path: {e}"));
        let sent = if *method == Method::POST {
            place.agent.run(request.body(body).map_err(bad)?)
        } else {
            place.agent.run(request.body(()).map_err(bad)?)
        };
        self.read(place, sent.map_err(|error| self.failed(place, &error))?)
    }

    fn read(&self, place: &Place, mut response: Response<ureq::Body>) -> Result<Vec<u8>, Failure> {
        let status = response.status().as_u16();
        let reader = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let bytes = reader.read_to_vec().map_err(|error| self.failed(place, &error))?;
        if response.status().is_success() {
            return Ok(bytes);
        }
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => Err(Failure::answered(status, body)),
            Err(_) => {
                Err(self.strange(place, &format!("it answered with status {status} and no explanation")))
            }
        }
    }

    /// Who answers there is not what we know as a hub.
    fn strange(&self, place: &Place, what: &str) -> Failure {
        Failure::new(
            ExitClass::Error,
            codes::STRANGE_ANSWER,
            format!("{} at {}: {what}", self.whose(), place.server),
        )
        .next("compare the versions of both sides: `codeco version`")
    }

    /// Who has answered last.
    fn place(&self) -> &Place {
        &self.places[self.last.load(Ordering::Relaxed)]
    }

    fn whose(&self) -> String {
        format!("the hub of context {:?}", self.context)
    }

    fn failed(&self, place: &Place, error: &ureq::Error) -> Failure {
        let (whose, server) = (self.whose(), &place.server);
        if let Some(tls) = tls_error(error) {
            let message = format!("whoever answers at {server} is not {whose}: {tls}");
            return Failure::new(ExitClass::Unreachable, codes::WRONG_SERVER, message).next(
                "nothing was sent. Is another fleet running there? `codeco context list` shows your contexts",
            );
        }
        let (class, code, message) = match error {
            ureq::Error::Timeout(_) => {
                (ExitClass::Timeout, codes::TIMEOUT, format!("{whose} at {server} did not answer in time"))
            }
            ureq::Error::BodyExceedsLimit(max) => (
                ExitClass::Error,
                codes::ANSWER_TOO_LARGE,
                format!("the answer of {server} is larger than {max} bytes"),
            ),
            other => {
                let message = format!("cannot reach {whose} at {server}: {}", plain(other));
                (ExitClass::Unreachable, codes::UNREACHABLE, message)
            }
        };
        Failure::new(class, code, message).next(
            "check that the hub runs and that the address is right: `codeco context list`; another context is used \
             with --context NAME or CODECO_CONTEXT",
        )
    }
}

fn plain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nobody listens there (connection refused)".to_owned()
        }
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        other => other.to_string(),
    }
}

fn tls_error(error: &ureq::Error) -> Option<String> {
    match error {
        ureq::Error::Rustls(error) => Some(error.to_string()),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref::<rustls::Error>().map(ToString::to_string),
        _ => None,
    }
}

fn to_json(request: &impl Serialize) -> Vec<u8> {
    // Plain structs of strings and numbers: this cannot fail, and an empty body would be refused.
    serde_json::to_vec(request).unwrap_or_default()
}

/// `?a=b&c=d` of the fields that are set.
fn query(fields: &impl Serialize) -> String {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(fields) else { return String::new() };
    let pairs: Vec<String> = fields
        .iter()
        .filter_map(|(name, value)| match value {
            serde_json::Value::String(text) => Some(format!("{name}={}", escaped(text))),
            serde_json::Value::Number(number) => Some(format!("{name}={number}")),
            _ => None,
        })
        .collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

fn escaped(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_names_only_the_fields_that_are_set_and_escapes_them() {
        assert_eq!(query(&Filter::default()), "");
        let filter = Filter { app: Some("web".parse().unwrap()), limit: Some(5), ..Filter::default() };
        assert_eq!(query(&filter), "?app=web&limit=5");
        let tail = TailQuery { container: Some("a b&c=ä".to_owned()), tail_bytes: None };
        assert_eq!(query(&tail), "?container=a%20b%26c%3D%C3%A4");
    }
}
