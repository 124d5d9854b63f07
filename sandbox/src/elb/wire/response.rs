//! Renders results as XML.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::ApiError;
use crate::elb::delays::Delays;
use crate::elb::group::{HealthCheck, LoadBalancerKind, TargetGroupSpec};
use crate::elb::model::Described;

const NAMESPACE: &str = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/";

/// A target group in the answer of DescribeTargetGroups.
#[derive(Debug)]
pub(super) struct GroupView {
    pub(super) arn: String,
    pub(super) spec: TargetGroupSpec,
    pub(super) delays: Delays,
    pub(super) load_balancers: Vec<String>,
}

/// A load balancer in the answer of DescribeLoadBalancers.
#[derive(Debug)]
pub(super) struct BalancerView {
    pub(super) arn: String,
    pub(super) kind: LoadBalancerKind,
    pub(super) zones: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Answer {
    TargetHealth(BTreeMap<SocketAddr, Described>),
    TargetGroups {
        groups: Vec<GroupView>,
        next_marker: Option<String>,
    },
    LoadBalancers(Vec<BalancerView>),
    /// The keys and values of attributes.
    Attributes(Vec<(&'static str, String)>),
    Nothing,
}

pub(super) fn success(action: &str, answer: &Answer, request_id: &str) -> String {
    let mut xml = Xml::default();
    xml.open_with(&format!("{action}Response"), NAMESPACE);
    xml.element(&format!("{action}Result"), |xml| match answer {
        Answer::TargetHealth(targets) => target_health(xml, targets),
        Answer::TargetGroups {
            groups,
            next_marker,
        } => {
            xml.list("TargetGroups", groups, target_group);
            xml.optional("NextMarker", next_marker.as_deref());
        }
        Answer::LoadBalancers(balancers) => xml.list("LoadBalancers", balancers, load_balancer),
        Answer::Attributes(attributes) => {
            xml.list("Attributes", attributes, |xml, (key, value)| {
                xml.text("Key", key);
                xml.text("Value", value);
            })
        }
        Answer::Nothing => {}
    });
    xml.element("ResponseMetadata", |xml| xml.text("RequestId", request_id));
    xml.close(&format!("{action}Response"));
    xml.0
}

pub(super) fn failure(error: &ApiError, request_id: &str) -> String {
    let mut xml = Xml::default();
    xml.open_with("ErrorResponse", NAMESPACE);
    xml.element("Error", |xml| {
        xml.text("Type", error.blame());
        xml.text("Code", error.code());
        xml.text("Message", &error.message);
    });
    xml.text("RequestId", request_id);
    xml.close("ErrorResponse");
    xml.0
}

fn target_health(xml: &mut Xml, targets: &BTreeMap<SocketAddr, Described>) {
    xml.list(
        "TargetHealthDescriptions",
        targets,
        |xml, (target, Described { health, zone })| {
            let port = target.port().to_string();
            xml.element("Target", |xml| {
                xml.text("Id", &target.ip().to_string());
                xml.text("Port", &port);
                xml.optional("AvailabilityZone", zone.as_deref());
            });
            xml.text("HealthCheckPort", &port);
            xml.element("TargetHealth", |xml| {
                xml.text("State", health.state.as_str());
                xml.optional("Reason", health.reason.as_deref());
                xml.optional("Description", health.description.as_deref());
            });
        },
    );
}

fn target_group(xml: &mut Xml, group: &GroupView) {
    let GroupView { spec, delays, .. } = group;
    xml.text("TargetGroupArn", &group.arn);
    xml.text("TargetGroupName", &spec.name);
    xml.text("Protocol", &spec.protocol);
    // AWS returns it for the protocols that have versions.
    if matches!(&*spec.protocol, "HTTP" | "HTTPS") {
        xml.text("ProtocolVersion", "HTTP1");
    }
    xml.text("Port", &spec.port.to_string());
    xml.text("VpcId", &spec.vpc_id);
    xml.text("TargetType", &spec.target_type);
    xml.optional("IpAddressType", spec.ip_address_type.as_deref());
    xml.list("LoadBalancerArns", &group.load_balancers, |xml, arn| {
        xml.escaped(arn);
    });
    xml.text("HealthCheckEnabled", "true");
    xml.text("HealthCheckPort", "traffic-port");
    match &spec.health_check {
        HealthCheck::Tcp => xml.text("HealthCheckProtocol", "TCP"),
        HealthCheck::Http { path, matcher } => {
            xml.text("HealthCheckProtocol", "HTTP");
            xml.text("HealthCheckPath", path);
            xml.element("Matcher", |xml| xml.text("HttpCode", &matcher.to_string()));
        }
    }
    // Scaled times may be fractions of a second, which the API cannot express, so they are rounded
    // up.
    let whole_seconds = |time: std::time::Duration| time.as_secs_f64().ceil().to_string();
    xml.text(
        "HealthCheckIntervalSeconds",
        &whole_seconds(delays.health_check_interval),
    );
    xml.text(
        "HealthCheckTimeoutSeconds",
        &whole_seconds(delays.health_check_timeout),
    );
    xml.text(
        "HealthyThresholdCount",
        &delays.healthy_threshold.to_string(),
    );
    xml.text(
        "UnhealthyThresholdCount",
        &delays.unhealthy_threshold.to_string(),
    );
}

fn load_balancer(xml: &mut Xml, balancer: &BalancerView) {
    xml.text("LoadBalancerArn", &balancer.arn);
    // The ARN ends in the kind, the name and an id.
    let name = balancer.arn.rsplit('/').nth(1);
    xml.optional("LoadBalancerName", name);
    xml.element("State", |xml| xml.text("Code", "active"));
    xml.text(
        "Type",
        match balancer.kind {
            LoadBalancerKind::Application => "application",
            LoadBalancerKind::Network => "network",
        },
    );
    xml.list("AvailabilityZones", &balancer.zones, |xml, zone| {
        xml.text("ZoneName", zone);
    });
    xml.text("IpAddressType", "ipv4");
}

#[derive(Default)]
struct Xml(String);

impl Xml {
    fn open_with(&mut self, name: &str, namespace: &str) {
        self.0.push_str(&format!("<{name} xmlns=\"{namespace}\">"));
    }

    fn close(&mut self, name: &str) {
        self.push(["</", name, ">"]);
    }

    fn element(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.push(["<", name, ">"]);
        inside(self);
        self.close(name);
    }

    fn push(&mut self, parts: [&str; 3]) {
        self.0.extend(parts);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.element(name, |xml| xml.escaped(value));
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn list<T>(
        &mut self,
        name: &str,
        members: impl IntoIterator<Item = T>,
        mut member: impl FnMut(&mut Self, T),
    ) {
        self.element(name, |xml| {
            for value in members {
                xml.element("member", |xml| member(xml, value));
            }
        });
    }

    fn escaped(&mut self, value: &str) {
        // Most values of a large group's answer need no escaping, so they skip the loop over
        // characters.
        let is_plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        if value
            .bytes()
            .all(|byte| is_plain(byte) && !b"&<>".contains(&byte))
        {
            self.0.push_str(value);
            return;
        }
        for character in value.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                // XML 1.0 cannot represent the other control characters.
                c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("Target.NotInUse (80) [503]", "Target.NotInUse (80) [503]")]
    #[case::markup("a<b>&c", "a&lt;b&gt;&amp;c")]
    #[case::not_ascii("größer", "größer")]
    #[case::control_characters("a\n\0b", "a\n\u{fffd}b")]
    fn a_value_is_escaped_as_xml_has_it(#[case] value: &str, #[case] expected: &str) {
        let mut xml = Xml::default();
        xml.text("Reason", value);
        assert_eq!(xml.0, format!("<Reason>{expected}</Reason>"));
    }
}
