//! The two files by which the API server authenticates to webhooks. To webhooks that they do not
//! name it does not authenticate.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#authenticate-apiservers>

use std::{fmt::Write as _, path::Path};

/// The user as which the API server authenticates to one webhook.
#[derive(Clone)]
pub struct WebhookUser {
    /// The webhook's server: `HOST:PORT` of a URL, or `SERVICE.NAMESPACE.svc:PORT`. Port 443 may be
    /// left out.
    pub server: String,
    /// The client certificate followed by its issuers, as PEM.
    pub certificate: String,
    /// The private key, as PEM.
    pub key: String,
}

/// The file of `--admission-control-config-file`, which names the kubeconfig by an absolute path.
pub fn admission_configuration(kubeconfig: &Path) -> String {
    let mut text = String::from(
        "apiVersion: apiserver.config.k8s.io/v1\n\
         kind: AdmissionConfiguration\n\
         plugins:\n",
    );
    for plugin in ["MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"] {
        // Writing to a `String` does not fail.
        let _ = write!(
            text,
            "  - name: {plugin}\n    \
                 configuration:\n      \
                   apiVersion: apiserver.config.k8s.io/v1\n      \
                   kind: WebhookAdmissionConfiguration\n      \
                   kubeConfigFile: {}\n",
            kubeconfig.display(),
        );
    }
    text
}

/// The kubeconfig: for each server the certificate and the key, by absolute paths.
pub fn kubeconfig<'a>(users: impl IntoIterator<Item = (&'a str, &'a Path, &'a Path)>) -> String {
    let mut text = String::from("apiVersion: v1\nkind: Config\nusers:\n");
    for (server, certificate, key) in users {
        let _ = write!(
            text,
            "  - name: {server}\n    \
                 user:\n      \
                   client-certificate: {}\n      \
                   client-key: {}\n",
            certificate.display(),
            key.display(),
        );
    }
    text
}
