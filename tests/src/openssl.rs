//! Certificates and TLS peers of OpenSSL's making.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::own_ca::openssl;
use crate::process::{Process, Ran};
use crate::wait::soon;

/// An authority, and the folder in which it and what it signs lie as `{name}.pem` and
/// `{name}-key.pem`.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// Makes one in `folder`, as `authority`.
    pub async fn make(folder: PathBuf) -> Self {
        openssl(
            &folder,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 \
             -subj /CN=Authority -keyout authority-key.pem -out authority.pem",
        )
        .await;
        Self { folder }
    }

    /// Where a file of the folder is.
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    pub fn pem(&self) -> String {
        std::fs::read_to_string(self.file("authority.pem")).unwrap()
    }

    /// Signs a certificate with an RSA key for the DNS name `host`.
    pub async fn issue(&self, name: &str, host: &str) {
        openssl(
            &self.folder,
            &format!(
                "req -newkey rsa:2048 -noenc -subj /CN={name} -addext subjectAltName=DNS:{host} \
                 -keyout {name}-key.pem -out {name}.csr"
            ),
        )
        .await;
        openssl(
            &self.folder,
            &format!(
                "x509 -req -in {name}.csr -CA authority.pem -CAkey authority-key.pem -days 20 \
                 -CAcreateserial -copy_extensions copy -out {name}.pem"
            ),
        )
        .await;
    }

    /// OpenSSL's server at `at`, which shows the certificate `name`; `more` says what it does.
    pub fn server(&self, at: SocketAddr, name: &str, more: &[&str]) -> Process {
        let [certificate, key] = ["", "-key"].map(|it| self.file(&format!("{name}{it}.pem")));
        let at = at.to_string();
        let begin = ["s_server", "-accept", &at, "-cert", &certificate, "-key", &key];
        let arguments = [&begin[..], more].concat();
        Process::start(&format!("s_server-{name}"), Path::new("openssl"), arguments, &self.folder)
    }

    /// Connects to `at` and asks for `name`.
    pub fn connect(&self, at: SocketAddr, name: &str, more: &[&str]) -> Talk {
        let (at, authority) = (at.to_string(), self.file("authority.pem"));
        let mut command = tokio::process::Command::new("openssl");
        command.args(["s_client", "-connect", &at, "-servername", name, "-CAfile", &authority]);
        command.args(["-verify_return_error", "-verify_hostname", name]).args(more);
        let [stdin, stdout, stderr] = [(); 3].map(|()| Stdio::piped());
        command.stdin(stdin).stdout(stdout).stderr(stderr).kill_on_drop(true);
        let mut client = command.spawn().unwrap();
        let lines = BufReader::new(client.stdout.take().unwrap()).lines();
        Talk { client, lines, said: String::new() }
    }

    /// Connects, sends a line, waits for it to come back reversed, and gives all that OpenSSL says of
    /// the connection.
    pub async fn call(&self, at: SocketAddr, name: &str, more: &[&str]) -> Ran {
        let mut talk = self.connect(at, name, more);
        talk.is_answered().await;
        talk.end().await
    }
}

/// A connection of OpenSSL's client to a server that reverses lines.
#[derive(Debug)]
pub struct Talk {
    client: Child,
    lines: Lines<BufReader<ChildStdout>>,
    said: String,
}

impl Talk {
    /// Whether a line that is sent comes back.
    pub async fn is_answered(&mut self) -> bool {
        // One that was refused takes no more.
        let _ = self.client.stdin.as_mut().unwrap().write_all(b"hello\n").await;
        while let Some(line) = soon("s_client speaks", self.lines.next_line()).await.unwrap() {
            self.said.extend([&line, "\n"]);
            // What OpenSSL itself says may stand before it: it goes through a buffer, this does not.
            if line.ends_with("olleh") {
                return true;
            }
        }
        false
    }

    /// Ends it; gives all that was said.
    pub async fn end(mut self) -> Ran {
        drop(self.client.stdin.take());
        while let Some(line) = soon("s_client ends", self.lines.next_line()).await.unwrap() {
            self.said.extend([&line, "\n"]);
        }
        let ended = soon("s_client ends", self.client.wait_with_output()).await.unwrap();
        let err = String::from_utf8_lossy(&ended.stderr).into_owned();
        Ran { status: ended.status, out: self.said, err }
    }
}
