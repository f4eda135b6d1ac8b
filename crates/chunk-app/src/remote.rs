//! Orders carried out by the process that holds the folder, over its socket.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::control::Control;
use crate::failure::{Failure, Kind, Outcome};
use crate::socket;
use crate::wire::{
    EvictAnswer, EvictOrder, FetchEvent, FetchOrder, Instance, JobReport, PinAnswer, PinOrder,
    Refusal, StatusReport, VerifyAnswer, VerifyOrder, WhyAnswer, WhyOrder,
};

/// The other end of the socket in `folder`.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    folder: PathBuf,
}

impl Remote {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Who is there.
    pub(crate) async fn instance(&self) -> Outcome<Instance> {
        self.get("/v1/instance").await
    }

    /// Asks whoever is there to let go of the folder.
    pub(crate) async fn request_handover(&self) -> Outcome<Instance> {
        self.post("/v1/handover", &()).await
    }

    async fn get<A: DeserializeOwned>(&self, path: &str) -> Outcome<A> {
        read(self.send(Method::GET, path, Bytes::new()).await?).await
    }

    async fn post<O: Serialize + Sync, A: DeserializeOwned>(
        &self,
        path: &str,
        order: &O,
    ) -> Outcome<A> {
        let body = serde_json::to_vec(order).map_err(Failure::failed)?;
        read(self.send(Method::POST, path, body.into()).await?).await
    }

    /// Sends one request on a connection of its own; a refusal is an error.
    async fn send(&self, method: Method, path: &str, body: Bytes) -> Outcome<Response<Incoming>> {
        let stream = socket::connect(&self.folder).await.map_err(lost)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(lost)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "chunkd")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(Failure::failed)?;
        let response = sender.send_request(request).await.map_err(lost)?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let body = response.into_body().collect().await.map_err(lost)?;
        let refusal: Refusal = serde_json::from_reader(body.aggregate().reader()).map_err(lost)?;
        let kind = if refusal.usage {
            Kind::Usage
        } else {
            Kind::Failed
        };
        Err(Failure::new(kind, refusal.error))
    }
}

#[async_trait]
impl Control for Remote {
    async fn status(&self) -> Outcome<StatusReport> {
        self.get("/v1/status").await
    }

    async fn jobs(&self) -> Outcome<Vec<JobReport>> {
        self.get("/v1/jobs").await
    }

    async fn fetch(&self, order: FetchOrder) -> Outcome<mpsc::Receiver<FetchEvent>> {
        let body = serde_json::to_vec(&order).map_err(Failure::failed)?;
        let response = self.send(Method::POST, "/v1/fetch", body.into()).await?;
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                () = pass_lines_on(response.into_body(), &sender) => {}
            }
        });
        Ok(receiver)
    }

    async fn why(&self, order: WhyOrder) -> Outcome<WhyAnswer> {
        self.post("/v1/why", &order).await
    }

    async fn verify(&self, order: VerifyOrder) -> Outcome<VerifyAnswer> {
        self.post("/v1/verify", &order).await
    }

    async fn evict(&self, order: EvictOrder) -> Outcome<EvictAnswer> {
        self.post("/v1/evict", &order).await
    }

    async fn pin(&self, order: PinOrder) -> Outcome<PinAnswer> {
        self.post("/v1/pin", &order).await
    }
}

async fn read<A: DeserializeOwned>(response: Response<Incoming>) -> Outcome<A> {
    let body = response.into_body().collect().await.map_err(lost)?;
    serde_json::from_reader(body.aggregate().reader()).map_err(lost)
}

/// Hands each line of the body on as an event; ends where the body does, well or not.
async fn pass_lines_on(mut body: Incoming, sender: &mpsc::Sender<FetchEvent>) {
    let mut pending: Vec<u8> = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        pending.extend_from_slice(&data);
        while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let Ok(event) = serde_json::from_slice(&line) else {
                return;
            };
            if sender.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// The process at the other end has gone or is going.
fn lost(error: impl std::fmt::Display) -> Failure {
    Failure::new(
        Kind::Lost,
        format!("the chunkd that uses this cache folder does not answer: {error}"),
    )
}
