//! Strangers, impostors and noise against one running fleet of real processes: each is refused with the right reason,
//! told once, counted, and disturbs nothing else.

#![allow(clippy::unwrap_used)]

#[path = "common/attacker.rs"]
mod attacker;
mod common;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attacker::{authority, credentials, foreign, loopback, node_of};
use codeco_actors::fabric::{InspectRequest, inspect};
use codeco_console::local::RuntimeKind;
use codeco_protocol::gossip::{GossipMessage, Rumor, SealedDelta};
use codeco_protocol::identity::{ALPN_MEMBER, Ca, JoinToken};
use codeco_protocol::ids::{AppUid, MemberId, ReplicaId, Role, ServiceName};
use codeco_protocol::messages::ControlMessage;
use codeco_protocol::token::{Epoch, MandateId, Term};
use codeco_protocol::transport::StreamKind;
use codeco_protocol::units::Micros;
use common::{Stage, until, workspace};

/// How often each attack is repeated, to see that repeats are counted and not told again.
const TIMES: u64 = 3;

/// A fleet under attack.
struct Siege {
    stage: Stage,
    ca: Ca,
    runtime: tokio::runtime::Runtime,
    tokens: BTreeMap<String, String>,
}

#[test]
fn fleet_under_attack_refuses_each_attacker_with_the_reason_once_and_nothing_else_is_disturbed() {
    let (false_hub, false_peer) = (free_udp(), free_udp());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let guard = runtime.enter();
    let mut impostors = Vec::new();
    let (hub, peer) = (false_hub.to_string(), false_peer.to_string());
    let agent_args: [OsString; 4] = ["--hub".into(), hub.into(), "--peer".into(), peer.into()];
    let stage = Stage::with(2, 2, RuntimeKind::Simulated, agent_args.into(), |fleet| {
        // Both have good certificates of this fleet, for something else than they pretend to be.
        let ca = authority(&fleet.hub_state());
        for (address, role) in [(false_hub, node_of("edge-1")), (false_peer, node_of("edge-9"))] {
            impostors.push(runtime.block_on(attacker::listen(address, &credentials(&ca, role))));
        }
    });
    drop(guard);
    stage.apply(&workspace("deploy/examples/media-streaming.yaml"));
    let (ca, tokens) = (authority(&stage.fleet.hub_state()), stage.tokens());
    let siege = Siege { stage, ca, runtime, tokens };
    assert_eq!(siege.tokens.len(), 6, "{:?}", siege.tokens);

    let expiring = siege.short_lived_token();
    siege.impostor_is_left_alone(false_hub, "a hub was expected");
    siege.impostor_is_left_alone(false_peer, "a node of cluster edge-");
    siege.strangers_do_not_become_members();
    siege.certificate_is_not_made_for_the_name_wished();
    siege.members_give_no_orders_that_are_not_theirs();
    siege.members_ask_nothing_that_is_not_theirs();
    siege.oversized_messages_are_not_read();
    siege.garbage_is_dropped();
    siege.facts_that_their_owner_has_not_signed_are_not_believed();
    siege.what_was_said_before_is_no_news();
    siege.floods_are_held_back();
    siege.api_serves_nobody_without_the_role();
    siege.join_tokens_work_once_and_in_time(&expiring);
    drop(impostors);
}

fn free_udp() -> SocketAddr {
    UdpSocket::bind(loopback()).unwrap().local_addr().unwrap()
}

impl Siege {
    /// `attack` is refused by `member` for `reason`, `TIMES` times; told once.
    fn refused(&self, member: &str, reason: &str, text: &str, attack: impl FnMut()) {
        let metric = format!("codeco_transport_refusals_total{{reason=\"{reason}\"}}");
        let text = format!("{reason}: {text}");
        self.counted(member, &metric, ("ConnectionRefused", &text), attack);
    }

    fn counted(&self, member: &str, metric: &str, (event, text): (&str, &str), mut attack: impl FnMut()) {
        let before = self.stage.metric(member, metric);
        (0..TIMES).for_each(|_| attack());
        until(&format!("{member} to count {metric}"), || match self.stage.metric(member, metric) - before {
            counted if counted >= TIMES as f64 => Ok(()),
            counted => Err(counted.to_string()),
        });
        let told = self.stage.event(member, event, text, TIMES);
        assert_eq!(told["type"], "Warning", "{told}");
        self.logged_once(member, &told);
        self.stage.must_be_undisturbed(&self.tokens, text);
    }

    fn logged_once(&self, member: &str, event: &serde_json::Value) {
        let said = [&event["object"]["name"], &event["message"]].map(|said| said.as_str().unwrap());
        let log = self.stage.log(member);
        let lines: Vec<&str> =
            log.lines().filter(|line| said.iter().all(|said| line.contains(said))).collect();
        assert_eq!(lines.len(), 1, "{said:?} in the log of {member}: {lines:#?}");
    }

    /// Agents dial it again and again, because they were told to, and never believe it.
    fn impostor_is_left_alone(&self, address: SocketAddr, expected: &str) {
        for member in ["edge-1/node-1", "edge-2/node-2"] {
            self.refused(member, "wrong_identity", "", || {});
            let told = self.stage.event(member, "ConnectionRefused", expected, 2);
            assert_eq!(told["object"]["name"], address.ip().to_string(), "{told}");
            self.logged_once(member, &told);
        }
    }

    fn strangers_do_not_become_members(&self) {
        let foreigner = credentials(&foreign(&self.ca), Role::Hub);
        for member in ["hub", "edge-1/node-1", "edge-2/node-2"] {
            let to = self.stage.udp(member);
            let knock = |shown| self.runtime.block_on(attacker::knock(&self.ca, to, ALPN_MEMBER, shown));
            self.refused(member, "no_certificate", "a member must show a certificate", || {
                knock(None);
            });
            self.refused(member, "foreign_ca", "", || {
                knock(Some(&foreigner));
            });
        }
    }

    /// The certificate says what the token says, whatever the request wishes for.
    fn certificate_is_not_made_for_the_name_wished(&self) {
        let token = self.join_token("edge-1", "1h");
        let wish = format!("spiffe://{}/hub/{}", self.ca.trust_domain(), MemberId::random());
        let to = self.stage.udp("hub");
        let identity = self.runtime.block_on(attacker::join(&self.ca, to, &token, &wish)).unwrap();
        assert_eq!(identity.role, node_of("edge-1"));
        self.stage.must_be_undisturbed(&self.tokens, "a request to be a hub");
    }

    fn members_give_no_orders_that_are_not_theirs(&self) {
        let replica =
            ReplicaId { app: AppUid::random(), service: ServiceName::new("origin").unwrap(), index: 0 };
        let term = Term { number: u64::MAX, owner: MemberId::random() };
        let epoch = Epoch { number: u64::MAX, owner: MemberId::random() };
        let fence = ControlMessage::Fence { term };
        let grant = ControlMessage::LeaseGrant {
            nonce: 1,
            term,
            duration: Micros::from_secs(60),
            revoke: Vec::new(),
        };
        let recall = ControlMessage::Recall { epoch, mandate: MandateId(1), replica };
        let metric = "codeco_control_letters_total{result=\"refused\"}";
        for (who, to, message, text) in [
            ("edge-2", "edge-1/node-2", &fence, "a message for the ledger"),
            ("edge-1", "edge-1/node-2", &grant, "a message for the ledger"),
            ("edge-2", "edge-1/node-1", &recall, "a message for the lead"),
            ("edge-1", "edge-1/node-1", &recall, "a message for the lead"),
        ] {
            let as_whom = credentials(&self.ca, node_of(who));
            let id = as_whom.identity().to_string();
            self.counted(to, metric, ("MessageRefused", id.trim_start_matches('/')), || {
                let sent = attacker::order(&as_whom, self.stage.udp(to), vec![message.clone()]);
                assert_eq!(self.runtime.block_on(sent), 0, "an answer to an order of a stranger");
            });
            self.stage.event(to, "MessageRefused", text, TIMES);
        }
    }

    /// Another cluster's node learns no more than people may see through it; one of the same cluster causes no faults.
    fn members_ask_nothing_that_is_not_theirs(&self) {
        let panic = InspectRequest::Panic { actor: "ledger".into(), times: 1 };
        for (who, request, why) in [
            ("edge-2", InspectRequest::Doctor, "only hubs and members of the same cluster"),
            ("edge-2", panic.clone(), "only hubs and members of the same cluster"),
            ("edge-1", panic, "only hubs may inject faults"),
        ] {
            let as_whom = credentials(&self.ca, node_of(who));
            let answer = self.runtime.block_on(async {
                let (_transport, peer) = attacker::connected(&as_whom, self.stage.udp("edge-1/node-2")).await;
                inspect(&peer, &request).await
            });
            assert!(answer.unwrap_err().to_string().contains(why));
            self.stage.must_be_undisturbed(&self.tokens, why);
        }
    }

    fn oversized_messages_are_not_read(&self) {
        for (member, who) in [("hub", "edge-2"), ("edge-1/node-1", "edge-1")] {
            for (kind, message_kind, text) in
                [(StreamKind::Gossip, 49, "gossip: "), (StreamKind::Introspection, 64, "introspection: ")]
            {
                let as_whom = credentials(&self.ca, node_of(who));
                let text = format!("{}: {text}", as_whom.identity());
                self.refused(member, "oversized", &text, || {
                    let to = self.stage.udp(member);
                    self.runtime.block_on(attacker::oversized(&as_whom, to, kind, message_kind));
                });
            }
        }
    }

    fn garbage_is_dropped(&self) {
        let socket = UdpSocket::bind(loopback()).unwrap();
        for member in ["hub", "edge-2/node-1"] {
            let metric = "codeco_transport_refusals_total{reason=\"unknown_datagram\"}";
            let before = self.stage.metric(member, metric);
            for n in 0..100_u8 {
                socket.send_to(&[n; 300], self.stage.udp(member)).unwrap();
            }
            until("garbage to be counted", || match self.stage.metric(member, metric) - before {
                counted if counted >= 50.0 => Ok(()),
                counted => Err(counted.to_string()),
            });
            let told = self.stage.event(member, "ConnectionRefused", "unknown_datagram", 2);
            self.logged_once(member, &told);
            self.stage.must_be_undisturbed(&self.tokens, "garbage");
        }
        let metric = "codeco_api_refusals_total{reason=\"handshake\"}";
        self.counted("hub", metric, ("RequestRefused", "handshake"), || {
            let mut stream = TcpStream::connect(self.api()).unwrap();
            stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
            stream.write_all(b"GET /api/v1/apps HTTP/1.1\r\nhost: hub\r\n\r\n").unwrap();
            // Closed or reset, with or without an alert.
            let _ = stream.read_to_end(&mut Vec::new());
        });
    }

    /// A genuine member of the cluster says of another what that one has not said.
    fn facts_that_their_owner_has_not_signed_are_not_believed(&self) {
        let liar = credentials(&self.ca, node_of("edge-1"));
        // What the one says of the other, told to the first again.
        let member = "edge-1/node-1";
        let to = self.stage.udp(member);
        let genuine = self.runtime.block_on(attacker::overhear(&liar, to));
        let owner = genuine.owner.clone();
        assert!(!genuine.delta.facts.is_empty() && !genuine.chain.is_empty(), "{genuine:?}");
        let later = |change: &dyn Fn(&mut SealedDelta)| {
            let mut forged = genuine.clone();
            // A later life, so that it is not passed over as old.
            forged.delta.incarnation += 1_000_000;
            change(&mut forged);
            GossipMessage::Sealed(forged)
        };
        let own_chain: Vec<Vec<u8>> = liar.chain().iter().map(|der| der.to_vec()).collect();
        let unsigned = GossipMessage::Relay { owner: owner.clone(), delta: genuine.delta.clone() };
        for (message, text) in [
            (unsigned, "without its signatures"),
            (later(&|_| {}), "has not signed version"),
            (later(&|forged| forged.delta.to += 1_000), "has not signed version"),
            (later(&|forged| forged.seals.clear()), "not one signature each"),
            (later(&|forged| forged.chain.clone_from(&own_chain)), "came with facts of"),
        ] {
            self.refused(member, "forged", &format!("{}: gossip: ", liar.identity()), || {
                self.runtime.block_on(attacker::gossip(&liar, to, std::slice::from_ref(&message)));
            });
            self.stage.event(member, "ConnectionRefused", text, TIMES);
        }
        assert!(owner.cluster().is_some_and(|cluster| cluster.as_str() == "edge-1"));
    }

    /// Old facts and a neighbour's messages, sent again: all of it is known, none of it changes anything.
    fn what_was_said_before_is_no_news(&self) {
        let parrot = credentials(&self.ca, node_of("edge-1"));
        let heard = self.runtime.block_on(attacker::overhear(&parrot, self.stage.udp("edge-1/node-1")));
        let mut earlier = heard.clone();
        earlier.delta.incarnation -= 1;
        for member in ["edge-1/node-1", "edge-1/node-2"] {
            let said = [heard.clone(), earlier.clone()].map(GossipMessage::Sealed);
            let said: Vec<GossipMessage> = std::iter::repeat_n(said, 20).flatten().collect();
            self.runtime.block_on(attacker::gossip(&parrot, self.stage.udp(member), &said));
            self.stage.must_be_undisturbed(&self.tokens, "repeated facts");
        }
        // To a hub, and of another cluster, nobody passes facts on.
        let text = "what only members of one cluster tell each other";
        let message = GossipMessage::Sealed(heard);
        self.refused("hub", "malformed", &format!("{}: gossip: {text}", parrot.identity()), || {
            self.runtime.block_on(attacker::gossip(
                &parrot,
                self.stage.udp("hub"),
                std::slice::from_ref(&message),
            ));
        });
    }

    fn floods_are_held_back(&self) {
        let flooder = credentials(&self.ca, node_of("edge-1"));
        let to = self.stage.udp("edge-1/node-2");
        let text = format!("{}: more probes than a member sends are dropped", flooder.identity());
        self.refused("edge-1/node-2", "flood", &text, || {
            self.runtime.block_on(attacker::flood_of_probes(&flooder, to, 5_000));
        });
        let rumor = Rumor::Accused { member: MemberId(7), life: Default::default() };
        let rumors = vec![GossipMessage::Rumors(vec![rumor; 256]); 200];
        let text = format!("{}: more rumors than a member has to tell are dropped", flooder.identity());
        self.refused("edge-1/node-2", "flood", &text, || {
            self.runtime.block_on(attacker::gossip(&flooder, to, &rumors));
        });
    }

    fn api(&self) -> SocketAddr {
        let access = self.stage.fleet.access().unwrap();
        access.server.strip_prefix("https://").unwrap().parse().unwrap()
    }

    fn api_serves_nobody_without_the_role(&self) {
        let viewer = self.stage.run(&["token", "create", "--api", "viewer", "--name", "watcher"]).ok();
        let manifest = workspace("deploy/examples/media-streaming.yaml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        let join = r#"{"scope":{"node":"edge-1"},"ttlSeconds":60}"#;
        let routes = [
            ("POST /api/v1/apps", text.as_str()),
            ("DELETE /api/v1/apps/default/media-streaming", ""),
            ("POST /api/v1/tokens", join),
            ("POST /api/v1/api-tokens", r#"{"name":"mine","role":"admin"}"#),
            ("POST /api/v1/faults/panic", r#"{"member":"hub","actor":"home","times":1}"#),
        ];
        for (token, status, code, reason) in [
            (None, 401, "unauthenticated", "no-token"),
            (Some("codeco-api.admin.AAAA"), 401, "unauthenticated", "bad-token"),
            (Some(viewer.trim()), 403, "forbidden", "wrong-role"),
        ] {
            let metric = format!("codeco_api_refusals_total{{reason=\"{reason}\"}}");
            self.counted("hub", &metric, ("RequestRefused", reason), || {
                for (line, body) in routes {
                    let (found, answer) = attacker::ask_api(&self.ca, self.api(), line, token, body);
                    assert_eq!(found, status, "{line} {reason}: {answer}");
                    assert!(answer.contains(code) && answer.contains("\"next\""), "{line}: {answer}");
                }
            });
        }
        let (reads, _) = attacker::ask_api(&self.ca, self.api(), "GET /api/v1/apps", Some(viewer.trim()), "");
        assert_eq!(reads, 200, "a viewer may read");

        self.stage.run_with(&["context", "add", "watcher"], &viewer).ok();
        self.stage.run(&["get", "apps"]).ok();
        for refused in [
            &["apply", "-f", manifest.to_str().unwrap()][..],
            &["delete", "app/media-streaming"],
            &["token", "create", "--cluster", "edge-1"],
            &["token", "create", "--api", "admin", "--name", "mine"],
        ] {
            let said = self.stage.run(refused).failed(4);
            assert!(said.contains("token \"watcher\" is of role viewer, this needs "), "{said}");
            assert!(said.contains("next: "), "{said}");
        }
        self.stage.run(&["context", "use", "admin"]).ok();
        self.stage.must_be_undisturbed(&self.tokens, "the API");
    }

    fn join_token(&self, cluster: &str, ttl: &str) -> JoinToken {
        let made = self.stage.run(&["token", "create", "--cluster", cluster, "--ttl", ttl]).ok();
        made.trim().parse().unwrap()
    }

    fn short_lived_token(&self) -> JoinToken {
        self.join_token("edge-1", "10s")
    }

    fn join_tokens_work_once_and_in_time(&self, expiring: &JoinToken) {
        let wish = format!("spiffe://{}/cluster/edge-1/node/{}", self.ca.trust_domain(), MemberId::random());
        let to = self.stage.udp("hub");
        let join = |token: &JoinToken| self.runtime.block_on(attacker::join(&self.ca, to, token, &wish));
        let refused = |token: &JoinToken, reason: &str| {
            self.refused("hub", reason, "", || drop(join(token).unwrap_err()));
        };
        let used = self.join_token("edge-1", "1h");
        join(&used).unwrap();
        refused(&used, "token_used");

        let other = self.join_token("edge-1", "1h");
        let mixed = JoinToken { secret: used.secret.clone(), ..other.clone() };
        refused(&mixed, "token_wrong_secret");
        join(&other).expect("a wrong secret does not use up the token");

        until("the token to expire", || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let left = Duration::from_millis(expiring.expires.0).saturating_sub(now);
            if left.is_zero() { Ok(()) } else { Err(format!("{left:?} left")) }
        });
        refused(expiring, "token_expired");
    }
}
