//! The preStop hooks of containers: `lifecycle.preStop`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::time::{sleep, timeout};

use crate::get::{GetError, get};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PreStop {
    None,
    /// `sleep`, or an `exec` that only runs `sleep N`.
    Sleep(Duration),
    HttpGet {
        address: SocketAddr,
        path: String,
    },
    /// A hook that this kubelet cannot run. Like any hook that fails, it does not keep the kubelet
    /// from ending the container.
    Unsupported(String),
}

impl PreStop {
    /// The hook of a container whose pod has the address `ip`.
    pub(super) fn of(container: &Container, ip: IpAddr) -> Self {
        let hook = container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        hook.map_or(Self::None, |hook| Self::parse(hook, container, ip))
    }

    fn parse(hook: &LifecycleHandler, container: &Container, ip: IpAddr) -> Self {
        if let Some(sleep) = &hook.sleep {
            return Self::Sleep(Duration::from_secs(sleep.seconds.try_into().unwrap_or(0)));
        }
        if let Some(exec) = &hook.exec {
            let command = exec.command.clone().unwrap_or_default();
            return match slept(&command) {
                Some(time) => Self::Sleep(time),
                None => Self::Unsupported(format!("exec {command:?}: only a plain sleep is run")),
            };
        }
        match &hook.http_get {
            Some(get) => http_get(get, container, ip),
            None => Self::Unsupported("a hook of an unknown kind".to_owned()),
        }
    }

    /// Runs the hook, at most for the pod's grace period.
    pub(super) async fn run(&self, grace: Duration) -> Result<(), Failed> {
        match self {
            Self::None => Ok(()),
            Self::Sleep(time) => {
                sleep((*time).min(grace)).await;
                Ok(())
            }
            Self::HttpGet { address, path } => match timeout(grace, get(*address, path)).await {
                Ok(answer) => answer.map(drop).map_err(Failed::Get),
                Err(_) => Err(Failed::OutOfGrace(*address)),
            },
            Self::Unsupported(what) => Err(Failed::Unsupported(what.clone())),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("this kubelet cannot run {0}")]
    Unsupported(String),
    #[error("http://{0} did not answer within the grace period")]
    OutOfGrace(SocketAddr),
    #[error("the hook's request failed")]
    Get(#[source] GetError),
}

fn http_get(get: &HTTPGetAction, container: &Container, ip: IpAddr) -> PreStop {
    let port = match &get.port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => named_port(container, name),
    };
    let host = match get.host.as_deref().filter(|host| !host.is_empty()) {
        None => Some(ip),
        Some(host) => host.parse().ok(),
    };
    let plain = get.scheme.as_deref().is_none_or(|scheme| scheme == "HTTP");
    match (host, port) {
        (Some(host), Some(port)) if plain => PreStop::HttpGet {
            address: SocketAddr::new(host, port),
            path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
        },
        _ => PreStop::Unsupported(format!(
            "httpGet {:?} of host {:?} and port {:?}: only plain HTTP to an IP address and a port of the container",
            get.scheme, get.host, get.port
        )),
    }
}

fn named_port(container: &Container, name: &str) -> Option<u16> {
    let ports = container.ports.iter().flatten();
    ports
        .filter(|port| port.name.as_deref() == Some(name))
        .find_map(|port| u16::try_from(port.container_port).ok())
}

/// The duration of `sleep N`, with or without a path and a shell around it.
fn slept(command: &[String]) -> Option<Duration> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let seconds = match words[..] {
        ["sleep" | "/bin/sleep" | "/usr/bin/sleep", seconds] => seconds,
        ["sh" | "/bin/sh" | "bash" | "/bin/bash", "-c", script] => {
            script.trim().strip_prefix("sleep ")?.trim()
        }
        _ => return None,
    };
    let seconds = seconds.strip_suffix('s').unwrap_or(seconds);
    Duration::try_from_secs_f64(seconds.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn parsed(hook: Value) -> PreStop {
        let container: Container = serde_json::from_value(json!({
            "name": "web",
            "ports": [{"name": "http", "containerPort": 8080}],
            "lifecycle": {"preStop": hook},
        }))
        .unwrap();
        PreStop::of(&container, [127, 1, 0, 2].into())
    }

    fn get(address: &str, path: &str) -> PreStop {
        PreStop::HttpGet {
            address: address.parse().unwrap(),
            path: path.to_owned(),
        }
    }

    #[rstest]
    #[case::sleep(json!({"sleep": {"seconds": 15}}), PreStop::Sleep(Duration::from_secs(15)))]
    #[case::exec(json!({"exec": {"command": ["sleep", "0.5"]}}), PreStop::Sleep(Duration::from_millis(500)))]
    #[case::shell(json!({"exec": {"command": ["/bin/sh", "-c", "sleep 15s"]}}), PreStop::Sleep(Duration::from_secs(15)))]
    #[case::named_port(json!({"httpGet": {"path": "/drain", "port": "http"}}), get("127.1.0.2:8080", "/drain"))]
    #[case::other_host(json!({"httpGet": {"host": "127.0.0.1", "port": 9000}}), get("127.0.0.1:9000", "/"))]
    fn a_hook_that_is_known_is_run(#[case] hook: Value, #[case] expected: PreStop) {
        assert_eq!(parsed(hook), expected);
    }

    #[rstest]
    #[case::a_script(json!({"exec": {"command": ["sh", "-c", "nginx -s quit; sleep 5"]}}))]
    #[case::not_a_time(json!({"exec": {"command": ["sleep", "-1"]}}))]
    #[case::no_command(json!({"exec": {}}))]
    #[case::no_such_port(json!({"httpGet": {"port": "admin"}}))]
    #[case::tls(json!({"httpGet": {"port": 8080, "scheme": "HTTPS"}}))]
    #[case::nothing(json!({}))]
    #[tokio::test]
    async fn a_hook_that_is_not_known_fails_and_says_so(#[case] hook: Value) {
        let hook = parsed(hook);
        let error = hook.run(Duration::from_secs(1)).await.unwrap_err();
        assert!(
            error.to_string().starts_with("this kubelet cannot run"),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_ends_with_the_grace() {
        let before = tokio::time::Instant::now();
        let hook = PreStop::Sleep(Duration::from_secs(60));
        hook.run(Duration::from_secs(30)).await.unwrap();
        assert_eq!(before.elapsed(), Duration::from_secs(30));
    }
}
