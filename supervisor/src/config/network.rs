//! How the outside is reached: directly or through a proxy, and whose certificates are trusted besides the
//! system's.

use protocol::worker::{Network, Secret};

use super::Surroundings;
use super::block::{Block, Place};
use super::keys::{Missing, optional_secret};

/// What a table says of it; what it leaves out is as in `otherwise`. The error names a file or a variable
/// that is missing.
pub(super) fn network(
    block: &mut Block,
    place: &Place,
    secrets: &dyn Surroundings,
    otherwise: &Network,
) -> Result<Network, Missing> {
    let open = block.string("proxy");
    let hidden = optional_secret(block, place, secrets, "proxy_file", "proxy_env")?;
    let proxy = match (open, hidden) {
        (Some(_), Some(_)) => {
            block.problem("proxy excludes proxy_file and proxy_env");
            None
        }
        (Some(word), None) if word == "none" => None,
        (Some(url), None) => {
            if url.split_once("://").is_some_and(|(_, rest)| rest.contains('@')) {
                block.problem(
                    "proxy has a name or a password in it: put it into a file and say proxy_file, or proxy_env",
                );
            }
            Some(Secret::new(url))
        }
        (None, Some(url)) => Some(url),
        (None, None) => otherwise.proxy.clone(),
    };
    if let Some(url) = &proxy {
        let known = ["http://", "socks5://", "socks5h://"];
        if !known.iter().any(|scheme| url.expose().starts_with(scheme)) {
            block.problem("proxy must start with http:// or socks5://, or be \"none\"");
        } else if names_no_host(url.expose()) {
            block.problem("proxy names no host");
        }
    }
    let ca = match block.path("ca_file", place) {
        None => otherwise.ca.clone(),
        Some(path) => {
            let text = secrets.file("the certificates", &path).map_err(Missing::in_file)?;
            if !text.contains("-----BEGIN CERTIFICATE-----") {
                block.problem(&format!("ca_file: {} has no certificate in PEM", path.display()));
            }
            text
        }
    };
    Ok(Network { proxy, ca })
}

fn names_no_host(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    host.trim().is_empty() || host.starts_with(':')
}
