//! The limits of what clients without a signature can use: connections and memory.

use std::time::Duration;

use embedded_s3::{EmbeddedS3, Limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::{ACCESS_KEY, BUCKET, MIB, TestServer, config, start};

/// A time limit that is much longer than the time-outs of these tests.
const BOUND: Duration = Duration::from_secs(30);

async fn limited(limits: Limits) -> (EmbeddedS3, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = embedded_s3::EmbeddedS3Config { limits, ..config(dir.path()) };
    (EmbeddedS3::start(config).await.unwrap(), dir)
}

fn short() -> Limits {
    Limits {
        max_connections: 60,
        header_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(300),
    }
}

/// Waits until the server has closed a connection.
async fn closed(mut socket: TcpStream) {
    let mut remaining = Vec::new();
    let end = tokio::time::timeout(BOUND, socket.read_to_end(&mut remaining));
    // An end and a reset are both a closed connection.
    let _ = end.await.unwrap();
}

#[tokio::test]
async fn half_open_connections_are_closed_after_the_header_timeout() {
    let (server, _dir) = limited(short()).await;
    let mut sockets = Vec::new();
    for n in 0..50 {
        let mut socket = TcpStream::connect(server.addr()).await.unwrap();
        if n % 2 == 0 {
            socket.write_all(b"GET /uploads/k HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
        }
        sockets.push(socket);
    }
    for socket in sockets {
        closed(socket).await;
    }
}

#[tokio::test]
async fn a_connection_is_closed_when_no_further_request_begins() {
    let (server, _dir) = limited(short()).await;
    let mut socket = TcpStream::connect(server.addr()).await.unwrap();
    socket.write_all(b"GET /uploads/k HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    closed(socket).await;
}

#[tokio::test]
async fn a_connection_is_closed_when_its_body_stops() {
    let (server, _dir) = limited(short()).await;
    let mut socket = TcpStream::connect(server.addr()).await.unwrap();
    let head = "POST /uploads HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\
                Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    closed(socket).await;
}

#[tokio::test]
async fn connections_above_the_limit_wait_until_one_ends() {
    let (server, _dir) = limited(Limits { max_connections: 2, ..short() }).await;
    let _held = [
        TcpStream::connect(server.addr()).await.unwrap(),
        TcpStream::connect(server.addr()).await.unwrap(),
    ];
    let mut third = TcpStream::connect(server.addr()).await.unwrap();
    third.write_all(b"GET /uploads/k HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut response = [0; 12];
    let read = tokio::time::timeout(BOUND, third.read_exact(&mut response));
    read.await.unwrap().unwrap();
    assert_eq!(&response, b"HTTP/1.1 403");
}

/// Sends the head of a form and `mib` MiB of its file. Returns the response.
async fn send_form(s3: &TestServer, content_type: &str, fields: &str, mib: usize) -> String {
    let socket = TcpStream::connect(s3.server.addr()).await.unwrap();
    let (mut reader, mut writer) = socket.into_split();
    let head = format!(
        "POST /{BUCKET} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\
         Content-Type: {content_type}; boundary=b\r\n\r\n{fields}--b\r\nContent-Disposition: \
         form-data; name=\"file\"; filename=\"f\"\r\n\r\n",
        mib * MIB,
    );
    let sending = tokio::spawn(async move {
        writer.write_all(head.as_bytes()).await?;
        let chunk = vec![b'x'; MIB];
        for _ in 0..mib {
            writer.write_all(&chunk).await?;
        }
        std::io::Result::Ok(())
    });
    let mut response = Vec::new();
    let _ = tokio::time::timeout(BOUND, reader.read_to_end(&mut response)).await.unwrap();
    sending.abort();
    String::from_utf8_lossy(&response).into_owned()
}

/// The memory of this process, in MiB.
#[cfg(target_os = "linux")]
fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_of_an_unsigned_form_is_not_held_in_memory() {
    let s3 = start().await;
    let disposition = "--b\r\nContent-Disposition: form-data; name=";
    let key = format!("{disposition}\"key\"\r\n\r\nk\r\n");
    // The value of a field looks like a signature field, but the form has no signature.
    let decoy = format!("{key}{disposition}\"note\"\r\n\r\nname=\"x-amz-signature\"\r\n");
    let unknown_key = format!(
        "{key}{disposition}\"x-amz-signature\"\r\n\r\n0\r\n{disposition}\"x-amz-credential\"\r\n\r\n\
         {ACCESS_KEY}/20260101/us-east-1/s3/aws4_request\r\n"
    );
    for (content_type, fields, code) in [
        ("multipart/form-data", &key, "AccessDenied"),
        ("Multipart/Form-Data", &key, "AccessDenied"),
        ("multipart/form-data", &decoy, "AccessDenied"),
        ("multipart/form-data", &unknown_key, "InvalidRequest"),
    ] {
        let before = resident_mib();
        let peak = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let watching = tokio::spawn({
            let peak = peak.clone();
            async move {
                loop {
                    peak.fetch_max(resident_mib(), std::sync::atomic::Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        });
        let response = send_form(&s3, content_type, fields, 300).await;
        watching.abort();
        assert!(response.contains(&format!("<Code>{code}</Code>")), "{response}");
        let grown = peak.load(std::sync::atomic::Ordering::Relaxed).saturating_sub(before);
        assert!(grown < 200, "{grown} MiB for {content_type}");
    }
    assert_eq!(s3.files(), (0, 0));
}
