//! Who the API server is to the webhooks that it asks: nobody, but for those whom two files of it name.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#authenticate-apiservers>

use std::{fmt::Write as _, path::Path};

/// What the API server shows to one webhook.
#[derive(Clone)]
pub struct WebhookUser {
    /// Whom it asks: `HOST:PORT` of a URL, or `SERVICE.NAMESPACE.svc:PORT`; port 443 may be left out.
    pub server: String,
    /// The client certificate, then its issuers, as PEM.
    pub certificate: String,
    /// Its private key, as PEM.
    pub key: String,
}

/// The file of `--admission-control-config-file`, which names the other one by an absolute path.
pub fn admission_configuration(kubeconfig: &Path) -> String {
    let mut text = String::from(
        "apiVersion: apiserver.config.k8s.io/v1\n\
         kind: AdmissionConfiguration\n\
         plugins:\n",
    );
    for plugin in ["MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"] {
        // Writing into a String does not fail.
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

/// The other file: for each server the certificate and the key, by absolute paths.
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
