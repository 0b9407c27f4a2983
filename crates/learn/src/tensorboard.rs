//! TensorBoard event files beside `metrics.jsonl`: TFRecord framing around protocol-buffer messages, both written by hand, because the
//! three messages that curves need are smaller than any library for them. Uses `metrics` and `files`.
//!
//! Formats: `tensorflow/core/lib/io/record_writer.h` (framing), `tensorflow/core/util/event.proto` and
//! `tensorflow/core/framework/summary.proto` (messages; their field numbers are named below).

use crate::LearnError;
use crate::files::{write_atomic, write_folder_atomic};
use crate::metrics::MetricsLine;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The open event file of one run, in `run_dir/tensorboard`.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: File,
    /// When the run would have started, had it never paused; seconds since 1970. TensorBoard wants absolute times.
    started: f64,
}

impl EventLog {
    /// Starts a new event file with what is known of the run so far, and removes the one before. So no step is there twice after a
    /// kill and a resume; a TensorBoard that is watching sees a restart from step 0 and drops what it had read.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn open(run_dir: &Path, lines: &[MetricsLine]) -> Result<Self, LearnError> {
        let dir = run_dir.join("tensorboard");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let started = now - lines.last().map_or(0.0, |line| line.wall_seconds);
        // Readers go through the files in the order of their names.
        let number = newest(&dir).map_or(0, |n| n + 1).max(now as u64);
        let name = format!("events.out.tfevents.{number:010}.hone");
        let mut bytes = record(&file_version(started));
        bytes.extend(record(&session_start(started)));
        lines.iter().for_each(|line| bytes.extend(record(&event(line, started))));
        write_folder_atomic(&dir, |d| write_atomic(&d.join(&name), &bytes))?;
        let path = dir.join(name);
        let file = OpenOptions::new().append(true).open(&path).map_err(LearnError::io(&path))?;
        Ok(Self { path, file, started })
    }

    /// Appends a line's figures as one event.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn append(&mut self, line: &MetricsLine) -> Result<(), LearnError> {
        self.file.write_all(&record(&event(line, self.started))).map_err(LearnError::io(&self.path))
    }
}

/// The highest number among the event files that are there.
fn newest(dir: &Path) -> Option<u64> {
    let number = |name: String| name.strip_prefix("events.out.tfevents.")?.split('.').next()?.parse().ok();
    fs::read_dir(dir).ok()?.flatten().filter_map(|e| number(e.file_name().to_string_lossy().into_owned())).max()
}

/// One record: length, masked CRC of the length, data, masked CRC of the data; all little-endian.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend(length);
    out.extend(masked_crc(&length).to_le_bytes());
    out.extend(data);
    out.extend(masked_crc(data).to_le_bytes());
    out
}

/// CRC-32C, rotated and shifted so that a CRC of data that holds CRCs stays a good one.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit-reflected polynomial 0x82f63b78.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |crc, &byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(byte)) & 0xff) as usize])
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut crc, mut bit) = (i as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// `Event { wall_time = 1, file_version = 3 }`: the first event of every file.
fn file_version(wall_time: f64) -> Vec<u8> {
    let mut out = Vec::new();
    put_fixed64(&mut out, 1, wall_time);
    put_bytes(&mut out, 3, b"brain.Event:2");
    out
}

/// `Event { wall_time = 1, session_log = 7 }` with `SessionLog { status = 1 }`, START = 1: whatever a reader has seen of step 0 and
/// later is superseded by what follows.
fn session_start(wall_time: f64) -> Vec<u8> {
    let mut out = Vec::new();
    put_fixed64(&mut out, 1, wall_time);
    put_bytes(&mut out, 7, &[1 << 3, 1]);
    out
}

/// `Event { wall_time = 1, step = 2, summary = 5 }`, `Summary { value = 1 }`, `Value { tag = 1, simple_value = 2 }`.
fn event(line: &MetricsLine, started: f64) -> Vec<u8> {
    let mut summary = Vec::new();
    for (name, &x) in &line.metrics {
        let mut value = Vec::new();
        put_bytes(&mut value, 1, name.as_bytes());
        put_tag(&mut value, 2, 5);
        value.extend((x as f32).to_le_bytes());
        put_bytes(&mut summary, 1, &value);
    }
    let mut out = Vec::new();
    put_fixed64(&mut out, 1, started + line.wall_seconds);
    put_tag(&mut out, 2, 0);
    put_varint(&mut out, line.step as u64);
    put_bytes(&mut out, 5, &summary);
    out
}

/// A field's number and how it is encoded: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
fn put_tag(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    put_varint(out, field << 3 | wire_type);
}

fn put_varint(out: &mut Vec<u8>, mut x: u64) {
    while x >= 0x80 {
        out.push(x as u8 | 0x80);
        x >>= 7;
    }
    out.push(x as u8);
}

fn put_fixed64(out: &mut Vec<u8>, field: u64, x: f64) {
    put_tag(out, field, 1);
    out.extend(x.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_tag(out, field, 2);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

#[cfg(test)]
mod tests;
