use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::names::TargetGroupArn;

const ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";

/// Names and types of the incumbent's fields.
const INCUMBENT: &str = include_str!("incumbent.txt");

fn spec(json: Value) -> TargetGroupBindingSpec {
    serde_json::from_value(json).unwrap()
}

fn model(json: Value) -> Binding {
    spec(json).model(BindingApi::Elbv2, "web", false)
}

fn whole_schema_of(version: &str) -> Value {
    let definition = schema::definition();
    let versions = definition["spec"]["versions"].as_array().unwrap();
    let version = versions.iter().find(|v| v["name"] == version).unwrap();
    version["schema"]["openAPIV3Schema"].clone()
}

fn schema_of(version: &str) -> Value {
    whole_schema_of(version)["properties"]["spec"].clone()
}

#[test]
fn the_deployed_definition_is_the_one_that_the_types_give() {
    assert_eq!(
        include_str!("../../../../deploy/crd/targetgroupbindings.yaml"),
        yaml(),
        "deploy/crd is older than core/src/binding/spec: write it anew with `make crd`"
    );
}

#[test]
fn tools_that_prune_are_told_to_leave_the_definition_alone() {
    let expected = json!({
        "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
        "kustomize.toolkit.fluxcd.io/prune": "disabled",
    });
    assert_eq!(schema::definition()["metadata"]["annotations"], expected);
}

#[test]
fn v1beta1_is_stored_and_v1alpha1_is_served() {
    let definition = schema::definition();
    let versions = definition["spec"]["versions"].as_array().unwrap();
    let told: Vec<Value> = versions
        .iter()
        .map(|v| json!([v["name"], v["served"], v["storage"]]))
        .collect();
    assert_eq!(
        json!(told),
        json!([["v1alpha1", true, false], ["v1beta1", true, true]])
    );
}

#[rstest]
#[case("v1alpha1")]
#[case("v1beta1")]
fn the_schema_requires(#[case] version: &str) {
    let schema = schema_of(version);
    assert_eq!(schema["required"], json!(["serviceRef"]));
    let service = &schema["properties"]["serviceRef"];
    assert_eq!(service["required"], json!(["name", "port"]));
    assert_eq!(
        service["properties"]["port"]["x-kubernetes-int-or-string"],
        json!(true)
    );
}

/// The schema of a field of the incumbent's, which may be in a list.
fn field<'a>(schema: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(schema, |schema, name| {
        let known = &schema["properties"][name.trim_end_matches("[]")];
        match name.ends_with("[]") {
            true => &known["items"],
            false => known,
        }
    })
}

fn type_of(schema: &Value) -> String {
    let constraint = match (&schema["enum"], &schema["format"]) {
        (Value::Array(allowed), _) => format!(":{}", allowed.len()),
        (_, Value::String(format)) => format!(":{format}"),
        _ => String::new(),
    };
    match (&schema["type"], &schema["additionalProperties"]["type"]) {
        (Value::String(kind), Value::String(of)) => format!("{kind}<{of}>"),
        (Value::String(kind), _) => format!("{kind}{constraint}"),
        _ if schema["x-kubernetes-int-or-string"] == true => "int-or-string".to_owned(),
        _ => "absent".to_owned(),
    }
}

/// Fields that a schema of ours lacks, or has with another type, are pruned or refused where the incumbent takes
/// them.
#[rstest]
#[case("v1alpha1")]
#[case("v1beta1")]
fn every_field_of_the_incumbents_schema_is_in_ours(#[case] version: &str) {
    let ours = whole_schema_of(version);
    let fields = INCUMBENT.lines().filter(|line| !line.starts_with('#'));
    let fields: Vec<&str> = fields
        .filter_map(|line| line.strip_prefix(version)?.strip_prefix(' '))
        .collect();
    assert!(fields.len() > 20, "{fields:?}");
    for line in fields {
        let (path, expected) = line.split_once(' ').unwrap();
        let known = field(&ours, path);
        match expected.strip_prefix("one of ") {
            Some(values) => {
                assert_eq!(known["type"], "string", "{path}");
                let allowed = known["enum"].as_array().unwrap();
                for value in values.split(' ') {
                    assert!(allowed.contains(&json!(value)), "{path}: {value}");
                }
            }
            None => assert_eq!(type_of(known), expected, "{path}"),
        }
    }
}

#[test]
fn our_schema_requires_no_field_that_the_incumbents_does_not() {
    fn check(schema: &Value, at: &str, required: &mut Vec<String>) {
        let names = schema["required"].as_array().into_iter().flatten();
        required.extend(names.map(|name| format!("{at}{}", name.as_str().unwrap())));
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            check(inner, &format!("{at}{name}."), required);
            check(&inner["items"], &format!("{at}{name}[]."), required);
        }
    }
    let mut ours = vec![];
    check(&whole_schema_of("v1beta1"), "", &mut ours);
    ours.sort_unstable();
    let theirs = INCUMBENT
        .lines()
        .filter_map(|line| line.strip_prefix("required "));
    assert_eq!(ours, theirs.collect::<Vec<_>>());
}

#[rstest]
#[case("spec.nodeSelector.matchExpressions")]
#[case("spec.nodeSelector.matchExpressions[].values")]
fn a_list_of_the_node_selector_is_replaced_as_a_whole(#[case] path: &str) {
    let schema = whole_schema_of("v1beta1");
    assert_eq!(field(&schema, path)["x-kubernetes-list-type"], "atomic");
}

#[test]
fn a_binding_is_shown_with_the_incumbents_columns() {
    let definition = schema::definition();
    for version in definition["spec"]["versions"].as_array().unwrap() {
        let columns = version["additionalPrinterColumns"].as_array().unwrap();
        let columns: Vec<_> = columns
            .iter()
            .map(|c| (c["name"].as_str().unwrap(), c["jsonPath"].as_str().unwrap()))
            .collect();
        let expected = [
            ("SERVICE-NAME", ".spec.serviceRef.name"),
            ("SERVICE-PORT", ".spec.serviceRef.port"),
            ("TARGET-TYPE", ".spec.targetType"),
            ("ARN", ".spec.targetGroupARN"),
            ("NAME", ".spec.targetGroupName"),
            ("AGE", ".metadata.creationTimestamp"),
        ];
        assert_eq!(columns, expected);
    }
}

#[test]
fn a_protocol_that_is_filled_in_is_one_that_the_schema_has() {
    assert!(
        FILLED_IN_PROTOCOLS
            .iter()
            .all(|protocol| PROTOCOLS.contains(protocol))
    );
    assert!(PROTOCOLS.contains(&"GENEVE") && !is_protocol_filled_in("GENEVE"));
}

/// The rules that an API server holds a schema to, as far as a derive can break them.
#[rstest]
#[case("v1alpha1")]
#[case("v1beta1")]
fn the_schema_is_structural(#[case] version: &str) {
    fn check(schema: &Value, at: &str) {
        for key in ["$ref", "anyOf", "oneOf", "nullable", "default", "title"] {
            assert!(schema.get(key).is_none(), "{at} has {key}");
        }
        let int_or_string = schema.get("x-kubernetes-int-or-string").is_some();
        assert_eq!(schema.get("type").is_some(), !int_or_string, "{at}: type");
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            check(property, &format!("{at}.{name}"));
        }
        for key in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(key) {
                check(inner, &format!("{at}.{key}"));
            }
        }
    }
    check(&schema_of(version), "spec");
    check(&whole_schema_of(version)["properties"]["status"], "status");
}

#[test]
fn every_field_is_read() {
    let binding = spec(json!({
        "targetGroupARN": ARN,
        "targetGroupName": "web",
        "targetType": "ip",
        "ipAddressType": "ipv6",
        "serviceRef": { "name": "web", "port": "http" },
        "iamRoleArnToAssume": "arn:aws:iam::123456789012:role/web",
        "assumeRoleExternalId": "secret",
        "multiClusterTargetGroup": true,
    }))
    .model(BindingApi::Eks, "web", true);
    let expected = Binding {
        api: BindingApi::Eks,
        name: "web".into(),
        uid: None,
        arn: Some(ARN.parse::<TargetGroupArn>().unwrap()),
        group_name: Some("web".into()),
        target_type: Some(TargetType::Ip),
        family: IpFamily::V6,
        load_balancer: None,
        service: "web".into(),
        port: Some(PortRef::Name("http".into())),
        role: Some(AssumedRole {
            arn: "arn:aws:iam::123456789012:role/web".into(),
            external_id: Some("secret".into()),
        }),
        multi_cluster: true,
        opted_out: true,
        terminating: false,
        policies: Policies::default(),
        registration: Registration::default(),
        unreadable: vec![],
    };
    assert_eq!(binding, expected);
}

#[rstest]
#[case(json!({ "targetGroupProtocol": "QUIC" }), (true, false))]
#[case(json!({ "targetGroupProtocol": "TCP_QUIC" }), (true, false))]
#[case(json!({ "targetGroupProtocol": "UDP" }), (false, false))]
#[case(json!({ "registerTargetsWithPodAvailabilityZone": true }), (false, true))]
#[case(json!({ "registerTargetsWithPodAvailabilityZone": false }), (false, false))]
fn what_keeps_us_from_registering_is_read(#[case] json: Value, #[case] expected: (bool, bool)) {
    let registration = model(json).registration;
    assert_eq!((registration.quic, registration.pod_zone), expected);
}

#[rstest]
#[case::nothing(json!({}))]
#[case::nulls(json!({ "targetGroupARN": null, "targetType": null, "serviceRef": null, "multiClusterTargetGroup": null }))]
#[case::empty_texts(json!({ "targetGroupARN": "", "targetType": "", "ipAddressType": "", "serviceRef": { "name": "", "port": "" }, "iamRoleArnToAssume": "" }))]
#[case::what_nobody_knows(json!({ "targetGroupARN": "arn:nonsense", "targetType": "lambda", "ipAddressType": "ipv5", "serviceRef": { "port": 0 } }))]
#[case::an_external_id_alone(json!({ "assumeRoleExternalId": "secret", "serviceRef": { "port": 65536 } }))]
fn what_cannot_be_read_is_absent(#[case] json: Value) {
    let binding = model(json);
    assert_eq!(
        (binding.arn, binding.target_type, binding.port),
        (None, None, None)
    );
    assert_eq!(
        (binding.role, binding.family, &*binding.service),
        (None, IpFamily::V4, "")
    );
    assert!(!binding.multi_cluster && !binding.opted_out);
}

#[rstest]
#[case(json!(1), Some(PortRef::Number(1)))]
#[case(json!(65535), Some(PortRef::Number(65535)))]
#[case(json!(-1), None)]
#[case(json!("80"), Some(PortRef::Name("80".into())))]
fn a_port_is_a_number_or_a_name(#[case] port: Value, #[case] read: Option<PortRef>) {
    assert_eq!(
        model(json!({ "serviceRef": { "name": "web", "port": port } })).port,
        read
    );
}
