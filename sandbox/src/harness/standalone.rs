//! A targetgate process with a certificate in files, and a Kubernetes API of the test's own.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as the tests themselves do"
)]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::process::{Process, isolated};
use super::waiting::DEADLINE;
use crate::api::{Api, Options};
use crate::load::client_config;

/// The header that makes a request the last of its connection.
pub const CLOSE: &str = "Connection: close\r\n";

/// A folder with a kubeconfig, and with a certificate laid out as in a Secret volume: `tls.crt` is
/// a link into `..data`, which is a link to a folder.
pub struct Files {
    folder: TempDir,
    binary: PathBuf,
}

impl Files {
    /// Writes the files. The kubeconfig names this API server.
    pub fn new(binary: &Path, api: SocketAddr) -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
            binary: binary.to_owned(),
        };
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{api}")}}],
            "users": [{"name": "test", "user": {}}],
        });
        fs::write(files.path("kubeconfig"), kubeconfig.to_string()).unwrap();
        files.swap_certificate("first");
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            symlink(
                Path::new("..data").join(name),
                files.folder.path().join(name),
            )
            .unwrap();
        }
        files
    }

    /// Replaces the certificate by one of a new CA, in the way of the kubelet.
    pub fn swap_certificate(&self, name: &str) {
        let folder = self.folder.path().join(name);
        let mut certs = isolated(&self.binary);
        certs.args(["certs", "dev", "--namespace=shop", "--out"]);
        let made = certs.arg(folder).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let link = self.folder.path().join("..data_tmp");
        symlink(name, &link).unwrap();
        fs::rename(link, self.folder.path().join("..data")).unwrap();
    }

    /// The path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The flags of `serve` that name these files, and free ports of loopback.
    pub fn flags(&self) -> Vec<String> {
        let path = |name| self.path(name).display().to_string();
        [
            ("--listen", "127.0.0.1:0".to_owned()),
            ("--admin-listen", "127.0.0.1:0".to_owned()),
            ("--explain-listen", "127.0.0.1:0".to_owned()),
            ("--tls-cert", path("tls.crt")),
            ("--tls-key", path("tls.key")),
            ("--kubeconfig", path("kubeconfig")),
            ("--log-format", "json".to_owned()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
    }
}

/// A running process, which is killed when this is dropped.
pub struct Standalone {
    process: Process,
    pub files: Files,
}

impl Standalone {
    /// Starts it with an API server of its own, and waits until it is ready.
    pub async fn ready(binary: Command) -> Self {
        let standalone = Self::started(binary, Api::new(Options::default())).await;
        standalone.becomes_ready().await;
        standalone
    }

    pub async fn becomes_ready(&self) {
        self.process.ready().await.unwrap();
    }

    /// Starts it with this API server, and waits until it listens.
    pub async fn started(mut binary: Command, api: Api) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let files = Files::new(Path::new(binary.get_program()), address);
        tokio::spawn(api.serve(listener, std::future::pending()));
        let command = binary.arg("serve").args(files.flags());
        let process = Process::start(command, &files.path("log")).await;
        Self {
            process: process.unwrap(),
            files,
        }
    }

    /// Waits for the next line of the log with this message.
    pub async fn logs(&mut self, message: &str) -> Value {
        let is = |line: &Value| {
            let said = line["message"].as_str();
            said.is_some_and(|said| said.contains(message))
        };
        self.process.logs(is).await.unwrap()
    }

    /// Terminates it, and returns the lines of the log that no test has read yet.
    pub async fn whole_log(&mut self) -> Vec<String> {
        self.signal("TERM");
        assert_eq!(self.exit_code().await, 0);
        self.process.last_lines().await.unwrap()
    }

    /// Its peak memory, in bytes.
    pub fn peak_memory(&self) -> usize {
        let path = format!("/proc/{}/status", self.process.id());
        let status = fs::read_to_string(path).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = peak.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<usize>().unwrap() * 1024
    }

    /// Its soft limit of open files.
    pub fn open_files_limit(&self) -> u64 {
        let path = format!("/proc/{}/limits", self.process.id());
        let limits = fs::read_to_string(path).unwrap();
        let mut lines = limits.lines();
        let line = lines.find_map(|line| line.strip_prefix("Max open files"));
        let soft = line.unwrap().split_whitespace().next().unwrap();
        soft.parse().unwrap()
    }

    pub fn signal(&self, name: &str) {
        self.process.signal(name).unwrap();
    }

    /// Waits until it ends, and returns its exit status.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = timeout(DEADLINE, self.process.ended()).await;
        ended.expect("the process does not end").unwrap()
    }

    /// Waits until it ends, and returns the exit code of a process that no signal killed.
    pub async fn exit_code(&mut self) -> i32 {
        let status = self.ended().await;
        assert_eq!(status.signal(), None);
        status.code().unwrap()
    }

    /// A TCP connection to the HTTPS listener.
    pub async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.process.hooks).await.unwrap()
    }

    /// A TCP connection to the admin listener.
    pub async fn admin_tcp(&self) -> TcpStream {
        TcpStream::connect(self.process.admin).await.unwrap()
    }

    /// A TLS connection to the HTTPS listener that trusts the current CA.
    pub async fn tls(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let config = client_config(&self.files.path("ca.crt"));
        let name = ServerName::try_from("targetgate.shop.svc").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, self.tcp().await).await
    }

    /// Sends this HTTP/1 request, which must ask to close, over TLS, and returns the whole answer.
    pub async fn answer(&self, request: &[u8]) -> String {
        let mut stream = self.tls().await.unwrap();
        stream.write_all(request).await.unwrap();
        rest(&mut stream).await
    }

    /// The status and body of an answer of the admin listener; status 0 if it does not answer.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        let answer = self.process.admin(path).await;
        answer.map_or_else(
            |_| (0, String::new()),
            |(status, body)| (status.as_u16(), body),
        )
    }
}

/// Reads until the peer closes.
pub async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut text)).await;
    read.expect("the peer neither answers nor closes").unwrap();
    String::from_utf8(text).unwrap()
}

/// A request that posts a review to the pod hook.
pub fn review(body: &[u8], headers: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST /mutate-v1-pod HTTP/1.1\r\nHost: targetgate.shop.svc\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// The status of an HTTP/1 answer.
pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap_or("").parse().unwrap_or(0)
}
