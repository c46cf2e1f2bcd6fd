//! Connections to ports of pods, which are ports of this machine.

use std::net::{Ipv4Addr, Ipv6Addr};

use async_trait::async_trait;
use tokio::net::TcpStream;
use vk_provider::streams::Connection;
use vk_provider::{BackendError, PodKey, PortForward};

use super::{Processes, unavailable};

#[async_trait]
impl PortForward for Processes {
    /// To whatever listens on the loopback address of this machine: it need not
    /// be the pod.
    async fn connect(&self, pod: &PodKey, port: u16) -> Result<Connection, BackendError> {
        let runs = {
            let pods = self.pods();
            pods.get(&pod.uid).is_some_and(|pod| !pod.ended())
        };
        if !runs {
            return Err(BackendError::NotFound);
        }
        // As the kubelet's `localhost`: the older address first.
        let connection = match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            Ok(connection) => connection,
            Err(error) => TcpStream::connect((Ipv6Addr::LOCALHOST, port))
                .await
                .map_err(|_| unavailable(format!("port {port} of this machine: {error}")))?,
        };
        Ok(Box::new(connection))
    }
}
