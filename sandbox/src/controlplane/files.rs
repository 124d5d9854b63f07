//! The files that the programs read and write.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    ControlPlaneError,
    webhook_users::{self, WebhookUser},
};

/// The administrator's token. Anyone who can read the kubeconfig has it, while the tests run.
const ADMIN_TOKEN: &str = "sandbox-admin";
/// The policy logs all requests without bodies, once per request, and a watch when it has begun.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
";

/// The files in the folder.
pub(super) struct Files {
    /// The API server's certificate, which is signed by its own key, so that it is its own CA.
    pub(super) certificate: PathBuf,
    /// The key of the certificate, which signs the tokens of service accounts as well.
    pub(super) key: PathBuf,
    /// The tokens of users that need no certificate.
    pub(super) tokens: PathBuf,
    /// The administrator's kubeconfig.
    pub(super) kubeconfig: PathBuf,
    /// The file by which the API server authenticates to webhooks; `None` if it authenticates to
    /// none.
    pub(super) admission_control: Option<PathBuf>,
    pub(super) audit_policy: PathBuf,
    pub(super) audit_log: PathBuf,
    server: SocketAddr,
    authority: String,
}

impl Files {
    pub(super) fn write(
        folder: &Path,
        server: SocketAddr,
        webhook_users: &[WebhookUser],
    ) -> Result<Files, ControlPlaneError> {
        let made = rcgen::generate_simple_self_signed([server.ip().to_string()])
            .map_err(ControlPlaneError::Certificate)?;
        let authority = made.cert.pem();
        let mut files = Files {
            certificate: write(folder, "server.crt", &authority)?,
            key: write(folder, "server.key", &made.signing_key.serialize_pem())?,
            tokens: write(
                folder,
                "tokens.csv",
                &format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n"),
            )?,
            kubeconfig: PathBuf::new(),
            admission_control: write_webhook_users(folder, webhook_users)?,
            audit_policy: write(folder, "audit-policy.yaml", AUDIT_POLICY)?,
            audit_log: write(folder, "audit.log", "")?,
            server,
            authority,
        };
        files.kubeconfig = files.kubeconfig_for(folder, "kubeconfig", ADMIN_TOKEN)?;
        Ok(files)
    }

    pub(super) fn kubeconfig_for(
        &self,
        folder: &Path,
        name: &str,
        token: &str,
    ) -> Result<PathBuf, ControlPlaneError> {
        let (server, authority) = (self.server, STANDARD.encode(&self.authority));
        let text = format!(
            "apiVersion: v1\n\
             kind: Config\n\
             current-context: controlplane\n\
             contexts: [{{name: controlplane, context: {{cluster: controlplane, user: user}}}}]\n\
             clusters: [{{name: controlplane, cluster: {{server: \"https://{server}\", \
             certificate-authority-data: \"{authority}\"}}}}]\n\
             users: [{{name: user, user: {{token: \"{token}\"}}}}]\n"
        );
        write(folder, name, &text)
    }
}

/// Writes the files by which the API server authenticates to webhooks. Returns the one that its
/// command line names; `None` without users.
fn write_webhook_users(
    folder: &Path,
    users: &[WebhookUser],
) -> Result<Option<PathBuf>, ControlPlaneError> {
    if users.is_empty() {
        return Ok(None);
    }
    let mut written = vec![];
    for (number, user) in users.iter().enumerate() {
        let certificate = write(folder, &format!("webhook-{number}.crt"), &user.certificate)?;
        let key = write(folder, &format!("webhook-{number}.key"), &user.key)?;
        written.push((user.server.as_str(), certificate, key));
    }
    let users = written.iter();
    let users = users.map(|(server, certificate, key)| (*server, &**certificate, &**key));
    let kubeconfig = write(
        folder,
        "webhooks.kubeconfig",
        &webhook_users::kubeconfig(users),
    )?;
    let configuration = webhook_users::admission_configuration(&kubeconfig);
    write(folder, "admission-control.yaml", &configuration).map(Some)
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf, ControlPlaneError> {
    let path = folder.join(name);
    match fs::write(&path, text) {
        Ok(()) => Ok(path),
        Err(error) => Err(ControlPlaneError::Write(path, error)),
    }
}
