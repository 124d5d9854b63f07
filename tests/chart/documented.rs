//! The commands that the documents tell a reader to type do install targetgate.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helm::{Helm, NAMESPACE, find};
use crate::options::restricted_namespace;
use crate::server::{TURN, api, cert_manager, control_plane};

/// Placeholders of the documents, each with the value that a reader would put in its place.
const TO_FILL_IN: [(&str, &str); 6] = [
    ("REGISTRY", "registry.example.com"),
    ("ACCOUNT", "123456789012"),
    ("NAMESPACE", "shop"),
    ("DEPLOYMENT", "web"),
    ("BINDING", "web"),
    ("POD", "web-0"),
];

/// The section of a document, from its heading to the next heading of the same level.
pub(crate) fn section(document: &str, heading: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(path).unwrap();
    let level = heading.split_inclusive(' ').next().unwrap();
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines.take_while(|line| !line.starts_with(level));
    let section: String = lines.flat_map(|line| [line, "\n"]).collect();
    assert!(!section.is_empty(), "{document} has no '{heading}'");
    section
}

/// The contents of the fenced blocks in a language, with the placeholders filled in.
pub(crate) fn blocks(section: &str, language: &str) -> Vec<String> {
    let fences = section.split("```").skip(1).step_by(2);
    let blocks = fences.filter_map(|fence| fence.strip_prefix(language)?.strip_prefix('\n'));
    let filled_in = blocks.map(|block| {
        let fill_in = |text: String, (name, own)| text.replace(name, own);
        TO_FILL_IN.into_iter().fold(block.to_owned(), fill_in)
    });
    filled_in.collect()
}

/// The commands of a section, without their output.
pub(crate) fn commands(section: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for block in blocks(section, "console") {
        let mut goes_on = false;
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(begun) => commands.push(begun.to_owned()),
                None if goes_on => {
                    let command = commands.last_mut().unwrap();
                    command.push('\n');
                    command.push_str(line);
                }
                None => {}
            }
            goes_on = line.ends_with('\\');
        }
    }
    commands
}

/// A checkout of this repository, in which a reader types commands and changes files.
pub(crate) struct Checkout(TempDir);

impl Checkout {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let copied = Command::new("cp")
            .arg("-r")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy"))
            .arg(folder.path())
            .status();
        assert!(copied.unwrap().success());
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes the `kustomization.yaml` of README.md, with this folder in place of the base.
    pub(crate) fn kustomize(&self, folder: &str) {
        let written = blocks(&section("README.md", "## Install"), "yaml").remove(0);
        assert!(written.contains("deploy/base"));
        let written = written.replace("deploy/base", folder);
        std::fs::write(self.path().join("kustomization.yaml"), written).unwrap();
    }

    /// The folder of the chart in this checkout.
    pub(crate) fn chart(&self) -> PathBuf {
        self.path().join("deploy/chart")
    }

    /// Replaces a text that occurs once in a file of the chart.
    pub(crate) fn replace(&self, file: &str, text: &str, by: &str) {
        let file = self.chart().join(file);
        let before = std::fs::read_to_string(&file).unwrap();
        assert_eq!(before.matches(text).count(), 1, "{text}");
        std::fs::write(file, before.replace(text, by)).unwrap();
    }
}

/// The one command that begins with these words.
pub(crate) fn the<'a>(commands: &'a [String], begins: &str) -> &'a str {
    let mut found = commands.iter().filter(|c| c.starts_with(begins));
    let (first, second) = (found.next(), found.next());
    assert_eq!(second, None);
    first.unwrap_or_else(|| panic!("no {begins} in {commands:?}"))
}

/// The value of a flag in a command.
fn flag<'a>(command: &'a str, name: &str) -> &'a str {
    let mut words = command.split_whitespace();
    words.find(|word| *word == name);
    words
        .next()
        .unwrap_or_else(|| panic!("no {name}: {command}"))
}

#[tokio::test]
async fn the_readme_installs_the_image_that_it_builds() {
    let _turn = TURN.lock().await;
    let server = control_plane().await;
    let client = server.client().await.unwrap();
    restricted_namespace(&client).await;
    let (helm, checkout) = (Helm::new(), Checkout::new());
    let typed = commands(&section("README.md", "## Install"));
    // These tests do not build images.
    let build = the(&typed, "docker buildx build ");
    assert!(checkout.path().join(flag(build, "--file")).exists());

    let install = the(&typed, "helm install ");
    helm.typed(server, checkout.path(), install).unwrap();
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "namespace": NAMESPACE },
    });
    let installed = api(&client, &deployment).get("targetgate").await.unwrap();
    helm.on(server, &["uninstall", "targetgate"]).unwrap();
    let pod = &installed.data["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], flag(build, "--tag"));
}

/// The folders that README.md names, and those that exist.
fn folders(install: &str, checkout: &Checkout) -> (BTreeSet<String>, BTreeSet<String>) {
    let rows = install.lines().filter_map(|line| line.strip_prefix("| `"));
    let named = rows.map(|row| row.split('`').next().unwrap().to_owned());
    let overlays = std::fs::read_dir(checkout.path().join("deploy/overlays")).unwrap();
    let overlays = overlays.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let overlays = overlays.map(|name| format!("deploy/overlays/{name}"));
    let there = overlays.chain(["deploy/base".to_owned()]);
    (named.collect(), there.collect())
}

#[tokio::test]
async fn the_readme_applies_each_folder_with_an_image_of_ones_own() {
    let _turn = TURN.lock().await;
    let server = control_plane().await;
    let client = server.client().await.unwrap();
    restricted_namespace(&client).await;
    cert_manager(&client).await;
    let (helm, checkout) = (Helm::new(), Checkout::new());
    let install = section("README.md", "## Install");
    let typed = commands(&install);
    let apply = format!("{} --dry-run=server", the(&typed, "kubectl apply -k"));

    let image = flag(the(&typed, "docker buildx build "), "--tag");
    let (named, there) = folders(&install, &checkout);
    assert_eq!(named, there);
    for folder in named {
        checkout.kustomize(&folder);
        let run = |command: &str| {
            let ran = helm.typed(server, checkout.path(), command);
            ran.unwrap_or_else(|error| panic!("{folder}: {error}"))
        };
        let rendered: Vec<Value> =
            serde_saphyr::from_multiple(&run("kubectl kustomize .")).unwrap();
        let pod = &find(&rendered, "Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["image"], image, "{folder}");
        let applied = run(&apply);
        assert_eq!(
            applied.lines().count(),
            rendered.len(),
            "{folder}: {applied}"
        );
    }
}

/// Page for clusters that differ.
const INSTALLING: &str = "docs/installing.md";

#[test]
fn the_values_of_the_page_for_other_clusters_are_valid() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(INSTALLING));
    let mut rendered = 0;
    for block in blocks(&page.unwrap(), "yaml") {
        let values: Value = serde_saphyr::from_str(&block).unwrap();
        // That of kustomize is tried below.
        if values["resources"].is_null() {
            Helm::new().template(&values);
            rendered += 1;
        }
    }
    assert!(rendered >= 5, "{rendered}");
}

#[tokio::test]
async fn kustomize_leaves_the_users_to_the_cluster_as_documented() {
    let server = control_plane().await;
    let (helm, checkout) = (Helm::new(), Checkout::new());
    let written = blocks(&section(INSTALLING, "## OpenShift"), "yaml").remove(0);
    std::fs::write(checkout.path().join("kustomization.yaml"), written).unwrap();
    let rendered = helm.typed(server, checkout.path(), "kubectl kustomize .");
    let rendered: Vec<Value> = serde_saphyr::from_multiple(&rendered.unwrap()).unwrap();
    let pod = &find(&rendered, "Deployment")["spec"]["template"]["spec"];
    let left = pod["securityContext"].as_object().unwrap().keys();
    assert_eq!(left.collect::<Vec<_>>(), ["runAsNonRoot", "seccompProfile"]);
}
