//! API keys: with each call, and nowhere else.

use std::{convert::Infallible, fs};

use http_body_util::Empty;
use hyper::{Request, Response, body::Bytes, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use longhaul::client::{Client, ClientError, WatchOptions};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc, task::AbortHandle};

use crate::harness;

const KEY: &str = "s3cret-canary-4711";

/// Answers each call that it may not be made, and tells with which credential it came.
struct Door {
    address: String,
    shown: mpsc::Receiver<(String, Option<String>)>,
    task: AbortHandle,
}

impl Door {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, shown) = mpsc::channel(64);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let sender = sender.clone();
                let service = service_fn(move |request: Request<_>| {
                    let header = request.headers().get("authorization");
                    let header = header.map(|value| value.to_str().unwrap().to_owned());
                    // There is room for all of a test's calls.
                    let _ = sender.try_send((request.uri().path().to_owned(), header));
                    let answer = Response::builder()
                        .header("content-type", "application/grpc")
                        .header("grpc-status", "16")
                        .header("grpc-message", "nobody is known here")
                        .body(Empty::<Bytes>::new());
                    async { Ok::<_, Infallible>(answer.unwrap()) }
                });
                let connection = http2::Builder::new(TokioExecutor::new());
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            address,
            shown,
            task: task.abort_handle(),
        }
    }

    /// The paths that were called, if each call has shown this.
    #[track_caller]
    fn all_have_shown(&mut self, expected: Option<&str>) -> Vec<String> {
        let mut paths = Vec::new();
        while let Ok((path, shown)) = self.shown.try_recv() {
            assert_eq!(shown.as_deref(), expected, "{path}");
            paths.push(path);
        }
        paths
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn each_call_has_the_key_with_it() {
    let mut door = Door::open().await;
    for key in [None, Some(KEY)] {
        let builder = Client::builder(&door.address);
        let builder = match key {
            Some(key) => builder.api_key(key),
            None => builder,
        };
        assert!(!format!("{builder:?}").contains(KEY));
        let client = builder.connect().await.unwrap();
        assert!(!format!("{client:?}").contains(KEY));
        let refused = client.submit(Default::default()).await.unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains(KEY));
        client.wait("a").await.unwrap_err();
        let mut watch = client.watch("a", WatchOptions::default());
        watch.next().await.unwrap().unwrap_err();
        client
            .admin()
            .get_server_info(longhaul::proto::v1::GetServerInfoRequest::default())
            .await
            .unwrap_err();
        client
            .workers()
            .acquire(longhaul::proto::v1::AcquireRequest::default())
            .await
            .unwrap_err();
        let expected = key.map(|key| format!("Bearer {key}"));
        let paths = door.all_have_shown(expected.as_deref());
        assert_eq!(paths.len(), 5, "{paths:?}");
    }
}

#[tokio::test]
async fn a_key_does_not_go_where_others_can_read_it() {
    for endpoint in ["http://192.0.2.1:7070", "jobs.example.com:7070"] {
        let builder = || Client::builder(endpoint).api_key(KEY);
        let refused = builder().connect_lazy().unwrap_err();
        assert!(matches!(refused, ClientError::Exposed { .. }));
        assert!(!format!("{refused} {refused:?}").contains(KEY));
        builder().insecure(true).connect_lazy().unwrap();
    }
    for endpoint in ["https://jobs.example.com", "http://localhost:1"] {
        let builder = Client::builder(endpoint).api_key(KEY);
        // Not every machine that runs tests has certificates that it trusts.
        match builder.connect_lazy() {
            Ok(_) | Err(ClientError::Tls(_)) => {}
            Err(error) => panic!("{endpoint}: {error}"),
        }
    }
}

#[tokio::test]
async fn the_command_line_takes_it_from_a_flag_a_variable_or_a_file() {
    let mut door = Door::open().await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("key");
    fs::write(&file, format!("{KEY}\nanother line\n")).unwrap();
    let file = file.display().to_string();
    let by_flag: (&[&str], &[(&str, &str)]) = (&["--api-key", KEY], &[]);
    let by_file: (&[&str], &[(&str, &str)]) = (&["--api-key-file", &file], &[]);
    let by_variable: (&[&str], &[(&str, &str)]) = (&[], &[("LONGHAUL_API_KEY", KEY)]);
    let by_both: (&[&str], &[(&str, &str)]) = (&[], &[("LONGHAUL_API_KEY_FILE", &file)]);
    for (flags, variables) in [by_flag, by_file, by_variable, by_both] {
        let mut command = harness::longhaul();
        command
            .args(["info", "--log-level", "trace", "--endpoint", &door.address])
            .args(flags)
            .envs(variables.iter().copied());
        let output = harness::output(command).await;
        assert_eq!(output.code, Some(1), "{output:#?}");
        assert!(
            output.stderr.contains("nobody is known here"),
            "{output:#?}"
        );
        assert!(!output.stderr.contains(KEY), "{output:#?}");
        let bearer = format!("Bearer {KEY}");
        assert!(!door.all_have_shown(Some(&bearer)).is_empty());
    }
    let file = file.replace("key", "nothing");
    for (flags, told) in [
        (&["--api-key-file", &file][..], "can't read the API key"),
        (&["--api-key", ""], "API key is empty"),
        (
            &["--api-key", KEY, "--endpoint", "http://192.0.2.1:1"],
            "--insecure",
        ),
    ] {
        let refused = harness::cli(&[&["info"], flags].concat()).await;
        assert_eq!(refused.code, Some(2), "{refused:#?}");
        assert!(refused.stderr.contains(told), "{refused:#?}");
        assert!(!refused.stderr.contains(KEY), "{refused:#?}");
    }
    let help = {
        let mut command = harness::longhaul();
        command
            .args(["info", "--help"])
            .env("LONGHAUL_API_KEY", KEY);
        harness::output(command).await.ok()
    };
    assert!(
        help.contains("LONGHAUL_API_KEY") && !help.contains(KEY),
        "{help}"
    );
}
