//! What the API server itself does to built-in kinds: defaults, the status of a new object, and the
//! few validation rules that matter to targetgate and the actors.

use serde_json::{Value, json};

use super::{admission, kinds::Served, object::Object, status::Cause};

/// Fills in the defaults. Runs before the mutating webhooks and again after them.
pub fn set_defaults(served: &Served, object: &mut Object) {
    if served.is("", "pods") {
        let mut spec = object.field("spec").clone();
        pod_spec(&mut spec);
        object.set("spec", spec);
    } else if served.is("", "namespaces") {
        let mut labels = object.meta("labels").clone();
        let name = json!(object.name());
        absent(&mut labels, "kubernetes.io/metadata.name", name);
        object.set_meta("labels", labels);
        let mut spec = object.field("spec").clone();
        absent(&mut spec, "finalizers", json!(["kubernetes"]));
        object.set("spec", spec);
    } else if served.is("", "services") {
        let mut spec = object.field("spec").clone();
        service_spec(&mut spec);
        object.set("spec", spec);
    } else if served.is("apps", "deployments") || served.is("apps", "replicasets") {
        let mut spec = object.field("spec").clone();
        absent(&mut spec, "replicas", json!(1));
        if let Some(template) = spec.get_mut("template").and_then(|t| t.get_mut("spec")) {
            pod_spec(template);
        }
        object.set("spec", spec);
    }
}

/// Sets the status and the finalizers of a new object, whatever the client sent.
pub fn at_birth(served: &Served, object: &mut Object, now: &str) {
    if served.is("", "nodes") || !served.version().status {
        // A kubelet registers its Node together with a status.
        return;
    }
    let status = if served.is("", "pods") {
        json!({"phase": "Pending"})
    } else if served.is("", "services") {
        json!({"loadBalancer": {}})
    } else if served.is("", "namespaces") {
        json!({"phase": "Active"})
    } else if served.is("apiextensions.k8s.io", "customresourcedefinitions") {
        crd_status(object, now)
    } else if served.resource.crd.is_some() {
        Value::Null
    } else {
        json!({})
    };
    object.set("status", status);
}

/// Sets the status of a pod that has just been bound to a node.
pub fn at_binding(pod: &mut Object, now: &str) {
    let mut status = pod.field("status").clone();
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": now,
    }));
    status["conditions"] = json!(conditions);
    pod.set("status", status);
}

/// Validates an object; `old` is the stored state on an update.
pub fn check(served: &Served, object: &Object, old: Option<&Object>) -> Vec<Cause> {
    let mut causes = check_name(object.name());
    if served.is("", "pods") {
        causes.extend(check_pod(object));
        if let Some(old) = old {
            causes.extend(check_pod_update(object, old));
        }
    }
    if served.is("", "services") && object.at("/spec/ports").is_none() {
        let external = object.text("/spec/type") == Some("ExternalName");
        let headless = object.text("/spec/clusterIP") == Some("None");
        if !external && !headless {
            causes.push(Cause::required("spec.ports", ""));
        }
    }
    if served.resource.group == "admissionregistration.k8s.io" {
        causes.extend(admission::check(object));
    }
    if served.is("apiextensions.k8s.io", "customresourcedefinitions") {
        causes.extend(check_crd(object));
    }
    causes
}

fn absent(target: &mut Value, field: &str, value: Value) {
    if target.is_null() {
        *target = json!({});
    }
    if let Value::Object(map) = target
        && map.get(field).is_none_or(Value::is_null)
    {
        map.insert(field.to_owned(), value);
    }
}

fn each(value: &mut Value, list: &str, mut change: impl FnMut(&mut Value)) {
    let entries = value.get_mut(list).and_then(Value::as_array_mut);
    entries.into_iter().flatten().for_each(&mut change);
}

fn pod_spec(spec: &mut Value) {
    absent(spec, "restartPolicy", json!("Always"));
    absent(spec, "terminationGracePeriodSeconds", json!(30));
    if grace(spec) < 0 {
        spec["terminationGracePeriodSeconds"] = json!(1);
    }
    absent(spec, "dnsPolicy", json!("ClusterFirst"));
    for list in ["containers", "initContainers"] {
        each(spec, list, |container| {
            each(container, "ports", |port| {
                absent(port, "protocol", json!("TCP"));
            });
        });
    }
}

fn grace(spec: &Value) -> i64 {
    spec["terminationGracePeriodSeconds"].as_i64().unwrap_or(30)
}

fn service_spec(spec: &mut Value) {
    absent(spec, "type", json!("ClusterIP"));
    absent(spec, "sessionAffinity", json!("None"));
    each(spec, "ports", |port| {
        absent(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        if !number.is_null() {
            absent(port, "targetPort", number);
        }
    });
}

/// The status of a new CustomResourceDefinition, which is established at once because its kind is
/// served as soon as it is created.
fn crd_status(crd: &Object, now: &str) -> Value {
    let names = crd.field("spec")["names"].clone();
    let versions = crd.field("spec")["versions"].as_array();
    let stored: Vec<&Value> = versions
        .into_iter()
        .flatten()
        .filter(|version| version["storage"] == true)
        .map(|version| &version["name"])
        .collect();
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind,
            "status": "True",
            "lastTransitionTime": now,
            "reason": reason,
            "message": message,
        })
    };
    json!({
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "acceptedNames": names,
        "storedVersions": stored,
    })
}

fn check_name(name: &str) -> Vec<Cause> {
    let label = |label: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        edge(label.chars().next())
            && edge(label.chars().next_back())
            && label
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return vec![];
    }
    let why = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
               '-' or '.', and must start and end with an alphanumeric character";
    vec![Cause::invalid("metadata.name", &json!(name), why)]
}

fn check_pod(pod: &Object) -> Vec<Cause> {
    let mut causes = Vec::new();
    let containers = pod.at("/spec/containers").and_then(Value::as_array);
    if containers.is_none_or(Vec::is_empty) {
        causes.push(Cause::required("spec.containers", ""));
    }
    causes.extend(check_lifecycles(pod.field("spec")));
    let gates = pod.at("/spec/readinessGates").and_then(Value::as_array);
    for (at, gate) in gates.into_iter().flatten().enumerate() {
        let kind = gate["conditionType"].as_str().unwrap_or_default();
        if let Err(why) = qualified_name(kind) {
            let field = format!("spec.readinessGates[{at}].conditionType");
            causes.push(Cause::invalid(field, &json!(kind), &why));
        }
    }
    causes
}

fn check_lifecycles(spec: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for list in ["containers", "initContainers"] {
        let containers = spec[list].as_array().into_iter().flatten();
        for (at, container) in containers.enumerate() {
            for hook in ["postStart", "preStop"] {
                let field = format!("spec.{list}[{at}].lifecycle.{hook}");
                let handler = &container["lifecycle"][hook];
                causes.extend(check_handler(handler, &field, grace(spec)));
            }
        }
    }
    causes
}

/// Checks a handler of a container's lifecycle: it has one action, and a sleep is within the grace period.
fn check_handler(handler: &Value, field: &str, grace: i64) -> Option<Cause> {
    let actions = ["exec", "httpGet", "sleep", "tcpSocket"];
    let actions = actions.iter().filter(|action| !handler[**action].is_null());
    match actions.count() {
        _ if handler.is_null() => None,
        0 => Some(Cause::required(field, "must specify a handler type")),
        1 => {
            let seconds = &handler["sleep"]["seconds"];
            let within = (0..=grace).contains(&seconds.as_i64().unwrap_or(0));
            let why = format!(
                "must be non-negative and less than or equal to terminationGracePeriodSeconds ({grace})"
            );
            (!within).then(|| Cause::invalid(format!("{field}.sleep"), seconds, &why))
        }
        _ => Some(Cause::forbidden(
            field,
            "may not specify more than 1 handler type",
        )),
    }
}

/// Checks a qualified name: an optional DNS subdomain with a slash, then at most 63 characters.
fn qualified_name(text: &str) -> Result<(), String> {
    let name = match text.split_once('/') {
        None => text,
        Some((prefix, _)) if !check_name(prefix).is_empty() => {
            return Err("prefix part must be a DNS subdomain".to_owned());
        }
        Some((_, name)) => name,
    };
    if name.is_empty() {
        return Err("name part must be non-empty".to_owned());
    }
    if name.len() > 63 {
        return Err("name part must be no more than 63 characters".to_owned());
    }
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    if name.starts_with(alphanumeric)
        && name.ends_with(alphanumeric)
        && name.chars().all(|c| alphanumeric(c) || "-_.".contains(c))
    {
        return Ok(());
    }
    Err(
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and \
         end with an alphanumeric character"
            .to_owned(),
    )
}

fn check_pod_update(pod: &Object, old: &Object) -> Vec<Cause> {
    if fixed_part(pod) == fixed_part(old) {
        return vec![];
    }
    let why = "pod updates may not change fields other than `spec.containers[*].image`,\
               `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` \
               (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` \
               (allow it to be set to 1 if it was previously negative)";
    vec![Cause::forbidden("spec", why)]
}

/// A pod's spec without the fields that may change after creation.
fn fixed_part(pod: &Object) -> Value {
    let mut spec = pod.field("spec").clone();
    if let Value::Object(map) = &mut spec {
        for field in ["activeDeadlineSeconds", "tolerations"] {
            map.remove(field);
        }
    }
    for list in ["containers", "initContainers"] {
        each(&mut spec, list, |container| {
            if let Value::Object(container) = container {
                container.remove("image");
            }
        });
    }
    spec
}

fn check_crd(crd: &Object) -> Vec<Cause> {
    let text = |pointer| crd.text(pointer).unwrap_or_default();
    let mut causes = Vec::new();
    let expected = format!("{}.{}", text("/spec/names/plural"), text("/spec/group"));
    if crd.name() != expected {
        let why = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &json!(crd.name()), why));
    }
    for (field, pointer) in [
        ("spec.group", "/spec/group"),
        ("spec.scope", "/spec/scope"),
        ("spec.names.plural", "/spec/names/plural"),
        ("spec.names.kind", "/spec/names/kind"),
    ] {
        if text(pointer).is_empty() {
            causes.push(Cause::required(field, ""));
        }
    }
    let versions = crd.at("/spec/versions").and_then(Value::as_array);
    let versions = versions.into_iter().flatten();
    let mut stored = 0;
    for (at, version) in versions.enumerate() {
        stored += usize::from(version["storage"] == true);
        if version["schema"]["openAPIV3Schema"].is_null() {
            let field = format!("spec.versions[{at}].schema.openAPIV3Schema");
            causes.push(Cause::required(field, "schemas are required"));
        }
    }
    if stored != 1 {
        let why = "must have exactly one version marked as storage version";
        let value = crd.field("spec")["versions"].clone();
        causes.push(Cause::invalid("spec.versions", &value, why));
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gates_name_part_may_have_63_characters_and_no_more() {
        let gate = |length| format!("target-health.elbv2.k8s.aws/{}", "a".repeat(length));
        assert_eq!(qualified_name(&gate(63)), Ok(()));
        assert!(qualified_name(&gate(64)).unwrap_err().contains("63"));
        for bad in ["", "a/", "-a", "a b", "A B/x", "x/y/z"] {
            assert!(qualified_name(bad).is_err(), "{bad}");
        }
        assert_eq!(qualified_name("Ready.v_1-x"), Ok(()));
    }

    #[test]
    fn a_pods_image_may_change_and_its_gates_may_not() {
        let pod = |image: &str, gate: &str| {
            Object::new(json!({"spec": {
                "containers": [{"name": "c", "image": image}],
                "readinessGates": [{"conditionType": gate}],
            }}))
            .unwrap()
        };
        assert!(check_pod_update(&pod("b", "g"), &pod("a", "g")).is_empty());
        assert_eq!(check_pod_update(&pod("a", "h"), &pod("a", "g")).len(), 1);
    }
}
