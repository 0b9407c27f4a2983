//! Clients that open streams and read nothing: they keep nobody else waiting, and lose nothing themselves.

use crate::support::{Setup, TestApp};
use hone::store::users::Role;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Far more than may be computed at once (`serving.running_max` is 16); twice that are open files of this test.
const STREAMS: usize = 300;
/// Far more than a connection's buffers hold.
const WORDS: usize = 2_000;

/// What `/metrics` says of a queue in which nobody is.
const IDLE: [&str; 2] = ["hone_num_requests_running 0", "hone_num_requests_waiting 0"];

/// A stream that is asked for, with the smallest buffer there is, and not read.
async fn stalled(address: SocketAddr, key: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut stream = socket.connect(address).await.expect("connects");
    let body =
        json!({"stream": true, "store": false, "max_tokens": WORDS, "messages": [{"role": "user", "content": "word ".repeat(WORDS)}]})
            .to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: hone\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.expect("asks");
    stream
}

#[actix_web::test]
async fn hundreds_of_streams_that_nobody_reads_hold_up_nobody() {
    let mut setup = Setup::default();
    setup.config.serving.person_max = STREAMS;
    setup.config.serving.waiting_max = STREAMS;
    let app = TestApp::with(setup).await;
    let (idler, ann) = (app.person("idler", Role::User), app.person("ann", Role::User));
    let address: SocketAddr = app.url.trim_start_matches("http://").parse().expect("an address");
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(stalled(address, &idler).await);
    }
    let mut status = vec![0; 15];
    for stream in &mut streams {
        stream.read_exact(&mut status).await.expect("an answer begins");
        assert_eq!(status, b"HTTP/1.1 200 OK", "{}", String::from_utf8_lossy(&status));
    }
    let ask = json!({"messages": [{"role": "user", "content": "hello there"}]});
    let answer = app.post("/v1/chat/completions", &ann, ask).await;
    assert_eq!(answer.body["choices"][0]["message"]["content"], "hello there", "{answer:?}");
    // Who doesn't read takes nobody's turn: all answers are computed, with all streams still open.
    let mut metrics = String::new();
    for _ in 0..1000 {
        metrics = app.get("/metrics", "").await.body.as_str().expect("text").to_owned();
        if IDLE.iter().all(|idle| metrics.lines().any(|line| line == *idle)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(IDLE.iter().all(|idle| metrics.lines().any(|line| line == *idle)), "{metrics}");
    let mut text = String::new();
    streams[0].read_to_string(&mut text).await.expect("the stream isn't cut off");
    assert_eq!(text.matches("\"word ").count(), WORDS);
    assert!(text.contains("data: [DONE]"));
}
