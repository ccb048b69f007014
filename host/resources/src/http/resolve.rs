//! From names to addresses: those that are checked are those that are dialled.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

use super::address::reach;

/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Looks names up.
#[async_trait]
pub(crate) trait Lookup: fmt::Debug + Send + Sync {
    /// The addresses of `host`.
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// As this machine looks names up.
#[derive(Debug)]
pub(crate) struct System;

#[async_trait]
impl Lookup for System {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// Every address of a name is one that the resource may not reach. Found by its type in the chain of the client's error.
#[derive(Debug, Error)]
#[error("every address of '{host}' is of a range that this resource may not reach")]
pub(crate) struct Refused {
    host: String,
}

/// Gives the client only addresses that the resource may reach. The client dials what it is given here and asks nobody
/// else, so that a name cannot mean one address when it is checked and another when it is dialled.
#[derive(Debug, Clone)]
pub(crate) struct Guarded {
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) allow_private: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = this.lookup.addresses(&host).await?;
            let permitted: Vec<SocketAddr> = found
                .iter()
                .filter(|address| reach(**address).permits(this.allow_private))
                .take(MAX_ADDRESSES)
                // The client puts the port of the address in place of 0.
                .map(|address| SocketAddr::new(*address, 0))
                .collect();
            if permitted.is_empty() && !found.is_empty() {
                return Err(Refused { host }.into());
            }
            let addresses: Addrs = Box::new(permitted.into_iter());
            Ok(addresses)
        })
    }
}
