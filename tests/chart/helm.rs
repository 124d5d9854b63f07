//! Runs helm as a child process, and reads what it renders.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use targetgate_sandbox::controlplane::ControlPlane;
use targetgate_sandbox::versions::Version;
use tempfile::TempDir;

/// The namespace of all installations.
pub(crate) const NAMESPACE: &str = "targetgate-system";

pub(crate) fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/chart")
}

/// The folder of the programs that tests/chart/build builds.
fn installers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/installers")
}

/// A file that tests/chart/build made.
pub(crate) fn installer(name: &str) -> PathBuf {
    let file = installers().join(name);
    assert!(
        file.exists(),
        "there is no {}: run tests/chart/build",
        file.display()
    );
    file
}

/// Helm with a home of its own, so that it reads nothing of this machine's.
pub(crate) struct Helm {
    home: TempDir,
}

impl Helm {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { home }
    }

    /// A command of helm without this machine's environment.
    fn command(&self) -> Command {
        let mut command = Command::new(installer("helm"));
        command.env_clear().env("HOME", self.home.path());
        command
    }

    /// Runs helm without an API server. Returns its output, or the error that it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String, String> {
        printed(self.command().args(arguments).output().unwrap())
    }

    /// Runs helm against an API server, as its administrator. Returns its output, or the error that it printed.
    pub(crate) fn on(&self, server: &ControlPlane, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.command();
        command.env("KUBECONFIG", server.kubeconfig());
        command.args(arguments).args(["--namespace", NAMESPACE]);
        printed(command.output().unwrap())
    }

    /// Runs a command line in a folder, as the administrator of an API server. Returns its output, or the error
    /// that it printed.
    pub(crate) fn typed(
        &self,
        server: &ControlPlane,
        folder: &Path,
        command: &str,
    ) -> Result<String, String> {
        let path = format!("{}:/usr/bin:/bin", installers().display());
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(folder);
        shell.env_clear().env("HOME", self.home.path());
        shell.env("PATH", path);
        shell.env("KUBECONFIG", server.kubeconfig());
        printed(shell.output().unwrap())
    }

    /// Writes values to a file, and returns its path.
    pub(crate) fn values(&self, values: &Value) -> String {
        let (_, path) = tempfile::Builder::new()
            .suffix(".json")
            .tempfile_in(self.home.path())
            .unwrap()
            .keep()
            .unwrap();
        std::fs::write(&path, values.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The rendered objects for a version of Kubernetes, without those of `helm test`.
    pub(crate) fn template_for(&self, version: &str, values: &Value) -> Result<Vec<Value>, String> {
        let (chart, values) = (chart(), self.values(values));
        let chart = chart.to_str().unwrap();
        let arguments = ["template", "targetgate", chart, "--values", &values];
        let options = ["--kube-version", version, "--namespace", NAMESPACE];
        let all = [&arguments[..], &options].concat();
        let yaml = self.run(&all)?;
        let objects = serde_saphyr::from_multiple::<Value>(&yaml).unwrap();
        Ok(objects
            .into_iter()
            .filter(|object| !object.is_null())
            .collect())
    }

    /// The rendered objects for the version of Kubernetes that the tests run.
    pub(crate) fn template(&self, values: &Value) -> Vec<Value> {
        let objects = self.template_for(&Version::tested().to_string(), values);
        objects.unwrap_or_else(|error| panic!("{values}: {error}"))
    }
}

fn printed(output: Output) -> Result<String, String> {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

/// Whether an object exists for `helm test` only.
pub(crate) fn is_of_test(object: &Value) -> bool {
    !object["metadata"]["annotations"]["helm.sh/hook"].is_null()
}

pub(crate) fn find<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects
        .iter()
        .filter(|object| object["kind"] == kind && !is_of_test(object));
    found.next().unwrap_or_else(|| panic!("no {kind}"))
}
