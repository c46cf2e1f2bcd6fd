//! What a node's listener shows: made here, read from files, or asked for.

mod names;
mod pair;
mod request;
#[cfg(test)]
mod tests;

use std::path::Path;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use vk_provider::NodeFacts;

use self::names::Named;
use super::Shared;
use super::limits::LOOK;
use super::settings::ServingCertificate;
use super::tls::Shown;
use crate::node::NodeSettings;

/// Keeps the certificate of a node until `stop`. What fails leaves the one of
/// before, and is tried again.
pub(super) async fn keep(
    shared: &Shared,
    node: &NodeSettings,
    shown: &Shown,
    facts: watch::Receiver<NodeFacts>,
    stop: &CancellationToken,
) {
    let mut named = Named::new(node.clone(), facts);
    let name = node.name.as_str();
    let keeping = async {
        match &shared.settings.certificate {
            ServingCertificate::SelfSigned => keep_self_signed(name, &mut named, shown).await,
            ServingCertificate::Files { certificate, key } => {
                keep_files(name, certificate, key, shown).await;
            }
            ServingCertificate::Requested => {
                let (client, clock) = (&shared.client, &shared.clock);
                request::keep(client, clock, name, &mut named, shown).await;
            }
        }
    };
    tokio::select! {
        () = keeping => {}
        () = stop.cancelled() => {}
    }
}

async fn keep_self_signed(node: &str, named: &mut Named, shown: &Shown) {
    loop {
        let names = named.names();
        match pair::self_signed(&names, node) {
            Ok(pair) => shown.set(pair),
            Err(why) => warn!(
                node,
                why, "no certificate can be made for the node's addresses"
            ),
        }
        named.change(&names).await;
    }
}

async fn keep_files(node: &str, certificate: &Path, key: &Path, shown: &Shown) {
    let mut known = None;
    loop {
        match read(certificate, key).await {
            // The same problem is told once.
            result if known.as_ref() == Some(&result) => {}
            Ok(texts) => {
                match pair::of_pem(&texts.0, &texts.1) {
                    Ok(pair) => {
                        info!(
                            node,
                            again = known.is_some(),
                            "the serving certificate was read"
                        );
                        shown.set(pair);
                    }
                    Err(why) => warn!(
                        node,
                        why,
                        certificate = %certificate.display(),
                        key = %key.display(),
                        "the serving certificate cannot be used; that of before is shown"
                    ),
                }
                known = Some(Ok(texts));
            }
            Err(why) => {
                warn!(node, why, "the serving certificate cannot be read");
                known = Some(Err(why));
            }
        }
        sleep(LOOK).await;
    }
}

async fn read(certificate: &Path, key: &Path) -> Result<(Vec<u8>, Vec<u8>), String> {
    let read = async |path: &Path| {
        let text = tokio::fs::read(path).await;
        text.map_err(|error| format!("{}: {error}", path.display()))
    };
    Ok((read(certificate).await?, read(key).await?))
}
