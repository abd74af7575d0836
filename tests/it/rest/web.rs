//! A client for plain HTTP: one connection for each request.

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
    header::{self, HeaderMap},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::harness::Server;

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    async fn read(response: http::Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Self {
            status: head.status,
            headers: head.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// A header that has to be there.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        let value = value.unwrap_or_else(|| panic!("{name} is missing: {self:?}"));
        value.to_str().unwrap()
    }

    /// The body, which has to be JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same, of an answer with this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self.json()
    }
}

/// A request on its way to a server.
pub struct Call<'a> {
    server: &'a Server,
    request: http::request::Builder,
    body: Bytes,
}

pub fn get<'a>(server: &'a Server, path: &str) -> Call<'a> {
    call(server, "GET", path)
}

pub fn post<'a>(server: &'a Server, path: &str, body: &Value) -> Call<'a> {
    let call = call(server, "POST", path).header("content-type", "application/json");
    call.body(body.to_string())
}

pub fn call<'a>(server: &'a Server, method: &str, path: &str) -> Call<'a> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::HOST, server.address());
    Call {
        server,
        request,
        body: Bytes::new(),
    }
}

impl Call<'_> {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// A header that need not be text.
    pub fn header_bytes(mut self, name: &str, value: &[u8]) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// Calls the server by this name.
    pub fn host(mut self, name: &str) -> Self {
        let headers = self.request.headers_mut().unwrap();
        headers.insert(header::HOST, name.parse().unwrap());
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The head of the answer, and its body as it comes.
    pub async fn open(self) -> http::Response<Incoming> {
        let stream = TcpStream::connect(self.server.address()).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        // Ends with the answer; what goes wrong shows there.
        tokio::spawn(connection);
        let request = self.request.body(Full::new(self.body)).unwrap();
        sender.send_request(request).await.unwrap()
    }

    /// All of the answer, over HTTP/2.
    pub async fn send_http2(self) -> Reply {
        let stream = TcpStream::connect(self.server.address()).await.unwrap();
        let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.unwrap();
        let connection = tokio::spawn(connection);
        let mut request = self.request.body(Full::new(self.body)).unwrap();
        // The host is in the address there.
        let host = request.headers_mut().remove(header::HOST).unwrap();
        let address = format!("http://{}{}", host.to_str().unwrap(), request.uri());
        *request.uri_mut() = address.parse().unwrap();
        let reply = Reply::read(sender.send_request(request).await.unwrap()).await;
        drop(sender);
        connection.await.unwrap().unwrap();
        reply
    }

    /// All of the answer.
    pub async fn send(self) -> Reply {
        Reply::read(self.open().await).await
    }
}
