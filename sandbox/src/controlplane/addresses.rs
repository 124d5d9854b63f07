//! The addresses on which the programs listen.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use tokio::net::TcpSocket;

/// Reserved addresses of loopback. A socket that shares the port and never listens holds each of
/// them, so that the system gives it to no other program, even while the program that listens there
/// is stopped.
pub(super) struct Addresses {
    /// etcd's address for its clients.
    pub(super) etcd: SocketAddr,
    /// etcd's address for peers, of which it has none.
    pub(super) etcd_peer: SocketAddr,
    /// The API server's address.
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

/// Reserves an address. Only sockets that ask for it share a port, and only those of the same user.
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
    async fn an_address_is_reserved_and_refuses_until_its_program_listens() {
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
