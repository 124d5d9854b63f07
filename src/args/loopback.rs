//! Where a replica answers what it knows.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// The port at which a replica answers, unless a flag names another. Chosen: beside those of the other listeners.
pub const EXPLAIN_PORT: u16 = 8082;

/// A listener on a loopback address, which only the pod itself and a port-forward to it reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loopback {
    /// Without the listener.
    Off,
    At(SocketAddr),
}

impl Default for Loopback {
    fn default() -> Self {
        Self::At((Ipv4Addr::LOCALHOST, EXPLAIN_PORT).into())
    }
}

impl FromStr for Loopback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address: Option<SocketAddr> = text.parse().ok();
        match address.filter(|address| address.ip().is_loopback()) {
            Some(address) => Ok(Self::At(address)),
            None => Err(
                "neither off nor a loopback address with a port, such as 127.0.0.1:8082".to_owned(),
            ),
        }
    }
}

impl Loopback {
    /// The port of the listener, if there is one.
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address.port()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::off("off", Some(None))]
    #[case::ipv4("127.0.0.1:8082", Some(Some(8082)))]
    #[case::ipv6("[::1]:9", Some(Some(9)))]
    #[case::of_all("0.0.0.0:8082", None)]
    #[case::of_the_pod("10.0.0.1:8082", None)]
    #[case::by_name("localhost:8082", None)]
    #[case::without_port("127.0.0.1", None)]
    fn only_a_loopback_address_tells(#[case] text: &str, #[case] port: Option<Option<u16>>) {
        let read = text.parse::<Loopback>();
        assert_eq!(read.ok().map(Loopback::port), port);
    }

    #[test]
    fn by_default_it_is_the_documented_port() {
        assert_eq!(Loopback::default().port(), Some(EXPLAIN_PORT));
    }
}
