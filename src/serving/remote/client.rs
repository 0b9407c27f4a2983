//! One OpenAI-compatible server: what is asked of it, and what of its answers is believed. May use: reqwest.

use super::RemoteConfig;
use hone_domain::{AnswerFormat, GenerateRequest, Sampling, Tools};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A server, and how many answers it is computing for us.
pub(super) struct Replica {
    url: String,
    client: Client,
    api_key: Option<String>,
    timeout: Duration,
    running: AtomicUsize,
}

/// Why a server is of no use just now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// It doesn't take this request, and no other replica would.
    #[error("{0}")]
    Refused(String),
    /// It can't be reached, is too slow, or fails.
    #[error("{0}")]
    Failed(String),
}

/// An answer that a replica computes: counted until dropped.
pub(super) struct Running<'a>(&'a Replica);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Replica {
    /// # Errors
    /// When the URL is none.
    pub(super) fn new(url: &str, config: &RemoteConfig) -> Result<Self, String> {
        let parsed = reqwest::Url::parse(url).map_err(|e| format!("remote.urls: {url} is no URL ({e})"))?;
        if parsed.scheme() != "http" {
            return Err(format!(
                "remote.urls: {url} isn't \"http://...\"; put a proxy on this machine before a server that speaks TLS"
            ));
        }
        let timeout = Duration::from_secs(config.timeout_seconds.max(1));
        // A replica that doesn't exist is found out soon; a stream may take as long as its answer.
        let client = Client::builder().connect_timeout(timeout.min(Duration::from_secs(5))).build();
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            client: client.map_err(|e| format!("no HTTP client: {e}"))?,
            api_key: config.api_key.clone(),
            timeout,
            running: AtomicUsize::new(0),
        })
    }

    /// Answers that it is computing for us.
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Counts an answer.
    pub(super) fn count(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(self)
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.with_key(self.client.post(format!("{}{path}", self.url)).json(body))
    }

    fn with_key(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends, and waits for the response's beginning. Anything but 2xx is an error with what the server said.
    async fn begin(&self, request: RequestBuilder) -> Result<Response, Trouble> {
        let late = || self.failed(&format!("said nothing for {} s", self.timeout.as_secs()));
        let response = tokio::time::timeout(self.timeout, request.send()).await.map_err(|_| late())?;
        let response = response.map_err(|e| self.failed(&format!("can't be reached: {}", cause(&e))))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let said =
            tokio::time::timeout(self.timeout, response.text()).await.ok().and_then(Result::ok).unwrap_or_default();
        let said: String = said_of(&said).chars().take(SAID_CHARS_MAX).collect();
        Err(match status.as_u16() {
            // People read this, and where the server is isn't their business.
            400 | 413 | 422 => Trouble::Refused(format!("the model's server doesn't take the request: {said}")),
            _ => Trouble::Failed(format!("{} answered {status}: {said}", self.url)),
        })
    }

    fn failed(&self, what: &str) -> Trouble {
        Trouble::Failed(format!("{} {what}", self.url))
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value, Trouble> {
        let response = self.begin(request).await?;
        let body = tokio::time::timeout(self.timeout, response.json()).await;
        body.map_err(|_| self.failed("didn't finish its answer"))?.map_err(|e| self.failed(&cause(&e)))
    }

    /// The models that it lists.
    async fn models(&self) -> Result<Vec<Value>, Trouble> {
        let listed = self.json(self.with_key(self.client.get(format!("{}/v1/models", self.url)))).await?;
        let models = listed["data"].as_array().cloned();
        models.ok_or_else(|| self.failed("lists no models at /v1/models: is it an OpenAI-compatible server?"))
    }

    /// The context of a model, where the server tells.
    ///
    /// # Errors
    /// When it doesn't serve this model.
    pub(super) async fn context_tokens(&self, model: &str) -> Result<Option<usize>, Trouble> {
        let models = self.models().await?;
        let names = || models.iter().filter_map(|m| m["id"].as_str()).collect::<Vec<_>>().join(", ");
        let found = models.iter().find(|m| m["id"] == model);
        let found = found.ok_or_else(|| self.failed(&format!("doesn't serve {model}; it serves {}", names())))?;
        Ok(found["max_model_len"].as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    /// Has it load an adapter.
    pub(super) async fn load_adapter(&self, name: &str, path: &Path) -> Result<(), Trouble> {
        let body = json!({"lora_name": name, "lora_path": path});
        self.begin(self.post("/v1/load_lora_adapter", &body)).await.map(drop)
    }

    /// Has it forget an adapter.
    pub(super) async fn unload_adapter(&self, name: &str) -> Result<(), Trouble> {
        self.begin(self.post("/v1/unload_lora_adapter", &json!({"lora_name": name}))).await.map(drop)
    }

    /// Whether an adapter is really there: listed, and it answers. (vLLM says 200 to some paths that don't exist.)
    pub(super) async fn prove(&self, name: &str) -> Result<(), Trouble> {
        self.context_tokens(name).await?;
        let probe = json!({"model": name, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "temperature": 0});
        let answer = self.json(self.post("/v1/chat/completions", &probe)).await?;
        match answer["choices"][0]["finish_reason"].is_string() {
            true => Ok(()),
            false => Err(self.failed(&format!("lists {name} and doesn't answer with it"))),
        }
    }

    /// log p(tokens[t] | tokens[..t]) for t = 1..T, from the echo of a prompt.
    pub(super) async fn logprobs(&self, model: &str, tokens: &[u32]) -> Result<Vec<f32>, Trouble> {
        let body =
            json!({"model": model, "prompt": tokens, "echo": true, "logprobs": 0, "max_tokens": 1, "temperature": 0});
        let answer = self.json(self.post("/v1/completions", &body)).await?;
        let told = answer["choices"][0]["logprobs"]["token_logprobs"].as_array();
        let told = told.filter(|told| told.len() >= tokens.len()).ok_or_else(|| {
            self.failed("tells no log-probabilities of a prompt (`echo` with `logprobs` at /v1/completions)")
        })?;
        let of = |value: &Value| {
            value.as_f64().map(|x| x as f32).ok_or_else(|| self.failed("tells a log-probability that is no number"))
        };
        told.iter().take(tokens.len()).skip(1).map(of).collect()
    }

    /// Asks for an answer; the response's beginning.
    pub(super) async fn ask(&self, model: &str, request: &GenerateRequest) -> Result<Response, Trouble> {
        self.begin(self.post("/v1/chat/completions", &body(model, request))).await
    }
}

/// Most of what a server says that is passed on.
const SAID_CHARS_MAX: usize = 300;

/// The message of an error in OpenAI's form; else the text as it is.
fn said_of(body: &str) -> String {
    let read: Option<Value> = serde_json::from_str(body).ok();
    let message = read.as_ref().and_then(|read| read["error"]["message"].as_str().or(read["message"].as_str()));
    message.unwrap_or(body).to_owned()
}

/// The innermost reason: the outer ones repeat the URL.
fn cause(e: &dyn std::error::Error) -> String {
    e.source().map_or_else(|| e.to_string(), cause)
}

fn body(model: &str, request: &GenerateRequest) -> Value {
    let GenerateRequest { messages, tools, sampling } = request;
    let Sampling { temperature, top_p, max_tokens, stop, seed, presence_penalty, frequency_penalty, logprobs, format } =
        sampling;
    let mut body = json!({"model": model, "messages": messages, "stream": true, "stream_options": {"include_usage": true},
        "temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty});
    if !stop.is_empty() {
        body["stop"] = json!(stop);
    }
    if let Some(seed) = seed {
        // Servers take a signed number.
        body["seed"] = json!(seed & (i64::MAX as u64));
    }
    if let Some(top) = logprobs {
        body["logprobs"] = json!(true);
        body["top_logprobs"] = json!(top);
    }
    match format {
        Some(AnswerFormat::JsonObject) => body["response_format"] = json!({"type": "json_object"}),
        Some(AnswerFormat::JsonSchema(schema)) => {
            body["response_format"] =
                json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}});
        }
        None => {}
    }
    let Tools { offered, choice, parallel } = tools;
    if !offered.is_empty() {
        body["tools"] = json!(offered);
        for (name, value) in [("tool_choice", json!(choice)), ("parallel_tool_calls", json!(parallel))] {
            if !value.is_null() {
                body[name] = value;
            }
        }
    }
    body
}
