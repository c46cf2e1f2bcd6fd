//! A port for each node: the API server dials addresses and sends no name, and
//! half of the endpoints name no node, so that one port cannot serve two.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;

/// Listens on the first free port of the range, looking from a place that depends
/// on the node's name: after a restart it is the same one, unless it was taken.
/// The range `0..=0` is any free port.
///
/// # Errors
/// No port of the range is free, or the address is none of this machine.
pub(super) fn listen(
    bind: IpAddr,
    ports: &RangeInclusive<u16>,
    node: &str,
) -> io::Result<TcpListener> {
    let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "the range of ports is empty");
    for port in order(ports, node) {
        match TcpListener::bind(SocketAddr::new(bind, port)) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(listener);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => failure = error,
            Err(error) => return Err(error),
        }
    }
    Err(failure)
}

fn order(ports: &RangeInclusive<u16>, node: &str) -> impl Iterator<Item = u16> {
    let all: Vec<u16> = ports.clone().collect();
    let number = node.bytes().fold(0_usize, |number, byte| {
        number.wrapping_mul(31).wrapping_add(byte.into())
    });
    let start = number % all.len().max(1);
    let (before, after) = all.split_at(start.min(all.len()));
    [after, before].concat().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_is_tried_once_and_a_node_begins_with_its_own() {
        let range = 10_250..=10_259;
        let tried: Vec<u16> = order(&range, "vk-1").collect();
        let mut sorted = tried.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, range.clone().collect::<Vec<_>>());
        assert_eq!(tried, order(&range, "vk-1").collect::<Vec<_>>());
        assert_ne!(tried[0], order(&range, "vk-2").next().unwrap());
        let none = RangeInclusive::new(5, 4);
        assert_eq!(order(&none, "vk-1").count(), 0);
    }

    #[test]
    fn a_range_that_is_taken_is_an_error() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let first = listen(loopback, &(0..=0), "a").unwrap();
        let port = first.local_addr().unwrap().port();
        let second = listen(loopback, &(port..=port), "b");
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
