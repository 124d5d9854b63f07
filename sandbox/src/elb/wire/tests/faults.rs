//! Tests of faults and scripts, as a caller meets them.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_scripted_state_is_told_as_it_is_even_one_that_the_sdk_does_not_know() {
    let elb = simulated();
    let arn = attached(&elb, "web");
    let script = Health::new(
        crate::elb::State::Other("resting".to_owned()),
        "Tom & <Co>",
        "…",
    );
    elb.script(&arn, ip("10.0.0.1"), 80, script).unwrap();
    assert_eq!(
        health(&client(&elb), &arn).await,
        ["10.0.0.1:80 resting Tom & <Co>"]
    );
    elb.unscript(&arn, ip("10.0.0.1"), 80).unwrap();
    assert_eq!(health(&client(&elb), &arn).await, [""; 0]);
    let states: Vec<_> = elb.log().into_iter().map(|entry| entry.to).collect();
    assert_eq!(
        states,
        [Some(crate::elb::State::Other("resting".to_owned())), None]
    );
}

#[tokio::test(start_paused = true)]
async fn calls_past_the_bucket_are_throttled_and_the_log_says_so() {
    let elb = simulated();
    let (client, arn) = (client(&elb), attached(&elb, "web"));
    elb.faults().throttle(10.0, 2);
    let call = || {
        client
            .describe_target_health()
            .target_group_arn(&arn)
            .send()
    };
    call().await.unwrap();
    call().await.unwrap();
    let error = call().await.unwrap_err();
    assert_eq!(code(&error), Some("Throttling"));
    assert_eq!(error.message(), Some("Rate exceeded"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    call().await.unwrap();
    let outcomes: Vec<_> = elb.calls().into_iter().map(|call| call.outcome).collect();
    let throttled = CallOutcome::Error("Throttling".to_owned());
    assert_eq!(
        outcomes,
        [CallOutcome::Ok, CallOutcome::Ok, throttled, CallOutcome::Ok]
    );
    assert_eq!(elb.calls()[0].arns, [arn.as_str()]);
}

#[tokio::test(start_paused = true)]
async fn a_hung_call_goes_on_when_it_is_released() {
    let elb = simulated();
    let (client, arn) = (client(&elb), attached(&elb, "web"));
    elb.faults().hang(On::arn(&arn));
    let call = tokio::spawn(
        client
            .describe_target_health()
            .target_group_arn(&arn)
            .send(),
    );
    let pending = |elb: &Elb| {
        elb.calls()
            .iter()
            .any(|call| call.outcome == CallOutcome::Pending)
    };
    elb.until(pending).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(!call.is_finished());
    elb.faults().release(&On::arn(&arn));
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hung_call_runs_into_the_timeout_of_the_sdk_and_is_noted_as_abandoned() {
    let elb = simulated();
    let arn = attached(&elb, "web");
    elb.faults().hang(On::any());
    let timeouts = TimeoutConfig::builder().operation_timeout(Duration::from_secs(5));
    let config = config()
        .http_client(elb.http_client())
        .timeout_config(timeouts.build());
    let client = Client::from_conf(config.build());
    let call = client.describe_target_health().target_group_arn(&arn);
    let error = call.send().await.unwrap_err();
    assert!(matches!(error, SdkError::TimeoutError(_)), "{error:?}");
    assert_eq!(elb.calls()[0].outcome, CallOutcome::Abandoned);
}

#[tokio::test(start_paused = true)]
async fn an_error_asked_for_comes_with_its_status() {
    let elb = simulated();
    let (client, arn) = (client(&elb), attached(&elb, "web"));
    let on = On::action("DescribeTargetHealth");
    elb.faults()
        .fail(on, "AccessDenied", StatusCode::FORBIDDEN, Some(1));
    let call = || {
        client
            .describe_target_health()
            .target_group_arn(&arn)
            .send()
    };
    let error = call().await.unwrap_err();
    assert_eq!(code(&error), Some("AccessDenied"));
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 403);
    call().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_frozen_group_answers_from_the_past() {
    let elb = simulated();
    let (client, arn) = (client(&elb), attached(&elb, "web"));
    elb.freeze(&arn).unwrap();
    elb.register(&arn, ip("10.0.0.1"), 80).unwrap();
    assert_eq!(health(&client, &arn).await, [""; 0]);
    elb.faults().thaw(&arn);
    assert_eq!(
        health(&client, &arn).await,
        ["10.0.0.1:80 initial Elb.RegistrationInProgress"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_delayed_answer_tells_how_it_is_when_it_is_given() {
    let elb = simulated();
    let (client, arn) = (client(&elb), attached(&elb, "web"));
    elb.faults().delay(Duration::from_secs(10));
    elb.register(&arn, ip("10.0.0.1"), 80).unwrap();
    assert_eq!(
        health(&client, &arn).await,
        ["10.0.0.1:80 initial Elb.InitialHealthChecking"]
    );
}
