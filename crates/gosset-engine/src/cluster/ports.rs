//! Where a part of a cluster listens.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::{EngineError, Result};

/// The ports that a scheduler or an executor took.
#[derive(Debug)]
pub(crate) struct Ports {
    /// For the other parts of the cluster.
    pub(crate) cluster: TcpListener,
    /// For health and metrics.
    pub(crate) http: Option<TcpListener>,
}

impl Ports {
    pub(crate) async fn take(cluster: SocketAddr, http: Option<SocketAddr>) -> Result<Self> {
        let cluster = listen(cluster).await?;
        let http = match http {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        Ok(Self { cluster, http })
    }

    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.cluster.local_addr().map_err(|error| EngineError::of(&error))
    }

    pub(crate) fn http_address(&self) -> Result<Option<SocketAddr>> {
        let address = self.http.as_ref().map(TcpListener::local_addr).transpose();
        address.map_err(|error| EngineError::of(&error))
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| EngineError::Setup(format!("cannot listen on {address}: {error}")))
}
