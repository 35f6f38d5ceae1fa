//! Failures between a service and its store: a proxy in front of a real S3 server that can return
//! its own responses, delay or alter responses, and alter requests.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A failure of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The proxy returns this response. The store never receives the request.
    Status(u16, &'static str),
    /// No response: the client's timeout ends the request.
    Silence,
    /// The store processes the request, and the response is lost.
    Lost,
    /// The response ends in the middle.
    Half,
    /// A page of a listing claims to be the last one.
    CutOff,
    /// A page of a listing is the same as the previous page.
    Repeat,
    /// A page of a listing is the first page again.
    Anew,
}

impl Failure {
    /// The failures that any request can have.
    pub const ANY: [Self; 5] = [
        Self::Status(500, "InternalError"),
        Self::Status(503, "SlowDown"),
        Self::Silence,
        Self::Lost,
        Self::Half,
    ];
    /// The failures that only listings can have.
    pub const LISTS: [Self; 3] = [Self::CutOff, Self::Repeat, Self::Anew];
}

#[derive(Default)]
struct Plan {
    requests: VecDeque<Option<Failure>>,
    alter_parts: bool,
    lists: VecDeque<Option<Failure>>,
    /// For each token: the first page of its listing, and the page that contained the token.
    pages: HashMap<String, (Vec<u8>, Vec<u8>)>,
}

pub struct FailingProxy {
    pub addr: SocketAddr,
    plan: Arc<Mutex<Plan>>,
}

impl FailingProxy {
    /// Starts the proxy in front of `target`, a host and port.
    pub async fn before(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let shared = plan.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, plan) = (target.clone(), shared.clone());
                // Errors are ignored: for the client, a broken connection is one more failure.
                tokio::spawn(async move { serve(client, &target, &plan).await.ok() });
            }
        });
        Self { addr, plan }
    }

    /// Adds the failures of the next requests, in this order. `None` means no failure.
    pub fn spoil(&self, failures: impl IntoIterator<Item = Option<Failure>>) {
        self.plan.lock().unwrap().requests.extend(failures);
    }

    /// Adds the failures of the next listings, in this order. A listing that fails because of
    /// [`Self::spoil`] uses none of them.
    pub fn spoil_lists(&self, failures: impl IntoIterator<Item = Option<Failure>>) {
        self.plan.lock().unwrap().lists.extend(failures);
    }

    /// From now on, one byte of each part is altered on the way to the store.
    pub fn alter_parts(&self) {
        self.plan.lock().unwrap().alter_parts = true;
    }

    /// Removes the remaining failures.
    pub fn calm(&self) {
        let mut plan = self.plan.lock().unwrap();
        plan.requests.clear();
        plan.lists.clear();
    }
}

/// Handles one request, and then closes the connection.
async fn serve(mut client: TcpStream, target: &str, plan: &Mutex<Plan>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line = String::from_utf8_lossy(head.split(|b| *b == b'\r').next().unwrap_or_default());
    let query = line.split(' ').nth(1).and_then(|path| path.split_once('?')).map(|(_, q)| q);
    let query: HashMap<_, _> =
        url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    // The query parameters of S3 and of Azure.
    let lists =
        query.contains_key("list-type") || query.get("comp").is_some_and(|comp| comp == "list");
    let token = query.get("continuation-token").or_else(|| query.get("marker"));
    let (failure, alter) = {
        let mut plan = plan.lock().unwrap();
        let alter =
            plan.alter_parts && (query.contains_key("partNumber") || query.contains_key("blockid"));
        let failure = plan.requests.pop_front().flatten();
        let failure =
            if failure.is_none() && lists { plan.lists.pop_front().flatten() } else { failure };
        (failure, alter)
    };
    match failure {
        Some(Failure::Status(status, code)) => {
            let body = format!("<Error><Code>{code}</Code><Message>a failure</Message></Error>");
            let body = if line.starts_with("HEAD") { String::new() } else { body };
            let response = format!(
                "HTTP/1.1 {status} Failure\r\nx-ms-error-code: {code}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            client.write_all(response.as_bytes()).await?;
            return client.shutdown().await;
        }
        Some(Failure::Silence) => {
            return io::copy(&mut client, &mut io::sink()).await.map(drop);
        }
        _ => {}
    }
    let mut server = TcpStream::connect(target).await?;
    let first = head.windows(2).position(|end| end == b"\r\n").unwrap_or_default() + 2;
    server.write_all(&head[..first]).await?;
    server.write_all(b"Connection: close\r\n").await?;
    server.write_all(&head[first..]).await?;
    if alter {
        // The first bytes of the body can have arrived with the head. They were forwarded
        // unchanged.
        let byte = client.read_u8().await?;
        server.write_u8(!byte).await?;
    }
    if failure.is_none() && !lists {
        return io::copy_bidirectional(&mut client, &mut server).await.map(drop);
    }
    // The remaining bytes of the request are forwarded until the response is complete.
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut response = Vec::new();
    tokio::select! {
        read = from_server.read_to_end(&mut response) => { read?; }
        // The client has disconnected.
        gone = io::copy(&mut from_client, &mut to_server) => return gone.map(drop),
    }
    let whole = response.windows(4).position(|end| end == b"\r\n\r\n").map(|end| end + 4);
    let body = whole.map(|end| response[end..].to_vec()).unwrap_or_default();
    if lists {
        let next = between(&body, "NextContinuationToken")
            .or_else(|| between(&body, "NextMarker").filter(|marker| !marker.is_empty()));
        let mut plan = plan.lock().unwrap();
        let before = token.and_then(|token| plan.pages.get(token)).cloned();
        match (failure, before) {
            (Some(Failure::CutOff), _) => {
                let text = String::from_utf8_lossy(&body);
                let text = text.replace("<IsTruncated>true<", "<IsTruncated>false<");
                let text =
                    text.replace("<NextMarker>", "<Before>").replace("</NextMarker>", "</Before>");
                response = framed(text.as_bytes());
            }
            (Some(Failure::Repeat), Some((_, before))) => response = framed(&before),
            (Some(Failure::Anew), Some((first, _))) => response = framed(&first),
            (_, before) => {
                if let Some(next) = next {
                    let first = before.map_or_else(|| body.clone(), |(first, _)| first);
                    plan.pages.insert(next, (first, body));
                }
            }
        }
    }
    match failure {
        Some(Failure::Lost) => return Ok(()),
        // A response without a body is cut off in its head.
        Some(Failure::Half) => response.truncate(response.len() * 3 / 4),
        _ => {}
    }
    to_client.write_all(&response).await?;
    to_client.shutdown().await
}

/// A response with this body.
fn framed(body: &[u8]) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/xml\r\n";
    let mut response = format!("{head}content-length: {}\r\n\r\n", body.len()).into_bytes();
    response.extend_from_slice(body);
    response
}

/// The text of the first XML element with this name.
fn between(body: &[u8], tag: &str) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let (_, after) = text.split_once(&format!("<{tag}>"))?;
    after.split_once("</").map(|(text, _)| text.to_owned())
}
