//! The link between a bed's box and this machine, and the addresses that follow from the bed's number.

use std::net::UdpSocket;
use std::path::Path;

use anyhow::Result;

use super::command::run;

/// Addresses of all Services; the same in every bed, since no route leads there from outside.
pub const SERVICES: &str = "10.96.0.0/16";
/// The Service of the API server.
pub const KUBERNETES_SERVICE: &str = "10.96.0.1";
/// The box's end of the link.
pub const INTERFACE: &str = "eth0";

/// The network of the bed with this number.
pub struct Network {
    index: u8,
}

impl Network {
    /// The network that goes with a number.
    pub fn new(index: u8) -> Self {
        Self { index }
    }

    /// This machine, as the box and its pods see it.
    pub fn host(&self) -> String {
        format!("10.222.{}.1", self.index)
    }

    /// The node.
    pub fn node(&self) -> String {
        format!("10.222.{}.2", self.index)
    }

    /// The pods.
    pub fn pods(&self) -> String {
        format!("10.223.{}.0/24", self.index)
    }

    /// This machine's end of the link.
    pub fn link(&self) -> String {
        format!("hsbed{}", self.index)
    }

    /// Whether nothing else on this machine uses the addresses.
    pub fn is_free(&self) -> bool {
        let way_out = || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            // Sends nothing; only chooses the address that packets would come from.
            socket.connect((self.node(), 9))?;
            socket.local_addr()
        };
        !self.exists() && way_out().map_or(true, |address| address.ip().to_string() != self.host())
    }

    /// Whether the link is there.
    pub fn exists(&self) -> bool {
        Path::new("/sys/class/net").join(self.link()).exists()
    }

    /// Outside: makes the link; its other end waits to be handed over.
    pub fn prepare(&self) -> Result<()> {
        let (link, peer) = (self.link(), self.peer());
        run(&["ip", "link", "add", &link, "type", "veth", "peer", "name", &peer])?;
        run(&["ip", "addr", "add", &format!("{}/24", self.host()), "dev", &link])?;
        run(&["ip", "link", "set", &link, "up"])?;
        // Goes away with the link.
        run(&["ip", "route", "add", &self.pods(), "via", &self.node(), "dev", &link]).map(|_| ())
    }

    /// Outside: gives the other end to the box of that process.
    pub fn hand_over(&self, process: i32) -> Result<()> {
        let process = process.to_string();
        run(&["ip", "link", "set", &self.peer(), "netns", &process, "name", INTERFACE]).map(|_| ())
    }

    /// Outside: removes the link, if the kernel has not done so with the box.
    pub fn remove(&self) {
        if self.exists() {
            let _ = run(&["ip", "link", "del", &self.link()]);
        }
    }

    /// Inside: the address, the way out, and what a node must let through.
    pub fn configure_inside(&self) -> Result<()> {
        run(&["ip", "link", "set", "lo", "up"])?;
        run(&["ip", "addr", "add", &format!("{}/24", self.node()), "dev", INTERFACE])?;
        run(&["ip", "link", "set", INTERFACE, "up"])?;
        run(&["ip", "route", "add", "default", "via", &self.host()])?;
        for switch in ["ip_forward", "conf/all/route_localnet"] {
            std::fs::write(Path::new("/proc/sys/net/ipv4").join(switch), "1")?;
        }
        Ok(())
    }

    fn peer(&self) -> String {
        format!("{}p", self.link())
    }
}
