//! A server whose part a test plays itself, over a real socket: for what a real server never does, such as losing revisions or falling silent.

use std::{
    convert::Infallible,
    marker::PhantomData,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use prost::Message;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    server::{Grpc, StreamingService},
    service::Routes,
    transport::Server,
};
use tonic_prost::ProstCodec;

use super::Client;

/// Messages and calls that may wait; more than any test needs.
const WAITING: usize = 64;

/// The server. All its methods take `Req` and answer with a stream of `Resp`.
pub(crate) struct ScriptedServer<Req, Resp> {
    pub(crate) endpoint: String,
    calls: mpsc::Receiver<Call<Req, Resp>>,
    serving: JoinHandle<()>,
}

/// One call: what the client sends, and where the test puts the answers. Dropping it ends the call with OK.
pub(crate) struct Call<Req, Resp> {
    pub(crate) requests: Streaming<Req>,
    pub(crate) answers: mpsc::Sender<Result<Resp, Status>>,
}

impl<Req, Resp> ScriptedServer<Req, Resp>
where
    Req: Message + Default + 'static,
    Resp: Message + 'static,
{
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (sender, calls) = mpsc::channel(WAITING);
        let method = Method {
            sender,
            types: PhantomData,
        };
        let routes = Routes::from(axum::Router::new().fallback_service(method));
        let serving = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let served = Server::builder()
                .add_routes(routes)
                .serve_with_incoming(incoming);
            served.await.expect("served until the end of the test");
        });
        Self {
            endpoint: format!("http://{address}"),
            calls,
            serving,
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.endpoint).await.expect("a connection")
    }

    pub(crate) async fn next_call(&mut self) -> Call<Req, Resp> {
        self.calls
            .recv()
            .await
            .expect("the server lives as long as the test")
    }
}

impl<Req, Resp> Drop for ScriptedServer<Req, Resp> {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl<Req, Resp> Call<Req, Resp>
where
    Req: Message + Default + 'static,
{
    pub(crate) async fn request(&mut self) -> Req {
        let request = self.requests.message().await.expect("a client that lives");
        request.expect("one more request")
    }

    pub(crate) async fn answer(&self, answer: Resp) {
        assert!(
            self.answers.send(Ok(answer)).await.is_ok(),
            "the client has left"
        );
    }

    pub(crate) async fn fail(self, status: Status) {
        assert!(
            self.answers.send(Err(status)).await.is_ok(),
            "the client has left"
        );
    }
}

struct Method<Req, Resp> {
    sender: mpsc::Sender<Call<Req, Resp>>,
    types: PhantomData<fn(Req) -> Resp>,
}

impl<Req, Resp> Clone for Method<Req, Resp> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            types: PhantomData,
        }
    }
}

impl<Req, Resp> StreamingService<Req> for Method<Req, Resp>
where
    Req: Message + Default + 'static,
    Resp: Message + 'static,
{
    type Response = Resp;
    type ResponseStream = ReceiverStream<Result<Resp, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Req>>) -> Self::Future {
        let sender = self.sender.clone();
        Box::pin(async move {
            let (answers, stream) = mpsc::channel(WAITING);
            let call = Call {
                requests: request.into_inner(),
                answers,
            };
            sender
                .send(call)
                .await
                .map_err(|_| Status::unavailable("the test is over"))?;
            Ok(Response::new(ReceiverStream::new(stream)))
        })
    }
}

impl<Req, Resp> tower::Service<http::Request<axum::body::Body>> for Method<Req, Resp>
where
    Req: Message + Default + 'static,
    Resp: Message + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<axum::body::Body>) -> Self::Future {
        let method = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Resp, Req>::default());
            Ok(grpc.streaming(method, request).await)
        })
    }
}
