//! Rules on other objects of the cluster, and on the allow-list.

use rstest::rstest;
use serde_json::{Value, json};

use super::{ARN, ARN_TEXT, fields, spec, subject};
use crate::binding::allow_list::AllowList;
use crate::binding::service::ServiceLookup;
use crate::binding::validate::{Allowance, Sharer, Subject, check};
use crate::model::{Protocol, ServicePort};
use crate::names::{BindingApi, ObjectKey};

fn sharer(name: &str, api: BindingApi, multi_cluster: bool) -> Sharer {
    Sharer {
        api,
        object: ObjectKey::new("shop", name),
        multi_cluster,
    }
}

#[rstest]
#[case::none_agrees(false, &[false], true)]
#[case::only_this_one(true, &[false], true)]
#[case::only_the_other(false, &[true], true)]
#[case::all_but_one(true, &[true, false], true)]
#[case::all(true, &[true, true], false)]
#[case::alone(false, &[], false)]
fn one_group_has_one_binding_unless_all_agree(
    #[case] own: bool,
    #[case] others: &[bool],
    #[case] refused: bool,
    #[values(BindingApi::Elbv2, BindingApi::Eks)] api: BindingApi,
    #[values(true, false)] create: bool,
) {
    let new = spec(json!({ "multiClusterTargetGroup": own }));
    let sharers: Vec<Sharer> = others
        .iter()
        .map(|multi| sharer("api", api, *multi))
        .collect();
    let old = (!create).then_some(&new);
    let found = check(&Subject {
        old,
        sharers: &sharers,
        ..subject(&new)
    })
    .violations;
    assert_eq!(fields(&found), if refused { vec![ARN] } else { vec![] });
    for part in [
        &format!("shop/api ({api})"),
        "multiClusterTargetGroup: true",
        "wait",
    ] {
        assert!(!refused || found[0].message.contains(part), "{found:?}");
    }
}

#[rstest]
#[case::five(&["a", "b", "c", "d", "e"], "shop/e (elbv2.k8s.aws) already")]
#[case::seven(&["a", "b", "c", "d", "e", "f", "g"], "shop/e (elbv2.k8s.aws), 2 more already")]
fn of_many_sharers_five_are_named(#[case] names: &[&str], #[case] named: &str) {
    let new = spec(json!({}));
    let sharers = names
        .iter()
        .map(|name| sharer(name, BindingApi::Elbv2, false));
    let sharers: Vec<Sharer> = sharers.collect();
    let found = check(&Subject {
        sharers: &sharers,
        ..subject(&new)
    })
    .violations;
    assert!(found[0].message.contains(named), "{found:?}");
}

#[rstest]
#[case::by_number(json!(80), None)]
#[case::by_name(json!("http"), None)]
#[case::another_number(json!(30080), Some("30080"))]
#[case::another_name(json!("htpp"), Some("\"htpp\""))]
#[case::a_number_in_quotes(json!("80"), Some("\"80\""))]
#[case::no_port(json!(0), Some("0"))]
#[case::absent(json!(null), None)]
fn a_port_that_the_service_lacks_is_warned_of_with_those_that_it_has(
    #[case] port: Value,
    #[case] lacks: Option<&str>,
    #[values(false, true)] update: bool,
) {
    let port = json!({ "serviceRef": { "port": port } });
    let new = spec(port);
    let ports = [(80, Some("http")), (443, None)].map(|(port, name)| ServicePort {
        name: name.map(Into::into),
        port,
        protocol: Protocol::Tcp,
        target_port: None,
    });
    let verdict = check(&Subject {
        old: update.then_some(&new),
        service: &ServiceLookup::Ports(ports.to_vec()),
        ..subject(&new)
    });
    assert_eq!(verdict.denial(), None);
    let expected = lacks.map(|port| {
        format!(
            "spec.serviceRef.port: Service \"web\" has no port {port}, and the gates of its pods stay closed \
             until it has; its ports: 80 \"http\", 443"
        )
    });
    assert_eq!(verdict.warnings, Vec::from_iter(expected));
}

#[rstest]
#[case(ServiceLookup::Absent)]
#[case(ServiceLookup::NotWatched)]
fn a_port_of_a_service_that_is_not_known_is_not_warned_of(#[case] service: ServiceLookup) {
    let new = spec(json!({}));
    let verdict = check(&Subject {
        service: &service,
        ..subject(&new)
    });
    assert_eq!(verdict.warnings, [""; 0]);
}

#[rstest]
#[case::none(None, false)]
#[case::listed(Some("arn:aws:iam::123456789012:role/bind"), false)]
#[case::not_listed(Some("arn:aws:iam::123456789012:role/admin"), true)]
fn a_role_that_no_rule_lists_is_refused(#[case] role: Option<&str>, #[case] refused: bool) {
    let list = AllowList::parse(
        "[{name: web, namespaces: [shop], targetGroupARNs: ['*'], roles: ['*:role/bind']}]",
    );
    let list = list.unwrap();
    let new = spec(json!({ "iamRoleArnToAssume": role }));
    let arn = ARN_TEXT.parse().unwrap();
    let verdict = check(&Subject {
        allowance: Some(Allowance {
            list: &list,
            namespace: "shop",
            arn: Some(&arn),
        }),
        ..subject(&new)
    });
    let expected: &[&str] = if refused {
        &["spec.iamRoleArnToAssume"]
    } else {
        &[]
    };
    assert_eq!(fields(&verdict.violations), expected);
}

#[rstest]
#[case::its_own("shop", Some(ARN_TEXT), None)]
#[case::of_another(
    "blog",
    Some(ARN_TEXT),
    Some("may bind only what --allow-arns lets it by \"news\"")
)]
#[case::of_nobody("none", Some(ARN_TEXT), Some("no rule of --allow-arns is about"))]
#[case::not_known("shop", None, Some("set it"))]
fn a_group_that_the_namespace_may_not_bind_is_refused(
    #[case] namespace: &str,
    #[case] arn: Option<&str>,
    #[case] why: Option<&str>,
    #[values(false, true)] update: bool,
) {
    let list = AllowList::parse(
        "[{name: web, namespaces: [shop], targetGroupARNs: ['*:targetgroup/web/*']},
          {name: news, namespaces: [blog], targetGroupARNs: ['*:targetgroup/news/*']}]",
    );
    let (list, new) = (list.unwrap(), spec(json!({ "targetGroupARN": ARN_TEXT })));
    let arn = arn.map(|arn| arn.parse().unwrap());
    let found = check(&Subject {
        old: update.then_some(&new),
        allowance: Some(Allowance {
            list: &list,
            namespace,
            arn: arn.as_ref(),
        }),
        ..subject(&new)
    });
    let message = found
        .violations
        .first()
        .map(|violation| &*violation.message);
    assert_eq!(message.is_some(), why.is_some(), "{message:?}");
    assert!(
        message
            .unwrap_or_default()
            .contains(why.unwrap_or_default())
    );
}
