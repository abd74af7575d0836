//! The call that the example begins with, as a client of the imitated system makes it: plain HTTP, and the id is taken from the answer.

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Where the route of the example is, in examples/routes/nse.toml.
pub const PATH: &str = "/v2.1/objectstorage/buckets";
/// What is asked for.
pub const BODY: &str = r#"{"name": "test1234", "subtenant_id": "56842191736109485301"}"#;

/// What the server said.
pub struct Accepted {
    pub status: StatusCode,
    /// The words of the dialect.
    pub message: String,
    pub job_id: String,
    pub summary: String,
}

/// Creates a bucket.
///
/// # Errors
/// There is no way to the server, or it has not accepted the call.
pub async fn create_bucket(address: &str) -> anyhow::Result<Accepted> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(PATH)
        .header(header::HOST, address)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from_static(BODY.as_bytes())))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        // The connection ends when nobody can send on it.
        drop(sender);
        anyhow::Ok((status, body))
    };
    let (exchanged, _ended) = tokio::join!(exchange, connection);
    let (status, body) = exchanged?;
    if status != StatusCode::ACCEPTED {
        bail!("{status}: {}", String::from_utf8_lossy(&body));
    }
    read(status, &body)
}

fn read(status: StatusCode, body: &[u8]) -> anyhow::Result<Accepted> {
    let answer: Value = serde_json::from_slice(body).context("the answer is not JSON")?;
    let text = |place: &str| {
        let value = answer.pointer(place).and_then(Value::as_str);
        value
            .map(str::to_owned)
            .ok_or_else(|| anyhow!("the answer has nothing at {place}"))
    };
    Ok(Accepted {
        status,
        message: text("/status/user_message")?,
        job_id: text("/result/records/0/id")?,
        summary: text("/result/records/0/job_summary")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_json() {
        let body: Value = serde_json::from_str(BODY).expect("JSON");
        assert_eq!(body["name"], "test1234");
    }

    #[test]
    fn an_answer_of_another_form_is_named() {
        let missing = read(
            StatusCode::ACCEPTED,
            br#"{"status": {"user_message": "Okay."}}"#,
        );
        let complaint = missing.err().expect("no id").to_string();
        assert!(complaint.contains("/result/records/0/id"), "{complaint}");
    }
}
