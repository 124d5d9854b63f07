//! The usual opening of a test: a Service behind a load balancer, gates, and pods that are healthy
//! targets.

use std::net::SocketAddr;

use serde_json::json;

use super::site::{Group, Site};
use super::workload::Workload;
use crate::elb::{Delays, LoadBalancerKind};

impl Site {
    /// Creates a group behind a load balancer of its own, a Service of the pods whose label `app` is
    /// this name, and a binding, all of this name. Returns the group and the address of the load
    /// balancer.
    pub async fn expose(
        &mut self,
        name: &str,
        kind: LoadBalancerKind,
        delays: Delays,
    ) -> (Group, SocketAddr) {
        let group = self.group(name, kind, delays);
        let (_, address) = self.balance(kind, &[(&group, 1)]).await;
        self.serve(name, &group).await;
        (group, address)
    }

    /// Creates a Service of the pods whose label `app` is this name, and a binding of that name to
    /// the group.
    pub async fn serve(&self, name: &str, group: &Group) {
        self.service(name, json!({ "app": name })).await;
        self.bind(name, name, group).await;
    }

    /// Opts in to gates, and waits until the pods of [`Site::serve`] would get theirs.
    pub async fn gate(&self, name: &str) {
        self.opt_in().await;
        self.gives_gates(json!({ "app": name }), &[name]).await;
    }

    /// Creates the workload, and waits until its pods are rolled out and healthy targets.
    pub async fn open(&self, workload: &Workload, group: &Group) {
        self.apply(workload).await;
        self.rolled(workload).await;
        self.settled(group, workload.replicas).await;
    }
}
