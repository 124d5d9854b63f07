//! What `helm install` says at its end.

use rstest::rstest;
use serde_json::{Value, json};

use crate::helm::{Helm, chart};
use crate::server::{TURN, cert_manager, control_plane};

const ROLE: &str = "arn:aws:iam::123456789012:role/targetgate";

/// The notes of an installation with these values, which is not carried out.
async fn notes(values: &Value) -> String {
    let _turn = TURN.lock().await;
    let (server, helm) = (control_plane().await, Helm::new());
    // Whatever other tests there are, the API server knows the kinds that are rendered.
    cert_manager(&server.client().await.unwrap()).await;
    let (chart, values) = (chart(), helm.values(values));
    let install = ["install", "targetgate", chart.to_str().unwrap()];
    let options = ["--dry-run=server", "--values", &values];
    let said = helm.on(server, &[&install[..], &options].concat()).unwrap();
    let (_, notes) = said.split_once("NOTES:").unwrap();
    notes.to_owned()
}

#[rstest]
#[case(json!({}), &["Pod Identity association of ServiceAccount targetgate", "set aws.vpcId", "2 of 2 replicas", "The pods create", "targetgate.dev/drain=sleep"])]
#[case(
    json!({
        "serviceAccount": { "annotations": { "eks.amazonaws.com/role-arn": ROLE } },
        "certificates": { "source": "secret", "secretName": "own" },
        "drain": { "mode": "sleep" },
    }),
    &[ROLE, "targetgate.dev/drain=off", "wait for your Secret own", "set certificates.caBundle"],
)]
#[case(
    json!({ "doctor": { "enabled": true, "namespace": "shop" } }),
    &["kubectl create job targetgate-doctor-1 --from=cronjob/targetgate-doctor --namespace targetgate-system"],
)]
#[tokio::test]
async fn the_notes_say_what_credentials_vpc_and_certificate_come_from(
    #[case] values: Value,
    #[case] expected: &[&str],
) {
    let notes = notes(&values).await;
    for words in expected {
        assert!(notes.contains(words), "{words}: {notes}");
    }
}

#[tokio::test]
async fn what_was_given_is_not_asked_for() {
    let values = json!({
        "aws": { "vpcId": "vpc-0123456789abcdef0" },
        "certificates": { "source": "cert-manager", "issuerRef": { "name": "ca" } },
    });
    let notes = notes(&values).await;
    assert!(notes.contains("cert-manager creates"), "{notes}");
    assert!(!notes.contains("aws.vpcId"), "{notes}");
}
