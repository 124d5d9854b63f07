//! The way of a review to the hooks for bindings and back.

use std::sync::Arc;

use futures::FutureExt as _;
use rstest::rstest;
use serde_json::{Value, json};
use targetgate::admission::answer::Answer;
use targetgate::admission::{
    BindingHook, BindingRoutes, MUTATE_BINDING_PATH, VALIDATE_BINDING_PATH,
};
use targetgate_core::reason::Reason;

use crate::fixture::{Fixture, UID, answer, refusal, review};

fn hook(said: impl Fn(&str, &str) -> Answer + Send + Sync + 'static) -> BindingHook {
    Arc::new(move |request| {
        let object = request.object.map_or("", |raw| raw.get());
        let old = request.old_object.map_or("", |raw| raw.get());
        let answer = said(object, old);
        async move { answer }.boxed()
    })
}

/// Hooks that deny whatever they are asked.
pub(crate) fn denying() -> BindingRoutes {
    let deny = || hook(|_, _| Answer::denied(Reason::Invalid, "no"));
    BindingRoutes {
        mutate: deny(),
        validate: deny(),
    }
}

/// Hooks that deny with the name of the hook and the objects as they were given.
fn telling() -> BindingRoutes {
    let tell =
        |name| hook(move |new, old| Answer::denied(Reason::Invalid, format!("{name} {new} {old}")));
    BindingRoutes {
        mutate: tell("mutate"),
        validate: tell("validate"),
    }
}

/// A small cluster with these hooks for bindings.
pub(crate) fn fixture_with(hooks: BindingRoutes) -> Fixture {
    Fixture {
        bindings: Some(hooks),
        ..Fixture::default()
    }
}

#[rstest]
#[case(MUTATE_BINDING_PATH, "mutate", "binding-mutate")]
#[case(VALIDATE_BINDING_PATH, "validate", "binding-validate")]
#[tokio::test]
async fn a_hook_is_given_the_objects_as_they_were_written(
    #[case] path: &str,
    #[case] name: &str,
    #[case] label: &str,
) {
    let fixture = fixture_with(telling());
    let body = review(json!("NEW")).to_string();
    let body = body.replace(r#""NEW""#, r#"{ "spec":1.0 }"#);
    let body = body.replace(r#""oldObject":null"#, r#""oldObject":{"spec" :2}"#);
    let answer = answer(&fixture.post(path, body).await);
    let message = format!(r#"{name} {{ "spec":1.0 }} {{"spec" :2}}"#);
    let status = json!({ "code": 403, "message": message });
    assert_eq!(
        answer,
        json!({ "uid": UID, "allowed": false, "status": status })
    );
    let counted = format!(r#"targetgate_admissions_total{{hook="{label}",reason="Invalid"}} 1"#);
    fixture.assert_measured(&counted);
}

#[tokio::test]
async fn a_null_object_is_none() {
    let answer = answer(
        &fixture_with(telling())
            .post(VALIDATE_BINDING_PATH, review(Value::Null).to_string())
            .await,
    );
    assert_eq!(answer["status"]["message"], "validate  ");
}

#[tokio::test]
async fn a_hook_that_panics_answers_500_and_the_next_is_answered() {
    let fixture = fixture_with(BindingRoutes {
        mutate: hook(|_, _| panic!("as a bug would")),
        ..denying()
    });
    let body = review(json!({})).to_string();
    let response = fixture.post(MUTATE_BINDING_PATH, body.clone()).await;
    assert_eq!(refusal(&response).0, 500);
    fixture.assert_measured(r#"targetgate_refusals_total{cause="Internal"} 1"#);
    let response = fixture.post(VALIDATE_BINDING_PATH, body).await;
    assert_eq!(answer(&response)["allowed"], false);
}

#[tokio::test]
async fn a_review_of_another_version_is_refused_not_let_through() {
    let mut review = review(json!({}));
    review["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let response = fixture_with(denying())
        .post(VALIDATE_BINDING_PATH, review.to_string())
        .await;
    assert_eq!(refusal(&response).0, 400);
}

#[tokio::test]
async fn without_hooks_for_bindings_their_paths_are_not_served() {
    let response = Fixture::default()
        .post(MUTATE_BINDING_PATH, review(json!({})).to_string())
        .await;
    assert_eq!(refusal(&response).0, 404);
}
