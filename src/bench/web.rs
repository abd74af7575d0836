//! Plain HTTP to a server: a connection that is kept, for one caller at a time.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::Mutex, task::AbortHandle};

use super::BenchError;

/// See the module.
#[derive(Clone)]
pub(super) struct WebClient(Arc<Inner>);

struct Inner {
    address: String,
    sender: Mutex<SendRequest<Full<Bytes>>>,
    connection: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl WebClient {
    /// Connects to a server, as in `http://host:port`.
    pub(super) async fn connect(endpoint: &str) -> Result<Self, BenchError> {
        let address = endpoint.trim_start_matches("http://").to_owned();
        let broken = |error: &dyn std::fmt::Display| {
            BenchError::Broken(format!("no HTTP connection to {address}: {error}"))
        };
        let stream = TcpStream::connect(&address).await.map_err(|e| broken(&e))?;
        stream.set_nodelay(true).map_err(|e| broken(&e))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| broken(&e))?;
        // Ends with the connection; what goes wrong with it shows in the requests.
        let connection = tokio::spawn(connection).abort_handle();
        Ok(Self(Arc::new(Inner {
            address,
            sender: Mutex::new(sender),
            connection,
        })))
    }

    /// So many connections.
    pub(super) async fn several(endpoint: &str, count: usize) -> Result<Vec<Self>, BenchError> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(Self::connect(endpoint).await?);
        }
        Ok(clients)
    }

    /// A request with JSON, or without a body; answers with the body if all is well.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Bytes, BenchError> {
        let broken = |error: &dyn std::fmt::Display| {
            BenchError::Broken(format!("{method} {path} failed: {error}"))
        };
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::HOST, &self.0.address);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|e| broken(&e))?;
        let mut sender = self.0.sender.lock().await;
        let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
        let status = response.status();
        let body = response.into_body().collect().await;
        let body = body.map_err(|e| broken(&e))?.to_bytes();
        match status.is_success() {
            true => Ok(body),
            false => Err(broken(&format_args!(
                "{status}: {}",
                String::from_utf8_lossy(&body)
            ))),
        }
    }
}
