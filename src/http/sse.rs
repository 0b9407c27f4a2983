//! Server-sent events. A task writes, the client reads; when the client goes or stops reading, the task is told and ends.

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Bytes;
use futures_util::StreamExt;
use serde::Serialize;
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Events on their way to one client.
const BUFFERED_MAX: usize = 64;
/// A client that takes nothing for so long is gone.
const STALLED_MAX: Duration = Duration::from_secs(60);

/// The client went away, or reads nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Where a task writes its events.
#[derive(Debug, Clone)]
pub struct Events(mpsc::Sender<Bytes>);

impl Events {
    /// One event with a JSON value.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn send<T: Serialize>(&self, value: &T) -> Result<(), Gone> {
        let json = serde_json::to_string(value).map_err(|_| Gone)?;
        self.write(format!("data: {json}\n\n")).await
    }

    /// The last event.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn done(&self) -> Result<(), Gone> {
        self.write("data: [DONE]\n\n".to_owned()).await
    }

    /// A comment that keeps proxies from closing a quiet connection.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn still_here(&self) -> Result<(), Gone> {
        self.write(": still here\n\n".to_owned()).await
    }

    /// Ends when the client is gone.
    pub async fn gone(&self) {
        self.0.closed().await;
    }

    async fn write(&self, text: String) -> Result<(), Gone> {
        self.0.send_timeout(Bytes::from(text), STALLED_MAX).await.map_err(|_| Gone)
    }
}

/// A response whose events `task` writes. The task is dropped, with all it holds, when the client is gone.
pub fn respond<F, Fut>(headers: &[(&'static str, &str)], task: F) -> HttpResponse
where
    F: FnOnce(Events) -> Fut,
    Fut: Future<Output = Result<(), Gone>> + 'static,
{
    let (send, receive) = mpsc::channel(BUFFERED_MAX);
    let events = Events(send);
    let watch = events.clone();
    let task = task(events);
    actix_web::rt::spawn(async move {
        tokio::select! {
            _sent_or_gone = task => {}
            () = watch.gone() => {}
        }
    });
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream").insert_header((CACHE_CONTROL, "no-store"));
    // Nginx would hold events back.
    response.insert_header(("x-accel-buffering", "no"));
    for header in headers {
        response.insert_header(*header);
    }
    response.streaming(ReceiverStream::new(receive).map(Ok::<_, actix_web::Error>))
}
