//! The protocol of clamd, the daemon of the virus scanner `ClamAV`.
//!
//! Each command uses a separate connection. A command begins with `z` and ends with a NUL. The
//! reply then also ends with a NUL. After `INSTREAM`, the file is sent in chunks. Each chunk begins
//! with its length in four bytes (big-endian). A chunk of length zero ends the file.
//!
//! A file is clean only if the daemon replies `OK` after the whole file was sent. `FOUND` reports a
//! virus or a file that was not scanned. Every other reply is an error.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use chrono::NaiveDateTime;
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::ClamdAddress;

/// The largest chunk that is sent, in bytes.
const CHUNK: usize = 64 * 1024;

/// The longest reply that is read, in bytes.
const MAX_REPLY: u64 = 4096;

/// Time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Prefixes of signature names that do not report a virus: the daemon did not scan the whole file.
const NOT_SCANNED: [&str; 2] = ["Heuristics.Limits.Exceeded", "Heuristics.Encrypted"];

/// A daemon.
#[derive(Debug, Clone)]
pub struct Clamd(ClamdAddress);

/// The result of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scan {
    /// The daemon found nothing.
    Clean,
    /// The daemon found this signature.
    Found(String),
    /// The daemon could not scan the whole file, for this reason.
    NotScanned(String),
}

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClamdError {
    /// The daemon does not listen.
    #[error("clamd can't be reached")]
    Unreachable(#[source] io::Error),
    /// The connection broke.
    #[error("the connection to clamd failed")]
    Connection(#[from] io::Error),
    /// The reply is neither `OK` nor `FOUND`.
    #[error("clamd replied `{0}`")]
    Reply(String),
}

/// Why a scan has no result.
#[derive(Debug, thiserror::Error)]
pub enum ScanError<E> {
    /// The daemon failed.
    #[error(transparent)]
    Clamd(#[from] ClamdError),
    /// The file could not be read.
    #[error("the file could not be read")]
    File(E),
}

/// The reply to `VERSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The version of the engine, such as `ClamAV 1.4.3`.
    pub engine: String,
    /// When the official signatures were published; `None` if the daemon has none.
    pub signatures_of: Option<NaiveDateTime>,
}

impl Version {
    /// Parses `ClamAV 1.4.3/27800/Thu Oct 23 09:57:06 2025`.
    fn parse(reply: &str) -> Self {
        let mut parts = reply.split('/');
        let engine = parts.next().unwrap_or_default().trim().to_owned();
        let date = parts.nth(1).map(str::trim);
        let signatures_of =
            date.and_then(|date| NaiveDateTime::parse_from_str(date, "%a %b %e %H:%M:%S %Y").ok());
        Self { engine, signatures_of }
    }
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

impl Clamd {
    /// A daemon at this address. No connection is opened yet.
    pub fn new(address: ClamdAddress) -> Self {
        Self(address)
    }

    /// Sends a file, and returns the result. Only one chunk of the stream is in memory at a time.
    /// There is no time limit for the scan: the caller sets one.
    ///
    /// # Errors
    /// If the daemon can't be reached or has no verdict, or if the file can't be read.
    pub async fn scan<E: Send>(
        &self,
        mut file: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
    ) -> Result<Scan, ScanError<E>> {
        let mut connection = self.connect().await?;
        connection.write_all(b"zINSTREAM\0").await.map_err(ClamdError::from)?;
        while let Some(bytes) = file.next().await {
            for chunk in bytes.map_err(ScanError::File)?.chunks(CHUNK) {
                if let Err(error) = send_chunk(&mut connection, chunk).await {
                    return Err(explain(&mut connection, error).await.into());
                }
            }
        }
        if let Err(error) = send_chunk(&mut connection, &[]).await {
            return Err(explain(&mut connection, error).await.into());
        }
        Ok(verdict(&read_reply(&mut connection).await?)?)
    }

    /// The version of the engine and of its signatures.
    ///
    /// # Errors
    /// If the daemon can't be reached, or does not reply.
    pub async fn version(&self) -> Result<Version, ClamdError> {
        let mut connection = self.connect().await?;
        connection.write_all(b"zVERSION\0").await?;
        let reply = read_reply(&mut connection).await?;
        if reply.starts_with("ClamAV ") {
            Ok(Version::parse(&reply))
        } else {
            Err(ClamdError::Reply(reply))
        }
    }

    async fn connect(&self) -> Result<Box<dyn Connection>, ClamdError> {
        let connecting = async {
            Ok(match &self.0 {
                ClamdAddress::Tcp(address) => {
                    Box::new(TcpStream::connect(address.as_str()).await?) as Box<dyn Connection>
                }
                ClamdAddress::Unix(path) => Box::new(UnixStream::connect(path).await?),
            })
        };
        let connected = timeout(CONNECT_TIMEOUT, connecting).await;
        connected
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(ClamdError::Unreachable)
    }
}

async fn send_chunk(connection: &mut Box<dyn Connection>, chunk: &[u8]) -> io::Result<()> {
    let length = u32::try_from(chunk.len()).map_err(io::Error::other)?;
    connection.write_all(&length.to_be_bytes()).await?;
    connection.write_all(chunk).await
}

/// The error after the daemon has closed the connection early. In most cases its reply contains the
/// reason.
async fn explain(connection: &mut Box<dyn Connection>, error: io::Error) -> ClamdError {
    match read_reply(connection).await {
        Ok(reply) if !reply.is_empty() => ClamdError::Reply(reply),
        _ => error.into(),
    }
}

async fn read_reply(connection: &mut Box<dyn Connection>) -> Result<String, ClamdError> {
    let mut reply = Vec::new();
    connection.take(MAX_REPLY).read_to_end(&mut reply).await?;
    let end = reply.iter().position(|byte| *byte == 0).unwrap_or(reply.len());
    Ok(String::from_utf8_lossy(&reply[..end]).trim().to_owned())
}

fn verdict(reply: &str) -> Result<Scan, ClamdError> {
    match reply.strip_prefix("stream: ") {
        Some("OK") => Ok(Scan::Clean),
        Some(result) => match result.strip_suffix(" FOUND") {
            Some(name) if NOT_SCANNED.iter().any(|prefix| name.starts_with(prefix)) => {
                Ok(Scan::NotScanned(name.to_owned()))
            }
            Some(name) if !name.is_empty() => Ok(Scan::Found(name.to_owned())),
            _ => Err(ClamdError::Reply(reply.to_owned())),
        },
        None => Err(ClamdError::Reply(reply.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_ok_is_clean_and_only_found_is_a_virus() {
        assert_eq!(verdict("stream: OK").unwrap(), Scan::Clean);
        let found = Scan::Found("Eicar-Test-Signature".to_owned());
        assert_eq!(verdict("stream: Eicar-Test-Signature FOUND").unwrap(), found);
        for name in ["Heuristics.Limits.Exceeded.MaxFileSize", "Heuristics.Encrypted.Zip"] {
            let reply = format!("stream: {name} FOUND");
            assert_eq!(verdict(&reply).unwrap(), Scan::NotScanned(name.to_owned()));
        }
        for reply in [
            "",
            "OK",
            "stream:OK",
            "stream: ok",
            "stream: OK OK",
            "stream: FOUND",
            "stream:  FOUND ",
            "INSTREAM size limit exceeded. ERROR",
            "stream: Can't allocate memory ERROR",
            "PONG",
        ] {
            assert!(matches!(verdict(reply), Err(ClamdError::Reply(_))), "{reply:?}");
        }
    }

    #[test]
    fn a_version_has_the_date_of_the_signatures_if_there_are_any() {
        let version = Version::parse("ClamAV 1.4.3/27800/Thu Oct 23 09:57:06 2025");
        assert_eq!(version.engine, "ClamAV 1.4.3");
        assert_eq!(version.signatures_of.unwrap().to_string(), "2025-10-23 09:57:06");
        for reply in ["ClamAV 1.4.3", "ClamAV 1.4.3/27800", "ClamAV 1.4.3/27800/yesterday"] {
            assert_eq!(Version::parse(reply).signatures_of, None, "{reply}");
        }
    }

    /// A daemon that reads `read` bytes, sends a reply, and closes the connection.
    async fn daemon(read: usize, reply: &'static str) -> Clamd {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; read];
            connection.read_exact(&mut bytes).await.unwrap();
            connection.write_all(reply.as_bytes()).await.unwrap();
        });
        Clamd::new(ClamdAddress::Tcp(address))
    }

    async fn scan(clamd: &Clamd, file: Vec<u8>) -> Result<Scan, ScanError<io::Error>> {
        clamd.scan(stream::iter([Ok(Bytes::from(file))])).await
    }

    #[tokio::test]
    async fn a_reply_before_the_end_of_the_file_is_no_verdict() {
        let whole = b"zINSTREAM\0".len() + 4 + 3 + 4;
        assert_eq!(
            scan(&daemon(whole, "stream: OK\0").await, vec![1; 3]).await.unwrap(),
            Scan::Clean
        );
        assert!(scan(&daemon(whole, "").await, vec![1; 3]).await.is_err());
        for reply in ["stream: OK\0", "INSTREAM size limit exceeded. ERROR\0", ""] {
            let early = scan(&daemon(20, reply).await, vec![1; 64 << 20]).await;
            assert!(matches!(early, Err(ScanError::Clamd(_))), "{early:?}");
        }
        let nobody = Clamd::new(ClamdAddress::Unix("/no/such/socket".to_owned()));
        let refused = scan(&nobody, vec![1]).await;
        assert!(matches!(refused, Err(ScanError::Clamd(ClamdError::Unreachable(_)))));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_has_no_verdict() {
        let clamd = daemon(10, "").await;
        let file = stream::iter([Ok(Bytes::from_static(b"a")), Err("gone")]);
        assert!(matches!(clamd.scan(file).await, Err(ScanError::File("gone"))));
    }
}
