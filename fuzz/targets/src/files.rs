//! Files of a member, as they lie on a disk.

/// Contexts, join tokens, API tokens.
pub(crate) mod private_files {
    use codeco_actors::hostile::api_tokens;
    use codeco_console::hostile::{contexts, contexts_sample};
    use codeco_protocol::hostile::token_book;

    pub(crate) fn run(data: &[u8]) {
        for read in [contexts, token_book, api_tokens] {
            if let Err(problem) = read(data) {
                assert!(!problem.is_empty(), "an error says what is wrong");
            }
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let hash = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        let api = format!(
            r#"{{"format":1,"tokens":[{{"name":"alice","role":"admin","sha256":"{hash}"}},{{"name":"bob","role":"viewer","sha256":"{hash}","hub":"0190b3e2-5d6c-7a10-8c44-2f1f6f1d0a55"}}]}}"#
        );
        let zeros = vec!["0"; 32].join(",");
        let book = format!(
            r#"{{"format":1,"tokens":{{"0000000000000abc":{{"secret_sha256":[{zeros}],"scope":{{"node":"north"}},"expires":1800000000000,"used":null,"founds":true}}}}}}"#
        );
        // Every alias as long as ten of the one before.
        let bomb: String = (1..9).fold("a0: &a0 [x,x]\n".to_owned(), |text, n| {
            format!("{text}a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(","))
        });
        [contexts_sample(), api, book, bomb].map(String::into_bytes).to_vec()
    }
}

/// Journals: the file, its batches, and the records in them.
pub(crate) mod journal {
    use std::fmt::Debug;

    use codeco_actors::hostile::journal;
    use codeco_actors::journal::crc32;
    use codeco_actors::swm::election::elector::ElectionRecord;
    use codeco_actors::swm::home::HomeRecord;
    use codeco_actors::swm::ledger::LedgerRecord;
    use codeco_protocol::wire::{self, WireMessage};

    use crate::input::{Input, Seed};
    use crate::samples;

    /// As [`codeco_actors::journal`] writes it.
    fn header() -> Vec<u8> {
        [&b"CODECOJ\0\x01\0fuzz"[..], &[0; 18]].concat()
    }

    pub(crate) fn run(data: &[u8]) {
        let mut input = Input::new(data);
        // The bytes as they are; or as batches whose sums fit; the last one may be torn.
        let (kind, torn) = (input.byte(), input.byte());
        let mut content = header();
        if kind >= 128 {
            content = input.rest().to_vec();
        }
        let mut batches = 0;
        while !input.is_empty() {
            let payload = input.piece();
            content.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
            content.extend(crc32(payload).to_le_bytes());
            content.extend(payload);
            batches += 1;
        }
        if batches > 0 {
            content.truncate(content.len().saturating_sub(usize::from(torn)).max(header().len()));
        }
        match kind % 3 {
            0 => check::<LedgerRecord>(&content),
            1 => check::<HomeRecord>(&content),
            _ => check::<ElectionRecord>(&content),
        }
    }

    fn check<R: WireMessage + Debug>(content: &[u8]) {
        let Ok((records, good)) = journal::<R>(content) else { return };
        let good = usize::try_from(good).unwrap_or(usize::MAX);
        assert!(good <= content.len(), "no more checks than there is");
        // A crash later, without what was torn, it is the same.
        let (again, whole) = journal::<R>(&content[..good]).expect("what checks is a journal");
        assert_eq!((again.len(), usize::try_from(whole).ok()), (records.len(), Some(good)));
    }

    fn frames<R: WireMessage>(records: &[R]) -> Vec<u8> {
        records.iter().filter_map(|record| wire::encode(record).ok()).flatten().collect()
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let payloads = [
            frames(&samples::ledger_records()),
            frames(&samples::home_records()),
            frames(&samples::elector_records()),
        ];
        let mut seeds: Vec<Vec<u8>> = (0..)
            .zip(&payloads)
            .flat_map(|(kind, payload)| {
                let seed = || Seed::default().byte(kind);
                let two = seed().byte(0).piece(payload).piece(payload).0;
                [seed().byte(0).piece(payload).0, two, seed().byte(5).piece(payload).0]
            })
            .collect();
        seeds.push([&[128, 0][..], &header()].concat());
        seeds.push([&[128, 0][..], &header(), &[0; 40]].concat());
        seeds
    }
}
