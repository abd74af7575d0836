//! How much a scan brings over the wire: a page that is cut must not have the rest of it sent all the same.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// A way to a server, on which the bytes of its answers are counted; where it begins.
async fn counted(port: u16, answered: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let begin = listener.local_addr().unwrap().port();
    // All of it ends with the runtime of its test.
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (mut questions, mut asker) = client.into_split();
            let (mut answers, mut answerer) = server.into_split();
            tokio::spawn(async move { io::copy(&mut questions, &mut answerer).await });
            let answered = Arc::clone(&answered);
            tokio::spawn(async move {
                let mut some = vec![0; 64 * 1024];
                while let Ok(bytes @ 1..) = answers.read(&mut some).await {
                    answered.fetch_add(bytes, Ordering::SeqCst);
                    if asker.write_all(&some[..bytes]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    begin
}

#[tokio::test]
async fn a_scan_of_large_jobs_brings_each_about_once() {
    const MIB: usize = 1024 * 1024;
    const JOBS: usize = 24;
    let database = Arc::new(database());
    let mut filled = Stored::in_postgres_at(&database).await;
    for n in 0..JOBS {
        filled.submit(&large_job("acme", n as u64)).await;
    }
    let answered = Arc::new(AtomicUsize::new(0));
    let port = database.cluster().port();
    let way = counted(port, Arc::clone(&answered)).await;
    let url = database
        .url()
        .replace(&format!(":{port}/"), &format!(":{way}/"));
    let mut settings = settings(&database);
    settings.address = url.parse().unwrap();
    let store = PostgresStore::open_to(Purpose::Look, settings)
        .await
        .unwrap();
    for scan in [Scan::ByKey(None), Scan::ByChange(None)] {
        let before = answered.load(Ordering::SeqCst);
        let mut scan = Some(scan);
        let mut jobs = 0;
        while let Some(from) = scan {
            let page = store.scan(&from, 500).await.unwrap();
            jobs += page.jobs.len();
            scan = page.next;
        }
        assert_eq!(jobs, JOBS);
        let bytes = answered.load(Ordering::SeqCst) - before;
        assert!((JOBS..JOBS + 3).contains(&(bytes / MIB)), "{bytes}");
    }
}
