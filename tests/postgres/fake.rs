//! A server that says what real ones say only at a bad moment, or behind a pooler.

use std::collections::HashMap;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The bytes of a message: its letter, its length, its body.
fn message(letter: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[letter][..], &length, body].concat()
}

/// An error with this code.
pub fn error(code: &str, text: &str) -> Vec<u8> {
    message(
        b'E',
        format!("SFATAL\0VFATAL\0C{code}\0M{text}\0\0").as_bytes(),
    )
}

/// Lets everybody in, without a word about itself.
pub fn welcome() -> Vec<u8> {
    let ready = message(b'Z', b"I");
    [message(b'R', &[0; 4]), ready].concat()
}

/// The same, after this word.
pub fn welcome_with(name: &str, value: &str) -> Vec<u8> {
    let said = message(b'S', format!("{name}\0{value}\0").as_bytes());
    let ready = message(b'Z', b"I");
    [message(b'R', &[0; 4]), said, ready].concat()
}

/// The answer to a question: one row with one column.
pub fn row(value: &str) -> Vec<u8> {
    let column = [
        &b"c\0"[..],
        &[0; 6],
        &25_u32.to_be_bytes(),
        &[0xff; 6],
        &[0; 2],
    ]
    .concat();
    let length = u32::try_from(value.len()).unwrap().to_be_bytes();
    let data = [&[0, 1][..], &length, value.as_bytes()].concat();
    [
        message(b'T', &[&[0, 1][..], &column].concat()),
        message(b'D', &data),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ]
    .concat()
}

/// Answers each connection's start with `hello`, and then each question that it knows; keeps still at others. Returns its port.
pub async fn serve(hello: Vec<u8>, answers: HashMap<&'static str, Vec<u8>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the runtime of its test.
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever hangs up is no fault.
            let _ = converse(stream, &hello, &answers).await;
        }
    });
    port
}

async fn converse(
    mut stream: TcpStream,
    hello: &[u8],
    answers: &HashMap<&'static str, Vec<u8>>,
) -> std::io::Result<()> {
    read_body(&mut stream).await?;
    stream.write_all(hello).await?;
    while stream.read_u8().await? == b'Q' {
        let question = read_body(&mut stream).await?;
        let question = String::from_utf8_lossy(&question);
        if let Some(answer) = answers.get(question.trim_end_matches('\0')) {
            stream.write_all(answer).await?;
        }
    }
    Ok(())
}

async fn read_body(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u32().await? as usize;
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await?;
    Ok(body)
}
