//! The media ports: whether what clients send there arrives.

use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;
use turn::client::{Carrier, Client, ClientError, Framing};

use super::super::public_address::connect_datagrams;
use super::super::status::MediaStatus;
use super::{Doctor, PATIENCE};

impl Doctor<'_> {
    pub(super) async fn check_media(&mut self, media: Option<&MediaStatus>) {
        if !self.config.calls.enabled {
            return;
        }
        let Some(media) = media else {
            let advice = "look for the reason in the server's log: a port that is taken, or no public address";
            return self.fail("media", "the media server does not run", advice);
        };
        let mut announced: Vec<IpAddr> = media.addresses.iter().map(|(_, address)| address.ip()).collect();
        announced.dedup();
        announced.sort_unstable();
        announced.dedup();
        self.check_announced("media_address", &announced, "sfu.public_addresses").await;
        for (kind, address) in &media.addresses {
            self.check_media_port(kind, *address, &media.probe).await;
        }
        if !media.addresses.iter().any(|(kind, _)| kind == "tcp") {
            let advice = "set sfu.tcp_port: there are networks without UDP";
            self.warn("media_tcp", "no media are taken over TCP", advice);
        }
    }

    async fn check_media_port(&mut self, kind: &str, address: SocketAddr, probe: &str) {
        let check = if kind == "udp" { "media_udp" } else { "media_tcp" };
        match self.ping_media(kind, address, probe).await {
            Ok(seen) => self.ok(check, format!("{kind} {address} answers, and sees this machine as {}", seen.ip())),
            Err(error) if outbound::is_own(address.ip()) => {
                let advice = format!("open {kind} port {} in the firewall of this machine", address.port());
                self.fail(check, format!("{kind} {address}: {error}"), advice);
            }
            Err(error) => {
                let advice = format!(
                    "have the router forward {kind} port {} here, or let it bring back what this network sends to its \
                     own public address (hairpin); if people elsewhere have calls, it is only the latter",
                    address.port()
                );
                self.warn("hairpin", format!("{kind} {address} is not reached from this machine: {error}"), advice);
            }
        }
    }

    async fn ping_media(&self, kind: &str, address: SocketAddr, probe: &str) -> Result<SocketAddr, ClientError> {
        let carrier = if kind == "udp" {
            Carrier::Datagrams(connect_datagrams(address).await?)
        } else {
            let stream = self.clock.timeout(PATIENCE, TcpStream::connect(address)).await;
            Carrier::connection(stream.ok_or(ClientError::Silent)??, Framing::Counted)
        };
        Client::new(carrier, self.clock.clone(), self.random.clone(), PATIENCE).ask_address_as(probe).await
    }
}
