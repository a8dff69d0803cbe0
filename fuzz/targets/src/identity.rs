//! Who somebody says to be.

/// Names, ids, tokens, as text.
pub(crate) mod identity_texts {
    use std::fmt::{Debug, Display};
    use std::str::FromStr;

    use codeco_protocol::identity::{JoinToken, Serial, SpiffeId, TokenId, TrustDomain};
    use codeco_protocol::ids::{AppUid, ClusterName, Incarnation, MemberId};

    use crate::samples;

    fn reads<T: FromStr + Display + Debug + PartialEq>(text: &str) {
        if let Ok(value) = text.parse::<T>() {
            let again = value.to_string().parse::<T>().ok();
            assert_eq!(again, Some(value), "{text:?} reads as what it is written as");
        }
    }

    pub(crate) fn run(data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        reads::<SpiffeId>(&text);
        reads::<TrustDomain>(&text);
        reads::<Serial>(&text);
        reads::<TokenId>(&text);
        reads::<ClusterName>(&text);
        reads::<MemberId>(&text);
        reads::<AppUid>(&text);
        reads::<Incarnation>(&text);
        if let Ok(token) = text.parse::<JoinToken>() {
            assert_eq!(token.to_text().parse(), Ok(token), "{text:?}");
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let id = "0190b3e2-5d6c-7a10-8c44-2f1f6f1d0a55";
        let mut texts = vec![
            format!("spiffe://fleet.example/cluster/north-1/node/{id}"),
            format!("spiffe://fleet.example/hub/{id}"),
            id.to_owned(),
            "0123456789abcdef".to_owned(),
            "0123456789abcdef0123456789abcdef".to_owned(),
            "fleet.example".to_owned(),
        ];
        texts.push(samples::join_token().to_text());
        texts.into_iter().map(String::into_bytes).collect()
    }
}

/// Certificates, chains of them, and signing requests.
pub(crate) mod certificates {
    use codeco_protocol::identity::{
        Ca, ChainSummary, ClusterIssuer, Credentials, KeyHash, MemberKey, Serial, SpiffeId,
    };
    use codeco_protocol::units::WallTime;
    use rustls::pki_types::CertificateDer;

    use crate::input::{Input, Seed};
    use crate::samples;

    pub(crate) fn run(data: &[u8]) {
        let mut input = Input::new(data);
        let mut chain = Vec::new();
        while !input.is_empty() && chain.len() < 8 {
            chain.push(CertificateDer::from(input.piece()));
        }
        for certificate in &chain {
            let _ = (SpiffeId::of_certificate(certificate), KeyHash::of_certificate(certificate));
            let _ = (Serial::of_certificate(certificate), Ca::check_request(certificate));
        }
        if let Ok(summary) = ChainSummary::of(&chain) {
            let _ = summary.is_valid_at(WallTime(0));
            assert!(
                !summary.is_valid_at(WallTime(u64::MAX)) || summary.validity.not_after == WallTime(u64::MAX)
            );
        }
        if let [certificate, .., ca] = &chain[..] {
            let _ = Credentials::new(samples::key(), certificate, ca);
            let _ = Credentials::with_issuer(samples::key(), certificate, Some(ca), ca);
        }
        if let [certificate] = &chain[..]
            && SpiffeId::of_certificate(certificate).is_err()
            && let Ok(key) = MemberKey::generate()
        {
            let _ = ClusterIssuer::new(key, certificate);
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let chain = samples::chain();
        let all = chain.iter().fold(Seed::default(), |seed, certificate| seed.piece(certificate));
        let mut seeds: Vec<_> =
            chain.iter().map(|certificate| Seed::default().piece(certificate).0).collect();
        seeds.push(all.0);
        seeds.push(Seed::default().piece(&samples::key().signing_request().unwrap_or_default()).0);
        seeds
    }
}
