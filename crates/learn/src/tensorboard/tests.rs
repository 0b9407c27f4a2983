//! Event files read back by a decoder of their own: framing, checksums, messages; and what a resumed run leaves.

use super::*;
use crate::metrics::MetricsLog;

/// (step, tag, value) of every scalar, in file order. Panics on a wrong checksum or a torn record.
fn scalars(bytes: &[u8]) -> Vec<(u64, String, f32)> {
    let mut found = Vec::new();
    for event in records(bytes) {
        let fields = fields(&event);
        let step = fields.iter().find_map(|f| if let (2, Field::Varint(x)) = f { Some(*x) } else { None });
        for (_, summary) in fields.iter().filter(|(number, _)| *number == 5) {
            for (_, value) in self::fields(summary.bytes()) {
                let value = self::fields(value.bytes());
                let tag = String::from_utf8(value[0].1.bytes().to_vec()).expect("text");
                let Field::Four(x) = value[1].1 else { panic!("simple_value is four bytes") };
                found.push((step.unwrap_or(0), tag, f32::from_le_bytes(x)));
            }
        }
    }
    found
}

fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let u32_at = |b: &[u8], at: usize| u32::from_le_bytes(b[at..at + 4].try_into().expect("four bytes"));
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let n = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        assert_eq!(u32_at(bytes, 8), masked_crc(&bytes[..8]));
        let data = &bytes[12..12 + n];
        assert_eq!(u32_at(bytes, 12 + n), masked_crc(data));
        all.push(data.to_vec());
        bytes = &bytes[16 + n..];
    }
    all
}

#[derive(Debug)]
enum Field {
    Varint(u64),
    Eight,
    Bytes(Vec<u8>),
    Four([u8; 4]),
}

impl Field {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(b) => b,
            other => panic!("{other:?} is no message"),
        }
    }
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = take_varint(&mut bytes);
        let n = match tag & 7 {
            0 => 0,
            1 => 8,
            2 => take_varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let field = match tag & 7 {
            0 => Field::Varint(take_varint(&mut bytes)),
            1 => Field::Eight,
            2 => Field::Bytes(bytes[..n].to_vec()),
            _ => Field::Four(bytes[..4].try_into().expect("four bytes")),
        };
        bytes = &bytes[n..];
        found.push((tag >> 3, field));
    }
    found
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    let (mut x, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        x |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return x;
        }
    }
}

fn line(step: usize, name: &str, x: f64) -> MetricsLine {
    let metrics = [(name.to_owned(), x)].into();
    MetricsLine { step, phase: "train".into(), wall_seconds: step as f64, metrics }
}

/// The one event file of a run.
fn event_file(run_dir: &Path) -> PathBuf {
    let mut all = fs::read_dir(run_dir.join("tensorboard")).expect("a folder").flatten();
    let path = all.next().expect("a file").path();
    assert!(all.next().is_none(), "one file");
    path
}

#[test]
fn checksums_are_castagnolis() {
    // RFC 3720, appendix B.4.
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
}

#[test]
fn a_first_event_is_byte_by_byte_what_tensorboard_writes() {
    // tensorboard 2.21.0: Event(wall_time=2.0, step=300, summary=Summary(value=[Summary.Value(tag="a", simple_value=1.0)])), serialised.
    let expected = b"\x09\0\0\0\0\0\0\0\x40\x10\xac\x02\x2a\x0a\x0a\x08\x0a\x01a\x15\0\0\x80\x3f";
    let line = MetricsLine { wall_seconds: 2.0, ..line(300, "a", 1.0) };
    assert_eq!(event(&line, 0.0), expected);
}

#[test]
fn events_follow_the_log_and_a_resumed_run_repeats_no_step() {
    let home = tempfile::tempdir().expect("temp dir");
    let mut log = MetricsLog::open(home.path(), 0).expect("opens");
    (1..=3).for_each(|s| log.append(&line(s, "objective/kl", s as f64)).expect("appends"));
    log.append(&line(3, "lost", f64::NAN)).expect("appends");
    drop(log);
    let first = event_file(home.path());
    assert_eq!(fields(&records(&fs::read(&first).expect("reads"))[0])[1].1.bytes(), b"brain.Event:2");

    let bytes = fs::read(&first).expect("reads");
    fs::write(&first, &bytes[..bytes.len() - 3]).expect("a crash cuts a record");
    let mut log = MetricsLog::open(home.path(), 2).expect("opens");
    log.append(&line(3, "objective/kl", 9.0)).expect("appends");
    let second = event_file(home.path());
    assert!(second.file_name() > first.file_name(), "a watching reader goes on to it");
    let kl = |step, x| (step, "objective/kl".to_owned(), x);
    assert_eq!(scalars(&fs::read(&second).expect("reads")), [kl(1, 1.0), kl(2, 2.0), kl(3, 9.0)]);
}
