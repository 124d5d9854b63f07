//! The issuers of credentials in a cluster: STS for a web identity (IRSA), and the agent of EKS Pod Identity.
//! ELB has the same address, so that a test sees which credentials sign a call.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::json;
use targetgate_sandbox::elb::{Elb, Options, TargetGroupSpec};
use tokio::net::TcpListener;

/// The longest body that is read. Chosen: no request here is as long.
const MAX_BODY: usize = 1 << 20;
/// The lifetime of the credentials. The SDK asks for new ones longer before the expiry than this, and so for each
/// call. Chosen.
const LIFETIME: SignedDuration = SignedDuration::from_secs(1);

/// A request, with the proof of identity in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A call of `AssumeRoleWithWebIdentity`.
    Sts { role: String, token: String },
    /// A request to the agent of Pod Identity.
    Agent { token: String },
    /// A call of the ELBv2 API, signed with this key.
    Elb { key: String },
}

#[derive(Clone)]
pub(crate) struct Issuer {
    address: SocketAddr,
    elb: Elb,
    asked: Arc<Mutex<Vec<Asked>>>,
    refuses: Arc<Mutex<bool>>,
}

impl Issuer {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Self {
            address: listener.local_addr().unwrap(),
            elb: Elb::new(Options::default()),
            asked: Arc::default(),
            refuses: Arc::default(),
        };
        let router = Router::new().fallback(answer).with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    /// Refuses credentials from now on.
    pub(crate) fn refuse(&self) {
        *self.refuses.lock() = true;
    }

    /// The URL of STS and ELBv2.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The URL of the agent of Pod Identity.
    pub(crate) fn agent_url(&self) -> String {
        format!("{}/v1/credentials", self.url())
    }

    /// Creates a group. Returns its ARN.
    pub(crate) fn target_group(&self, name: &str) -> String {
        self.elb.create_target_group(TargetGroupSpec::http(name))
    }

    /// Fails unless these were the last requests, in this order.
    pub(crate) fn was_asked_last(&self, last: &[Asked]) {
        let asked = self.asked.lock();
        assert!(asked.ends_with(last), "{asked:?}");
    }
}

/// The access key that is issued for a token.
pub(crate) fn key_for(token: &str) -> String {
    format!("ASIA{}", token.to_uppercase())
}

async fn answer(State(issuer): State<Issuer>, request: Request) -> Response {
    let authorization = request.headers().get(AUTHORIZATION);
    let authorization = authorization
        .map_or("", |value| value.to_str().unwrap())
        .to_owned();
    if request.method() == Method::GET && request.uri().path() == "/v1/credentials" {
        issuer.asked.lock().push(Asked::Agent {
            token: authorization.clone(),
        });
        return issuer.as_agent(&authorization);
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.unwrap();
    let form: HashMap<_, _> = form_urlencoded::parse(&body).into_owned().collect();
    if form["Action"] == "AssumeRoleWithWebIdentity" {
        let (role, token) = (form["RoleArn"].clone(), form["WebIdentityToken"].clone());
        issuer.asked.lock().push(Asked::Sts {
            role,
            token: token.clone(),
        });
        return issuer.as_sts(&token);
    }
    let key = authorization.split_once("Credential=").unwrap().1;
    let key = key.split('/').next().unwrap().to_owned();
    issuer.asked.lock().push(Asked::Elb { key });
    let request = Request::from_parts(parts, Body::from(body));
    issuer.elb.service().answer(request).await.into_response()
}

impl Issuer {
    fn as_agent(&self, token: &str) -> Response {
        if *self.refuses.lock() {
            return (StatusCode::FORBIDDEN, "the token is of no known pod").into_response();
        }
        let credentials = json!({
            "AccessKeyId": key_for(token),
            "SecretAccessKey": "secret",
            "Token": "session-token",
            "AccountId": "123456789012",
            "Expiration": (Timestamp::now() + LIFETIME).to_string(),
        });
        credentials.to_string().into_response()
    }

    fn as_sts(&self, token: &str) -> Response {
        if *self.refuses.lock() {
            let error = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
                <Type>Sender</Type><Code>AccessDenied</Code>\
                <Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error>\
                <RequestId>1</RequestId></ErrorResponse>";
            return (StatusCode::FORBIDDEN, error).into_response();
        }
        let (key, expiration) = (key_for(token), Timestamp::now() + LIFETIME);
        format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{key}</AccessKeyId>\
             <SecretAccessKey>secret</SecretAccessKey><SessionToken>session-token</SessionToken>\
             <Expiration>{expiration}</Expiration></Credentials><AssumedRoleUser>\
             <AssumedRoleId>AROA:web</AssumedRoleId>\
             <Arn>arn:aws:sts::123456789012:assumed-role/web/web</Arn></AssumedRoleUser>\
             </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )
        .into_response()
    }
}
