//! A targetgate process with its own certificate, and a Kubernetes API of the test's own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;

use crate::waiting::{DEADLINE, until};
use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use targetgate::commands::certs;
use targetgate_sandbox::api::{Api, Options};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A review as kube-apiserver sends it.
pub(crate) const SMALL: &[u8] = include_bytes!("../../benches/reviews/small.json");
/// The header that makes a request the last of its connection.
pub(crate) const CLOSE: &str = "Connection: close\r\n";

/// The binary with nothing of this machine's environment that could change what it does.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_targetgate"));
    command
        .env_clear()
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_REGION", "eu-west-1");
    command
}

/// Runs a command that must end by itself.
pub(crate) fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().unwrap()
}

/// A folder with a kubeconfig, and a certificate laid out as a Secret volume: `tls.crt` is a link into
/// `..data`, which is a link to a folder.
pub(crate) struct Files(TempDir);

impl Files {
    /// The kubeconfig names this API server.
    pub(crate) fn new(api: SocketAddr) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{api}")}}],
            "users": [{"name": "test", "user": {}}],
        });
        std::fs::write(files.path("kubeconfig"), kubeconfig.to_string()).unwrap();
        files.swap_certificate("first");
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            symlink(Path::new("..data").join(name), files.0.path().join(name)).unwrap();
        }
        files
    }

    /// Puts a new certificate, of a new CA, in place as the kubelet does.
    pub(crate) fn swap_certificate(&self, name: &str) {
        let folder = self.0.path().join(name);
        let made = certs::make("shop", &[], Timestamp::now()).unwrap();
        std::fs::create_dir(&folder).unwrap();
        for (name, text) in [
            ("tls.crt", made.certificate),
            ("tls.key", made.key),
            ("ca.crt", made.ca),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let link = self.0.path().join("..data_tmp");
        symlink(name, &link).unwrap();
        std::fs::rename(link, self.0.path().join("..data")).unwrap();
    }

    /// The path of one of its files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The flags of `serve` that name these files, and free ports of loopback.
    pub(crate) fn flags(&self) -> Vec<String> {
        let path = |name| self.path(name).display().to_string();
        [
            ("--listen", "127.0.0.1:0".to_owned()),
            ("--admin-listen", "127.0.0.1:0".to_owned()),
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

/// A running `targetgate serve`; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: mpsc::UnboundedReceiver<String>,
    listen: SocketAddr,
    admin: SocketAddr,
    /// Its files.
    pub(crate) files: Files,
}

impl Process {
    /// Starts it and waits until it is ready.
    pub(crate) async fn ready() -> Self {
        let process = Self::started(Api::new(Options::default())).await;
        process.becomes_ready().await;
        process
    }

    /// Waits until it is ready.
    pub(crate) async fn becomes_ready(&self) {
        until("ready", || async {
            (self.admin("/readyz").await.0 == 200).then_some(())
        })
        .await;
    }

    /// Starts it with this API server, and waits until it listens.
    pub(crate) async fn started(api: Api) -> Self {
        Self::started_as(binary(), api).await
    }

    /// The same with more in its environment.
    pub(crate) async fn started_as(mut binary: Command, api: Api) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let files = Files::new(listener.local_addr().unwrap());
        tokio::spawn(api.serve(listener, std::future::pending()));
        let mut child = binary
            .arg("serve")
            .args(files.flags())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = lines(child.stderr.take().unwrap());
        let started = line(&mut log, "started").await;
        let address = |name: &str| started[name].as_str().unwrap().parse().unwrap();
        Self {
            child,
            log,
            listen: address("listen"),
            admin: address("admin"),
            files,
        }
    }

    /// The next line of the log with this message.
    pub(crate) async fn logs(&mut self, message: &str) -> Value {
        line(&mut self.log, message).await
    }

    /// Ends it, and returns every line that no test has read yet.
    pub(crate) async fn whole_log(&mut self) -> Vec<String> {
        self.signal("TERM");
        assert_eq!(self.exit_code().await, 0);
        let mut lines = vec![];
        while let Some(line) = self.log.recv().await {
            lines.push(line);
        }
        lines
    }

    /// The most memory that it has had at once, in bytes.
    pub(crate) fn peak_memory(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = peak.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<usize>().unwrap() * 1024
    }

    /// Sends it a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// How it ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = parking_lot::Mutex::new(&mut self.child);
        until("the process's end", || async {
            child.lock().try_wait().unwrap()
        })
        .await
    }

    /// The exit code of a process that no signal killed.
    pub(crate) async fn exit_code(&mut self) -> i32 {
        let status = self.ended().await;
        assert_eq!(status.signal(), None);
        status.code().unwrap()
    }

    /// A connection to the HTTPS listener, without TLS.
    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.listen).await.unwrap()
    }

    /// A connection to the admin listener.
    pub(crate) async fn admin_tcp(&self) -> TcpStream {
        TcpStream::connect(self.admin).await.unwrap()
    }

    /// A connection to the HTTPS listener that trusts the CA of now.
    pub(crate) async fn tls(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.files.path("ca.crt")).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        // What kube-apiserver speaks to a webhook's Service.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from("targetgate.shop.svc").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, self.tcp().await).await
    }

    /// The whole answer to this HTTP/1 request, which must ask to close, over TLS.
    pub(crate) async fn answer(&self, request: &[u8]) -> String {
        let mut stream = self.tls().await.unwrap();
        stream.write_all(request).await.unwrap();
        rest(&mut stream).await
    }

    /// Status and body of what the admin listener answers; 0 where it does not.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        let Ok(mut stream) = TcpStream::connect(self.admin).await else {
            return (0, String::new());
        };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        (status(&answer), answer)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything until the peer closes.
pub(crate) async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut text)).await;
    read.expect("the peer neither answers nor closes").unwrap();
    String::from_utf8(text).unwrap()
}

/// A request that posts a review to the pod hook.
pub(crate) fn review(body: &[u8], headers: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST /mutate-v1-pod HTTP/1.1\r\nHost: targetgate.shop.svc\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// The status of an HTTP/1 answer.
pub(crate) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap_or("").parse().unwrap_or(0)
}

fn lines(stderr: impl std::io::Read + Send + 'static) -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // The test may be over.
            let _ = sender.send(line);
        }
    });
    receiver
}

async fn line(log: &mut mpsc::UnboundedReceiver<String>, message: &str) -> Value {
    let mut seen = String::new();
    let looking = async {
        loop {
            let line = log.recv().await?;
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            if value["message"]
                .as_str()
                .is_some_and(|m| m.contains(message))
            {
                return Some(value);
            }
            seen.push_str(&line);
            seen.push('\n');
        }
    };
    let found = timeout(DEADLINE, looking).await.ok().flatten();
    found.unwrap_or_else(|| panic!("no line {message:?} in\n{seen}"))
}
