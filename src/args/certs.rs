//! The command line of `targetgate certs`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::args::namespace;

/// Kinds of certificates that the program makes.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Make a development CA and a serving certificate that it signed.
    Dev(DevCerts),
}

/// Settings of a development certificate.
#[derive(Debug, Args)]
pub struct DevCerts {
    /// Folder for ca.crt, tls.crt and tls.key, created if it does not exist.
    #[arg(long, value_name = "FOLDER", default_value = "certs")]
    pub out: PathBuf,
    /// Namespace of the Service `targetgate`, whose DNS names the certificate is for.
    #[arg(long, value_name = "NAME", default_value = "targetgate-system", value_parser = namespace)]
    pub namespace: String,
    /// Additional DNS name or IP address of the certificate; may be repeated.
    #[arg(long = "san", value_name = "NAME")]
    pub sans: Vec<String>,
    /// Overwrite existing files.
    #[arg(long)]
    pub force: bool,
}
