//! Who may do what: every role on every route.

use std::collections::BTreeMap;

use codeco_hub::api::{ApiRole, RefusalReason};
use codeco_protocol::api::ErrorBody;

use super::fixture::Fixture;
use crate::failure::ExitClass;

const APP: &str = "apiVersion: codeco.he-codeco.eu/v1alpha1\nkind: CodecoApp\nmetadata: {name: web}\n\
    spec: {codecoapp-msspec: [{serviceName: s, podspec: {containers: [{name: c, image: i}]}}]}\n";

/// Every route, with a request it takes and the weakest role that may make it.
const ROUTES: &[(&str, &str, &str, ApiRole)] = &[
    ("GET", "version", "", ApiRole::Viewer),
    ("GET", "apps", "", ApiRole::Viewer),
    ("GET", "replicas?app=media", "", ApiRole::Viewer),
    ("GET", "nodes", "", ApiRole::Viewer),
    ("GET", "clusters", "", ApiRole::Viewer),
    ("GET", "events?limit=3", "", ApiRole::Viewer),
    ("GET", "decisions", "", ApiRole::Viewer),
    ("GET", "actors", "", ApiRole::Viewer),
    ("GET", "logs/default/media/origin/0?tailBytes=10", "", ApiRole::Viewer),
    ("POST", "apps", APP, ApiRole::Operator),
    ("DELETE", "apps/default/web", "", ApiRole::Operator),
    ("POST", "tokens", r#"{"scope":{"node":"edge-1"},"ttlSeconds":60}"#, ApiRole::Admin),
    ("POST", "api-tokens", r#"{"name":"new","role":"viewer"}"#, ApiRole::Admin),
    ("POST", "faults/panic", r#"{"member":"m","actor":"a","times":1}"#, ApiRole::Admin),
];

fn request(method: &str, path: &str, body: &str, token: Option<&str>) -> String {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    format!(
        "{method} /api/v1/{path} HTTP/1.1\r\nhost: hub\r\n{token}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

fn error(answer: &str) -> ErrorBody {
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

#[test]
fn every_route_takes_its_role_and_stronger_ones_and_refuses_the_rest() {
    let fixture = Fixture::new();
    let revoked = fixture.tokens.create("old", ApiRole::Admin).unwrap();
    fixture.tokens.revoke("old").unwrap();
    for (method, path, body, needed) in ROUTES {
        let ask = |token: Option<&str>| fixture.raw(request(method, path, body, token).as_bytes());
        for token in [None, Some(revoked.as_str()), Some("codeco-api.admin.AAAA")] {
            let answer = ask(token);
            assert_eq!(status(&answer), 401, "{method} {path}: {answer}");
            assert!(answer.to_lowercase().contains("www-authenticate: bearer"), "{answer}");
            assert_eq!(error(&answer).code, "unauthenticated");
        }
        for role in ApiRole::ALL {
            let answer = ask(Some(&fixture.token_of(role)));
            if role < *needed {
                assert_eq!(status(&answer), 403, "{role} {method} {path}: {answer}");
                assert_eq!(error(&answer).code, "forbidden");
            } else {
                assert!(matches!(status(&answer), 200 | 202), "{role} {method} {path}: {answer}");
            }
        }
    }
    // Nothing that was refused has reached the fleet.
    let calls = fixture.fleet.calls();
    let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &calls {
        *by_kind.entry(call.split(' ').next().unwrap()).or_default() += 1;
    }
    let expected = BTreeMap::from([("apply", 2), ("delete", 2), ("logs", 3), ("panic", 1), ("token", 1)]);
    assert_eq!(by_kind, expected, "{calls:?}");
}

#[test]
fn refusals_are_counted_each_and_reported_once_for_each_reason() {
    let mut fixture = Fixture::new();
    let viewer = fixture.token_of(ApiRole::Viewer);
    for _ in 0..5 {
        fixture.raw(request("GET", "apps", "", None).as_bytes());
        fixture.raw(request("GET", "apps", "", Some("wrong")).as_bytes());
        fixture.raw(request("DELETE", "apps/default/web", "", Some(&viewer)).as_bytes());
    }
    let reasons = [RefusalReason::NoToken, RefusalReason::BadToken, RefusalReason::WrongRole];
    assert_eq!(reasons.map(|reason| fixture.count(reason)), [5, 5, 5]);
    let reports = [fixture.report(), fixture.report(), fixture.report()];
    assert_eq!(reports.clone().map(|report| report.reason), reasons);
    let last = &reports[2];
    assert_eq!((last.role, last.name.as_deref()), (Some(ApiRole::Viewer), Some("viewer")));
    assert_eq!(last.route, "DELETE /api/v1/apps/default/web");
    assert!(last.peer.is_loopback());
    assert!(fixture.reports.try_recv().is_err(), "reported once");
}

#[test]
fn route_unknown_or_method_wrong_is_an_error_like_all_others_and_only_for_those_with_a_token() {
    let fixture = Fixture::new();
    let admin = fixture.token_of(ApiRole::Admin);
    let ask = |method, path, token| fixture.raw(request(method, path, "", token).as_bytes());
    assert_eq!(status(&ask("GET", "secrets", None)), 401);
    let unknown = ask("GET", "secrets", Some(&admin));
    assert_eq!((status(&unknown), error(&unknown).code.as_str()), (404, "no-such-route"));
    let method = ask("PUT", "apps", Some(&admin));
    assert_eq!((status(&method), error(&method).code.as_str()), (405, "method-not-allowed"));
    for path in ["apps?nmespace=a", "apps?namespace=A_B", "logs/default/media/origin/x"] {
        let answer = ask("GET", path, Some(&admin));
        assert_eq!((status(&answer), error(&answer).code.as_str()), (400, "invalid-request"), "{path}");
    }
}

#[test]
fn command_without_the_role_or_with_a_wrong_token_ends_with_4_and_says_what_is_needed() {
    let fixture = Fixture::new();
    let ran = fixture.run(&["--context", "viewer", "delete", "app/web"]);
    assert_eq!(ran.class, ExitClass::Refused);
    assert!(ran.stderr.contains("needs operator [forbidden]"), "{}", ran.stderr);
    let ran = fixture.run(&["--context", "operator", "token", "create", "--hub"]);
    assert_eq!(ran.class, ExitClass::Refused, "{}", ran.stderr);
    fixture.add_context("stale", "codeco-api.admin.AAAA");
    let ran = fixture.run(&["get", "apps"]);
    assert_eq!(ran.class, ExitClass::Refused);
    assert!(ran.stderr.contains("[unauthenticated]") && ran.stderr.contains("next: "), "{}", ran.stderr);
    assert!(fixture.fleet.calls().is_empty());
}

#[test]
fn api_token_made_by_an_admin_works_with_its_role_and_its_name_is_taken_once() {
    let fixture = Fixture::new();
    let create = ["--context", "admin", "token", "create", "--api", "viewer", "--name", "grafana"];
    let made = fixture.run(&create);
    assert_eq!(made.class, ExitClass::Done, "{}", made.stderr);
    assert!(made.stderr.contains("For grafana, as viewer"), "{}", made.stderr);
    fixture.add_context("grafana", made.stdout.trim());
    assert_eq!(fixture.run(&["get", "apps"]).class, ExitClass::Done);
    let refused = fixture.run(&["delete", "app/web"]);
    assert_eq!(refused.class, ExitClass::Refused);
    assert!(refused.stderr.contains(r#"token "grafana" is of role viewer"#), "{}", refused.stderr);
    let again = fixture.run(&create);
    assert!(again.stderr.contains(r#"there is an API token "grafana" already"#), "{}", again.stderr);
    for wrong in [
        &["token", "create", "--api", "root", "--name", "a"][..],
        &["token", "create", "--api", "viewer"],
        &["token", "create", "--hub", "--name", "a"],
        &["token", "create", "--api", "viewer", "--name", "a", "--hub"],
    ] {
        assert_eq!(fixture.run(wrong).class, ExitClass::Usage, "{wrong:?}");
    }
}
