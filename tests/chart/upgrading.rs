//! Upgrading from the release whose base contained the CRD of bindings: pruning deletes the CRD, and all
//! bindings with it, unless the reader has followed docs/upgrading.md.

use std::process::Command;

use kube::ResourceExt as _;
use rstest::rstest;
use serde_json::{Value, json};
use targetgate_sandbox::harness::waiting::until;

use crate::documented::{Checkout, commands, section, the};
use crate::helm::NAMESPACE;
use crate::lifecycle::{left, until_absent};
use crate::options::restricted_namespace;
use crate::reader::{CRD, Reader, crd};
use crate::server::apply;
use crate::steady::bound_namespace;

const NOTES: &str = "docs/upgrading.md";
const STEPS: [&str; 3] = [
    "### 1. Make the CRD safe, before anything else",
    "### 2. Apply this release",
    "### 3. Take Argo CD's marks off the CRD, and bring it up to date",
];
/// The marks of the CRD after the upgrade, and no others.
const KEPT: [&str; 2] = [
    "argocd.argoproj.io/sync-options=Prune=false,Delete=false",
    "kustomize.toolkit.fluxcd.io/prune=disabled",
];
/// The folder of the former release, beside `deploy`.
const FORMER: &str = "former/base";

/// The CRD of the former release, where it matters: it had no annotations, and another schema.
fn former_crd() -> Value {
    let mut crd = crd();
    crd["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("annotations");
    let description = "/spec/versions/1/schema/openAPIV3Schema/description";
    *crd.pointer_mut(description).unwrap() = json!("A former description.");
    crd
}

/// Puts the former release beside this one. Its base is this one's, with the CRD in it.
fn check_out_former(checkout: &Checkout) {
    let copied = Command::new("cp")
        .args(["-r", "deploy", "former"])
        .current_dir(checkout.path())
        .status();
    assert!(copied.unwrap().success());
    let base = checkout.path().join(FORMER);
    std::fs::write(base.join("crd.yaml"), former_crd().to_string()).unwrap();
    let file = base.join("kustomization.yaml");
    let kustomization = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, kustomization + "  - crd.yaml\n").unwrap();
}

impl Reader {
    /// Installs the CRD as the former release did, and creates a binding. Returns the UID of the binding.
    async fn has_a_binding(&self) -> String {
        apply(&self.client, &former_crd(), false).await.unwrap();
        bound_namespace(&self.client).await;
        self.binding().await.unwrap()
    }

    /// The UID of the binding, unless it is deleted or being deleted.
    async fn binding(&self) -> Option<String> {
        let found = self.bindings().get_opt("web").await.ok()??;
        found.metadata.deletion_timestamp.is_none().then_some(())?;
        found.uid()
    }

    fn follows(&self, step: &str) {
        for command in commands(&section(NOTES, step)) {
            self.types(&command);
        }
    }

    fn uninstalls(&self) {
        let uninstall = commands(&section("README.md", "## Uninstall"));
        self.types(the(&uninstall, "kubectl delete -k"));
    }

    /// The labels and annotations of the CRD, truncated to the length of a line.
    async fn marks(&self) -> Vec<String> {
        let crd = self.crds().get(CRD).await.unwrap();
        let marks = crd.labels().iter().chain(crd.annotations());
        let marks = marks.map(|(key, value)| format!("{key}={value}"));
        marks.map(|mark| mark.chars().take(80).collect()).collect()
    }
}

#[rstest]
#[case::by_label(
    "--selector app.kubernetes.io/name=targetgate --prune-allowlist=apiextensions.k8s.io/v1/CustomResourceDefinition"
)]
#[case::of_all("--all --prune-allowlist=apiextensions.k8s.io/v1/CustomResourceDefinition")]
#[case::by_set("--applyset=configmap/targetgate --namespace targetgate-system")]
#[tokio::test]
async fn pruning_deletes_the_former_crd_and_all_bindings_unless_the_notes_are_followed(
    #[case] prune: &str,
) {
    let reader = Reader::new().await;
    check_out_former(&reader.checkout);
    let upgrade = commands(&section("README.md", "## Install"));
    let upgrade = the(&upgrade, "kubectl apply -k").to_owned();
    let applies = |folder: &str| {
        reader.checkout.kustomize(folder);
        reader.types(&format!("KUBECTL_APPLYSET=true {upgrade} --prune {prune}"));
    };

    // The reader does not follow the notes.
    restricted_namespace(&reader.client).await;
    reader.has_a_binding().await;
    applies(FORMER);
    assert!(reader.binding().await.is_some());
    applies("deploy/base");
    until_absent(&reader.crds(), CRD).await;
    assert_eq!(reader.binding().await, None);
    reader.uninstalls();

    // The reader follows the notes.
    restricted_namespace(&reader.client).await;
    let binding = reader.has_a_binding().await;
    applies(FORMER);
    reader.follows(STEPS[0]);
    assert_eq!(reader.marks().await, KEPT);
    applies("deploy/base");
    reader.follows(STEPS[1]);
    assert_eq!(reader.binding().await.as_ref(), Some(&binding));
    reader.follows(STEPS[2]);
    let described =
        crd()["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["description"].clone();
    let live = reader.crds().get(CRD).await.unwrap();
    let version = &live.data["spec"]["versions"][1];
    assert_eq!(
        version["schema"]["openAPIV3Schema"]["description"],
        described
    );
    assert_eq!(reader.marks().await, KEPT);

    applies("deploy/base");
    reader.uninstalls();
    until("nothing else is left", async || {
        left(&reader.client).await.ok()?.is_empty().then_some(())
    })
    .await;
    assert_eq!(reader.binding().await, Some(binding));
    assert!(!reader.types("kubectl get namespaces").contains(NAMESPACE));
}
