//! An application for tests.

/// Service whose replicas must never run twice. The other one is autonomous.
pub const FENCED: &str = "single";

/// A manifest: `fenced` replicas that need a lease, `free` ones that do not. Each runs until it is asked to stop.
#[must_use]
pub fn app(name: &str, fenced: u32, free: u32) -> String {
    let service = |service: &str| {
        format!(
            "    - serviceName: {service}
      podspec:
        terminationGracePeriodSeconds: 2
        containers:
          - name: work
            command: [\"sh\", \"-c\"]
            args:
              - |
                trap 'kill \"$pause\" 2>/dev/null; exit 0' TERM
                while :; do sleep 5 & pause=$!; wait \"$pause\"; done
            resources:
              requests: {{cpu: 10m, memory: 1Mi}}
"
        )
    };
    format!(
        "apiVersion: codeco.he-codeco.eu/v1alpha1
kind: CodecoApp
metadata: {{name: {name}}}
spec:
  appName: {name}
  codecoapp-msspec:
{}{}  placement:
    services:
      {FENCED}: {{replicas: {fenced}, partitionPolicy: fence}}
      free: {{replicas: {free}, partitionPolicy: autonomous}}
",
        service(FENCED),
        service("free"),
    )
}
