//! AWS Load Balancer Controller beside targetgate: its Deployments, its hooks and its Lease.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhook;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DynamicObject};
use kube::{Client, ResourceExt as _};
use targetgate_core::doctor::{Incumbent, IncumbentHooks, Known};
use targetgate_core::names::ObjectKey;

use crate::commands::doctor::hooks::{KINDS, own_names, ready, webhooks};
use crate::commands::doctor::installed::Installed;
use crate::commands::doctor::{objects, read};
use crate::kubernetes::admission_resource;

/// The last parts of the names of its images: today's, and that of before its version 2.
const IMAGES: [&str; 2] = ["aws-load-balancer-controller", "aws-alb-ingress-controller"];
/// The end of the names of its webhooks.
const WEBHOOKS: &str = ".elbv2.k8s.aws";

pub(super) async fn read(
    client: &Client,
    installed: &Installed,
    deployments: &Known<Vec<Deployment>>,
) -> Incumbent {
    let lease = &installed.settings.targets.incumbent_lease;
    let (hooks, read) = tokio::join!(hooks(client, installed), objects::lease(client, lease));
    let running = |deployments: &Vec<Deployment>| {
        let running = deployments.iter().filter(|deployment| runs(deployment));
        running
            .map(|found| ObjectKey::new(found.namespace().unwrap_or_default(), found.name_any()))
            .collect()
    };
    Incumbent {
        deployments: deployments.as_ref().map(running).map_err(Clone::clone),
        hooks,
        lease: (lease.clone(), read),
    }
}

/// The Deployments of the cluster.
pub(super) async fn deployments(client: &Client) -> Known<Vec<Deployment>> {
    let all = read::list(&Api::all(client.clone()), "deployments", "").await?;
    Ok(all.unwrap_or_default())
}

/// Whether a Deployment is one of the incumbent's, and not scaled to nothing.
fn runs(deployment: &Deployment) -> bool {
    let Some(spec) = &deployment.spec else {
        return false;
    };
    let pod = spec.template.spec.iter();
    let mut images = pod
        .flat_map(|pod| &pod.containers)
        .filter_map(|container| container.image.as_deref());
    spec.replicas != Some(0) && images.any(is_of_incumbent)
}

fn is_of_incumbent(image: &str) -> bool {
    let named = image.split('@').next().unwrap_or(image);
    let last = named.rsplit('/').next().unwrap_or(named);
    let repository = last.split(':').next().unwrap_or(last);
    IMAGES.contains(&repository)
}

/// The configurations that are not the installation's, and that have webhooks of such names.
async fn hooks(client: &Client, installed: &Installed) -> Known<Vec<IncumbentHooks>> {
    let mut found = vec![];
    for kind in KINDS {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &admission_resource(kind));
        let all = read::list(&api, &kind.to_lowercase(), "").await?;
        let own = own_names(kind, &installed.settings);
        for object in all.into_iter().flatten() {
            if own.contains(&object.name_any()) {
                continue;
            }
            let configuration = format!("{}/{}", kind.to_lowercase(), object.name_any());
            let mut hooks = webhooks(&object, &configuration)?;
            hooks.retain(|hook| hook.name.ends_with(WEBHOOKS));
            if !hooks.is_empty() {
                found.push(of_configuration(client, configuration, hooks).await);
            }
        }
    }
    Ok(found)
}

async fn of_configuration(
    client: &Client,
    configuration: String,
    hooks: Vec<MutatingWebhook>,
) -> IncumbentHooks {
    let mut services = hooks
        .iter()
        .filter_map(|hook| hook.client_config.service.as_ref());
    let ready = match services.next() {
        Some(service) => {
            let service = ObjectKey::new(&*service.namespace, &*service.name);
            ready(client, &service).await
        }
        None => Err("They name a URL.".to_owned()),
    };
    IncumbentHooks {
        configuration,
        names: hooks.into_iter().map(|hook| hook.name).collect(),
        ready,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("public.ecr.aws/eks/aws-load-balancer-controller:v3.5.0", true)]
    #[case(
        "602401143452.dkr.ecr.us-west-2.amazonaws.com/amazon/aws-load-balancer-controller@sha256:0",
        true
    )]
    #[case("registry:5000/aws-load-balancer-controller", true)]
    #[case("amazon/aws-alb-ingress-controller:v1.1.9", true)]
    #[case("targetgate:0.1.0", false)]
    #[case("example.com/aws-load-balancer-controller/exporter:1", false)]
    fn its_images_are_known_wherever_they_are_pushed(#[case] image: &str, #[case] expected: bool) {
        assert_eq!(is_of_incumbent(image), expected);
    }
}
