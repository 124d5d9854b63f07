//! The chart without the rest of this repository.

use std::process::Command;

use serde_json::Value;
use targetgate_sandbox::versions::Version;

use crate::helm::{Helm, NAMESPACE, chart};
use crate::reader::{CRD, crd};

/// Renders a chart with its CRDs.
fn rendered(helm: &Helm, chart: &str) -> Vec<Value> {
    let version = Version::tested().to_string();
    let arguments = ["template", "targetgate", chart, "--include-crds"];
    let options = ["--kube-version", &version, "--namespace", NAMESPACE];
    let yaml = helm.run(&[&arguments[..], &options].concat()).unwrap();
    serde_saphyr::from_multiple(&yaml).unwrap()
}

fn crds(objects: &[Value]) -> Vec<&Value> {
    let kind = "CustomResourceDefinition";
    objects.iter().filter(|o| o["kind"] == kind).collect()
}

/// Flux makes an archive of a Git repository, without its links, and installs the chart in it.
#[test]
fn an_archive_without_links_has_the_crd() {
    let (helm, folder) = (Helm::new(), tempfile::tempdir().unwrap());
    let archive = folder.path().join("artifact.tar");
    let tar = |command: &str| {
        let status = Command::new("sh")
            .args(["-c", command])
            .current_dir(chart())
            .env("ARCHIVE", &archive)
            .env("FOLDER", folder.path())
            .status();
        assert!(status.unwrap().success(), "{command}");
    };
    tar("find . -type f -print0 | tar --null --files-from=- --create --file=\"$ARCHIVE\"");
    tar(
        "mkdir \"$FOLDER/chart\" && tar --extract --file=\"$ARCHIVE\" --directory=\"$FOLDER/chart\"",
    );
    let objects = rendered(&helm, folder.path().join("chart").to_str().unwrap());
    let found = crds(&objects);
    assert_eq!(found, [&crd()]);
    assert_eq!(found[0]["metadata"]["name"], CRD);
}

#[test]
fn a_package_renders_what_the_folder_does() {
    let (helm, folder) = (Helm::new(), tempfile::tempdir().unwrap());
    let (chart, to) = (chart(), folder.path().to_str().unwrap());
    let chart = chart.to_str().unwrap();
    helm.run(&["package", chart, "--destination", to]).unwrap();
    let packaged = format!("{to}/targetgate-0.1.0.tgz");
    assert_eq!(rendered(&helm, &packaged), rendered(&helm, chart));
}
