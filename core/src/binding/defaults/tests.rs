use proptest::prelude::*;
use rstest::rstest;
use serde_json::Value;

use super::*;
use crate::model::{IpFamily, Protocol};

const ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";

fn spec(json: &Value) -> TargetGroupBindingSpec {
    serde_json::from_value(json.clone()).unwrap()
}

fn group() -> TargetGroup {
    TargetGroup {
        arn: ARN.parse().unwrap(),
        name: "web".into(),
        target_type: "ip".into(),
        family: IpFamily::V6,
        vpc_id: Some("vpc-01234567".into()),
        protocol: Some("HTTP".into()),
        health_checks: None,
    }
}

fn port(port: u16, name: Option<&str>) -> ServicePort {
    ServicePort {
        name: name.map(Into::into),
        port,
        protocol: Protocol::Tcp,
        target_port: None,
    }
}

fn ports(ports: Vec<ServicePort>) -> ServiceLookup {
    ServiceLookup::Ports(ports)
}

/// The spec after the patch.
fn filled(json: &Value) -> Value {
    let patch = fill(&spec(json), Some(&group()), &ports(vec![port(80, None)])).unwrap();
    let mut object = json!({ "spec": json });
    json_patch::patch(&mut object, &patch).unwrap();
    object["spec"].take()
}

#[test]
fn a_binding_of_no_group_is_refused_in_the_incumbents_words() {
    let error = group_query(&TargetGroupBindingSpec::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "must provide either targetGroupARN or targetGroupName"
    );
}

#[test]
fn the_arn_prevails_over_the_name() {
    let both = spec(&json!({ "targetGroupARN": ARN, "targetGroupName": "api" }));
    let selector = |spec| group_query(spec).map(|query| query.selector);
    assert_eq!(
        selector(&both),
        Ok(GroupSelector::Arn(ARN.parse().unwrap()))
    );
    let name = spec(&json!({ "targetGroupARN": "", "targetGroupName": "api" }));
    assert_eq!(selector(&name), Ok(GroupSelector::Name("api".to_owned())));
}

#[test]
fn what_is_no_arn_is_refused_with_the_field_and_the_text() {
    let spec = spec(&json!({ "targetGroupARN": "web" }));
    let error = group_query(&spec).unwrap_err().to_string();
    assert!(
        error.starts_with(r#"spec.targetGroupARN: "web" is not"#),
        "{error}"
    );
}

#[rstest]
#[case("targetGroupARN", json!(ARN))]
#[case("targetType", json!("ip"))]
#[case("ipAddressType", json!("ipv6"))]
#[case("vpcID", json!("vpc-01234567"))]
#[case("targetGroupProtocol", json!("HTTP"))]
fn aws_fills_in_the_field(
    #[case] field: &str,
    #[case] told: Value,
    #[values(None, Some(json!(null)), Some(json!("")))] written: Option<Value>,
) {
    let mut json = json!({
        "targetGroupName": "web",
        "targetGroupARN": ARN,
        "targetType": "instance",
        "ipAddressType": "ipv4",
        "vpcID": "vpc-fedcba98",
        "targetGroupProtocol": "TCP",
        "serviceRef": { "name": "web", "port": "http" },
    });
    let mut expected = json.clone();
    expected[field] = told;
    match written {
        Some(written) => json[field] = written,
        None => drop(json.as_object_mut().unwrap().remove(field)),
    }
    assert_eq!(left_to_aws(&spec(&json)), [format!("spec.{field}")]);
    let patch = fill(&spec(&json), Some(&group()), &ServiceLookup::Absent).unwrap();
    assert_eq!(patch.len(), 1);
    assert_eq!(filled(&json), expected);
}

#[test]
fn what_aws_does_not_have_stays_absent() {
    let bare = TargetGroup {
        vpc_id: None,
        protocol: None,
        ..group()
    };
    let spec = spec(&json!({ "targetGroupARN": ARN, "targetType": "ip", "ipAddressType": "ipv4" }));
    assert_eq!(
        fill(&spec, Some(&bare), &ServiceLookup::Absent),
        Ok(Patch(vec![]))
    );
}

#[rstest]
#[case::of_tomorrow("SCTP")]
#[case::that_the_incumbents_schema_lacks("GENEVE")]
fn a_protocol_that_a_schema_in_use_may_not_know_is_left_out(#[case] protocol: &str) {
    let group = TargetGroup {
        protocol: Some(protocol.into()),
        ..group()
    };
    let spec = spec(&json!({ "targetGroupARN": ARN, "targetType": "ip" }));
    let patch = fill(&spec, Some(&group), &ServiceLookup::Absent).unwrap();
    let paths: Vec<_> = patch.iter().map(|op| op.path().to_string()).collect();
    assert_eq!(paths, ["/spec/ipAddressType", "/spec/vpcID"]);
}

#[test]
fn a_message_lists_some_of_many_ports() {
    let many = ports((1..=1_000).map(|number| port(number, None)).collect());
    let spec = spec(&json!({ "serviceRef": { "name": "web" } }));
    let error = fill(&spec, None, &many).unwrap_err().to_string();
    assert!(error.contains("has 1000 ports (1, 2, "), "{error}");
    assert!(error.contains(", 20, 980 more)"), "{error}");
}

#[rstest]
#[case("lambda")]
#[case("alb")]
#[case("")]
fn an_unsupported_target_type_is_refused(#[case] target_type: &str) {
    let group = TargetGroup {
        target_type: target_type.into(),
        ..group()
    };
    let spec = spec(&json!({ "targetGroupARN": ARN }));
    let error = fill(&spec, Some(&group), &ServiceLookup::Absent)
        .unwrap_err()
        .to_string();
    for part in [
        ARN,
        &format!("unsupported target type {target_type:?}"),
        "instance or ip",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[rstest]
#[case::absent(json!({ "name": "web" }))]
#[case::null(json!({ "name": "web", "port": null }))]
#[case::empty(json!({ "name": "web", "port": "" }))]
fn the_only_port_of_the_service_is_filled_in(#[case] service: Value) {
    let json = json!({ "serviceRef": service });
    assert_eq!(service_to_ask(&spec(&json)), Some("web"));
    let patch = fill(&spec(&json), None, &ports(vec![port(8080, Some("http"))])).unwrap();
    let expected = json!([{ "op": "add", "path": "/spec/serviceRef/port", "value": 8080 }]);
    assert_eq!(json!(patch), expected);
}

#[rstest]
#[case::a_number(json!({ "name": "web", "port": 80 }))]
#[case::a_number_that_is_no_port(json!({ "name": "web", "port": 0 }))]
#[case::a_name(json!({ "name": "web", "port": "http" }))]
#[case::no_service(json!({}))]
#[case::null(json!(null))]
fn a_port_that_is_written_or_has_no_service_is_left(#[case] service: Value) {
    let spec = spec(&json!({ "serviceRef": service }));
    assert_eq!(service_to_ask(&spec), None);
    assert_eq!(fill(&spec, None, &ServiceLookup::Absent), Ok(Patch(vec![])));
}

#[rstest]
#[case::unknown(ServiceLookup::Absent, r#"Service "web" is not known"#)]
#[case::not_watched(
    ServiceLookup::NotWatched,
    "--watch-namespaces leaves out the binding's namespace"
)]
#[case::none(ports(vec![]), r#"Service "web" has 0 ports; set the port"#)]
#[case::two(
    ports(vec![port(80, Some("http")), port(443, None)]),
    r#"Service "web" has 2 ports (80 "http", 443); set the port"#
)]
fn a_port_that_cannot_be_told_is_asked_for(#[case] service: ServiceLookup, #[case] words: &str) {
    let spec = spec(&json!({ "serviceRef": { "name": "web" } }));
    let error = fill(&spec, None, &service).unwrap_err().to_string();
    assert!(
        error.starts_with("spec.serviceRef.port: it is not set"),
        "{error}"
    );
    assert!(error.contains(words), "{error}");
}

fn maybe(values: &'static [&'static str]) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        Just(Some(json!(""))),
        prop::sample::select(values).prop_map(|value| Some(json!(value))),
    ]
}

prop_compose! {
    /// A spec of any fields, some of which are unknown or explicitly empty.
    fn specs()(
        arn in maybe(&[ARN]),
        target_type in maybe(&["ip", "instance"]),
        family in maybe(&["ipv4", "ipv6"]),
        vpc_id in maybe(&["vpc-fedcba98"]),
        protocol in maybe(&["TCP", "QUIC"]),
        port in maybe(&["http"]),
    ) -> Value {
        let mut spec = json!({
            "targetGroupName": "web",
            "serviceRef": { "name": "web", "unknown": false },
            "multiClusterTargetGroup": false,
            "iamRoleArnToAssume": "",
            "networking": { "ingress": [] },
            "unknown": { "deep": [null, "", 0] },
        });
        let fields = [
            ("targetGroupARN", arn),
            ("targetType", target_type),
            ("ipAddressType", family),
            ("vpcID", vpc_id),
            ("targetGroupProtocol", protocol),
        ];
        for (field, value) in fields {
            if let Some(value) = value {
                spec[field] = value;
            }
        }
        if let Some(port) = port {
            spec["serviceRef"]["port"] = port;
        }
        spec
    }
}

fn is_absent(value: &Value) -> bool {
    value.is_null() || *value == json!("")
}

proptest! {
    #[test]
    fn filling_in_twice_changes_nothing_more(json in specs()) {
        let once = filled(&json);
        prop_assert_eq!(left_to_aws(&spec(&once)), Vec::<&str>::new());
        let whole = spec(&once);
        prop_assert_eq!(service_to_ask(&whole), None);
        prop_assert_eq!(filled(&once), once);
    }

    #[test]
    fn what_was_written_stays_as_written(json in specs()) {
        let after = filled(&json);
        let derived = ["targetGroupARN", "targetType", "ipAddressType", "vpcID", "targetGroupProtocol"];
        for (field, before) in json.as_object().unwrap() {
            if field == "serviceRef" || (derived.contains(&field.as_str()) && is_absent(before)) {
                continue;
            }
            prop_assert_eq!(&after[field], before, "{}", field);
        }
        for (field, before) in json["serviceRef"].as_object().unwrap() {
            if field != "port" || !is_absent(before) {
                prop_assert_eq!(&after["serviceRef"][field], before, "{}", field);
            }
        }
    }
}
