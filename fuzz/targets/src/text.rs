//! What people write.

/// Manifests, from the text to what is placed.
pub(crate) mod manifest {
    use codeco_protocol::api::{FILE_ERRORS_MAX, load_manifests};

    use crate::samples;

    pub(crate) fn run(data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let Ok(apps) = load_manifests("app.yaml", &text).inspect_err(|errors| {
            assert!((1..=FILE_ERRORS_MAX).contains(&errors.len()), "a bounded list of errors");
        }) else {
            return;
        };
        for app in &apps {
            let _ = app.check();
            let Ok(resolved) = app.resolve(1) else { continue };
            drop(resolved);
            // What is shown to people can be handed in again.
            let shown = serde_json::to_string(app).unwrap_or_default();
            let again = load_manifests("app.json", &shown);
            assert_eq!(again.as_deref().ok(), Some(std::slice::from_ref(app)), "{shown}");
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        samples::manifests()
    }
}

/// Quantities, times, selectors.
pub(crate) mod texts {
    use codeco_protocol::api::{Quantity, Selector, parse_count, parse_rfc3339, rfc3339};
    use codeco_protocol::demands::Level;
    use codeco_protocol::units::{BitsPerSecond, Bytes, Micros, MilliCpu};

    pub(crate) fn run(data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let _ = (MilliCpu::parse_quantity(&text), Bytes::parse_quantity(&text), parse_count(&text));
        let _ = (BitsPerSecond::parse_quantity(&text), Micros::parse_quantity(&text));
        let _ = text.parse::<Level>();
        if let Some(at) = parse_rfc3339(&text) {
            let _ = rfc3339(at);
        }
        if let Ok(selector) = text.parse::<Selector>() {
            let _ = selector.matches(|_| None);
            let _ = selector.matches(|key| (key.len() % 2 == 0).then_some("a"));
            let shown = selector.to_string();
            assert_eq!(shown.parse::<Selector>(), Ok(selector), "shown as {shown:?}");
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        [
            "500m",
            "2",
            "128Mi",
            "1e6",
            "10e-3",
            "250ms",
            "10s",
            "1.5Gi",
            "0.1",
            "5M",
            "Good",
            "-1",
            "1e-18",
            "99999999999999999999",
            "2026-11-25T17:00:00.5Z",
            "zone=a,tier!=test,disk in (ssd,nvme),!old",
            "a notin (b,c),d==e,f",
        ]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
    }
}
