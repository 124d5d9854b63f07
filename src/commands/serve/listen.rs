//! Binds the listeners.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::args::Loopback;

/// Connections that the kernel keeps for the next accept, as many as tokio's own listeners have.
const BACKLOG: i32 = 1024;

/// A listener at the address of this flag.
pub(super) fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = or_ipv4(address, socket).and_then(|socket| TcpListener::from_std(socket.into()));
    bound.with_context(|| {
        format!("{flag}: cannot listen on {address}; give a free address of this machine")
    })
}

/// The listener for `explain`, if it is wanted. The process does without it where its port is taken: what it is for goes on.
pub(super) fn on_loopback(wanted: Loopback) -> Option<TcpListener> {
    let Loopback::At(address) = wanted else {
        return None;
    };
    match bind("--explain-listen", address) {
        Ok(listener) => Some(listener),
        Err(error) => {
            warn!("{error:#}; explain cannot ask this replica");
            None
        }
    }
}

/// Binds `[::]`, which stands for all addresses, to those of IPv4 where the kernel has no IPv6.
fn or_ipv4<T>(address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match bind(address) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && is_of_family(&error) => {
            let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            info!(%address, instead = %all, "the kernel has no IPv6");
            bind(all)
        }
        bound => bound,
    }
}

/// Whether the kernel does not have the address family: it was started with `ipv6.disable=1`, or it has the module but
/// no address.
fn is_of_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAFNOSUPPORT) || error.kind() == ErrorKind::AddrNotAvailable
}

/// A socket that listens. One of IPv6 takes IPv4 as well, whatever `net.ipv6.bindv6only` says.
fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Connections of a former process may linger on the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use rstest::rstest;
    use tokio::net::TcpStream;

    use super::*;

    /// Where a kernel whose binds of IPv6 end in this error lets the address be bound, and what was tried.
    fn bound(address: &str, ipv6: io::Error) -> (io::Result<SocketAddr>, Vec<String>) {
        let tried = RefCell::new(vec![]);
        let bound = or_ipv4(address.parse().unwrap(), |address| {
            tried.borrow_mut().push(address.to_string());
            match address.is_ipv6() {
                true => Err(io::Error::from_raw_os_error(ipv6.raw_os_error().unwrap())),
                false => Ok(address),
            }
        });
        (bound, tried.into_inner())
    }

    #[rstest]
    #[case(libc::EAFNOSUPPORT)]
    #[case(libc::EADDRNOTAVAIL)]
    fn all_addresses_are_those_of_ipv4_where_there_is_no_ipv6(#[case] errno: i32) {
        let (bound, _) = bound("[::]:9443", io::Error::from_raw_os_error(errno));
        assert_eq!(bound.unwrap().to_string(), "0.0.0.0:9443");
    }

    #[rstest]
    #[case::of_ones_own("[::1]:9443", libc::EAFNOSUPPORT)]
    #[case::taken("[::]:9443", libc::EADDRINUSE)]
    fn any_other_failure_is_told(#[case] address: &str, #[case] errno: i32) {
        let (bound, tried) = bound(address, io::Error::from_raw_os_error(errno));
        assert_eq!(bound.unwrap_err().raw_os_error(), Some(errno));
        assert_eq!(tried, [address]);
    }

    /// The loopback address of IPv4 in IPv6's notation, which a socket for IPv6 alone cannot bind.
    #[tokio::test]
    async fn a_socket_of_ipv6_takes_ipv4_as_well() {
        let listener = bind("--listen", "[::ffff:127.0.0.1]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connecting = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let (accepted, connected) = tokio::join!(listener.accept(), connecting);
        assert!(accepted.is_ok() && connected.is_ok());
    }

    #[tokio::test]
    async fn the_process_does_without_the_listener_for_explain_where_its_port_is_taken() {
        let first = on_loopback("127.0.0.1:0".parse().unwrap()).unwrap();
        let taken = Loopback::At(first.local_addr().unwrap());
        assert!(on_loopback(taken).is_none());
        assert!(on_loopback(Loopback::Off).is_none());
    }
}
