use std::future::{pending, ready};
use std::sync::Mutex;
use std::time::Duration;

use futures::FutureExt as _;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use targetgate_core::model::{IpFamily, Protocol, Service, ServicePort};
use targetgate_core::names::AssumedRole;

use super::*;
use crate::admission::review::Review;

mod aws;

const ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";

/// The time that the hooks have here.
const PATIENCE: Duration = Duration::from_secs(2);

/// The behaviour of AWS.
#[derive(Clone)]
enum Aws {
    Answers,
    Fails(DescribeError),
    Hangs,
}

/// A reviewer, and the queries that AWS received from it.
struct Setting {
    reviewer: BindingReviewer,
    asked: Arc<Mutex<Vec<GroupQuery>>>,
}

impl Setting {
    fn new(aws: Aws) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let describe = move |query, _| -> BoxFuture<'static, Described> {
            log.lock().unwrap().push(query);
            match &aws {
                Aws::Answers => ready(Ok(Arc::new(group()))).boxed(),
                Aws::Fails(error) => ready(Err(error.clone())).boxed(),
                Aws::Hangs => pending().boxed(),
            }
        };
        let reviewer = BindingReviewer {
            cache: Arc::default(),
            describe: Box::new(describe),
            vpc_id: Some("vpc-01234567".into()),
            region: Some("eu-west-1".to_owned()),
            allowed: None,
        };
        Self { reviewer, asked }
    }

    /// Adds a Service to the namespace.
    fn service(self, name: &str, ports: &[u16]) -> Self {
        let port = |port: &u16| ServicePort {
            name: None,
            port: *port,
            protocol: Protocol::Tcp,
            target_port: None,
        };
        let service = Service {
            selector: [("app".into(), "web".into())].into(),
            external_name: false,
            publish_not_ready: false,
            ports: ports.iter().map(port).collect(),
            opted_out: false,
        };
        let key = ObjectKey::new("shop", name);
        let cache = &self.reviewer.cache;
        cache.write(|index| index.apply_service(&key, service));
        self
    }

    /// Adds a binding of the group to the cluster.
    fn binding(self, api: BindingApi, name: &str) -> Self {
        let spec: TargetGroupBindingSpec = serde_json::from_value(complete()).unwrap();
        let binding = spec.model(api, name, false);
        let cache = &self.reviewer.cache;
        cache.write(|index| index.apply_binding(&"shop".into(), binding));
        self
    }

    async fn mutate(&self, operation: &str, spec: &Value) -> Answer {
        let review = review(operation, Some(spec), None);
        self.reviewer.mutate(&request(&review), soon()).await
    }

    async fn validate(&self, operation: &str, spec: Option<&Value>, old: Option<&Value>) -> Answer {
        let review = review(operation, spec, old);
        self.reviewer.validate(&request(&review), soon()).await
    }

    fn asked(&self) -> Vec<GroupQuery> {
        self.asked.lock().unwrap().clone()
    }
}

/// When an answer is due.
fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn group() -> TargetGroup {
    TargetGroup {
        arn: ARN.parse().unwrap(),
        name: "web".into(),
        target_type: "ip".into(),
        family: IpFamily::V4,
        vpc_id: Some("vpc-01234567".into()),
        protocol: Some("HTTP".into()),
        health_checks: None,
    }
}

/// A spec without absent fields.
fn complete() -> Value {
    json!({
        "targetGroupARN": ARN,
        "targetType": "ip",
        "ipAddressType": "ipv4",
        "vpcID": "vpc-01234567",
        "targetGroupProtocol": "HTTP",
        "serviceRef": { "name": "web", "port": 80 },
    })
}

/// [`complete`] with these fields replaced; `null` removes one.
fn with(fields: Value) -> Value {
    let mut spec = complete();
    json_patch::merge(&mut spec, &fields);
    spec
}

fn object(spec: &Value) -> Value {
    json!({ "kind": "TargetGroupBinding", "metadata": { "name": "web" }, "spec": spec })
}

fn review(operation: &str, spec: Option<&Value>, old: Option<&Value>) -> String {
    review_of(operation, spec.map(object), old.map(object))
}

fn review_of(operation: &str, object: Option<Value>, old: Option<Value>) -> String {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1", "operation": operation, "namespace": "shop", "name": "web",
            "resource": { "group": "elbv2.k8s.aws", "version": "v1beta1", "resource": "targetgroupbindings" },
            "object": object, "oldObject": old,
        },
    });
    review.to_string()
}

fn request(review: &str) -> Request<'_, &RawValue> {
    let review: Review<'_, &RawValue> = serde_json::from_str(review).unwrap();
    review.request.unwrap()
}

fn by_name(name: &str) -> GroupSelector {
    GroupSelector::Name(name.to_owned())
}

#[tokio::test]
async fn a_new_binding_is_filled_in_with_one_call() {
    let setting = Setting::new(Aws::Answers).service("web", &[8080]);
    let bare = json!({ "targetGroupName": "web", "serviceRef": { "name": "web" } });
    let answer = setting.mutate("CREATE", &bare).await;
    let mut patched = object(&bare);
    json_patch::patch(&mut patched, &answer.patch).unwrap();
    let expected = with(json!({ "targetGroupName": "web", "serviceRef": { "port": 8080 } }));
    assert_eq!(patched, object(&expected));
    assert_eq!((answer.reason.as_str(), answer.denied), ("Defaulted", None));
    assert_eq!(
        answer.audit["defaulted"],
        "spec.targetGroupARN,spec.targetType,spec.ipAddressType,spec.vpcID,spec.targetGroupProtocol,spec.serviceRef.port"
    );
    let selectors: Vec<_> = setting.asked().into_iter().map(|q| q.selector).collect();
    assert_eq!(selectors, [by_name("web")]);
}

#[tokio::test]
async fn the_call_is_made_as_the_role_that_the_binding_names() {
    let setting = Setting::new(Aws::Answers);
    let spec = with(json!({
        "vpcID": null,
        "iamRoleArnToAssume": "arn:aws:iam::123456789012:role/web",
        "assumeRoleExternalId": "shop",
    }));
    setting.mutate("CREATE", &spec).await;
    let expected = GroupQuery {
        selector: GroupSelector::Arn(ARN.parse().unwrap()),
        role: Some(AssumedRole {
            arn: "arn:aws:iam::123456789012:role/web".into(),
            external_id: Some("shop".into()),
        }),
    };
    assert_eq!(setting.asked(), [expected]);
}

#[tokio::test]
async fn a_complete_binding_is_not_asked_about_and_not_changed() {
    let setting = Setting::new(Aws::Hangs);
    let answer = setting.mutate("CREATE", &complete()).await;
    assert_eq!((answer.reason.as_str(), answer.denied), ("Complete", None));
    assert!(answer.patch.is_empty() && setting.asked().is_empty());
}

#[rstest]
#[case("UPDATE", "UpdateNotDefaulted")]
#[case("DELETE", "NotReviewed")]
#[case("CONNECT", "NotReviewed")]
#[tokio::test]
async fn only_a_new_binding_is_filled_in(#[case] operation: &str, #[case] reason: &str) {
    let setting = Setting::new(Aws::Hangs);
    let answer = setting.mutate(operation, &json!({})).await;
    assert_eq!((answer.reason.as_str(), answer.denied), (reason, None));
    assert!(answer.patch.is_empty());
}

#[rstest]
#[case::no_group(json!({ "targetGroupARN": null }), "must provide either targetGroupARN or targetGroupName")]
#[case::no_arn(json!({ "targetGroupARN": "web" }), "spec.targetGroupARN: \"web\" is not")]
#[case::two_ports(json!({ "serviceRef": { "port": null } }), "has 2 ports (80, 443)")]
#[tokio::test]
async fn what_cannot_be_filled_in_is_denied(#[case] change: Value, #[case] words: &str) {
    let setting = Setting::new(Aws::Answers).service("web", &[80, 443]);
    let answer = setting.mutate("CREATE", &with(change)).await;
    assert_eq!(answer.reason.as_str(), "Incomplete");
    let message = answer.denied.unwrap();
    assert!(message.contains(words), "{message}");
}

#[tokio::test]
async fn a_valid_binding_is_allowed() {
    let setting = Setting::new(Aws::Answers);
    let answer = setting.validate("CREATE", Some(&complete()), None).await;
    assert_eq!((answer.reason.as_str(), answer.denied), ("Valid", None));
    assert_eq!(answer.warnings, Vec::<String>::new());
    assert_eq!(setting.asked().len(), 1);
}

#[tokio::test]
async fn every_violation_is_told_at_once() {
    let setting = Setting::new(Aws::Answers);
    let spec = with(json!({ "vpcID": "vpc-1", "nodeSelector": {}, "targetGroupProtocol": "TCP" }));
    let answer = setting.validate("CREATE", Some(&spec), None).await;
    assert_eq!(answer.reason.as_str(), "Invalid");
    let message = answer.denied.unwrap();
    for field in [
        "spec.vpcID: ",
        "spec.nodeSelector: ",
        "spec.targetGroupProtocol: ",
    ] {
        assert!(message.contains(field), "{message}");
    }
    assert_eq!(
        answer.audit["violations"],
        "spec.nodeSelector,spec.vpcID,spec.vpcID,spec.targetGroupProtocol"
    );
}

#[tokio::test]
async fn a_port_that_the_service_lacks_is_warned_of() {
    let setting = Setting::new(Aws::Answers).service("web", &[80, 443]);
    let wrong = with(json!({ "serviceRef": { "port": 30080 } }));
    let answer = setting.validate("CREATE", Some(&wrong), None).await;
    assert_eq!(answer.denied, None);
    assert!(
        answer.warnings[0].contains("has no port 30080"),
        "{:?}",
        answer.warnings
    );
}

#[tokio::test]
async fn in_a_namespace_that_is_not_watched_a_port_is_asked_for_in_other_words() {
    let setting = Setting::new(Aws::Answers);
    setting.reviewer.cache.watch_only(vec!["blog".into()]);
    let portless = with(json!({ "serviceRef": { "port": null } }));
    let message = setting.mutate("CREATE", &portless).await.denied.unwrap();
    assert!(message.contains("--watch-namespaces"), "{message}");
    assert!(!message.contains("create the Service"), "{message}");
}

#[rstest]
#[case::anothers(BindingApi::Elbv2, "api", true)]
#[case::of_auto_mode(BindingApi::Eks, "web", true)]
#[case::its_own(BindingApi::Elbv2, "web", false)]
#[tokio::test]
async fn a_group_is_bound_once(
    #[case] api: BindingApi,
    #[case] name: &str,
    #[case] refused: bool,
    #[values(json!({}), json!({ "targetGroupARN": null, "targetGroupName": "web" }))] by: Value,
) {
    let setting = Setting::new(Aws::Answers).binding(api, name);
    let answer = setting.validate("CREATE", Some(&with(by)), None).await;
    assert_eq!(answer.denied.is_some(), refused, "{:?}", answer.denied);
}

#[tokio::test]
async fn an_update_of_what_may_not_change_is_denied_in_the_incumbents_words() {
    let setting = Setting::new(Aws::Answers);
    let new = with(json!({ "targetGroupARN": ARN.replace("web", "api") }));
    let answer = setting
        .validate("UPDATE", Some(&new), Some(&complete()))
        .await;
    let message = answer.denied.unwrap();
    let words = "TargetGroupBinding update may not change these fields: spec.targetGroupARN";
    assert!(message.starts_with(words), "{message}");
    assert_eq!(answer.audit["violations"], "spec.targetGroupARN");
}

#[rstest]
#[case::none(json!({}), &[])]
#[case::readable(json!({ "targetgate.dev/open-after": "10m", "other": "soon" }), &[])]
#[case::of_no_unit(json!({ "targetgate.dev/open-after": "10" }), &["targetgate.dev/open-after"])]
#[case::all(
    json!({ "targetgate.dev/open-after": "soon", "targetgate.dev/when-unused": "yes",
        "targetgate.dev/after-open": "close" }),
    &["targetgate.dev/after-open", "targetgate.dev/open-after", "targetgate.dev/when-unused"]
)]
#[tokio::test]
async fn an_annotation_that_cannot_be_read_is_warned_of_at_the_creation(
    #[case] annotations: Value,
    #[case] named: &[&str],
) {
    let setting = Setting::new(Aws::Answers);
    let mut annotated = object(&complete());
    annotated["metadata"]["annotations"] = annotations;
    let text = review_of("CREATE", Some(annotated.clone()), None);
    let answer = setting.reviewer.validate(&request(&text), soon()).await;
    assert_eq!(answer.denied, None);
    assert_eq!(answer.warnings.len(), named.len(), "{:?}", answer.warnings);
    for (warning, name) in answer.warnings.iter().zip(named) {
        assert!(warning.contains(name), "{warning}");
    }
    let mut former = annotated.clone();
    former["spec"]["multiClusterTargetGroup"] = json!(true);
    let text = review_of("UPDATE", Some(annotated), Some(former));
    let answer = setting.reviewer.validate(&request(&text), soon()).await;
    assert_eq!((answer.denied, answer.warnings), (None, vec![]));
}

#[rstest]
#[case::delete("DELETE", None, Some(json!({})))]
#[case::connect("CONNECT", Some(json!({})), None)]
#[tokio::test]
async fn other_operations_are_allowed(
    #[case] operation: &str,
    #[case] new: Option<Value>,
    #[case] old: Option<Value>,
) {
    let setting = Setting::new(Aws::Hangs);
    let answer = setting
        .validate(operation, new.as_ref(), old.as_ref())
        .await;
    assert_eq!(
        (answer.reason.as_str(), answer.denied),
        ("NotReviewed", None)
    );
}

#[tokio::test]
async fn a_subresource_is_allowed() {
    let text = review("UPDATE", Some(&json!({})), Some(&complete()));
    let mut request = request(&text);
    request.sub_resource = "status".into();
    let reviewer = Setting::new(Aws::Hangs).reviewer;
    assert_eq!(
        reviewer.validate(&request, soon()).await.reason,
        Reason::NotReviewed
    );
}

#[rstest]
#[case::absent(None, "carries no object")]
#[case::a_list(Some(json!([])), "it is no JSON object")]
#[case::a_number(Some(json!(1)), "it is no JSON object")]
#[case::no_kind(Some(json!({})), "missing field `kind`")]
#[case::a_pod(Some(json!({ "kind": "Pod" })), "its kind is \"Pod\"")]
#[case::spec_is_a_list(Some(object(&json!([]))), "spec: it is no JSON object")]
#[case::a_number_for_a_text(Some(object(&json!({ "targetType": 5 }))), "spec.targetType: invalid type: integer `5`, expected a string")]
#[case::a_port_that_is_a_list(Some(object(&json!({ "serviceRef": { "port": [] } }))), "spec.serviceRef.port: ")]
#[case::a_text_for_a_bool(Some(object(&json!({ "multiClusterTargetGroup": "x".repeat(9_000) }))), "spec.multiClusterTargetGroup: ")]
#[tokio::test]
async fn what_is_no_binding_is_denied_with_the_field(
    #[case] object: Option<Value>,
    #[case] words: &str,
) {
    let reviewer = Setting::new(Aws::Answers).reviewer;
    let text = review_of("CREATE", object, None);
    let request = request(&text);
    for answer in [
        reviewer.mutate(&request, soon()).await,
        reviewer.validate(&request, soon()).await,
    ] {
        assert_eq!(answer.reason.as_str(), "Malformed");
        let message = answer.denied.unwrap();
        assert!(message.contains(words), "{message}");
        assert!(message.len() < 1_000);
    }
}

#[tokio::test]
async fn a_spec_that_is_nested_too_deep_is_denied() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let text = review("CREATE", Some(&json!({ "networking": "DEEP" })), None);
    let text = text.replace("\"DEEP\"", &deep);
    let answer = Setting::new(Aws::Answers)
        .reviewer
        .mutate(&request(&text), soon())
        .await;
    assert_eq!(answer.reason.as_str(), "Malformed");
}

#[rstest]
#[case::no_longer_valid(json!({ "targetGroupARN": 5, "targetType": [], "nodeSelector": {} }))]
#[case::no_spec(Value::Null)]
#[tokio::test]
async fn cleaning_up_a_broken_binding_is_allowed(#[case] spec: Value) {
    let setting = Setting::new(Aws::Hangs).binding(BindingApi::Eks, "web");
    let answer = setting.validate("UPDATE", Some(&spec), Some(&spec)).await;
    assert_eq!((answer.reason.as_str(), answer.denied), ("Unchanged", None));
}

proptest! {
    #[test]
    fn an_update_that_leaves_the_spec_is_allowed_without_aws(
        fields in prop::collection::btree_map(
            prop::sample::select(vec!["targetGroupARN", "targetType", "vpcID", "serviceRef", "networking", "unknown"]),
            prop::sample::select(vec![json!(null), json!(""), json!([]), json!(7), json!({ "a": false, "b": 1 }), json!(ARN)]),
            0..6,
        ),
    ) {
        let spec = json!(fields);
        // The same spec, with its keys in another order and other whitespace.
        let pairs = fields.iter().rev().map(|(key, value)| format!(" {} : {value}", json!(key)));
        let spelled = format!("{{{}}}", pairs.collect::<Vec<_>>().join(" , "));
        let text = review("UPDATE", Some(&json!("SPELLED")), Some(&spec)).replace("\"SPELLED\"", &spelled);
        let setting = Setting::new(Aws::Hangs);
        let reviewed = request(&text);
        let answer = setting.reviewer.validate(&reviewed, soon()).now_or_never();
        prop_assert_eq!(answer.map(|answer| (answer.reason.as_str(), answer.denied)), Some(("Unchanged", None)));
        prop_assert!(setting.asked().is_empty());
    }
}
