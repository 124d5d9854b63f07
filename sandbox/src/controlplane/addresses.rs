//! Where the programs listen.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use tokio::net::TcpSocket;

/// Addresses of loopback that nobody else is given, also while a program that listens there is
/// stopped: each is held by a socket that shares it and never listens.
pub(super) struct Addresses {
    /// Of etcd, for its clients.
    pub(super) etcd: SocketAddr,
    /// Of etcd, for the peers that it does not have.
    pub(super) etcd_peer: SocketAddr,
    /// Of the API server.
    pub(super) server: SocketAddr,
    #[expect(dead_code, reason = "held until dropped")]
    holders: [TcpSocket; 3],
}

impl Addresses {
    pub(super) fn hold() -> io::Result<Addresses> {
        let holders = [holder()?, holder()?, holder()?];
        let [etcd, etcd_peer, server] = &holders;
        Ok(Addresses {
            etcd: etcd.local_addr()?,
            etcd_peer: etcd_peer.local_addr()?,
            server: server.local_addr()?,
            holders,
        })
    }
}

/// Only sockets that ask for it can share a port, and only those of one user.
fn holder() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn an_address_is_nobody_elses_and_refuses_until_its_program_listens() {
        let addresses = Addresses::hold().unwrap();
        let taken = TcpListener::bind(addresses.server).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        for _ in 0..2 {
            let refused = TcpStream::connect(addresses.server).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let program = TcpSocket::new_v4().unwrap();
            program.set_reuseport(true).unwrap();
            program.bind(addresses.server).unwrap();
            let _listening = program.listen(1).unwrap();
            TcpStream::connect(addresses.server).await.unwrap();
        }
    }
}
