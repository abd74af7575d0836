//! Requests as bytes, over one HTTP/2 connection: gRPC and plain HTTP alike, with whatever headers a test wants.

use std::{convert::Infallible, fmt, time::Duration};

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Bytes, Frame, Incoming},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Nothing takes longer on any machine, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a server; cheap to clone.
#[derive(Clone)]
pub struct Wire {
    sender: SendRequest<BoxBody<Bytes, Infallible>>,
    authority: String,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Whether its sender goes on to speak.
    pub stays_open: bool,
}

/// What came back: all of it, or its beginning.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
}

/// An answer that may last, or is yet to come.
pub struct Lasting {
    coming: Option<JoinHandle<Response<Incoming>>>,
    response: Option<Response<Incoming>>,
    says: Option<mpsc::Sender<Result<Frame<Bytes>, Infallible>>>,
}

impl Ask {
    /// Plain HTTP.
    pub fn http(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            stays_open: false,
        }
    }

    /// A gRPC call with an encoded message.
    pub fn grpc(path: &str, message: &[u8]) -> Self {
        let ask = Self {
            body: framed(message),
            ..Self::http("POST", path)
        };
        ask.with("content-type", "application/grpc")
            .with("te", "trailers")
    }

    pub fn with(self, name: &str, value: &str) -> Self {
        self.with_bytes(name, value.as_bytes())
    }

    pub fn with_bytes(mut self, name: &str, value: &[u8]) -> Self {
        let name: HeaderName = name.parse().unwrap();
        let value = HeaderValue::from_bytes(value).unwrap();
        self.headers.append(name, value);
        self
    }

    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = body.to_string().into();
        self.with("content-type", "application/json")
    }

    pub fn key(self, key: &str) -> Self {
        self.with("authorization", &format!("Bearer {key}"))
    }
}

/// A message as gRPC frames it.
fn framed(message: &[u8]) -> Bytes {
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    framed.into()
}

impl Wire {
    pub async fn to(address: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = shaken.unwrap();
        // Ends with the last sender.
        tokio::spawn(connection);
        let authority = address.to_string();
        Self { sender, authority }
    }

    /// A connection to the same server that takes heads of answers, and nothing of their bodies.
    pub async fn deaf(&self) -> Self {
        let stream = TcpStream::connect(&self.authority).await.unwrap();
        let mut settings = http2::Builder::new(TokioExecutor::new());
        settings.initial_stream_window_size(0);
        let (sender, connection) = settings.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self {
            sender,
            authority: self.authority.clone(),
        }
    }

    /// Sends a request; answers when the head of the answer is there.
    pub async fn open(&self, ask: &Ask) -> Lasting {
        let mut lasting = self.begin(ask).await;
        lasting.head().await;
        lasting
    }

    /// Sends a request, whose answer is yet to come.
    pub async fn begin(&self, ask: &Ask) -> Lasting {
        let (says, hears) = mpsc::channel(1);
        if !ask.body.is_empty() {
            says.try_send(Ok(Frame::data(ask.body.clone()))).unwrap();
        }
        let body = BodyExt::boxed(StreamBody::new(ReceiverStream::new(hears)));
        let uri = format!("http://{}{}", self.authority, ask.path);
        let mut request = Request::builder().method(ask.method.as_str()).uri(uri);
        request.headers_mut().unwrap().extend(ask.headers.clone());
        let says = ask.stays_open.then_some(says);
        let mut sender = self.sender.clone();
        sender.ready().await.unwrap();
        let sent = sender.send_request(request.body(body).unwrap());
        let ask = ask.clone();
        // It is awaited when what comes is read, and of no more use when that is not.
        let coming = tokio::spawn(async move {
            let response = sent.await;
            response.unwrap_or_else(|error| panic!("{error:?}: {ask:?}"))
        });
        Lasting {
            coming: Some(coming),
            response: None,
            says,
        }
    }

    /// All of an answer, or of one that may last its beginning up to the first of what it says.
    pub async fn ask(&self, ask: &Ask, may_last: bool) -> Answer {
        let answer = async {
            let mut lasting = self.open(ask).await;
            match may_last {
                true => lasting.first().await,
                false => lasting.rest().await,
            }
        };
        let answer = timeout(PATIENCE, answer).await;
        answer.unwrap_or_else(|_elapsed| panic!("no answer: {ask:?}"))
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.text().chars().take(300).collect();
        let Self {
            status,
            headers,
            trailers,
            ..
        } = self;
        write!(f, "{status} {headers:?} {text:?} {trailers:?}")
    }
}

impl Lasting {
    /// Says one thing more; nobody may hear it any more.
    pub async fn say(&self, message: &impl Message) {
        let frame = Frame::data(framed(&message.encode_to_vec()));
        let says = self.says.as_ref().expect("it stays open");
        let _ = timeout(PATIENCE, says.send(Ok(frame))).await;
    }

    /// The answer up to the first of what it says.
    pub async fn first(&mut self) -> Answer {
        self.read(true).await
    }

    /// What has not been read of the answer, up to its end.
    pub async fn rest(&mut self) -> Answer {
        self.read(false).await
    }

    async fn head(&mut self) -> &mut Response<Incoming> {
        if let Some(coming) = self.coming.take() {
            self.response = Some(coming.await.unwrap());
        }
        self.response.as_mut().expect("it has come")
    }

    /// Whether it has ended by now.
    pub fn has_ended(&mut self) -> bool {
        if let Some(coming) = &self.coming {
            return coming.is_finished();
        }
        let Some(response) = &mut self.response else {
            return false;
        };
        loop {
            match response.body_mut().frame().now_or_never() {
                None => return false,
                Some(None | Some(Err(_))) => return true,
                Some(Some(Ok(frame))) if frame.is_trailers() => return true,
                Some(Some(Ok(_))) => {}
            }
        }
    }

    async fn read(&mut self, first: bool) -> Answer {
        let response = self.head().await;
        let mut answer = Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: Vec::new(),
            trailers: HeaderMap::new(),
        };
        while !first || answer.body.is_empty() {
            let Some(frame) = response.body_mut().frame().await else {
                break;
            };
            match frame.unwrap().into_data() {
                Ok(data) => answer.body.extend(data),
                Err(frame) => answer.trailers = frame.into_trailers().unwrap(),
            }
        }
        answer
    }
}

impl Answer {
    /// How a gRPC call went; a call that goes on went well.
    pub fn grpc(&self) -> Result<(), Status> {
        assert_eq!(self.status, 200, "this is no gRPC: {self:?}");
        let told = Status::from_header_map(&self.trailers);
        let told = told.or_else(|| Status::from_header_map(&self.headers));
        match told {
            Some(status) if status.code() != tonic::Code::Ok => Err(status),
            Some(_) | None => Ok(()),
        }
    }

    /// The messages of a gRPC call, as they are encoded.
    pub fn messages(&self) -> Vec<&[u8]> {
        let mut messages = Vec::new();
        let mut rest = self.body.as_slice();
        while let Some((head, after)) = rest.split_first_chunk::<5>() {
            let length = u32::from_be_bytes(*head.last_chunk().unwrap()) as usize;
            let Some((message, after)) = after.split_at_checked(length) else {
                break;
            };
            messages.push(message);
            rest = after;
        }
        messages
    }

    /// The first message of a gRPC call that went well.
    pub fn message<M: Message + Default>(&self) -> Result<M, Status> {
        self.grpc()?;
        let messages = self.messages();
        Ok(M::decode(*messages.first().expect("there is a message")).unwrap())
    }

    /// What a gRPC call that failed says: its code, its message, and its details as they are.
    pub fn grpc_details(&self) -> String {
        let told = Status::from_header_map(&self.trailers);
        let told = told.or_else(|| Status::from_header_map(&self.headers));
        told.map_or_else(String::new, |status| {
            let details = String::from_utf8_lossy(status.details());
            format!("{:?} {} {details}", status.code(), status.message())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }
}
