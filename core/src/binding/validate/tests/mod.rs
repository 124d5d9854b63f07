use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::binding::field::GroupField;
use crate::fixtures::changes::{self, OTHER_VPC, OWN_VPC, changes};
use crate::model::IpFamily;

mod cluster;

const ARN: &str = GroupField::Arn.path();
const NAME: &str = GroupField::Name.path();
const TARGET_TYPE: &str = GroupField::TargetType.path();
const IP_ADDRESS_TYPE: &str = GroupField::IpAddressType.path();
const VPC_ID: &str = GroupField::VpcId.path();
const PROTOCOL: &str = GroupField::Protocol.path();

const ARN_TEXT: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";
const OTHER_ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/api/fedcba9876543210";

fn group() -> TargetGroup {
    TargetGroup {
        arn: ARN_TEXT.parse().unwrap(),
        name: "web".into(),
        target_type: "ip".into(),
        family: IpFamily::V4,
        vpc_id: Some(OWN_VPC.into()),
        protocol: Some("HTTP".into()),
        health_checks: None,
    }
}

/// A valid spec with these fields instead; `null` takes one away.
fn spec(fields: Value) -> TargetGroupBindingSpec {
    serde_json::from_value(changes::spec(&fields)).unwrap()
}

fn subject(new: &TargetGroupBindingSpec) -> Subject<'_> {
    Subject {
        old: None,
        new,
        group: GroupLookup::Unanswered,
        sharers: &[],
        service: &ServiceLookup::Absent,
        vpc_id: Some(OWN_VPC),
        allowance: None,
    }
}

fn created(fields: Value, group: &TargetGroup) -> Verdict {
    let new = spec(fields);
    check(&Subject {
        group: GroupLookup::Found(group),
        ..subject(&new)
    })
}

fn updated(from: Value, to: Value) -> Verdict {
    let (old, new) = (spec(from), spec(to));
    check(&Subject {
        old: Some(&old),
        ..subject(&new)
    })
}

fn fields(violations: &[Violation]) -> Vec<&'static str> {
    violations.iter().map(|violation| violation.field).collect()
}

#[test]
fn a_binding_that_agrees_with_aws_is_valid() {
    let all = json!({
        "targetGroupName": "web",
        "ipAddressType": "ipv4",
        "vpcID": OWN_VPC,
        "targetGroupProtocol": "HTTP",
        "iamRoleArnToAssume": "arn:aws:iam::123456789012:role/web",
    });
    assert_eq!(created(all, &group()), Verdict::default());
    assert_eq!(created(json!({}), &group()), Verdict::default());
}

#[rstest]
#[case::group(json!({ "targetGroupARN": null }), &[ARN])]
#[case::an_empty_group(json!({ "targetGroupARN": "", "targetGroupName": "" }), &[ARN])]
#[case::target_type(json!({ "targetType": null }), &[TARGET_TYPE])]
#[case::both(json!({ "targetGroupARN": null, "targetType": null }), &[ARN, TARGET_TYPE])]
#[case::a_name_will_do(json!({ "targetGroupARN": null, "targetGroupName": "web" }), &[])]
fn absent_fields_are_named(#[case] change: Value, #[case] named: &[&str]) {
    let new = spec(change.clone());
    assert_eq!(fields(&check(&subject(&new)).violations), named);
    let update = Subject {
        old: Some(&new),
        ..subject(&new)
    };
    assert_eq!(fields(&check(&update).violations), named);
}

#[test]
fn an_update_names_each_immutable_field_that_it_changes() {
    for change in changes() {
        let verdict = updated(change.from, change.to);
        assert_eq!(fields(&verdict.changed), change.fields, "{}", change.name);
        let denial = verdict.denial().unwrap_or_default();
        let words = "TargetGroupBinding update may not change these fields: ";
        let expected = format!("{words}{} (", change.fields.join(","));
        let denied = denial.starts_with(&expected);
        assert_eq!(
            denied,
            !change.fields.is_empty(),
            "{}: {denial}",
            change.name
        );
    }
}

#[test]
fn the_denial_of_a_change_tells_every_field_both_values_and_the_way_out() {
    let to = json!({ "targetGroupARN": OTHER_ARN, "vpcID": OTHER_VPC, "nodeSelector": {} });
    let denial = updated(json!({}), to).denial().unwrap();
    assert_eq!(
        denial,
        format!(
            "TargetGroupBinding update may not change these fields: spec.targetGroupARN,spec.vpcID \
             (spec.targetGroupARN: from \"{ARN_TEXT}\" to \"{OTHER_ARN}\"; \
             spec.vpcID: from unset to \"{OTHER_VPC}\"); \
             create a new TargetGroupBinding with the new values and delete this one; \
             spec.nodeSelector: it selects the nodes of targetType \"instance\", \
             and targetType is \"ip\": remove it"
        )
    );
}

#[rstest]
#[case::unknown(None, json!({}), json!({ "vpcID": OWN_VPC }), true)]
#[case::known(Some(OWN_VPC), json!({}), json!({ "vpcID": OTHER_VPC }), false)]
#[case::beside_the_point(None, json!({ "vpcID": OTHER_VPC }), json!({ "vpcID": OWN_VPC }), false)]
fn where_the_own_vpc_is_not_known_the_message_says_so(
    #[case] own: Option<&str>,
    #[case] from: Value,
    #[case] to: Value,
    #[case] said: bool,
) {
    let (old, new) = (spec(from), spec(to));
    let subject = Subject {
        old: Some(&old),
        vpc_id: own,
        ..subject(&new)
    };
    let denial = check(&subject).denial().unwrap();
    assert_eq!(denial.contains("--vpc-id"), said, "{denial}");
}

#[rstest]
#[case::nodes_of_ip(json!({ "nodeSelector": {} }), &["spec.nodeSelector"])]
#[case::nodes_of_instance(json!({ "nodeSelector": {}, "targetType": "instance" }), &[])]
#[case::role_of_instance(json!({ "iamRoleArnToAssume": "r", "targetType": "instance" }), &["spec.iamRoleArnToAssume"])]
#[case::role_of_ip(json!({ "iamRoleArnToAssume": "r" }), &[])]
fn on_create_and_update(#[case] change: Value, #[case] found: &[&str]) {
    let new = spec(change);
    assert_eq!(fields(&check(&subject(&new)).violations), found);
    let update = Subject {
        old: Some(&new),
        ..subject(&new)
    };
    assert_eq!(fields(&check(&update).violations), found);
}

#[rstest]
#[case::target_type(json!({ "targetType": "instance" }), TARGET_TYPE, &["\"instance\"", "\"ip\""])]
#[case::family(json!({ "ipAddressType": "ipv6" }), IP_ADDRESS_TYPE, &["\"ipv6\"", "\"ipv4\""])]
#[case::vpc(json!({ "vpcID": OTHER_VPC }), VPC_ID, &[OTHER_VPC, OWN_VPC])]
#[case::protocol(json!({ "targetGroupProtocol": "TCP" }), PROTOCOL, &["\"TCP\"", "\"HTTP\""])]
fn a_new_binding_agrees_with_aws(
    #[case] change: Value,
    #[case] field: &str,
    #[case] values: &[&str],
) {
    let found = created(change, &group()).violations;
    assert_eq!(fields(&found), [field]);
    for value in values {
        assert!(found[0].message.contains(value), "{}", found[0]);
    }
}

#[test]
fn an_address_type_that_is_left_out_means_ipv4() {
    let group = TargetGroup {
        family: IpFamily::V6,
        ..group()
    };
    assert_eq!(
        fields(&created(json!({}), &group).violations),
        [IP_ADDRESS_TYPE]
    );
}

#[rstest]
#[case::created(None, json!({}), true)]
#[case::changed(Some(json!({ "targetGroupProtocol": "HTTP" })), json!({ "targetGroupProtocol": "TCP" }), true)]
#[case::set(Some(json!({})), json!({ "targetGroupProtocol": "TCP" }), true)]
#[case::unset(Some(json!({ "targetGroupProtocol": "TCP" })), json!({}), false)]
#[case::kept(Some(json!({ "targetGroupProtocol": "TCP" })), json!({ "targetGroupProtocol": "TCP" }), false)]
#[case::own_vpc(Some(json!({})), json!({ "vpcID": OWN_VPC }), false)]
#[case::another_vpc(Some(json!({})), json!({ "vpcID": OTHER_VPC }), true)]
#[case::vpc_changed(Some(json!({ "vpcID": OWN_VPC })), json!({ "vpcID": OTHER_VPC }), false)]
fn aws_is_asked(#[case] old: Option<Value>, #[case] new: Value, #[case] asked: bool) {
    let old = old.map(spec);
    assert_eq!(needs_group(old.as_ref(), &spec(new), Some(OWN_VPC)), asked);
}

#[rstest]
#[case::the_groups_own(Some(OTHER_VPC), None, true)]
#[case::the_groups_own_beside_the_clusters(Some(OTHER_VPC), Some(OWN_VPC), true)]
#[case::another(Some(OWN_VPC), None, false)]
#[case::of_a_group_without_one(None, None, false)]
fn a_vpc_may_be_added_where_it_is_the_groups_in_aws(
    #[case] of_group: Option<&str>,
    #[case] own: Option<&str>,
    #[case] allowed: bool,
) {
    let described = TargetGroup {
        vpc_id: of_group.map(Into::into),
        ..group()
    };
    let (old, new) = (spec(json!({})), spec(json!({ "vpcID": OTHER_VPC })));
    let verdict = check(&Subject {
        old: Some(&old),
        group: GroupLookup::Found(&described),
        vpc_id: own,
        ..subject(&new)
    });
    let changed: &[&str] = if allowed { &[] } else { &[VPC_ID] };
    assert_eq!(fields(&verdict.changed), changed);
}

#[test]
fn of_an_update_only_a_changed_protocol_is_compared_with_aws() {
    let disagrees =
        json!({ "targetGroupProtocol": "TCP", "vpcID": OTHER_VPC, "ipAddressType": "ipv6" });
    let (old, new) = (
        spec(json!({ "vpcID": OTHER_VPC, "ipAddressType": "ipv6" })),
        spec(disagrees),
    );
    let described = group();
    let group = GroupLookup::Found(&described);
    let changed = Subject {
        old: Some(&old),
        group,
        ..subject(&new)
    };
    assert_eq!(fields(&check(&changed).violations), [PROTOCOL]);
    let kept = Subject {
        old: Some(&new),
        group,
        ..subject(&new)
    };
    assert_eq!(check(&kept).violations, []);
}

#[rstest]
#[case(json!({}), ARN)]
#[case(json!({ "targetGroupARN": null, "targetGroupName": "web" }), NAME)]
#[case::whose_protocol_may_be_another(json!({ "targetType": "instance", "targetGroupProtocol": "QUIC" }), ARN)]
fn what_aws_says_of_a_group_that_it_does_not_describe_is_told_of_the_field(
    #[case] change: Value,
    #[case] field: &'static str,
) {
    let new = spec(change);
    let found = check(&Subject {
        group: GroupLookup::Refused("what AWS says"),
        ..subject(&new)
    })
    .violations;
    let message = "what AWS says".to_owned();
    assert_eq!(found, [Violation { field, message }]);
}

#[rstest]
#[case("QUIC", "instance", true)]
#[case("TCP_QUIC", "instance", true)]
#[case("QUIC", "ip", false)]
#[case("TCP", "instance", false)]
fn quic_does_not_go_to_nodes(
    #[case] protocol: &str,
    #[case] target_type: &str,
    #[case] refused: bool,
    #[values(true, false)] written: bool,
) {
    let group = TargetGroup {
        protocol: Some(protocol.into()),
        target_type: target_type.into(),
        ..group()
    };
    let mut change = json!({ "targetType": target_type });
    if written {
        change["targetGroupProtocol"] = json!(protocol);
    }
    let found = created(change, &group).violations;
    assert_eq!(
        fields(&found),
        if refused { vec![PROTOCOL] } else { vec![] }
    );
}

#[rstest]
#[case("vpc-01234567", true)]
#[case("vpc-0123456789abcdef0", true)]
#[case("vpc-0123456789abcdef0123456789abcdef", true)]
#[case("vpc-0123456", false)]
#[case("vpc-012345678", false)]
#[case("vpc-0123456G", false)]
#[case("vpc-ABCDEF01", false)]
#[case("01234567", false)]
fn a_vpc_id_has_its_form(#[case] vpc_id: &str, #[case] valid: bool) {
    let new = spec(json!({ "vpcID": vpc_id }));
    let found = check(&subject(&new)).violations;
    assert_eq!(fields(&found), if valid { vec![] } else { vec![VPC_ID] });
}

#[test]
fn a_new_binding_needs_a_real_arn() {
    let new = spec(json!({ "targetGroupARN": "web" }));
    assert_eq!(fields(&check(&subject(&new)).violations), [ARN]);
}

#[test]
fn a_name_that_becomes_anothers_is_refused_and_not_warned_of() {
    let named = |name: &str| json!({ "targetGroupName": name });
    let verdict = updated(named("web"), named("api"));
    assert_eq!(fields(&verdict.changed), [NAME]);
    assert_eq!(verdict.warnings, [""; 0]);
}

#[rstest]
#[case::the_same("web", false)]
#[case::another("api", true)]
fn two_names_of_one_group_are_warned_of(#[case] name: &str, #[case] warned: bool) {
    let verdict = created(json!({ "targetGroupName": name }), &group());
    assert_eq!(verdict.violations, []);
    assert_eq!(verdict.warnings.len(), usize::from(warned));
    let kept = json!({ "targetGroupName": name, "networking": {} });
    let verdict = updated(json!({ "targetGroupName": name }), kept);
    assert_eq!(verdict.denial(), None);
    assert_eq!(verdict.warnings.len(), usize::from(warned));
}

#[test]
fn a_long_value_is_cut_in_the_message() {
    let new = spec(json!({ "vpcID": "é".repeat(100_000) }));
    assert!(check(&subject(&new)).denial().unwrap().len() < 1_000);
}

proptest! {
    #[test]
    fn whatever_is_written_gets_an_answer(
        texts in prop::collection::vec(prop::option::of(".{0,40}"), 14),
        update in any::<bool>(),
    ) {
        let side = |texts: &[Option<String>]| spec(json!({
            "targetGroupARN": texts[0], "targetGroupName": texts[1], "targetType": texts[2],
            "ipAddressType": texts[3], "vpcID": texts[4], "targetGroupProtocol": texts[5],
            "iamRoleArnToAssume": texts[6],
        }));
        let (old, new) = (side(&texts[..7]), side(&texts[7..]));
        let verdict = check(&Subject { old: update.then_some(&old), ..subject(&new) });
        prop_assert!(update || verdict.changed.is_empty());
        prop_assert_eq!(verdict.denial().is_some(), !(verdict.changed.is_empty() && verdict.violations.is_empty()));
    }

    #[test]
    fn a_spec_never_differs_from_itself(texts in prop::collection::vec(prop::option::of(".{0,40}"), 5)) {
        let same = json!({
            "targetGroupARN": texts[0], "targetGroupName": texts[1], "targetType": texts[2],
            "ipAddressType": texts[3], "vpcID": texts[4],
        });
        prop_assert_eq!(updated(same.clone(), same).changed, vec![]);
    }
}
