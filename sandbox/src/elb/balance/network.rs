//! A Network Load Balancer: forwards TCP connections to targets.

use std::future::Future;
use std::io;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{CONNECT_TIMEOUT, Route};
use crate::elb::Elb;
use crate::elb::log::Cause;
use crate::elb::serve::accept;
use crate::signal::Listener;

/// Accepts connections until `shutdown`, which cuts those that are open.
pub(super) async fn balance(
    elb: Elb,
    load_balancer: String,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut flows = JoinSet::new();
    accept(&listener, shutdown, |client, permit| {
        let (elb, load_balancer) = (elb.clone(), load_balancer.clone());
        while flows.try_join_next().is_some() {}
        flows.spawn(async move {
            let cause = carry(&elb, &load_balancer, client).await.err();
            elb.count(cause);
            drop(permit);
        });
    })
    .await;
}

/// Forwards one connection until it ends.
async fn carry(elb: &Elb, load_balancer: &str, mut client: TcpStream) -> Result<(), Cause> {
    // The listener exists before the route is chosen, so that it sees every change after the
    // choice.
    let mut changes = elb.model_changes();
    let Some(route) = elb.route(load_balancer) else {
        reset(client);
        return Err(Cause::NoTarget);
    };
    let mut target = match connect(&route).await {
        Ok(target) => target,
        Err(cause) => {
            reset(client);
            return Err(cause);
        }
    };
    let copied = tokio::select! {
        copied = tokio::io::copy_bidirectional(&mut client, &mut target) => copied,
        () = cut(elb, &route, &mut changes) => Err(io::ErrorKind::ConnectionAborted.into()),
    };
    copied.map(drop).map_err(|_| {
        reset(client);
        reset(target);
        Cause::Reset
    })
}

async fn connect(route: &Route) -> Result<TcpStream, Cause> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(route.target()));
    let stream = connected.await.map_err(|_| Cause::Timeout)?;
    let stream = stream.map_err(|_| Cause::Refused)?;
    stream.set_nodelay(true).map_err(|_| Cause::Reset)?;
    Ok(stream)
}

/// Returns when the load balancer no longer keeps the connection.
async fn cut(elb: &Elb, route: &Route, changes: &mut Listener) {
    loop {
        changes.changed().await;
        if !elb.keeps_connection(route) {
            return;
        }
    }
}

/// Closes the connection with an RST. An error means that it is closed already.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}
