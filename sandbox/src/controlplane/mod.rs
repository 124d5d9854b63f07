//! A real control plane as child processes on loopback: etcd, kube-apiserver and, on request,
//! kube-controller-manager. It is what the tests hold our model of the API ([`crate::api`]) and the
//! product against.
//!
//! The programs are those that `tests/controlplane/build` makes, or those of `KUBEBUILDER_ASSETS`.
//! There is no scheduler and no kubelet. Everything is ended and removed when the value is dropped,
//! and also when this process ends without dropping it, however it does.

mod audit;
mod files;
mod programs;
mod supervised;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use http::{Request, StatusCode};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::time::{Instant, sleep};

pub use self::{audit::AuditEvent, programs::MissingProgram};
use self::{
    files::Files,
    programs::Programs,
    supervised::{Folder, Supervised},
};
use crate::get::get;

/// How long a program may take until it serves, also on a machine with much to do.
const STARTS_WITHIN: Duration = Duration::from_secs(90);
/// The pause between two looks at a program that starts.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// With kube-controller-manager: real Deployments, StatefulSets, garbage collection, and
    /// namespaces that go when they are deleted.
    pub controller_manager: bool,
}

/// Why there is no control plane.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// It has not been built.
    #[error("there is no control plane to start")]
    Missing(#[from] MissingProgram),
    /// A file or a folder of it could not be written.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
    /// A file of it could not be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// Its certificate or its keys could not be made.
    #[error("cannot make the certificate and the keys of the API server")]
    Certificate(#[source] rcgen::Error),
    /// No port of loopback could be found for it.
    #[error("cannot find a free port of 127.0.0.1")]
    Port(#[source] io::Error),
    /// A program could not be started.
    #[error("cannot start {0}")]
    Start(&'static str, #[source] io::Error),
    /// A program ended, or did not serve in time.
    #[error("{name} {what}; the end of its log:\n{log}")]
    Failed {
        /// Which program.
        name: &'static str,
        /// What it did.
        what: String,
        /// Its last lines.
        log: String,
    },
    /// No client could be made from its kubeconfig.
    #[error("cannot use the kubeconfig of the API server")]
    Kubeconfig(#[source] KubeconfigError),
    /// No client could be made of its configuration.
    #[error("cannot make a client of the API server")]
    Client(#[source] kube::Error),
    /// A line of the audit log is not an event.
    #[error("a line of the audit log is no event: {line}")]
    Audit {
        /// The line.
        line: String,
        /// Why not.
        source: serde_json::Error,
    },
}

/// A running control plane.
pub struct ControlPlane {
    // Ended in this order, the folder last.
    controller_manager: Option<Supervised>,
    /// None while it is stopped.
    api_server: Option<Supervised>,
    etcd: Supervised,
    etcd_client: SocketAddr,
    server: SocketAddr,
    programs: Programs,
    files: Files,
    folder: Folder,
}

impl ControlPlane {
    /// Starts it, and returns when the API server is ready: after some 3 s.
    ///
    /// # Errors
    /// When the programs have not been built, cannot be started, or do not get ready in time.
    pub async fn start(options: Options) -> Result<ControlPlane, ControlPlaneError> {
        let programs = Programs::find()?;
        let folder = Folder::new()?;
        let [etcd_client, etcd_peer, server] = free_addresses().map_err(ControlPlaneError::Port)?;
        let files = Files::write(folder.path(), server)?;

        let arguments = etcd_arguments(folder.path(), etcd_client, etcd_peer);
        let mut etcd = folder.start(&programs, "etcd", &arguments)?;
        etcd.until(async || health(etcd_client).await).await?;

        let mut control_plane = ControlPlane {
            controller_manager: None,
            api_server: None,
            etcd,
            etcd_client,
            server,
            programs,
            files,
            folder,
        };
        control_plane.serve().await?;
        if options.controller_manager {
            let arguments = controller_manager_arguments(&control_plane.files);
            let (folder, programs) = (&control_plane.folder, &control_plane.programs);
            let started = folder.start(programs, "kube-controller-manager", &arguments)?;
            control_plane.controller_manager = Some(started);
        }
        Ok(control_plane)
    }

    /// Kills the API server. What it stored stays.
    pub fn stop_api_server(&mut self) {
        self.api_server = None;
    }

    /// Starts it again where it was, and returns when it is ready.
    ///
    /// # Errors
    /// When it cannot be started, or does not get ready in time.
    pub async fn start_api_server(&mut self) -> Result<(), ControlPlaneError> {
        // Its port may have become that of somebody's connection, and stays it for up to a minute.
        let deadline = Instant::now() + STARTS_WITHIN;
        loop {
            match self.serve().await {
                Err(ControlPlaneError::Failed { .. }) if Instant::now() < deadline => {
                    sleep(LOOK_AGAIN).await;
                }
                started => return started,
            }
        }
    }

    async fn serve(&mut self) -> Result<(), ControlPlaneError> {
        let arguments = api_server_arguments(&self.files, self.server, self.etcd_client);
        let started = self
            .folder
            .start(&self.programs, "kube-apiserver", &arguments)?;
        let api_server = self.api_server.insert(started);
        let client = client(&self.files.kubeconfig).await?;
        api_server.until(async || ready(&client).await).await
    }

    /// The kubeconfig of an administrator, who may do anything.
    pub fn kubeconfig(&self) -> &Path {
        &self.files.kubeconfig
    }

    /// Writes a kubeconfig for whom `token` names, in a file of the given name, which goes with the
    /// control plane.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig_for(&self, name: &str, token: &str) -> Result<PathBuf, ControlPlaneError> {
        self.files.kubeconfig_for(self.folder.path(), name, token)
    }

    /// An administrator's client. Each tokio runtime needs one of its own.
    ///
    /// # Errors
    /// When the kubeconfig has gone.
    pub async fn client(&self) -> Result<Client, ControlPlaneError> {
        client(self.kubeconfig()).await
    }

    /// What the audit log holds by now, the oldest first: who asked for what, with the annotations
    /// of webhooks. An event is written before the client has the end of its answer.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audit_log(&self) -> Result<Vec<AuditEvent>, ControlPlaneError> {
        audit::read(&self.files.audit_log)
    }

    /// Returns when one of the programs has ended, which none should, and says how.
    pub async fn broken(&mut self) -> ControlPlaneError {
        loop {
            let programs = [
                Some(&mut self.etcd),
                self.api_server.as_mut(),
                self.controller_manager.as_mut(),
            ];
            let mut programs = programs.into_iter().flatten();
            if let Some(failure) = programs.find_map(Supervised::failure) {
                return failure;
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// Addresses that were free a moment ago: all are held until the last is found.
fn free_addresses<const N: usize>() -> io::Result<[SocketAddr; N]> {
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    let mut held = Vec::with_capacity(N);
    for address in &mut addresses {
        let listener = TcpListener::bind(*address)?;
        *address = listener.local_addr()?;
        held.push(listener);
    }
    Ok(addresses)
}

fn etcd_arguments(folder: &Path, client: SocketAddr, peer: SocketAddr) -> Vec<String> {
    vec![
        "--name=etcd".to_owned(),
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls=http://{client}"),
        format!("--advertise-client-urls=http://{client}"),
        format!("--listen-peer-urls=http://{peer}"),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--initial-cluster=etcd=http://{peer}"),
        // Nothing here has to survive the machine.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn api_server_arguments(files: &Files, server: SocketAddr, etcd: SocketAddr) -> Vec<String> {
    vec![
        format!("--etcd-servers=http://{etcd}"),
        format!("--bind-address={}", server.ip()),
        format!("--advertise-address={}", server.ip()),
        format!("--secure-port={}", server.port()),
        format!("--tls-cert-file={}", files.certificate.display()),
        format!("--tls-private-key-file={}", files.key.display()),
        format!("--token-auth-file={}", files.tokens.display()),
        "--authorization-mode=RBAC".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", files.certificate.display()),
        format!("--service-account-signing-key-file={}", files.key.display()),
        // Without the controllers nobody makes the accounts that the one wants pods to have, and
        // nobody takes the taint off new nodes that the other gives them: DaemonSets avoid it.
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition".to_owned(),
        // EndpointSlices refuse the loopback address that it would write.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--audit-policy-file={}", files.audit_policy.display()),
        format!("--audit-log-path={}", files.audit_log.display()),
    ]
}

fn controller_manager_arguments(files: &Files) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", files.kubeconfig.display()),
        "--leader-elect=false".to_owned(),
        // They would find nodes without a kubelet, and evict what runs there.
        "--controllers=*,-nodeipam,-node-lifecycle-controller".to_owned(),
        "--use-service-account-credentials=false".to_owned(),
        format!("--service-account-private-key-file={}", files.key.display()),
        format!("--root-ca-file={}", files.certificate.display()),
        // It serves nothing that anyone here reads.
        "--secure-port=0".to_owned(),
    ]
}

/// A client from a kubeconfig, past any proxy that the environment names.
async fn client(kubeconfig: &Path) -> Result<Client, ControlPlaneError> {
    let read = Kubeconfig::read_from(kubeconfig).map_err(ControlPlaneError::Kubeconfig)?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(read, &options).await;
    let mut config = config.map_err(ControlPlaneError::Kubeconfig)?;
    config.proxy_url = None;
    Client::try_from(config).map_err(ControlPlaneError::Client)
}

async fn health(etcd: SocketAddr) -> bool {
    let answer = get(etcd, "/health").await;
    answer.is_ok_and(|(code, _)| code == StatusCode::OK)
}

async fn ready(client: &Client) -> bool {
    match Request::get("/readyz").body(Vec::new()) {
        Ok(request) => client.request_text(request).await.is_ok(),
        Err(_) => false,
    }
}

impl Supervised {
    /// Waits until `serves` says yes, for as long as the program runs.
    async fn until(&mut self, serves: impl AsyncFn() -> bool) -> Result<(), ControlPlaneError> {
        let deadline = Instant::now() + STARTS_WITHIN;
        while !serves().await {
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            if Instant::now() > deadline {
                return Err(self.failed(format!("did not serve within {STARTS_WITHIN:?}")));
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }
}
