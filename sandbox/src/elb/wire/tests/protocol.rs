//! Tests of the protocol below the actions.

use super::*;

#[rstest]
#[case::post(Method::POST, "/", "Action=Nonsense", 400, "InvalidAction")]
#[case::nothing(Method::POST, "/", "", 400, "MissingAction")]
#[case::no_arn(
    Method::POST,
    "/",
    "Action=DescribeTargetHealth",
    400,
    "ValidationError"
)]
#[case::get(Method::GET, "/?Action=Nonsense", "", 400, "InvalidAction")]
#[case::put(Method::PUT, "/", "", 400, "MalformedQueryString")]
#[case::page_size(
    Method::POST,
    "/",
    "Action=DescribeTargetGroups&PageSize=401",
    400,
    "ValidationError"
)]
#[tokio::test(start_paused = true)]
async fn a_bad_request_is_answered_with_an_error_in_xml(
    #[case] method: Method,
    #[case] uri: &str,
    #[case] body: &'static str,
    #[case] status: u16,
    #[case] expected: &str,
) {
    let request = Request::builder().method(method).uri(uri);
    let request = request.body(Full::<Bytes>::from(body)).unwrap();
    let response = simulated().service().answer(request).await;
    assert_eq!(response.status().as_u16(), status);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let code = format!("<Error><Type>Sender</Type><Code>{expected}</Code><Message>");
    assert!(body.contains(&code), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_long_is_refused() {
    let request = Request::post("/").body(Full::<Bytes>::from(vec![b'a'; MAX_BODY + 1]));
    let response = simulated().service().answer(request.unwrap()).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn the_sdk_reaches_it_over_a_socket() {
    let elb = simulated();
    let arn = attached(&elb, "web");
    elb.register(&arn, ip("127.0.0.2"), 80).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(elb.clone().serve(listener, async {
        let _ = stopped.await;
    }));
    let client = Client::from_conf(config().endpoint_url(endpoint).build());
    assert_eq!(
        health(&client, &arn).await,
        ["127.0.0.2:80 initial Elb.RegistrationInProgress"]
    );
    drop(client);
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), server)
        .await
        .expect("the server ends when it is told to")
        .unwrap();
}
