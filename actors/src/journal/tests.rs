use bincode::{Decode, Encode};

use super::*;

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
struct Line(String);

impl WireMessage for Line {
    const KIND: u16 = 900;
    const MAX_LEN: usize = 1_000;
}

fn line(text: &str) -> Line {
    Line(text.into())
}

fn open(path: &Path) -> Opened<Line> {
    Journal::open(path, "test").unwrap()
}

#[test]
fn journal_written_is_read_back_after_any_cut_of_its_last_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let mut journal = open(&path).journal;
    journal.append(&[line("one"), line("two")]).unwrap();
    let kept = std::fs::metadata(&path).unwrap().len();
    journal.append(&[line("three")]).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for cut in usize::try_from(kept).unwrap()..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let opened = open(&path);
        assert_eq!(opened.records, [line("one"), line("two")], "cut at {cut}");
        let mut journal = opened.journal;
        journal.append(&[line("four")]).unwrap();
        assert_eq!(open(&path).records.len(), 3, "and goes on after the cut");
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(open(&path).records.len(), 3);
}

#[test]
fn journal_with_a_flipped_bit_before_its_end_is_refused_and_left_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let mut journal = open(&path).journal;
    journal.append(&[line("one")]).unwrap();
    journal.append(&[line("two")]).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[HEADER_LEN + 9] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = Journal::<Line>::open(&path, "test").unwrap_err();
    assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn journal_grown_by_zeros_that_never_reached_the_disk_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    open(&path).journal.append(&[line("one")]).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend([0; 300]);
    std::fs::write(&path, &bytes).unwrap();
    let opened = open(&path);
    assert_eq!((opened.records.len(), opened.torn), (1, 300));
}

#[test]
fn journal_of_another_format_or_kind_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    open(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 99;
    std::fs::write(&path, &bytes).unwrap();
    let error = Journal::<Line>::open(&path, "test").unwrap_err().to_string();
    assert!(error.contains("format 99"), "{error}");
    std::fs::write(&path, "hello, this is not a journal at all, is it?").unwrap();
    assert!(Journal::<Line>::open(&path, "test").is_err());
}

#[test]
fn journal_compacted_holds_the_new_records_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let mut journal = open(&path).journal;
    for _ in 0..100 {
        journal.append(&[line("history")]).unwrap();
    }
    journal.compact(&[line("state")], "test").unwrap();
    journal.append(&[line("next")]).unwrap();
    assert_eq!(open(&path).records, [line("state"), line("next")]);
}
