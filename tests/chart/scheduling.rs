//! Where the pods may run.

use serde_json::{Value, json};

use crate::helm::{Helm, find, is_of_test};

/// The Deployment's pod, and the pod of `helm test`.
fn pods(values: &Value) -> [Value; 2] {
    let objects = Helm::new().template(values);
    let deployed = find(&objects, "Deployment")["spec"]["template"]["spec"].clone();
    let mut pods = objects.iter().filter(|object| object["kind"] == "Pod");
    let of_test = pods.next().unwrap();
    assert!(is_of_test(of_test));
    [deployed, of_test["spec"].clone()]
}

#[test]
fn no_pod_is_scheduled_on_a_windows_node_whatever_else_is_selected() {
    for pod in pods(&json!({})) {
        let linux = json!({ "kubernetes.io/os": "linux" });
        assert_eq!(pod["nodeSelector"], linux);
    }
    let tolerations = json!([{ "key": "system", "operator": "Exists" }]);
    let values = json!({ "nodeSelector": { "pool": "system" }, "tolerations": tolerations });
    for pod in pods(&values) {
        let both = json!({ "kubernetes.io/os": "linux", "pool": "system" });
        assert_eq!(pod["nodeSelector"], both);
        assert_eq!(pod["tolerations"], tolerations);
    }
}
