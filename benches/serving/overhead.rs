//! What hone itself costs: the same requests over HTTP, each answer on disk before it is sent, and to the engine directly, in turns in
//! one run; one line of JSON. `cargo bench --bench overhead -- --help`. The load comes from this process, on the same machine.

use clap::Parser;
use hone::config::Config;
use hone::serving::echo::EchoEngine;
use hone::startup;
use hone::store::Store;
use hone::store::credentials::{self, Kind};
use hone::store::users::{self, Role};
use hone_domain::ids::PolicyId;
use hone_domain::{Engine, GenerateRequest, LoadedPolicy, Message, PolicyFiles, Sampling, StreamEvent};
use hone_engine_native::NativeEngine;
use serde_json::{Value, json};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

#[derive(Parser, Clone)]
struct Args {
    /// A base model's folder for the native engine [default: the echo engine]
    #[arg(long)]
    model: Option<PathBuf>,
    /// Requests on their way at once
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// Of each side
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Of a turn
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    #[arg(long, default_value_t = 16)]
    max_tokens: usize,
    /// `cargo bench` passes it
    #[arg(long, hide = true)]
    bench: bool,
}

const PROMPT: &str = "What is the sea? Say it in a few plain words for somebody who has never seen it.";

fn main() {
    let args = Args::parse();
    let data = tempfile::tempdir().expect("a temp folder");
    let engine: Arc<dyn Engine> = match &args.model {
        Some(_) => Arc::new(NativeEngine::new(args.clients)),
        None => Arc::new(EchoEngine::default()),
    };
    let (address, stop) = serve(&args, data.path(), Arc::clone(&engine));
    let key = key(data.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let found = runtime.block_on(compare(&args, engine.as_ref(), address, &key));
    drop(stop);
    println!("{found}");
}

/// A server on a free port, until the handle is dropped.
fn serve(args: &Args, data: &Path, engine: Arc<dyn Engine>) -> (SocketAddr, oneshot::Sender<()>) {
    let mut config = Config::default();
    config.listen.set_port(0);
    config.limits.requests_per_minute_max = u32::MAX;
    config.serving.running_max = args.clients;
    config.serving.person_max = args.clients;
    config.base = args.model.as_ref().map(|dir| dir.display().to_string());
    let (ready, started) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let data = data.to_owned();
    std::thread::spawn(move || {
        let prepared = startup::prepare(&data, config, engine).expect("prepares");
        let address = prepared.address();
        let ready = move || ready.send(address).expect("waits");
        actix_web::rt::System::new().block_on(prepared.serve(ready, async { drop(stopped.await) })).expect("serves");
    });
    (started.recv().expect("the server starts"), stop)
}

fn key(data: &Path) -> String {
    let issue = |tx: &_| {
        let user = users::create(tx, "bench", Role::User)?;
        credentials::issue(tx, &user.id, Kind::ApiKey)
    };
    Store::open(data).expect("opens").write_blocking(issue).expect("a key")
}

/// What the requests of one side took.
#[derive(Default)]
struct Side {
    ms: Vec<f64>,
    seconds: f64,
}

impl Side {
    fn per_second(&self) -> f64 {
        self.ms.len() as f64 / self.seconds
    }

    fn add(&mut self, turn: Self) {
        self.ms.extend(turn.ms);
        self.seconds += turn.seconds;
    }

    fn figures(mut self) -> Value {
        self.ms.sort_by(f64::total_cmp);
        let at = |share: f64| self.ms[((self.ms.len() as f64 * share) as usize).min(self.ms.len() - 1)];
        let per_second = self.per_second();
        json!({"requests": self.ms.len(), "requests_per_second": per_second, "ms": {"p50": at(0.5), "p99": at(0.99)}})
    }
}

async fn compare(args: &Args, engine: &dyn Engine, address: SocketAddr, key: &str) -> Value {
    let base_dir = args.model.clone().unwrap_or_default();
    let id = PolicyId::base("bench");
    let files = PolicyFiles { id, base_dir, adapter_dir: None, merged_dir: None };
    let policy = engine.load(&files).await.expect("loads");
    let request = http_request(args, key);
    let (mut direct, mut http, mut ratios) = (Side::default(), Side::default(), Vec::new());
    for turn in 0..=args.turns {
        let (mut by_engine, mut by_hone) = (Side::default(), Side::default());
        // Who begins changes from turn to turn, so that a machine that gets slower is nobody's fault.
        for hone in [turn % 2 == 0, turn % 2 == 1] {
            if hone {
                load(args, &mut by_hone, |_| asks_over_http(address, &request)).await;
            } else {
                load(args, &mut by_engine, |_| asks_directly(args, policy.as_ref())).await;
            }
        }
        // The first is for warming up.
        if turn > 0 {
            ratios.push(by_hone.per_second() / by_engine.per_second());
            direct.add(by_engine);
            http.add(by_hone);
        }
    }
    let engine_name = engine.name();
    let (direct, http) = (direct.figures(), http.figures());
    let ratio = |what: &str| http[what].as_f64().zip(direct[what].as_f64()).map(|(http, direct)| http / direct);
    let added = |p: &str| http["ms"][p].as_f64().zip(direct["ms"][p].as_f64()).map(|(http, direct)| http - direct);
    json!({"benchmark": "overhead", "engine": engine_name, "clients": args.clients, "max_tokens": args.max_tokens,
        "throughput_ratio": ratio("requests_per_second"), "throughput_ratio_of_turns": of_turns(ratios), "added_ms": {"p50": added("p50"), "p99": added("p99")},
        "direct": direct, "http": http})
}

/// The median of the turns' ratios, and the 95 % interval of it that follows from their order alone (binomial, normal approximation).
fn of_turns(mut ratios: Vec<f64>) -> Value {
    ratios.sort_by(f64::total_cmp);
    let n = ratios.len() as f64;
    let away = 0.98 * n.sqrt();
    let at = |place: f64| ratios.get((place.max(0.0) as usize).min(ratios.len() - 1));
    json!({"median": at(n / 2.0), "low": at((n / 2.0 - away).floor() - 1.0), "high": at((n / 2.0 + away).ceil())})
}

/// All clients for one turn; each makes its own way of asking.
async fn load<A: Asks, F: Future<Output = A>>(args: &Args, side: &mut Side, ways: impl Fn(usize) -> F) {
    let begun = Instant::now();
    let until = begun + Duration::from_secs_f64(args.seconds);
    let client = async |place: usize| {
        let mut way = ways(place).await;
        let mut ms = Vec::new();
        while Instant::now() < until {
            let asked = Instant::now();
            way.ask().await;
            ms.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        (ms, begun.elapsed().as_secs_f64())
    };
    let all = futures_util::future::join_all((0..args.clients).map(client)).await;
    // Each counts for as long as it asked: who is done earlier doesn't wait for the last one's answer.
    for (ms, seconds) in all {
        side.ms.extend(ms);
        side.seconds += seconds / args.clients as f64;
    }
}

/// A way to ask for one answer.
trait Asks {
    async fn ask(&mut self);
}

struct Directly<'a>(&'a dyn LoadedPolicy, Sampling);

async fn asks_directly<'a>(args: &Args, policy: &'a dyn LoadedPolicy) -> Directly<'a> {
    Directly(policy, Sampling { max_tokens: args.max_tokens, temperature: 0.0, ..Sampling::default() })
}

impl Asks for Directly<'_> {
    async fn ask(&mut self) {
        let request = GenerateRequest::new(vec![Message::user(PROMPT)], self.1.clone());
        let mut events = self.0.generate(request).await.expect("starts");
        loop {
            match events.recv().await.expect("an end") {
                StreamEvent::Token(_) => {}
                StreamEvent::Done { .. } => break,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn http_request(args: &Args, key: &str) -> Vec<u8> {
    let body =
        json!({"messages": [{"role": "user", "content": PROMPT}], "max_tokens": args.max_tokens, "temperature": 0});
    let body = body.to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: hone\r\nContent-Type: application/json";
    format!("{head}\r\nAuthorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

struct OverHttp<'a> {
    stream: BufReader<TcpStream>,
    request: &'a [u8],
    line: String,
    body: Vec<u8>,
}

async fn asks_over_http(address: SocketAddr, request: &[u8]) -> OverHttp<'_> {
    let stream = TcpStream::connect(address).await.expect("connects");
    stream.set_nodelay(true).expect("sets");
    OverHttp { stream: BufReader::new(stream), request, line: String::new(), body: Vec::new() }
}

impl Asks for OverHttp<'_> {
    /// One request on a connection that stays open; the answer is read to its end.
    async fn ask(&mut self) {
        self.stream.write_all(self.request).await.expect("sends");
        let mut length = 0;
        for at in 0.. {
            self.line.clear();
            self.stream.read_line(&mut self.line).await.expect("a line");
            assert!(at > 0 || self.line.contains(" 200 "), "{}", self.line);
            let header = self.line.trim_end().to_ascii_lowercase();
            match header.split_once(": ") {
                Some(("content-length", number)) => length = number.parse().expect("a number"),
                _ if header.is_empty() => break,
                _ => {}
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body).await.expect("the body");
    }
}
