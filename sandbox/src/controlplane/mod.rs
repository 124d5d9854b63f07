//! A real control plane as child processes on loopback: etcd, kube-apiserver and, on request,
//! kube-controller-manager. The tests compare it with our model of the API ([`crate::api`]), and
//! run the product against it.
//!
//! The programs are those that `tests/controlplane/build` builds, or those of `KUBEBUILDER_ASSETS`.
//! There is no scheduler and no kubelet. All processes end and all files are removed when the value
//! is dropped, and also when this process ends in any way without dropping it.

mod addresses;
mod audit;
mod etcd;
mod files;
mod programs;
pub mod webhook_users;

use std::{
    io,
    path::{Path, PathBuf},
};

use http::Request;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::time::sleep;

use self::{addresses::Addresses, files::Files, programs::Programs, webhook_users::WebhookUser};
pub use self::{audit::AuditEvent, programs::MissingProgram};
pub use crate::supervised::ProcessError;
use crate::supervised::{Folder, LOOK_AGAIN, Supervised};

/// The options of a control plane.
#[derive(Clone, Default)]
pub struct Options {
    /// Whether kube-controller-manager runs, for real Deployments, StatefulSets, garbage
    /// collection, and the removal of deleted namespaces.
    pub controller_manager: bool,
    /// The users as which the API server authenticates to webhooks, by its
    /// `--admission-control-config-file`. To other webhooks it does not authenticate.
    pub webhook_users: Vec<WebhookUser>,
}

/// Why the control plane could not be started or used.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// The programs have not been built.
    #[error("there is no control plane to start")]
    Missing(#[from] MissingProgram),
    /// A file or folder could not be written.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
    /// A file could not be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// The certificate or the keys could not be made.
    #[error("cannot make the certificate and the keys of the API server")]
    Certificate(#[source] rcgen::Error),
    /// No free port of loopback could be found.
    #[error("cannot find a free port of 127.0.0.1")]
    Port(#[source] io::Error),
    /// A program does not run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// etcd did not answer a request, or refused it.
    #[error("etcd did not {what}: {why}")]
    Etcd {
        /// The request.
        what: &'static str,
        /// The reason.
        why: String,
    },
    /// The kubeconfig could not be used.
    #[error("cannot use the kubeconfig of the API server")]
    Kubeconfig(#[source] KubeconfigError),
    /// No client could be made from the configuration.
    #[error("cannot make a client of the API server")]
    Client(#[source] kube::Error),
    /// A line of the audit log is not an event.
    #[error("a line of the audit log is not an event: {line}")]
    Audit {
        line: String,
        source: serde_json::Error,
    },
}

pub struct ControlPlane {
    // Fields are dropped in this order, which ends the programs and then removes the folder.
    controller_manager: Option<Supervised>,
    /// The API server; `None` while it is stopped.
    api_server: Option<Supervised>,
    etcd: Supervised,
    addresses: Addresses,
    files: Files,
    programs: Programs,
    folder: Folder,
}

impl ControlPlane {
    /// Starts the programs, and returns when the API server is ready, which takes some 3 s.
    ///
    /// # Errors
    /// When the programs have not been built, cannot be started, or do not get ready in time.
    pub async fn start(options: Options) -> Result<ControlPlane, ControlPlaneError> {
        let programs = Programs::find()?;
        let folder = Folder::new()?;
        let addresses = Addresses::hold().map_err(ControlPlaneError::Port)?;
        let files = Files::write(folder.path(), addresses.server, &options.webhook_users)?;

        let arguments = etcd_arguments(folder.path(), &addresses);
        let mut etcd = folder.start("etcd", &programs.program("etcd")?, &arguments)?;
        etcd.until(|| etcd::serves(addresses.etcd)).await?;
        let mut control_plane = ControlPlane {
            controller_manager: None,
            api_server: None,
            etcd,
            addresses,
            files,
            programs,
            folder,
        };
        control_plane.start_api_server().await?;
        if options.controller_manager {
            let arguments = controller_manager_arguments(&control_plane.files);
            let started = control_plane.run("kube-controller-manager", &arguments)?;
            control_plane.controller_manager = Some(started);
        }
        Ok(control_plane)
    }

    /// Kills the API server, which breaks its connections. New ones are refused until it is started
    /// again, because its address stays reserved.
    pub fn stop_api_server(&mut self) {
        self.api_server = None;
    }

    /// Starts the API server again, on the same address and with the same data and keys, so that
    /// every kubeconfig stays valid. Returns when it is ready.
    ///
    /// # Errors
    /// When it cannot be started or does not get ready in time.
    pub async fn start_api_server(&mut self) -> Result<(), ControlPlaneError> {
        // Two servers on one address would share the connections.
        self.stop_api_server();
        let arguments = api_server_arguments(&self.files, &self.addresses);
        let mut started = self.run("kube-apiserver", &arguments)?;
        let client = self.client().await?;
        started.until(|| ready(&client)).await?;
        self.api_server = Some(started);
        Ok(())
    }

    /// Compacts etcd's history, as the API server itself does every five minutes. Former versions
    /// that the API server does not hold in memory can then no longer be read.
    ///
    /// # Errors
    /// When etcd does not answer, or refuses to compact.
    pub async fn compact_etcd(&self) -> Result<(), ControlPlaneError> {
        etcd::compact(self.addresses.etcd).await
    }

    fn run(
        &self,
        name: &'static str,
        arguments: &[String],
    ) -> Result<Supervised, ControlPlaneError> {
        let program = self.programs.program(name)?;
        Ok(self.folder.start(name, &program, arguments)?)
    }

    /// The kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.files.kubeconfig
    }

    /// Writes a kubeconfig for the user of `token` to a file of the given name, which is removed
    /// with the control plane.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig_for(&self, name: &str, token: &str) -> Result<PathBuf, ControlPlaneError> {
        self.files.kubeconfig_for(self.folder.path(), name, token)
    }

    /// An administrator's client. Each tokio runtime needs its own client.
    ///
    /// # Errors
    /// When the kubeconfig no longer exists.
    pub async fn client(&self) -> Result<Client, ControlPlaneError> {
        client(self.kubeconfig()).await
    }

    /// The audit log so far, the oldest event first: requests and their users, with the annotations
    /// of webhooks. An event is written before the client has received the end of its answer.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audit_log(&self) -> Result<Vec<AuditEvent>, ControlPlaneError> {
        audit::read(&self.files.audit_log)
    }

    /// Waits until one of the programs has ended, which it should not do, and returns the reason.
    pub async fn broken(&mut self) -> ProcessError {
        loop {
            let programs = [
                Some(&mut self.etcd),
                self.api_server.as_mut(),
                self.controller_manager.as_mut(),
            ];
            if let Some(failure) = programs.into_iter().flatten().find_map(Supervised::failure) {
                return failure;
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

fn etcd_arguments(folder: &Path, addresses: &Addresses) -> Vec<String> {
    let (client, peer) = (addresses.etcd, addresses.etcd_peer);
    vec![
        "--name=etcd".to_owned(),
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls=http://{client}"),
        format!("--advertise-client-urls=http://{client}"),
        format!("--listen-peer-urls=http://{peer}"),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--initial-cluster=etcd=http://{peer}"),
        "--socket-reuse-port=true".to_owned(),
        // The data need not survive a crash of the machine.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn api_server_arguments(files: &Files, addresses: &Addresses) -> Vec<String> {
    let server = addresses.server;
    let mut arguments = vec![
        format!("--etcd-servers=http://{}", addresses.etcd),
        format!("--bind-address={}", server.ip()),
        format!("--advertise-address={}", server.ip()),
        format!("--secure-port={}", server.port()),
        "--permit-port-sharing=true".to_owned(),
        format!("--tls-cert-file={}", files.certificate.display()),
        format!("--tls-private-key-file={}", files.key.display()),
        format!("--token-auth-file={}", files.tokens.display()),
        "--authorization-mode=RBAC".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", files.certificate.display()),
        format!("--service-account-signing-key-file={}", files.key.display()),
        // Without the controllers, nothing creates the service accounts that ServiceAccount
        // requires of pods, and nothing removes the taint that TaintNodesByCondition sets on new
        // nodes and that keeps DaemonSets away.
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition".to_owned(),
        // The reconciler would write a loopback address, which EndpointSlices refuse.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--audit-policy-file={}", files.audit_policy.display()),
        format!("--audit-log-path={}", files.audit_log.display()),
    ];
    let file = files.admission_control.as_ref();
    arguments
        .extend(file.map(|file| format!("--admission-control-config-file={}", file.display())));
    arguments
}

fn controller_manager_arguments(files: &Files) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", files.kubeconfig.display()),
        "--leader-elect=false".to_owned(),
        // These controllers would find nodes without a kubelet, and evict their pods.
        "--controllers=*,-nodeipam,-node-lifecycle-controller".to_owned(),
        "--use-service-account-credentials=false".to_owned(),
        format!("--service-account-private-key-file={}", files.key.display()),
        format!("--root-ca-file={}", files.certificate.display()),
        // Its endpoints are not needed here.
        "--secure-port=0".to_owned(),
    ]
}

/// A client from a kubeconfig that ignores the proxies that the environment names.
async fn client(kubeconfig: &Path) -> Result<Client, ControlPlaneError> {
    let read = Kubeconfig::read_from(kubeconfig).map_err(ControlPlaneError::Kubeconfig)?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(read, &options).await;
    let mut config = config.map_err(ControlPlaneError::Kubeconfig)?;
    config.proxy_url = None;
    Client::try_from(config).map_err(ControlPlaneError::Client)
}

async fn ready(client: &Client) -> bool {
    match Request::get("/readyz").body(Vec::new()) {
        Ok(request) => client.request_text(request).await.is_ok(),
        Err(_) => false,
    }
}
