//! The hub, which is the home of an application, is killed: a member that keeps a copy becomes its home, and changes it.
//! The hub comes back with its disk: nothing is touched, and there is one home.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use codeco_protocol::api::{AppView, EventView};
use codeco_tests::{Books, Fleet, Shape, app};

const CODECO: &str = env!("CARGO_BIN_EXE_codeco-under-test");

/// Without fenced service, and to be adopted.
fn adoptable(name: &str, one: u32, other: u32) -> String {
    with_adoption(&app(name, one, other)).replace("partitionPolicy: fence", "partitionPolicy: autonomous")
}

fn with_adoption(manifest: &str) -> String {
    manifest.replace("  placement:\n", "  placement:\n    adoptAfter: 10s\n")
}

/// Cluster and token of each replica of the application that is ready. An agent knows them all only where it is the home.
fn running(fleet: &Fleet) -> Result<BTreeMap<String, (String, String)>, String> {
    let replicas = fleet.replicas().map_err(|e| e.to_string())?.into_iter();
    let replicas = replicas.filter(|row| row.ready && row.app.as_str() == "alpha");
    let found = replicas.filter_map(|row| {
        let place = (row.cluster?.to_string(), row.token?);
        Some((format!("{}/{}-{}", row.app, row.service, row.index), place))
    });
    Ok(found.collect())
}

/// Process of each replica; a hub knows them all.
fn pids(fleet: &Fleet) -> BTreeMap<String, u32> {
    let look = |fleet: &Fleet| {
        let replicas = fleet.replicas().map_err(|e| e.to_string())?;
        let known = replicas.iter().filter(|row| row.pid.is_some()).count();
        if known == replicas.len() { Ok(replicas) } else { Err(format!("{known} known: {replicas:?}")) }
    };
    let replicas = fleet.until("all processes are known", look).unwrap().into_iter();
    replicas.filter_map(|r| Some((format!("{}/{}-{}", r.app, r.service, r.index), r.pid?))).collect()
}

fn until_running(fleet: &Fleet, wanted: usize) -> BTreeMap<String, (String, String)> {
    let all = fleet.until("every replica is ready", |fleet| {
        let running = running(fleet)?;
        if running.len() == wanted { Ok(running) } else { Err(format!("{running:#?}")) }
    });
    all.unwrap()
}

fn event(fleet: &Fleet, reason: &str, object: &str) -> EventView {
    fleet
        .until(&format!("{reason} of {object}"), |fleet| {
            let events: Vec<EventView> = fleet.get("events").map_err(|e| e.to_string())?;
            let count = events.len();
            let found = events.into_iter().find(|e| e.reason == reason && e.object.name == object);
            found.ok_or_else(|| format!("{count} other events"))
        })
        .unwrap()
}

fn apps(fleet: &Fleet) -> BTreeMap<String, AppView> {
    let apps = fleet.apps().unwrap();
    let count = apps.len();
    let by_name: BTreeMap<String, AppView> = apps.into_iter().map(|a| (a.name.to_string(), a)).collect();
    assert_eq!(by_name.len(), count, "each has one home: {by_name:#?}");
    by_name
}

#[test]
fn application_whose_home_is_killed_is_adopted_changed_and_stays_with_its_new_home_when_the_old_one_returns()
{
    let mut fleet = Fleet::start(CODECO, Shape { clusters: 2, nodes: 2, lease_ms: 5_000 }).unwrap();
    let alpha = fleet.write_manifest("alpha", &adoptable("alpha", 2, 2)).unwrap();
    let beta = fleet.write_manifest("beta", &with_adoption(&app("beta", 1, 1))).unwrap();
    for file in [&alpha, &beta] {
        let said = fleet.codeco(&["apply", "-f", file]).unwrap();
        assert!(said.contains("created"), "{said}");
    }
    let before = until_running(&fleet, 4);
    let processes = pids(&fleet);
    // What nobody but the hub knows goes with it: those who keep copies are to know where each replica is.
    fleet
        .until("two members keep copies with all mandates", |fleet| {
            let home = Books::read(fleet.state()).map_err(|e| e.to_string())?.home;
            let known = home.copied.values().filter(|count| **count >= 2).count();
            if known == home.replicas.len() { Ok(()) } else { Err(format!("{home:#?}")) }
        })
        .unwrap();

    fleet.local.kill(None);
    let adopted = event(&fleet, "AppAdopted", "alpha");
    let refused = event(&fleet, "NotAdopted", "beta");
    assert!(refused.message.contains("fenced"), "{refused:?}");
    let heir = fleet.local.agents().iter().position(|agent| {
        adopted.member.ends_with(&agent.name) && adopted.member.starts_with(agent.cluster.as_str())
    });
    let heir = heir.unwrap_or_else(|| panic!("{adopted:?} at none of the agents"));
    let more = fleet.write_manifest("more", &adoptable("alpha", 2, 4)).unwrap();
    let said = fleet.codeco_at(heir, &["apply", "-f", &more]).unwrap();
    assert!(said.contains("configured"), "{said}");
    let grown = until_running(&fleet, 6);
    for (replica, found) in &before {
        assert_eq!(grown.get(replica), Some(found), "{replica} was touched by the adoption");
    }

    fleet.local.start_hub().unwrap();
    fleet.local.wait_hub().unwrap();
    fleet.write_context().unwrap();
    let gave_up = event(&fleet, "HomeGaveUp", "alpha");
    assert!(gave_up.member.contains("hub"), "{gave_up:?}");
    fleet
        .until("the hub shows both with all their copies", |fleet| {
            let apps = apps(fleet);
            let ready: BTreeMap<&str, u32> =
                apps.iter().map(|(name, app)| (name.as_str(), app.replicas_ready)).collect();
            if ready == BTreeMap::from([("alpha", 6), ("beta", 2)]) {
                Ok(())
            } else {
                Err(format!("{ready:?}"))
            }
        })
        .unwrap();
    assert_eq!(until_running(&fleet, 6), grown, "nothing was touched by the return");
    let now = pids(&fleet);
    for (replica, pid) in &processes {
        assert_eq!(now.get(replica), Some(pid), "{replica} was started again");
    }
    let elsewhere = fleet.codeco(&["apply", "-f", &alpha]).unwrap_err().to_string();
    assert!(elsewhere.contains("app-elsewhere"), "{elsewhere}");
    let fewer = fleet.codeco_at(heir, &["apply", "-f", &alpha]).unwrap();
    assert!(fewer.contains("configured"), "{fewer}");
    let after = until_running(&fleet, 4);
    for (replica, found) in &before {
        assert_eq!(after.get(replica), Some(found), "{replica} was touched");
    }
    // What nobody has adopted is still the hub's.
    let beta = fleet.write_manifest("beta", &with_adoption(&app("beta", 1, 2))).unwrap();
    fleet.codeco(&["apply", "-f", &beta]).unwrap();
    fleet
        .until("beta has grown", |fleet| {
            let ready = apps(fleet)["beta"].replicas_ready;
            if ready == 3 { Ok(()) } else { Err(format!("{ready} of 3")) }
        })
        .unwrap();
    fleet.codeco_at(heir, &["delete", "app/alpha"]).unwrap();
    fleet
        .until("alpha is gone for good", |fleet| {
            let apps = apps(fleet);
            if apps.contains_key("alpha") { Err(format!("{apps:#?}")) } else { Ok(()) }
        })
        .unwrap();
    until_running(&fleet, 0);
    assert_eq!(fleet.stop().unwrap(), Vec::<String>::new());
}
