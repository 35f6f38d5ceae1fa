//! The real daemon of `ClamAV`. Its signature database contains only the signature of the EICAR
//! test file.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::live::free_port;
use super::wait::wait_for;

/// The EICAR test file. The text is reversed here, so that virus scanners do not report this source
/// file.
pub fn eicar() -> Vec<u8> {
    let backwards = "*H+H$!ELIF-TSET-SURIVITNA-DRADNATS-RACIE$}7)CC7)^P(45XZP\\4[PA@%P!O5X";
    backwards.bytes().rev().collect()
}

pub struct Clamd {
    binary: PathBuf,
    port: u16,
    process: Option<Child>,
    folder: TempDir,
}

impl Clamd {
    /// A running daemon that scans files of up to 30 MiB. `None` if `TEST_CLAMD` is not set.
    pub async fn start() -> Option<Self> {
        Self::with("30M").await
    }

    /// A running daemon with another size limit. It reports larger files as clean.
    pub async fn with(max_file_size: &str) -> Option<Self> {
        let binary = PathBuf::from(std::env::var_os("TEST_CLAMD")?);
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("db");
        std::fs::create_dir(&database).unwrap();
        let hex = hex::encode(eicar());
        std::fs::write(database.join("test.ndb"), format!("Eicar-Test-Signature:0:*:{hex}\n"))
            .unwrap();
        let (socket, port) = (folder.path().join("clamd.sock"), free_port());
        let configuration = format!(
            "DatabaseDirectory {}\nLocalSocket {}\nTCPSocket {port}\nTCPAddr 127.0.0.1\n\
             Foreground yes\nStreamMaxLength 100M\nMaxFileSize {max_file_size}\n",
            database.display(),
            socket.display()
        );
        std::fs::write(folder.path().join("clamd.conf"), configuration).unwrap();
        let mut clamd = Self { binary, port, process: None, folder };
        clamd.start_again().await;
        Some(clamd)
    }

    pub async fn start_again(&mut self) {
        let file = |name: &str| self.folder.path().join(name);
        let _ = std::fs::remove_file(file("clamd.sock"));
        let log = std::fs::File::create(file("log")).unwrap();
        let process = Command::new(&self.binary)
            .arg(format!("--config-file={}", file("clamd.conf").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let address = self.address();
        wait_for("clamd", async || TcpStream::connect(&address).await.ok()).await;
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.process.take().unwrap().kill().await.unwrap();
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn socket(&self) -> String {
        let socket: &Path = self.folder.path();
        format!("unix:{}", socket.join("clamd.sock").display())
    }
}
