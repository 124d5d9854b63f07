//! What the hooks of bindings answer on a real API server while AWS fails, hangs, or refuses them.

use http::{StatusCode, header};
use kube::api::{Patch, PatchParams, PostParams};
use rstest::rstest;
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::elb::faults::On;
use targetgate_sandbox::harness::waiting::until;

use crate::install::{Installed, Site};
use crate::servers::{ARN, create, refused};

const MUTATING: &str = "MutatingWebhookConfiguration";
const VALIDATING: &str = "ValidatingWebhookConfiguration";

/// The timeout with which the hooks are registered here, in seconds: less than AWS was once given.
const TIMEOUT: u32 = 3;

/// The VPC of the sandbox's groups.
const VPC: &str = "vpc-0123456789abcdef0";

/// A spec without absent fields, of the group of this name.
fn complete(arn: &str) -> Value {
    json!({
        "targetGroupARN": arn,
        "targetType": "ip",
        "ipAddressType": "ipv4",
        "vpcID": VPC,
        "targetGroupProtocol": "HTTP",
        "serviceRef": { "name": "web", "port": 80 },
    })
}

fn binding(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": { "name": name },
        "spec": spec,
    })
}

impl Installed {
    /// Creates a binding. Returns the warnings of the API server's answer.
    async fn warned(&self, binding: &Value) -> Vec<String> {
        let path = format!(
            "/apis/elbv2.k8s.aws/v1beta1/namespaces/{}/targetgroupbindings",
            self.cluster.namespace
        );
        let request = http::Request::post(path).header(header::CONTENT_TYPE, "application/json");
        let body = kube::client::Body::from(binding.to_string().into_bytes());
        let answer = self.cluster.client.send(request.body(body).unwrap()).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        let warnings = answer.headers().get_all(header::WARNING).iter();
        warnings
            .map(|warning| warning.to_str().unwrap().to_owned())
            .collect()
    }

    /// Registers the shipped hooks of bindings of these kinds, merged with `more`, and waits until the API server
    /// calls them.
    async fn register(&mut self, kinds: &[&str], more: Value) {
        let others = |object: &Value| {
            let kind = object["kind"].as_str().unwrap();
            !kind.ends_with("WebhookConfiguration") || kinds.contains(&kind)
        };
        self.shipped.retain(others);
        self.register_hooks(self.process().hooks, more).await;
        for kind in kinds {
            let what = format!("the {kind} is in force");
            until(&what, async || self.is_called(kind).await.then_some(())).await;
        }
    }

    /// Whether the hook of bindings of a kind is called.
    async fn is_called(&self, kind: &str) -> bool {
        // The mutating hook wants a group, and the validating one no selector of nodes.
        let (name, fault) = match kind {
            MUTATING => ("mtargetgroupbinding", json!({ "targetGroupARN": null })),
            _ => ("vtargetgroupbinding", json!({ "nodeSelector": {} })),
        };
        let mut wrong = complete(ARN);
        json_patch::merge(&mut wrong, &fault);
        let wrong = serde_json::from_value(binding("wrong", wrong)).unwrap();
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        match self.bindings(BindingApi::Elbv2).create(&dry, &wrong).await {
            Err(kube::Error::Api(status)) => status.message.contains(name),
            _ => false,
        }
    }
}

#[tokio::test]
async fn our_answer_comes_before_the_api_server_gives_up_while_aws_hangs() {
    let mut installed = Installed::without_hooks(Site::new().await).await;
    let timeout = json!({ "timeoutSeconds": TIMEOUT });
    installed.register(&[MUTATING, VALIDATING], timeout).await;
    let arn = installed.group("web");
    installed
        .elb
        .faults()
        .hang(On::action("DescribeTargetGroups"));

    let bindings = installed.bindings(BindingApi::Elbv2);
    let bare = json!({ "targetGroupARN": arn, "serviceRef": { "name": "web", "port": 80 } });
    let (code, _, message) = refused(create(&bindings, binding("bare", bare)).await);
    assert_eq!(code, 403, "{message}");
    for part in ["DescribeTargetGroups", &arn, "eu-west-1", "Timeout"] {
        assert!(message.contains(part), "{message}");
    }

    let warnings = installed.warned(&binding("whole", complete(&arn))).await;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("not checked against AWS"));
}

#[rstest]
#[case::no_such_call("ValidationError", 400)]
#[case::no_such_group("TargetGroupNotFound", 400)]
#[tokio::test]
async fn validation_alone_denies_a_group_that_aws_refuses_to_describe(
    #[case] code: &str,
    #[case] status: u16,
) {
    let mut installed = Installed::without_hooks(Site::new().await).await;
    installed.register(&[VALIDATING], json!({})).await;
    let arn = installed.group("web");
    let on = On::action("DescribeTargetGroups");
    let status = StatusCode::from_u16(status).unwrap();
    installed.elb.faults().fail(on, code, status, None);
    let bindings = installed.bindings(BindingApi::Elbv2);
    let (status, _, message) = refused(create(&bindings, binding("web", complete(&arn))).await);
    assert_eq!(status, 403, "{message}");
    for part in [&*arn, "eu-west-1", code] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn a_role_that_may_not_ask_stops_only_a_binding_with_absent_fields() {
    let mut installed = Installed::without_hooks(Site::new().await).await;
    installed.register(&[MUTATING, VALIDATING], json!({})).await;
    let arn = installed.group("web");
    let on = On::action("DescribeTargetGroups");
    installed
        .elb
        .faults()
        .fail(on, "AccessDenied", StatusCode::FORBIDDEN, None);
    let bindings = installed.bindings(BindingApi::Elbv2);
    let bare = json!({ "targetGroupARN": arn, "serviceRef": { "name": "web", "port": 80 } });
    let (status, _, message) = refused(create(&bindings, binding("bare", bare)).await);
    assert_eq!(status, 403);
    let warnings = installed.warned(&binding("whole", complete(&arn))).await;
    for text in [&message, &warnings[0]] {
        for part in [
            "AccessDenied",
            "elasticloadbalancing:DescribeTargetGroups",
            "targetgate's own role",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[tokio::test]
async fn a_vpc_may_be_added_where_it_is_the_groups_and_our_own_is_not_known() {
    let mut installed = Installed::without_hooks(Site::new().await).await;
    let arn = installed.group("web");
    let bindings = installed.bindings(BindingApi::Elbv2);
    let mut older = complete(&arn);
    older.as_object_mut().unwrap().remove("vpcID");
    until("the hooks of a former test are forgotten", async || {
        create(&bindings, binding("web", older.clone())).await.ok()
    })
    .await;
    installed.register(&[VALIDATING], json!({})).await;

    let params = PatchParams::default();
    let set = async |vpc: &str| {
        let patch = Patch::Merge(json!({ "spec": { "vpcID": vpc } }));
        bindings.patch("web", &params, &patch).await
    };
    let (status, _, message) = refused(set("vpc-01234567").await);
    assert_eq!(status, 403, "{message}");
    assert!(message.contains("spec.vpcID"), "{message}");
    let patched = set(VPC).await.unwrap();
    assert_eq!(patched.data["spec"]["vpcID"], VPC);
}

#[tokio::test]
async fn a_port_that_the_service_lacks_is_warned_of() {
    let mut installed = Installed::without_hooks(Site::new().await).await;
    installed.register(&[MUTATING, VALIDATING], json!({})).await;
    // Once its port is filled in, our index knows the Service.
    installed.bind("web").await;
    let arn = installed.group("other");
    let mut spec = complete(&arn);
    spec["serviceRef"]["port"] = json!(30080);
    let warnings = installed.warned(&binding("other", spec)).await;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for part in ["spec.serviceRef.port", "30080", "80"] {
        assert!(warnings[0].contains(part), "{warnings:?}");
    }
}
