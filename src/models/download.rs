//! One file by HTTP: to `<name>.part`, going on where a broken download ended, checked, then renamed.

use super::show;
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

/// Why a file can't be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// No answer, or not the file.
    #[error("{url}: {reason}")]
    Failed {
        /// Asked for.
        url: String,
        /// What came instead.
        reason: String,
    },
    /// It is another file than it should be.
    #[error("{url}: the download hashes to {found}, not {expected}; it was thrown away")]
    Checksum {
        /// Asked for.
        url: String,
        /// SHA-256 that it should have.
        expected: String,
        /// SHA-256 that it has.
        found: String,
    },
    /// The disk says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl DownloadError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// Attempts in a row that bring nothing new before a download is given up.
const FRUITLESS_MAX: u32 = 3;
const REDIRECTS_MAX: u32 = 5;

/// An HTTP client that gives up soon on places that don't answer.
pub(super) fn agent() -> Agent {
    let config = Agent::config_builder()
        .timeout_resolve(Some(Duration::from_secs(5)))
        .timeout_connect(Some(Duration::from_secs(5)))
        .timeout_recv_response(Some(Duration::from_secs(20)))
        .timeout_per_read(Some(Duration::from_secs(30)))
        // Redirects are followed here, because a hub says a file's hash on the first answer, not on the last.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("hone/", env!("CARGO_PKG_VERSION")))
        .build();
    config.into()
}

/// Downloads `url` to `path`. A download that breaks goes on from where it was, now and when called again later. The file
/// is checked against the SHA-256 that the server itself names, where it names one.
///
/// # Errors
/// When the server doesn't answer, answers something else, breaks off again and again, or sends another file.
pub(super) fn download(agent: &Agent, url: &str, path: &Path) -> Result<(), DownloadError> {
    if path.is_file() {
        return Ok(());
    }
    let part = path.with_added_extension("part");
    let mut fruitless = 0;
    loop {
        let before = length(&part);
        let broken = match attempt(agent, url, &part) {
            Ok(sha256) => return finish(url, &part, path, sha256),
            Err(Broken::ForGood(error)) => return Err(error),
            Err(Broken::Off(reason)) => reason,
        };
        fruitless = if length(&part) > before { 0 } else { fruitless + 1 };
        if fruitless == FRUITLESS_MAX {
            return Err(DownloadError::Failed { url: url.to_owned(), reason: broken });
        }
        show::say(&format!("the download broke off ({broken}); going on from {} bytes", length(&part)));
        std::thread::sleep(Duration::from_millis(200 << fruitless));
    }
}

/// How an attempt ended without the whole file.
enum Broken {
    /// It's worth another try.
    Off(String),
    /// It isn't.
    ForGood(DownloadError),
}

/// One connection: appends to `part` what it lacks. Gives the SHA-256 that the server names, if it names one.
fn attempt(agent: &Agent, url: &str, part: &Path) -> Result<Option<String>, Broken> {
    let have = length(part);
    let (response, sha256) = get(agent, url, have).map_err(|error| match have {
        // Nothing was ever heard of this server: the next source is the better try.
        0 => Broken::ForGood(error),
        _ => Broken::Off(error.to_string()),
    })?;
    let failed = |reason: String| Broken::ForGood(DownloadError::Failed { url: url.to_owned(), reason });
    let status = response.status().as_u16();
    // 416: there is nothing after what we have, so it is whole (the hash tells) or of another version.
    if status == 416 {
        return Ok(sha256);
    }
    if status != 200 && status != 206 {
        return Err(failed(format!("the server answers {}", response.status())));
    }
    let start = if status == 206 { have } else { 0 };
    let whole = number(response.headers(), "content-length").map(|rest| start + rest);
    let mut file = OpenOptions::new().create(true).append(true).open(part).map_err(io_error(part))?;
    file.set_len(start).map_err(io_error(part))?;
    let name = url.rsplit('/').next().unwrap_or(url);
    let bar = show::bytes_bar(name, whole.unwrap_or(0));
    bar.set_position(start);
    bar.reset_eta();
    let copied = copy(&mut response.into_body().into_reader(), &mut file, part, &bar);
    bar.finish_and_clear();
    copied?;
    file.sync_all().map_err(io_error(part))?;
    match whole {
        Some(whole) if length(part) < whole => Err(Broken::Off(format!("{} of {whole} bytes came", length(part)))),
        _ => Ok(sha256),
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Broken + '_ {
    move |error| Broken::ForGood(DownloadError::io(path)(error))
}

/// A GET from byte `from` on, redirects followed; with the SHA-256 that an answer on the way names.
fn get(agent: &Agent, url: &str, from: u64) -> Result<(Response<Body>, Option<String>), DownloadError> {
    let failed = |reason: String| DownloadError::Failed { url: url.to_owned(), reason };
    let mut sha256 = None;
    let mut at = url.to_owned();
    for _ in 0..=REDIRECTS_MAX {
        // Without compression, so that bytes are counted alike here and there.
        let mut request = agent.get(&at).header("accept-encoding", "identity");
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let response = request.call().map_err(|e| failed(e.to_string()))?;
        sha256 = sha256.or_else(|| named_sha256(response.headers()));
        if !response.status().is_redirection() {
            return Ok((response, sha256));
        }
        let to = response.headers().get("location").and_then(|value| value.to_str().ok());
        at = join(&at, to.ok_or_else(|| failed("a redirect to nowhere".to_owned()))?);
    }
    Err(failed("too many redirects".to_owned()))
}

/// A redirect's target: absolute, or a path on the same server.
fn join(base: &str, to: &str) -> String {
    let server_end = base.find("://").and_then(|at| base[at + 3..].find('/').map(|slash| at + 3 + slash));
    match server_end {
        Some(end) if to.starts_with('/') => format!("{}{to}", &base[..end]),
        _ => to.to_owned(),
    }
}

/// The Hugging Face hub's X-Linked-ETag of a large file is its SHA-256.
fn named_sha256(headers: &HeaderMap) -> Option<String> {
    let tag = headers.get("x-linked-etag")?.to_str().ok()?.trim_matches('"');
    (tag.len() == 64 && tag.bytes().all(|b| b.is_ascii_hexdigit())).then(|| tag.to_ascii_lowercase())
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

fn copy(from: &mut impl Read, to: &mut File, path: &Path, bar: &ProgressBar) -> Result<(), Broken> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut buffer).map_err(|e| Broken::Off(e.to_string()))?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).map_err(io_error(path))?;
        bar.inc(read as u64);
    }
}

/// Checks the whole file and gives it its name.
fn finish(url: &str, part: &Path, path: &Path, sha256: Option<String>) -> Result<(), DownloadError> {
    if let Some(expected) = sha256 {
        let found = sha256_of(part).map_err(DownloadError::io(part))?;
        if found != expected {
            fs::remove_file(part).map_err(DownloadError::io(part))?;
            return Err(DownloadError::Checksum { url: url.to_owned(), expected, found });
        }
    }
    fs::rename(part, path).map_err(DownloadError::io(path))
}

/// A file's SHA-256 in hex.
pub(super) fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}
