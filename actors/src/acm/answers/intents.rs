//! Intents of a manifest that are taken and kept, but have no effect yet. Whoever applies one is told, because an
//! intent silently dropped is worse than one refused.

use codeco_protocol::api::{CodecoApp, ResolvedApp};

/// One sentence for each intent of `app` that nothing acts on yet.
pub(super) fn without_effect(app: &CodecoApp, resolved: &ResolvedApp) -> Vec<String> {
    let spec = &app.spec;
    let set = |field: &str, is_set: bool| is_set.then(|| format!("spec.{field}"));
    let mut fields: Vec<String> = [
        set("qosClass", spec.qos_class.is_some()),
        set("securityClass", spec.security_class.is_some()),
        set("complianceClass", spec.compliance_class.is_some()),
        set("appFailureTolerance", spec.app_failure_tolerance.is_some()),
        set("appEnergyLimit", resolved.energy_limit_percent.is_some()),
    ]
    .into_iter()
    .flatten()
    .collect();
    for service in &resolved.services {
        let own = |field: &str| format!("placement.{field} of service {}", service.name);
        if service.spread != Default::default() {
            fields.push(own("spread"));
        }
        if service.lost_after.is_some() {
            fields.push(own("lostAfter"));
        }
        if service.on_reconnect != Default::default() {
            fields.push(own("onReconnect"));
        }
    }
    let mut warnings: Vec<String> =
        fields.into_iter().map(|field| format!("{field} is kept, but nothing acts on it yet")).collect();
    if let Some(channel) = resolved.channels.iter().find(|channel| channel.assured) {
        warnings.push(format!(
            "channel {} is ASSURED: its delay counts in the score, but no bandwidth is reserved yet",
            channel.name
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use codeco_protocol::api::load_manifests;

    use super::*;

    #[test]
    fn intents_without_effect_are_named_and_others_are_not() {
        let text = "apiVersion: codeco.he-codeco.eu/v1alpha1\nkind: CodecoApp\nmetadata: {name: a}\nspec:\n  \
                    qosClass: Gold\n  codecoapp-msspec:\n  - serviceName: web\n    podspec:\n      containers:\n      \
                    - {name: c, image: i}\n  placement: {lostAfter: 10s, replicas: 2}\n";
        let apps = load_manifests("a.yaml", text).unwrap();
        let warnings = without_effect(&apps[0], &apps[0].resolve(1).unwrap());
        assert_eq!(
            warnings,
            [
                "spec.qosClass is kept, but nothing acts on it yet",
                "placement.lostAfter of service web is kept, but nothing acts on it yet",
            ]
        );
    }
}
