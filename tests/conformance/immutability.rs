//! Fields of a binding that no update changes, held by the hook, by the policy of `deploy/components/immutability`, and
//! by both (contract 4). The model of the API has no policies, so these tests run on the real one alone.

use fastrand::Rng;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use rstest::rstest;
use serde_json::{Value, json};
use targetgate_core::binding::service::ServiceLookup;
use targetgate_core::binding::spec::TargetGroupBindingSpec;
use targetgate_core::binding::validate::{GroupLookup, Subject, Violation, check};
use targetgate_core::fixtures::changes::{OWN_VPC, changes, drawn_spec, edited, spec};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::harness::waiting::until;

use crate::install::{Installed, Site, apply};
use crate::servers::{Bindings, Cluster, Server, refused};

const POLICY: &str = include_str!("../../deploy/components/immutability/policy.yaml");
const WORDS: &str = "TargetGroupBinding update may not change these fields: ";
/// How the API server begins a refusal by the policy.
const BY_POLICY: &str = "ValidatingAdmissionPolicy 'targetgate-bindings' with binding 'targetgate-bindings' denied request: ";
/// How many specs are drawn that an update starts from. Chosen: with [`UPDATES`] of each it takes seconds.
const SPECS: u64 = 60;
/// How many updates of each spec are drawn.
const UPDATES: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Hook,
    Policy,
    Both,
}

/// A binding `web` with this spec; `checked` is the label by which hook and policy are asked here.
fn binding(group: &str, spec: Value, checked: bool) -> DynamicObject {
    let labels = if checked {
        json!({ "checked": "true" })
    } else {
        Value::Null
    };
    let mut binding = json!({
        "apiVersion": format!("{group}/v1beta1"),
        "kind": "TargetGroupBinding",
        "metadata": { "name": "web", "labels": labels },
        "spec": spec,
    });
    if binding["spec"].is_null() {
        binding.as_object_mut().unwrap().remove("spec");
    }
    serde_json::from_value(binding).unwrap()
}

fn only_checked() -> Value {
    json!({ "objectSelector": { "matchLabels": { "checked": "true" } } })
}

impl Cluster {
    /// Applies the component, for bindings of this group, with this merged into what the policy matches.
    pub(crate) async fn apply_immutability(&self, group: &str, more: &Value) {
        for mut object in serde_saphyr::from_multiple::<Value>(POLICY).unwrap() {
            if object["kind"] == "ValidatingAdmissionPolicy" {
                let matched = &mut object["spec"]["matchConstraints"];
                matched["resourceRules"][0]["apiGroups"] = json!([group]);
                json_patch::merge(matched, more);
            }
            apply(&self.client, &object).await;
        }
    }
}

/// What a dry run of a creation or replacement is refused with by admission, without the API server's own words.
async fn refusal(
    bindings: &Api<DynamicObject>,
    object: &DynamicObject,
    update: bool,
) -> Option<String> {
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let done = match update {
        true => bindings.replace(&object.name_any(), &params, object).await,
        false => bindings.create(&params, object).await,
    };
    if done.is_ok() {
        return None;
    }
    let (code, _, message) = refused(done);
    if code == 409 {
        return None;
    }
    assert_eq!(code, 403, "{message}");
    let said = message.split_once("denied request: ");
    let said = said.or_else(|| message.split_once("denied the request: "));
    Some(said.unwrap_or_else(|| panic!("{message}")).1.to_owned())
}

#[rstest]
#[tokio::test]
async fn each_kind_of_update_is_judged_alike_by_hook_policy_and_both(
    #[values(Held::Hook, Held::Policy, Held::Both)] held: Held,
) {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    let vpc = format!("--vpc-id={OWN_VPC}");
    let mut installed = Installed::without_hooks(Site::on(cluster, &[&vpc]).await).await;
    match held {
        Held::Policy => installed.kill(),
        Held::Hook | Held::Both => {
            let hooks = installed.process().hooks;
            installed.register_hooks(hooks, only_checked()).await;
        }
    }
    let group = BindingApi::Elbv2.group();
    if held != Held::Hook {
        let cluster = &installed.cluster;
        cluster.apply_immutability(group, &only_checked()).await;
    }
    let bindings = installed.bindings(BindingApi::Elbv2);
    let judged = async |from: &Value, to: &Value| {
        let params = PostParams::default();
        let old = binding(group, spec(from), false);
        let made = bindings.create(&params, &old).await.unwrap();
        let mut new = binding(group, spec(to), true);
        new.metadata.resource_version = made.resource_version();
        let said = refusal(&bindings, &new, true).await;
        let params = DeleteParams::default();
        bindings.delete("web", &params).await.unwrap();
        said
    };
    let [first, ..] = &changes()[..] else {
        unreachable!("there are changes")
    };
    until("updates are judged", async || {
        judged(&first.from, &first.to).await.map(drop)
    })
    .await;
    for change in changes() {
        let told = held != Held::Policy || change.is_told_by_the_specs();
        let said = judged(&change.from, &change.to).await.unwrap_or_default();
        let list = change.fields.join(",");
        let changed = said.strip_prefix(WORDS).map(|rest| {
            let end = rest.find([' ', ';']).unwrap();
            rest.get(..end).unwrap()
        });
        let expected = (told && !list.is_empty()).then_some(&*list);
        assert_eq!(changed, expected, "{}: {said}", change.name);
    }
}

/// The fields of which the core says something that the specs alone tell: the changed ones, and the others.
fn judged(old: Option<&Value>, new: &Value) -> (Vec<&'static str>, Vec<&'static str>) {
    let parsed =
        |spec: &Value| serde_json::from_value::<TargetGroupBindingSpec>(spec.clone()).unwrap();
    let (old, new) = (old.map(parsed), parsed(new));
    let verdict = check(&Subject {
        old: old.as_ref(),
        new: &new,
        group: GroupLookup::Unanswered,
        sharers: &[],
        service: &ServiceLookup::Absent,
        vpc_id: None,
        allowance: None,
    });
    let adds_vpc = old.is_some_and(|old| old.vpc_id.is_none());
    let fields = |violations: Vec<Violation>, left: &dyn Fn(&str) -> bool| {
        let fields = violations.into_iter().map(|violation| violation.field);
        fields.filter(|field| !left(field)).collect()
    };
    (
        fields(verdict.changed, &|field| field == "spec.vpcID" && adds_vpc),
        // The hook fills it in.
        fields(verdict.violations, &|field| field == "spec.targetType"),
    )
}

/// The fields in a refusal: the changed ones, and the others.
fn fields_of(refusal: Option<&str>) -> (Vec<&str>, Vec<&str>) {
    let (mut changed, mut others) = (vec![], vec![]);
    for part in refusal.iter().flat_map(|said| said.split("; ")) {
        if let Some(list) = part.strip_prefix(WORDS) {
            changed.extend(list.split(','));
        } else if part.starts_with("spec.") {
            others.extend(part.split(": ").next());
        }
    }
    (changed, others)
}

#[tokio::test]
async fn the_policy_refuses_what_the_hook_refuses_of_specs_alone() {
    let cluster = Server::Kubernetes.own_cluster().await;
    let own = cluster.own_bindings().await;
    let bindings = own.v1beta1();
    let mut rng = Rng::with_seed(7);
    let mut stored = vec![];
    for number in 0..SPECS {
        let spec = drawn_spec(&mut rng);
        let mut object = binding(&own.group, spec.clone(), false);
        object.metadata.name = Some(format!("b-{number}"));
        let made = bindings.create(&PostParams::default(), &object).await;
        stored.push((spec, made.unwrap()));
    }
    cluster.apply_immutability(&own.group, &json!({})).await;
    is_asked(&own).await;
    let (mut updates, mut refused) = (0, 0);
    for (old, made) in &stored {
        for _ in 0..UPDATES {
            let new = edited(old, &mut rng);
            let mut object = made.clone();
            object.data["spec"] = new.clone();
            let said = refusal(&bindings, &object, true).await;
            let expected = match *old == new {
                true => (vec![], vec![]),
                false => judged(Some(old), &new),
            };
            assert_eq!(
                fields_of(said.as_deref()),
                expected,
                "{old}\n{new}\n{said:?}"
            );
            (updates, refused) = (updates + 1, refused + usize::from(said.is_some()));
        }
        let created = binding(&own.group, old.clone(), false);
        let said = refusal(&bindings, &created, false).await;
        assert_eq!(
            fields_of(said.as_deref()),
            judged(None, old),
            "{old}\n{said:?}"
        );
    }
    println!("{updates} updates, {refused} of them refused");
    assert!(refused > updates / 4 && refused < updates * 3 / 4);
}

/// Waits until the policy refuses a binding of no group.
async fn is_asked(own: &Bindings) {
    let bindings = own.v1beta1();
    until("the policy is asked", async || {
        let nothing = json!({ "serviceRef": { "name": "web", "port": 80 } });
        let probe = binding(&own.group, nothing, false);
        refusal(&bindings, &probe, false).await.map(drop)
    })
    .await;
}

#[rstest]
#[case::without_a_spec(Value::Null)]
#[case::that_breaks_each_rule(json!({
    "serviceRef": { "name": "web", "port": 80 },
    "targetType": "instance",
    "iamRoleArnToAssume": "r",
    "targetGroupProtocol": "QUIC",
    "vpcID": "none",
}))]
#[tokio::test]
async fn a_binding_whatever_it_says_can_be_annotated_and_cleaned_up_under_the_policy(
    #[case] spec: Value,
) {
    let cluster = Server::Kubernetes.own_cluster().await;
    let own = cluster.own_bindings().await;
    let bindings = own.v1beta1();
    let mut held = binding(&own.group, spec, false);
    held.metadata.finalizers = Some(vec!["elbv2.k8s.aws/resources".to_owned()]);
    let params = PostParams::default();
    bindings.create(&params, &held).await.unwrap();
    cluster.apply_immutability(&own.group, &json!({})).await;
    is_asked(&own).await;
    let patch = async |patch: Value| {
        let params = PatchParams::default();
        bindings.patch("web", &params, &Patch::Merge(patch)).await
    };
    patch(json!({ "metadata": { "annotations": { "a": "b" } } }))
        .await
        .unwrap();
    let status = Patch::Merge(json!({ "status": { "observedGeneration": 1 } }));
    bindings
        .patch_status("web", &PatchParams::default(), &status)
        .await
        .unwrap();
    let (code, _, message) = refused(
        patch(
            json!({ "spec": { "targetType": "ip" , "serviceRef": { "name": "web", "port": 80 } } }),
        )
        .await,
    );
    assert_eq!(code, 403, "{message}");
    assert!(
        message.contains(&format!("{BY_POLICY}{WORDS}spec.targetType; ")),
        "{message}"
    );
    bindings
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    patch(json!({ "metadata": { "finalizers": null } }))
        .await
        .unwrap();
    assert_eq!(refused(bindings.get("web").await).0, 404);
}

#[tokio::test]
async fn while_all_of_ours_is_down_a_binding_keeps_its_group_and_others_come_and_go() {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    let site = Site::on(cluster, &[]).await;
    let mut installed = Installed::without_hooks(site).await;
    let hooks = installed.process().hooks;
    let ignore = json!({ "failurePolicy": "Ignore" });
    installed.register_hooks(hooks, ignore).await;
    let group = BindingApi::Elbv2.group();
    let cluster = &installed.cluster;
    cluster.apply_immutability(group, &json!({})).await;
    let arn = installed.bind("web").await;
    installed.kill();

    let bindings = installed.bindings(BindingApi::Elbv2);
    let patch = async |patch: Value| {
        let params = PatchParams::default();
        bindings.patch("web", &params, &Patch::Merge(patch)).await
    };
    let other = arn.replace("targetgroup/web", "targetgroup/other");
    let moved = patch(json!({ "spec": { "targetGroupARN": other } })).await;
    let (code, reason, message) = refused(moved);
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    let words = format!("{BY_POLICY}{WORDS}spec.targetGroupARN; create a new");
    assert!(message.contains(&words), "{message}");

    patch(json!({ "spec": { "networking": {} } }))
        .await
        .unwrap();
    let created = json!({ "targetGroupARN": other, "serviceRef": { "name": "web", "port": 80 } });
    let mut created = binding(group, created, false);
    created.metadata.name = Some("other".to_owned());
    let params = PostParams::default();
    bindings.create(&params, &created).await.unwrap();
    for name in ["web", "other"] {
        let params = DeleteParams::default();
        bindings.delete(name, &params).await.unwrap();
    }
}
